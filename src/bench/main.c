/*
 * `ironclaw bench` and `ironclaw capacity`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

static const char help[] =
    "usage: ironclaw bench [--quick] [--wall W,...] [--only GROUP,...] [--rounds N] [--sandboxes N] "
    "[--sessions N] [--out DIR]\n"
    "Measures every wall of this host against its peers (bwrap, runc, crun, runsc, podman: those that are "
    "installed), in the\n"
    "same run on the same root, and the control plane.\n"
    "\n"
    "  --quick         a smaller run, about two minutes\n"
    "  --wall W,...    these walls only; the ratios are those of the first\n"
    "  --only GROUP,...  of start, loops, programs, density, plane\n"
    "  --rounds N      rounds of the start benchmark (default 40; quick 10)\n"
    "  --sandboxes N   most idle sandboxes of the density curve, a power of ten (default 1000; quick 10)\n"
    "  --sessions N    most sessions for chat, a power of ten (default 1000; quick 10)\n"
    "  --out DIR       also write results.md, results.json, methodology.txt and charts there\n"
    "\n"
    "example: ironclaw bench --quick --out results\n";

void bench_progress(const char *text)
{
    if (isatty(2))
        (void)fprintf(stderr, "\r\033[K%s", text ? text : "");
}

static int parse(int argc, char **argv, struct bench *b, struct err *e)
{
    static const struct option options[] = {
        {"quick", 0, NULL, 'q'},  {"wall", 1, NULL, 'w'},      {"only", 1, NULL, 'g'},
        {"rounds", 1, NULL, 'n'}, {"sandboxes", 1, NULL, 'x'}, {"sessions", 1, NULL, 's'},
        {"out", 1, NULL, 'o'},    {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
    uint64_t v = 0;
    int id;

    opterr = 0;
    optind = 2;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if ((id == 'n' || id == 'x' || id == 's') && (!io_parse_u64(optarg, 10000, &v) || v == 0))
            return err_set(e, EINVAL, "'%s' is not a number from 1 to 10000", optarg);
        if (id == 'q') {
            b->quick = true;
        } else if (id == 'w') {
            b->walls = optarg;
        } else if (id == 'g') {
            b->only = optarg;
        } else if (id == 'n') {
            b->rounds = (unsigned)v;
        } else if (id == 'x') {
            b->sandboxes = (unsigned)v;
        } else if (id == 's') {
            b->sessions = (unsigned)v;
        } else if (id == 'o') {
            b->out = optarg;
        } else if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        } else {
            return err_set(e, EINVAL, "unknown option or missing value: '%s' (see 'ironclaw bench --help')",
                           argv[optind - 1]);
        }
    }
    b->rounds = b->rounds ? b->rounds : b->quick ? 10 : 40;
    b->sandboxes = b->sandboxes ? b->sandboxes : b->quick ? 10 : 1000;
    b->sessions = b->sessions ? b->sessions : b->quick ? 10 : 1000;
    return optind < argc
               ? err_set(e, EINVAL, "unexpected argument '%s' (see 'ironclaw bench --help')", argv[optind])
               : 0;
}

/* This program lies in <dir>/libexec/ironclaw; the command is <dir>/ironclaw, or <dir>/bin/ironclaw when
 * installed. */
static int find_command(char *out, size_t cap, struct err *e)
{
    static const char *const places[] = {"../../ironclaw", "../../bin/ironclaw"};
    char self[PATHS_MAX_LEN / 2], path[PATHS_MAX_LEN];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return err_sys(e, errno, "cannot find this program's own path");
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP_FREE char *real = NULL;
        if (!io_format(path, sizeof(path), "%s/%s", self, places[i]) || access(path, X_OK) != 0)
            continue;
        real = realpath(path, NULL);
        if (real && io_format(out, cap, "%s", real))
            return 0;
    }
    return err_set(e, ENOENT, "cannot find the ironclaw command beside %s", self);
}

static int command(char *const *argv, struct err *e)
{
    struct run r;

    process_run(argv, false, 120, &r);
    return r.status == 0 ? 0 : err_set(e, EIO, "'%s %s' failed: %s", argv[0], argv[1], r.error);
}

static int open_to_all(const char *rootfs, const char *name, struct err *e)
{
    char path[PATHS_MAX_LEN];

    if (!io_format(path, sizeof(path), "%s/%s", rootfs, name) || chmod(path, 01777) < 0)
        return err_sys(e, errno, "cannot change the mode of %s/%s", rootfs, name);
    return 0;
}

/* Those that an image's root lies in. */
static int make_directories(const char *work, struct err *e)
{
    static const char *const names[] = {"state", "state/images", "state/images/bench"};
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)io_format(path, sizeof(path), "%s/%s", work, names[i]);
        if (mkdir(path, 0755) < 0)
            return err_sys(e, errno, "cannot create %s", path);
    }
    return 0;
}

/* A private copy of the base image with the inside program, and the place of the image "tools". */
static int prepare(struct bench *b, struct err *e)
{
    char state[PATHS_MAX_LEN], from[PATHS_MAX_LEN], to[PATHS_MAX_LEN];
    char *build[] = {b->ironclaw, (char *)(uintptr_t) "image", (char *)(uintptr_t) "build",
                     (char *)(uintptr_t) "base", NULL};
    char *copy[] = {(char *)(uintptr_t) "cp", (char *)(uintptr_t) "-a", from, b->rootfs, NULL};
    char *add[] = {(char *)(uintptr_t) "install",
                   (char *)(uintptr_t) "-m",
                   (char *)(uintptr_t) "0755",
                   b->inside,
                   to,
                   NULL};

    if (paths_helper("ironclaw-bench-inside", b->inside, sizeof(b->inside), e) < 0 || command(build, e) < 0 ||
        paths_state_dir(state, sizeof(state), e) < 0)
        return -1;
    if (!io_format(b->rootfs, sizeof(b->rootfs), "%s/state/images/bench/rootfs", b->work) ||
        !io_format(from, sizeof(from), "%s/images/base/rootfs", state) ||
        !io_format(to, sizeof(to), "%s/usr/bin/ironclaw-bench-inside", b->rootfs) ||
        !io_format(b->tools, sizeof(b->tools), "%s/images/tools/rootfs", state))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    if (access(b->tools, F_OK) != 0)
        b->tools[0] = 0;
    if (chmod(b->work, 0755) < 0) /* sandboxes run under other uids */
        return err_sys(e, errno, "cannot open %s to all", b->work);
    if (make_directories(b->work, e) < 0 || command(copy, e) < 0 || command(add, e) < 0)
        return -1;
    /* Some runtimes give a tmpfs the mode of the directory that it covers. */
    return open_to_all(b->rootfs, "tmp", e) < 0 ? -1 : open_to_all(b->rootfs, "workspace", e);
}

static int run_bench(struct bench *b, struct err *e)
{
    static const struct {
        const char *group;
        int (*run)(struct bench *b, struct contender *all, size_t n, struct err *e);
    } parts[] = {{"start", bench_start},
                 {"loops", bench_loops},
                 {"programs", bench_programs},
                 {"density", bench_density}};
    static struct contender all[BENCH_CONTENDERS];
    size_t n = 0, others;
    int rc = prepare(b, e);

    if (rc == 0)
        rc = contenders_find(b, all, &n, e);
    others = n > 0 && all[n - 1].ready ? n - 1 : n;
    if (rc == 0 && others < n && bench_wants(b, "start"))
        rc = standby_begin(b, e);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(parts); i++) {
        if (!bench_wants(b, parts[i].group))
            continue;
        rc = parts[i].run(b, all, i == 0 ? n : others, e);
        if (i == 0)
            standby_end(b);
    }
    if (rc == 0 && bench_wants(b, "plane"))
        rc = bench_plane(b, e);
    bench_progress(NULL);
    if (json_array_size(b->results) > 0)
        report_print(b);
    if (rc == 0 && b->out)
        rc = report_write(b, all, n, e);
    for (size_t i = 0; i < n; i++)
        if (all[i].end)
            all[i].end(b);
    return rc;
}

/* The temporary directory may hold mounts of a peer that was interrupted; they go with the peer's own
 * clean-up. */
static void tidy(struct bench *b)
{
    struct err e = ERR_INIT;

    if (*b->work && io_remove_tree(AT_FDCWD, b->work, &e) < 0)
        (void)fprintf(stderr, "ironclaw: %s is left over: %s\n", b->work, e.text);
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct err e = ERR_INIT;
    bool capacity = argc > 1 && !strcmp(argv[1], "capacity");
    int rc = capacity ? 0 : parse(argc, argv, &b, &e);

    b.results = json_array();
    if (rc == 0)
        rc = find_command(b.ironclaw, sizeof(b.ironclaw), &e);
    if (rc == 0) {
        (void)io_format(b.work, sizeof(b.work), "/tmp/ironclaw-bench.XXXXXX");
        if (!mkdtemp(b.work)) {
            b.work[0] = 0;
            rc = err_sys(&e, errno, "cannot create a temporary directory");
        }
    }
    if (rc == 0)
        rc = capacity ? capacity_main(&b, argc, argv, prepare, &e) : run_bench(&b, &e);
    tidy(&b);
    if (rc < 0)
        (void)fprintf(stderr, "%sironclaw: %s\n", isatty(2) ? "\r\033[K" : "", e.text);
    json_decref(b.results);
    return rc >= 0 ? 0 : e.code == EINVAL ? 2 : 1;
}
