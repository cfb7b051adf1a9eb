/*
 * Negative controls: for each protection, a control plane that lacks it, and the attacks that have to notice.
 * A protection whose absence nothing notices is a failure: either of the attacks, or of the protection.
 *
 * Only in the build that has the switches (base/weaken.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"
#include "walls/wall.h"

#ifdef IRONCLAW_WEAKENED

enum { TRIED_MAX = 6, UNION_MAX = 32 };

struct control {
    const char *protection;
    const char *switches; /* every layer that serves this protection */
    const char *beside;   /* switches under which the attacks must still be held off: what shows that the rest
                             of   `switches` alone makes the difference. NULL: none */
    bool root_only;       /* rootless the wall cannot be built without it */
    const char *attacks[TRIED_MAX];
};

static const struct control container[] = {
    {"network namespace",
     "network",
     NULL,
     false,
     {"net.host-loopback", "net.interfaces", "net.abstract-unix"}},
    {"system call filter",
     "seccomp",
     NULL,
     false,
     {"kernel.facilities", "priv.namespaces", "net.raw-sockets", "priv.keyrings"}},
    {"capabilities", "capabilities", NULL, false, {"priv.capabilities"}},
    {"bounding set", "bounding-set", NULL, false, {"priv.capabilities"}},
    {"no_new_privs (the filter and Landlock need it)",
     "no-new-privs,seccomp,landlock",
     "seccomp,landlock",
     false,
     {"priv.no-new-privs"}},
    {"read-only root", "read-only-mounts,landlock", NULL, false, {"fs.read-only"}},
    {"Landlock, behind a root mounted writable",
     "read-only-mounts,landlock",
     "read-only-mounts",
     false,
     {"fs.read-only"}},
    {"Landlock", "landlock", NULL, false, {"priv.landlock", "fs.read-only"}},
    {"user namespace", "user-namespace", NULL, true, {"priv.identity", "priv.capabilities"}},
    {"memory limit", "memory-limit", NULL, false, {"res.memory"}},
    {"pids limit", "pids-limit", NULL, false, {"res.processes"}},
    {"cpu limit", "cpu-limit", NULL, false, {"res.processor"}},
    {"masks over /proc", "proc-masks", NULL, false, {"fs.proc"}},
    {"keys stay outside", "key-binds", NULL, false, {"keys.files"}},
    {"gateway: verifiers and the human decision", "gateway", NULL, false, {"self.propose", "self.forge"}},
    {"queue port: bound to its session", "queue-binding", NULL, false, {"queue.other"}},
    {"queue port: inbound only from outside", "queue-inbound", NULL, false, {"queue.inbound"}},
    {"model port: allowed paths only", "model-paths", NULL, false, {"port.model-paths"}},
};

static const struct control cell[] = {
    {"cell: filter's list", "cell-filter", NULL, false, {"cell.host-calls", "cell.descriptors"}},
    {"cell: filter's look at the address", "cell-filter-address", NULL, false, {"cell.host-calls"}},
    {"cell: descriptors closed", "cell-descriptors", NULL, true, {"cell.descriptors"}},
    {"cell: filters of warden and file server",
     "relay-filter",
     NULL,
     false,
     {"kernel.facilities", "kernel.foreign-entries"}},
    {"cell: file server's paths beneath the workspace",
     "files-beneath,landlock,cell-root",
     "landlock,cell-root",
     true,
     {"cell.workspace"}},
    {"cell: file server's Landlock",
     "files-beneath,landlock,cell-root",
     "files-beneath,cell-root",
     true,
     {"cell.workspace"}},
    {"cell: empty root",
     "files-beneath,landlock,cell-root",
     "files-beneath,landlock",
     true,
     {"cell.workspace"}},
    {"cell: network namespace", "network", NULL, true, {"net.interfaces"}},
    {"cell: capabilities", "capabilities", NULL, false, {"priv.capabilities"}},
    {"cell: bounding set", "bounding-set", NULL, false, {"priv.capabilities"}},
    {"cell: no_new_privs (the filters and Landlock need it)",
     "no-new-privs,relay-filter,landlock",
     "relay-filter,landlock",
     false,
     {"priv.no-new-privs"}},
    {"cell: user namespace", "user-namespace", NULL, true, {"priv.identity", "priv.capabilities"}},
    {"cell: memory limit", "memory-limit", NULL, false, {"res.memory"}},
    {"cell: pids limit", "pids-limit", NULL, false, {"cell.uncounted"}},
    {"cell: cpu limit", "cpu-limit", NULL, false, {"res.processor"}},
};

static const struct set {
    const char *wall;
    const struct control *controls;
    size_t n;
} sets[] = {{"container", container, ARRAY_LEN(container)}, {"cell", cell, ARRAY_LEN(cell)}};

static const struct attack *find(const char *id, const struct family **family)
{
    for (size_t f = 0; f < nfamilies; f++)
        for (const struct attack *a = families[f].attacks; a->id; a++)
            if (!strcmp(a->id, id)) {
                *family = &families[f];
                return a;
            }
    return NULL;
}

/* Starts a plane without the protections of `weaken` and runs the attacks; puts {"attack","verdict","why"} of
 * each into `list`. A sandbox without a protection may not survive an attack: what came of it so far counts.
 */
static int attack_weakened(const char *wall, const char *weaken, const char *const *ids, size_t n,
                           json_t *list, struct err *e)
{
    static struct arena arena;
    struct plane plane;
    int rc = plane_start(&plane, weaken, e);

    memset(&arena, 0, sizeof(arena));
    if (rc == 0)
        rc = arena_open(&arena, &plane, wall, e);
    arena.gentle = true;
    for (size_t i = 0; rc == 0 && i < n && !interrupted; i++) {
        static struct trial t;
        t = (struct trial){0};
        t.attack = find(ids[i], &t.family);
        if (!t.attack) {
            rc = err_set(e, ENOENT, "there is no attack '%s'", ids[i]);
            break;
        }
        output_progress("without %s: %s", weaken ? weaken : "nothing", ids[i]);
        rc = trial_run(&arena, &t, e);
        (void)json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "attack", ids[i], "verdict",
                                                    verdict_name(t.verdict), "why", t.why));
        trial_free(&t);
    }
    output_progress(NULL);
    if (arena.plane)
        arena_close(&arena);
    plane_stop(&plane, false);
    return interrupted ? err_set(e, EINTR, "interrupted") : rc;
}

static size_t count(const json_t *list, const char *verdict)
{
    size_t i, n = 0;
    json_t *o;

    json_array_foreach(list, i, o)
    {
        n += !strcmp(json_string_value(json_object_get(o, "verdict")), verdict);
    }
    return n;
}

/* All were tried and none got through. */
static bool all_held(const char *wall, const char *weaken, const char *const *ids, size_t n, json_t *list,
                     struct err *e)
{
    return attack_weakened(wall, weaken, ids, n, list, e) == 0 && json_array_size(list) == n &&
           count(list, "FAIL") + count(list, "ERROR") == 0;
}

static size_t attacks_of(const struct control *c)
{
    size_t n = 0;

    while (n < TRIED_MAX && c->attacks[n])
        n++;
    return n;
}

/* One control: its row is appended to `out`. False if nobody noticed. */
static bool run_control(const char *wall, const struct control *c, json_t *out)
{
    json_t *tried = json_array(), *before = json_array();
    size_t n = attacks_of(c);
    struct err e = ERR_INIT;
    /* With only the other layers off the attacks are still held off: the verdict turns on this one alone. */
    bool held = !c->beside || all_held(wall, c->beside, c->attacks, n, before, &e), noticed;

    if (held && attack_weakened(wall, c->switches, c->attacks, n, tried, &e) < 0 && count(tried, "FAIL") == 0)
        (void)json_array_append_new(
            tried, json_pack("{s:s,s:s,s:s}", "attack", "-", "verdict", "ERROR", "why", e.text));
    noticed = held && count(tried, "FAIL") > 0;
    (void)json_array_append_new(out, json_pack("{s:s,s:s,s:s,s:b,s:b,s:o,s:o}", "wall", wall, "protection",
                                               c->protection, "switches", c->switches, "noticed",
                                               (int)noticed, "held_without_the_others", (int)held, "tried",
                                               tried, "before", before));
    return noticed;
}

static void print_row(const json_t *row)
{
    const char *separator = "";
    json_t *t;
    size_t i;

    (void)printf("%-54s %-8s ", json_string_value(json_object_get(row, "protection")),
                 json_is_true(json_object_get(row, "noticed")) ? "noticed" : "MISSED");
    json_array_foreach(json_object_get(row, "tried"), i, t)
    {
        const char *verdict = json_string_value(json_object_get(t, "verdict"));
        bool failed = !strcmp(verdict, "FAIL");
        (void)printf("%s%s%s%s%s", separator, json_string_value(json_object_get(t, "attack")),
                     failed ? "" : " (", failed ? "" : verdict, failed ? "" : ")");
        separator = ", ";
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

/* The attacks of a wall's controls on a plane with every protection: one that fails anyway proves nothing. */
static bool run_baseline(const struct set *set, bool root, json_t *out, struct err *e)
{
    const char *ids[UNION_MAX];
    json_t *held = json_array();
    size_t n = 0;
    bool ok;

    for (size_t i = 0; i < set->n; i++)
        for (size_t k = 0; k < attacks_of(&set->controls[i]) && (root || !set->controls[i].root_only); k++) {
            size_t j = 0;
            while (j < n && strcmp(ids[j], set->controls[i].attacks[k]) != 0)
                j++;
            if (j == n && n < UNION_MAX)
                ids[n++] = set->controls[i].attacks[k];
        }
    ok = all_held(set->wall, NULL, ids, n, held, e);
    (void)json_array_extend(out, held);
    json_decref(held);
    if (!ok && !e->code)
        (void)err_set(e, EIO,
                      "an attack gets through with every protection in place: 'ironclaw redteam' first");
    return ok;
}

static bool run_set(const struct set *set, bool root, json_t *rows, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; i < set->n && !e->code && !interrupted; i++) {
        if (set->controls[i].root_only && !root)
            continue;
        ok = run_control(set->wall, &set->controls[i], rows) && ok;
        print_row(json_array_get(rows, json_array_size(rows) - 1));
    }
    return ok;
}

int controls_run(const char *wall, json_t **out, struct err *e)
{
    json_t *rows = json_array(), *baseline = json_array();
    bool root = geteuid() == 0, ok = true;

    (void)printf("%-54s %-8s %s\n", "PROTECTION TAKEN AWAY", "", "ATTACKS THAT NOTICE (others tried)");
    for (size_t i = 0; i < ARRAY_LEN(sets) && !e->code && !interrupted; i++) {
        if ((wall && strcmp(wall, sets[i].wall) != 0) || !wall_find(sets[i].wall)->probe(NULL))
            continue; /* nobody asked for it, or this host has no such wall */
        ok = run_baseline(&sets[i], root, baseline, e) && run_set(&sets[i], root, rows, e) && ok;
    }
    *out = json_pack("{s:s,s:i,s:b,s:b,s:o,s:o}", "schema", "ironclaw-redteam-controls", "version", 1, "root",
                     (int)root, "all_noticed", (int)ok, "baseline", baseline, "controls", rows);
    return e->code ? -1 : ok ? 0 : 1;
}
#endif
