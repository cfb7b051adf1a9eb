/*
 * `ironclaw redteam`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "redteam/redteam.h"
#include "walls/wall.h"

enum { EXIT_HELD = 0, EXIT_BROKEN = 1, EXIT_USAGE = 2, EXIT_CANNOT = 125 };

static const char help[] =
    "usage: ironclaw redteam [--wall W|all] [--attack ID|FAMILY]... [--json FILE] [--report FILE] [--keep]\n"
    "       ironclaw redteam verify REPORT [--public-key FILE]\n"
    "       ironclaw redteam list [--json]\n"
    "Runs a hostile program inside live sandboxes of a control plane of its own, and judges from the host's "
    "side\n"
    "what it got through.\n"
    "\n"
    "  --wall W           which wall to attack, or several with commas; 'all': every one this host can give\n"
    "                     (default " WALL_DEFAULT ")\n"
    "  --attack A         only this attack (net.dns), or this family by number or name; may be given again\n"
    "  --json FILE        write all results, with what was tried and seen, as JSON; - for stdout\n"
    "  --report FILE      write a signed containment report: FILE, FILE.txt (the table), FILE.pub (the "
    "public key)\n"
    "  --state-dir DIR    let the running control plane of this directory sign the report, instead of the "
    "temporary one\n"
    "  --public-key FILE  with verify: hexadecimal Ed25519 key; default audit.pub of the state directory\n"
    "  --keep             leave the temporary control plane's directory in place\n"
    "\n"
    "Exit status: 0 every attack held off (PASS, or GAP: a documented weakness of that wall), 1 one got "
    "through or\n"
    "could not be tried (verify: the report does not hold), 2 wrong usage, 125 the control plane could not "
    "be started.\n"
    "\n"
    "example: ironclaw redteam --wall all --json results.json\n";

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* ---- options ---- */

static bool chosen(const struct run_options *o, const struct family *f, const struct attack *a)
{
    char number[8];

    (void)io_format(number, sizeof(number), "%d", f->number);
    for (size_t i = 0; i < o->nonly; i++)
        if (!strcmp(o->only[i], number) || !strcmp(o->only[i], f->name) || !strcmp(o->only[i], a->id))
            return true;
    return o->nonly == 0;
}

/* Does a name of --attack choose anything? */
static int check_chosen(const struct run_options *o, struct err *e)
{
    for (size_t i = 0; i < o->nonly; i++) {
        const struct run_options one = {.only = {o->only[i]}, .nonly = 1};
        bool any = false;
        for (size_t f = 0; f < nfamilies; f++)
            for (const struct attack *a = families[f].attacks; a->id; a++)
                any = any || chosen(&one, &families[f], a);
        if (!any)
            return err_set(e, EINVAL,
                           "there is no attack or family '%.64s' ('ironclaw redteam list' shows them)",
                           o->only[i]);
    }
    return 0;
}

static int parse(int argc, char **argv, struct run_options *o, struct err *e)
{
    static const struct option options[] = {
        {"wall", 1, NULL, 'w'},   {"attack", 1, NULL, 'a'},    {"json", 1, NULL, 'j'}, {"keep", 0, NULL, 'k'},
        {"report", 1, NULL, 'r'}, {"state-dir", 1, NULL, 's'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int id;

    *o = (struct run_options){.walls = WALL_DEFAULT};
    opterr = 0;
    optind = 1;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (id == 'w')
            o->walls = optarg;
        else if (id == 'j')
            o->json = optarg;
        else if (id == 'k')
            o->keep = true;
        else if (id == 'r')
            o->report = optarg;
        else if (id == 's')
            o->state_dir = optarg;
        else if (id == 'a' && o->nonly < ARRAY_LEN(o->only))
            o->only[o->nonly++] = optarg;
        else if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        } else
            return err_set(e, EINVAL, "unknown option or missing value: '%s' (see 'ironclaw redteam --help')",
                           argv[optind - 1]);
    }
    if (optind < argc)
        return err_set(e, EINVAL, "unexpected argument '%s' (see 'ironclaw redteam --help')", argv[optind]);
    return check_chosen(o, e);
}

/* ---- list ---- */

static int list(int argc, char **argv)
{
    bool json = argc == 2 && !strcmp(argv[1], "--json");
    json_t *all = json_array();

    if (argc > 1 && !json) {
        (void)fprintf(stderr, "ironclaw: unexpected argument '%s' (see 'ironclaw redteam --help')\n",
                      argv[1]);
        json_decref(all);
        return EXIT_USAGE;
    }
    for (size_t f = 0; f < nfamilies; f++) {
        if (!json)
            (void)printf("%d %s: %s\n", families[f].number, families[f].name, families[f].title);
        for (const struct attack *a = families[f].attacks; a->id; a++) {
            json_t *gaps = json_array();
            if (!json)
                (void)printf("    %-24s %s  %s\n", a->id, boundary_name(a->boundary), a->title);
            for (size_t g = 0; g < GAPS_MAX && a->gaps[g].wall; g++) {
                (void)json_array_append_new(
                    gaps, json_pack("{s:s,s:s,s:s,s:s*}", "wall", a->gaps[g].wall, "check", a->gaps[g].check,
                                    "reason", a->gaps[g].reason, "without", a->gaps[g].without));
                if (!json)
                    (void)printf("        gap of the wall %s: %s\n", a->gaps[g].wall, a->gaps[g].reason);
            }
            (void)json_array_append_new(all, json_pack("{s:s,s:i,s:s*,s:s,s:s,s:o}", "attack", a->id,
                                                       "family", families[f].number, "wall", a->wall,
                                                       "boundary", boundary_name(a->boundary), "title",
                                                       a->title, "gaps", gaps));
        }
    }
    if (json) {
        (void)json_dumpf(all, stdout, JSON_INDENT(1));
        (void)printf("\n");
    }
    json_decref(all);
    return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- running ---- */

/* Is `name` among the comma-separated walls asked for? */
static bool asked(const char *walls, const char *name)
{
    size_t len = strlen(name);

    if (!strcmp(walls, "all"))
        return true;
    for (const char *at = walls; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == len && !strncmp(at, name, len))
            return true;
    return false;
}

/* Every wall asked for must exist, and be there unless "all" were asked for. */
static int check_walls(const struct run_options *o, struct results *r, struct err *e)
{
    const struct wall_ops *w;
    size_t usable = 0;

    for (const char *at = o->walls; strcmp(o->walls, "all") != 0 && *at;
         at += strcspn(at, ","), at += *at == ',') {
        char name[32];
        if (!io_format(name, sizeof(name), "%.*s", (int)strcspn(at, ","), at) || !wall_find(name))
            return err_set(e, EINVAL, "there is no wall '%.32s'", name);
    }
    for (size_t i = 0; (w = wall_at(i)); i++) {
        struct err why = ERR_INIT;
        bool can;
        if (!asked(o->walls, w->name))
            continue;
        can = w->probe(&why); /* some walls take a while to tell */
        if (!can && strcmp(o->walls, "all") != 0)
            return err_set(e, ENOTSUP, "this host has no wall '%s': %.500s", w->name, why.text);
        (void)json_array_append_new(r->walls, json_pack("{s:s,s:b,s:s}", "wall", w->name, "tested", (int)can,
                                                        "reason", can ? "" : why.text));
        usable += can;
    }
    return usable ? 0 : err_set(e, ENOTSUP, "this host can give none of the walls");
}

static int attack_wall(struct plane *p, const char *wall, const struct run_options *o, struct results *r,
                       struct err *e)
{
    static struct arena a; /* large */
    int rc;

    output_progress("wall %s: starting the sandboxes", wall);
    rc = arena_open(&a, p, wall, e);
    for (size_t f = 0; rc == 0 && f < nfamilies; f++)
        for (const struct attack *attack = families[f].attacks; rc == 0 && attack->id; attack++) {
            static struct trial t;
            if (!chosen(o, &families[f], attack) || (attack->wall && strcmp(attack->wall, wall) != 0))
                continue;
            output_progress("wall %s: %s (%s)", wall, attack->id, attack->title);
            t = (struct trial){.attack = attack, .family = &families[f]};
            rc = trial_run(&a, &t, e);
            output_add(r, wall, &t);
            trial_free(&t);
            if (interrupted)
                rc = err_set(e, EINTR, "interrupted");
        }
    output_progress(NULL);
    arena_close(&a);
    return rc;
}

static json_t *results_json(const struct results *r)
{
    return json_pack("{s:s,s:i,s:b,s:O,s:O}", "schema", "ironclaw-redteam-results", "version", 1, "held",
                     (int)!r->failed, "walls", r->walls, "results", r->list);
}

static int write_json(const char *path, const struct results *r, struct err *e)
{
    json_t *all = results_json(r);
    CLEANUP_FREE char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;

    json_decref(all);
    if (!text)
        return err_set(e, ENOMEM, "the results cannot be written as JSON");
    if (!strcmp(path, "-"))
        return puts(text) < 0 || fflush(stdout) != 0 ? err_sys(e, errno, "cannot write the results") : 0;
    return io_replace_file(AT_FDCWD, path, text, strlen(text), 0644, e);
}

/* The API of the control plane that is to sign: our own, or a running one, with the caller's token. */
static struct api *open_signer(const char *state_dir, struct err *e)
{
    CLEANUP_FREE char *socket = x_asprintf("%s/api.sock", state_dir);
    const char *env = getenv("IRONCLAW_TOKEN"), *file = getenv("IRONCLAW_TOKEN_FILE"), *home = getenv("HOME"),
               *xdg = getenv("XDG_CONFIG_HOME");
    CLEANUP_FREE char *path = file && *file ? x_strdup(file)
                              : xdg && *xdg ? x_asprintf("%s/ironclaw/token", xdg)
                                            : x_asprintf("%s/.config/ironclaw/token", home ? home : "");
    CLEANUP_FREE char *token = NULL;
    struct api *api;

    if (env && *env)
        token = x_strdup(env);
    else if (io_read_file(AT_FDCWD, path, 512, &token, NULL, e) < 0)
        (void)err_wrap(e, "an admin token is needed to have the report signed");
    if (!token)
        return NULL;
    token[strcspn(token, "\r\n")] = 0;
    api = api_open(socket);
    api_set_token(api, token);
    return api;
}

static int write_report(const struct run_options *o, const struct plane *p, const struct results *r,
                        struct err *e)
{
    struct api *signer = o->state_dir ? open_signer(o->state_dir, e) : p->api;
    int rc = signer ? report_write(r, signer, o->nonly == 0, o->report, e) : -1;

    if (o->state_dir)
        api_close(signer);
    return rc < 0 ? err_wrap(e, "the report was not written") : 0;
}

static int attack_all(const struct run_options *o, struct results *r, struct err *e)
{
    struct plane p;
    size_t i;
    json_t *w;
    int rc;

    plane_sweep();
    output_progress("starting a control plane");
    rc = plane_start(&p, NULL, e);
    json_array_foreach(r->walls, i, w)
    {
        if (rc == 0 && json_is_true(json_object_get(w, "tested")))
            rc = attack_wall(&p, json_string_value(json_object_get(w, "wall")), o, r, e);
    }
    if (rc == 0 && o->report)
        rc = write_report(o, &p, r, e);
    output_progress("stopping the control plane");
    if (o->keep && p.dir[0])
        (void)fprintf(stderr, "ironclaw: the control plane's directory is %s\n", p.dir);
    plane_stop(&p, o->keep);
    output_progress(NULL);
    return rc;
}

static int run(const struct run_options *o, struct results *r, struct err *e)
{
    int rc = attack_all(o, r, e);

    if (json_array_size(r->list) > 0 && !(o->json && !strcmp(o->json, "-")))
        output_table(stdout, r);
    if (rc == 0 && o->json)
        rc = write_json(o->json, r, e);
    if (rc < 0)
        return r->failed ? EXIT_BROKEN : EXIT_CANNOT;
    return r->failed ? EXIT_BROKEN : EXIT_HELD;
}

/* ---- verify ---- */

static int verify(int argc, char **argv)
{
    static const struct option options[] = {{"public-key", 1, NULL, 'p'},
                                            {"state-dir", 1, NULL, 's'},
                                            {"help", 0, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    char state[PATHS_MAX_LEN], key[PATHS_MAX_LEN + 16] = "";
    const char *state_dir = NULL;
    struct err e = ERR_INIT;
    int id;

    opterr = 0;
    optind = 1;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (id == 'p')
            (void)io_format(key, sizeof(key), "%s", optarg);
        else if (id == 's')
            state_dir = optarg;
        else if (id == 'h') {
            (void)fputs(help, stdout);
            return 0;
        } else {
            (void)fprintf(stderr,
                          "ironclaw: unknown option or missing value: '%s' (see 'ironclaw redteam --help')\n",
                          argv[optind - 1]);
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc) {
        (void)fprintf(stderr,
                      "ironclaw: 'redteam verify' takes one report (see 'ironclaw redteam --help')\n");
        return EXIT_USAGE;
    }
    if (!key[0] && !state_dir && paths_state_dir(state, sizeof(state), &e) == 0)
        state_dir = state;
    if (!key[0] && state_dir)
        (void)io_format(key, sizeof(key), "%s/audit.pub", state_dir);
    if (e.code == 0 && report_verify(argv[optind], key, &e) == 0)
        return fflush(stdout) == 0 ? 0 : 1;
    (void)fprintf(stderr, "ironclaw: %s: %s\n", argv[optind], e.text);
    return 1;
}

#ifdef IRONCLAW_WEAKENED
/* --negative-controls [--wall W] [--json FILE] */
static int negative_controls(int argc, char **argv)
{
    struct err e = ERR_INIT;
    const char *wall = NULL, *file = NULL;
    json_t *table = NULL;
    int rc;

    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && !strcmp(argv[i], "--json")) {
            file = argv[i + 1];
        } else if (i + 1 < argc && !strcmp(argv[i], "--wall") && wall_find(argv[i + 1])) {
            wall = argv[i + 1];
        } else {
            (void)fprintf(stderr, "usage: ironclaw redteam --negative-controls [--wall W] [--json FILE]\n");
            return EXIT_USAGE;
        }
    }
    plane_sweep();
    rc = controls_run(wall, &table, &e);
    if (file && table && json_dump_file(table, file, JSON_INDENT(1)) < 0 && rc >= 0)
        rc = err_set(&e, EIO, "cannot write %s", file);
    json_decref(table);
    if (rc < 0)
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
    return rc < 0 ? EXIT_CANNOT : rc;
}
#endif

int main(int argc, char **argv)
{
    struct results r = {json_array(), json_array(), false};
    struct sigaction sa = {.sa_handler = on_signal};
    struct run_options o;
    struct err e = ERR_INIT;
    int rc, status = EXIT_USAGE;

    if (argc > 1 && !strcmp(argv[1], "redteam")) {
        argv++;
        argc--;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)sigaction(SIGHUP, &sa, NULL);
    if (argc > 1 && !strcmp(argv[1], "list"))
        return list(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "verify"))
        return verify(argc - 1, argv + 1);
#ifdef IRONCLAW_WEAKENED
    if (argc > 1 && !strcmp(argv[1], "--negative-controls"))
        return negative_controls(argc - 1, argv + 1);
#endif
    rc = parse(argc, argv, &o, &e);
    if (rc == 0 && (rc = check_walls(&o, &r, &e)) == 0)
        status = run(&o, &r, &e);
    if (rc > 0)
        status = 0;
    else if (e.code)
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
    json_decref(r.list);
    json_decref(r.walls);
    return status;
}
