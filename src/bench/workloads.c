/*
 * Commands and loops, interleaved: in every round each contender runs once, each time another one first, so
 * that drift of the machine hits all alike. What a run prints is checked before its time is believed; a
 * contender that fails, at first or later, is reported with its reason and not timed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

enum {
    LIMIT_S = 60,
    AT_ONCE = 16,
    REST_US = 50000, /* the kernel takes namespaces and cgroups down after a command ended: not at the next
                        one's cost */
    LOOPS = 9,
    SAMPLES_MAX = 256,
};

/* The samples of one contender for one row. */
struct series {
    double values[SAMPLES_MAX];
    size_t n;
    char failed[256];
};

static void note(struct series *s, double value)
{
    if (s->n < SAMPLES_MAX)
        s->values[s->n++] = value;
}

static void fail(struct series *s, const struct run *r, const char *expected)
{
    if (r->status != 0)
        (void)io_format(s->failed, sizeof(s->failed), "exit status %d%s%.160s", r->status,
                        *r->error ? ": " : "", r->error);
    else
        (void)io_format(s->failed, sizeof(s->failed), "printed '%.60s' instead of '%.60s'", r->out, expected);
}

/* Runs a command; true if it ended well and printed what it should (NULL: nothing is compared). */
static bool run_checked(const struct contender *c, const struct bench *b, const char *rootfs,
                        char *const *command, const char *expected, struct run *r)
{
    struct words w = {0};

    contender_command(c, b, rootfs, command, &w);
    process_run(w.v, c->private_cgroups, LIMIT_S, r);
    words_free(&w);
    r->out[strcspn(r->out, "\n")] = 0;
    return r->status == 0 && (!expected || !strcmp(r->out, expected));
}

static void report(struct bench *b, const char *group, const char *what, const char *unit,
                   struct contender *all, size_t n, struct series *series)
{
    for (size_t i = 0; i < n; i++) {
        if (*series[i].failed)
            row_failed(b, group, what, all[i].name, series[i].failed);
        else if (series[i].n > 0)
            (void)row_add(b, group, what, all[i].name, unit, series[i].values, series[i].n);
    }
}

/* Each contender once has to do the command before anything is timed. */
static void time_command(struct bench *b, const char *group, const char *what, const char *rootfs,
                         char *const *command, const char *expected, unsigned rounds, void (*before)(void),
                         struct contender *all, size_t n)
{
    struct series *series = x_calloc(n, sizeof(*series));
    struct run r;
    char text[128];

    for (size_t i = 0; i < n; i++)
        if (!all[i].outside && !run_checked(&all[i], b, rootfs, command, expected, &r))
            fail(&series[i], &r, expected ? expected : "");
    for (unsigned round = 0; round < rounds; round++) {
        (void)io_format(text, sizeof(text), "%s: %s, round %u of %u", group, what, round + 1, rounds);
        bench_progress(text);
        for (size_t k = 0; k < n; k++) {
            size_t i = (round + k) % n;
            if (*series[i].failed || all[i].outside)
                continue;
            (void)usleep(REST_US);
            if (before)
                before();
            if (run_checked(&all[i], b, rootfs, command, expected, &r))
                note(&series[i], (double)r.ns / 1e6);
            else
                fail(&series[i], &r, expected ? expected : "");
        }
    }
    report(b, group, what, "ms", all, n, series);
    free(series);
}

/* Page cache, dentries and inodes go (proc_sys_vm(5), drop_caches). */
static void drop_caches(void)
{
    sync();
    (void)io_write_knob(AT_FDCWD, "/proc/sys/vm/drop_caches", "3");
}

/* Sixteen at once: the time until the last one ended, divided by sixteen, and each one's own time. */
static bool burst(const struct contender *c, const struct bench *b, struct series *each, struct series *all)
{
    char *const command[] = {(char *)(uintptr_t) "echo", (char *)(uintptr_t) "up", NULL};
    struct words w[AT_ONCE] = {0};
    pid_t pids[AT_ONCE];
    int out[AT_ONCE];
    uint64_t begin, started[AT_ONCE];
    bool ok = true;

    for (int i = 0; i < AT_ONCE; i++)
        contender_command(c, b, NULL, command, &w[i]);
    begin = io_monotonic_ns();
    for (int i = 0; i < AT_ONCE; i++) {
        started[i] = io_monotonic_ns();
        pids[i] = process_start(w[i].v, c->private_cgroups, &out[i]);
    }
    for (int left = AT_ONCE; left > 0; left--) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, 0);
        for (int i = 0; i < AT_ONCE; i++)
            if (pids[i] == pid && pid > 0)
                note(each, (double)(io_monotonic_ns() - started[i]) / 1e6);
        ok = ok && pid > 0 && status == 0;
    }
    note(all, (double)(io_monotonic_ns() - begin) / 1e6 / AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) {
        ok = pids[i] > 0 && process_expect_line(out[i], "up", 1) && ok;
        if (pids[i] > 0)
            (void)close(out[i]);
        words_free(&w[i]);
    }
    return ok;
}

static void bench_load(struct bench *b, struct contender *all, size_t n)
{
    struct series *each = x_calloc(n, sizeof(*each)), *total = x_calloc(n, sizeof(*total));
    unsigned rounds = b->quick ? 1 : 4;
    char text[128];

    for (unsigned round = 0; round < rounds; round++) {
        for (size_t k = 0; k < n; k++) {
            size_t i = (round + k) % n;
            if (*each[i].failed || all[i].outside)
                continue;
            (void)io_format(text, sizeof(text), "start: %d at once, %s", AT_ONCE, all[i].name);
            bench_progress(text);
            (void)usleep(REST_US);
            if (!burst(&all[i], b, &each[i], &total[i])) {
                (void)io_format(each[i].failed, sizeof(each[i].failed),
                                "not all of %d started and printed what they should", AT_ONCE);
                memcpy(total[i].failed, each[i].failed, sizeof(total[i].failed));
            }
        }
    }
    report(b, "start", "16 at once, each", "ms", all, n, each);
    report(b, "start", "16 at once, total / 16", "ms", all, n, total);
    free(each);
    free(total);
}

int bench_start(struct bench *b, struct contender *all, size_t n, struct err *e)
{
    char *const command[] = {(char *)(uintptr_t) "echo", (char *)(uintptr_t) "up", NULL};

    (void)e;
    time_command(b, "start", "warm", NULL, command, "up", b->rounds, NULL, all, n);
    if (geteuid() == 0)
        time_command(b, "start", "cold (caches dropped)", NULL, command, "up", b->quick ? 2 : 7, drop_caches,
                     all, n);
    bench_load(b, all, n);
    return 0;
}

/* ---- loops inside, timed by themselves ---- */

static const struct {
    const char *name, *what;
} loop_rows[LOOPS] = {
    {"cpu", "arithmetic (20,000 steps)"},
    {"getppid", "getppid"},
    {"walk", "lstat walk of /usr"},
    {"files", "open, read 4 KiB, close"},
    {"pipe", "pipe round trip, two processes"},
    {"spawn", "fork, exec, wait"},
    {"touch", "mmap, touch 1 MiB, munmap"},
    {"thread", "create and join a thread"},
    {"epoll", "epoll round over unix sockets"},
};

/* Reads "NAME COUNT NANOSECONDS" lines up to "done". */
static bool read_loops(char *text, struct series *series)
{
    char *save = NULL;
    size_t seen = 0;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned long long count = 0, ns = 0;
        size_t len = strcspn(line, " ");
        if (!strcmp(line, "done"))
            return seen == LOOPS;
        for (size_t i = 0; i < LOOPS; i++)
            if (strlen(loop_rows[i].name) == len && !strncmp(line, loop_rows[i].name, len)) {
                char *rest = line + len;
                count = strtoull(rest, &rest, 10);
                ns = strtoull(rest, &rest, 10);
                if (!count || !ns)
                    return false;
                note(&series[i], (double)ns / (double)count / 1e3);
                seen++;
            }
    }
    return false;
}

int bench_loops(struct bench *b, struct contender *all, size_t n, struct err *e)
{
    struct series *series = x_calloc(n * LOOPS, sizeof(*series));
    unsigned rounds = b->quick ? 3 : 9;
    char text[128], tree[160], *milliseconds = (char *)(uintptr_t)(b->quick ? "40" : "100");

    (void)e;
    (void)io_format(tree, sizeof(tree), "%s/usr", b->rootfs);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t k = 0; k < n; k++) {
            size_t i = (round + k) % n;
            bool outside = all[i].outside;
            char *const command[] = {(char *)(uintptr_t) "ironclaw-bench-inside",
                                     (char *)(uintptr_t) "loops",
                                     milliseconds,
                                     outside ? tree : (char *)(uintptr_t) "/usr",
                                     (char *)(uintptr_t)(outside ? "/dev/shm" : "/tmp"),
                                     NULL};
            struct words w = {0};
            struct run r;
            if (*series[i * LOOPS].failed)
                continue;
            (void)io_format(text, sizeof(text), "loops: round %u of %u, %s", round + 1, rounds, all[i].name);
            bench_progress(text);
            contender_command(&all[i], b, NULL, command, &w);
            process_run(w.v, all[i].private_cgroups, LIMIT_S, &r);
            words_free(&w);
            if (r.status != 0 || !read_loops(r.out, &series[i * LOOPS]))
                for (size_t l = 0; l < LOOPS; l++)
                    fail(&series[i * LOOPS + l], &r, "done");
        }
    }
    for (size_t l = 0; l < LOOPS; l++)
        for (size_t i = 0; i < n; i++) {
            struct series *s = &series[i * LOOPS + l];
            if (*s->failed)
                row_failed(b, "loops", loop_rows[l].what, all[i].name, s->failed);
            else
                (void)row_add(b, "loops", loop_rows[l].what, all[i].name, "us", s->values, s->n);
        }
    free(series);
    return 0;
}

/* ---- programs of the image "tools" ---- */

/* Makes a repository of N files, then asks for its status; prints how long that took, in microseconds, after
 * a word that says that git found exactly the one change. */
static const char git_script[] = "set -e; export HOME=/tmp; mkdir /tmp/r; cd /tmp/r; git init -q .; "
                                 "d=0; while [ $d -lt 50 ]; do mkdir d$d; f=0; while [ $f -lt $1 ]; do echo "
                                 "$d $f >d$d/f$f; f=$((f+1)); done; d=$((d+1)); done; "
                                 "git add -A; git -c user.name=b -c user.email=b@localhost commit -q -m all; "
                                 "echo changed >d7/f3; git status --porcelain >/dev/null; "
                                 "a=$(date +%s%N); s=$(git status --porcelain); z=$(date +%s%N); "
                                 "[ \"$s\" = ' M d7/f3' ] && echo status $(( (z - a) / 1000 ))";

static const char compile_script[] =
    "set -e; cd /tmp; printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\\nint "
    "main(void){char *p=malloc(64);memcpy(p,\"built\",6);puts(p);free(p);return 0;}\\n' >a.c; "
    "gcc -O2 -o a a.c; ./a";

static void bench_git(struct bench *b, struct contender *all, size_t n)
{
    struct series *series = x_calloc(n, sizeof(*series));
    char *const command[] = {(char *)(uintptr_t) "sh",
                             (char *)(uintptr_t) "-c",
                             (char *)(uintptr_t)git_script,
                             (char *)(uintptr_t) "git",
                             (char *)(uintptr_t)(b->quick ? "10" : "100"),
                             NULL};
    unsigned rounds = b->quick ? 1 : 3;

    for (unsigned round = 0; round < rounds; round++) {
        for (size_t k = 0; k < n; k++) {
            size_t i = (round + k) % n;
            struct run r;
            uint64_t us;
            char text[96];
            if (*series[i].failed || all[i].outside)
                continue;
            (void)io_format(text, sizeof(text), "programs: git status, %s", all[i].name);
            bench_progress(text);
            if (run_checked(&all[i], b, b->tools, command, NULL, &r) && !strncmp(r.out, "status ", 7) &&
                io_parse_u64(r.out + 7, UINT64_MAX / 2, &us))
                note(&series[i], (double)us / 1e3);
            else
                fail(&series[i], &r, "status N");
        }
    }
    report(b, "programs", b->quick ? "git status, 500 files" : "git status, 5,000 files", "ms", all, n,
           series);
    free(series);
}

static const char walk_script[] =
    "i=0; while [ $i -lt 20 ]; do n=$(find /usr -xdev | wc -l); i=$((i+1)); done; echo $n";

static unsigned long entries;

static int count_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)path, (void)st, (void)kind, (void)ftw;
    entries++;
    return 0;
}

/* The same tree walked by the same program, and every entry of it seen. /usr, for some of the walls mount
 * that apart. */
static void bench_walk(struct bench *b, struct contender *all, size_t n)
{
    char *const command[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                             (char *)(uintptr_t)walk_script, NULL};
    char tree[PATHS_MAX_LEN], expected[24];

    (void)io_format(tree, sizeof(tree), "%s/usr", b->tools);
    entries = 0;
    if (nftw(tree, count_entry, 16, FTW_PHYS) != 0)
        entries = 0; /* then no contender can agree, and all say so */
    (void)io_format(expected, sizeof(expected), "%lu", entries);
    time_command(b, "programs", "find /usr -xdev, 20 times", b->tools, command, expected, b->quick ? 3 : 9,
                 NULL, all, n);
}

int bench_programs(struct bench *b, struct contender *all, size_t n, struct err *e)
{
    char *const python[] = {(char *)(uintptr_t) "python3", (char *)(uintptr_t) "-c",
                            (char *)(uintptr_t) "print('started')", NULL};
    char *const compile[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                             (char *)(uintptr_t)compile_script, NULL};

    (void)e;
    if (!*b->tools) {
        row_failed(b, "programs", "python3, git, gcc", "",
                   "the image 'tools' is missing (./run image tools)");
        return 0;
    }
    time_command(b, "programs", "python3 start", b->tools, python, "started", b->quick ? 3 : 15, NULL, all,
                 n);
    bench_walk(b, all, n);
    bench_git(b, all, n);
    time_command(b, "programs", "compile and run a small program", b->tools, compile, "built",
                 b->quick ? 1 : 5, NULL, all, n);
    return 0;
}
