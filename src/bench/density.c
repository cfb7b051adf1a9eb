/*
 * What one more idle sandbox costs the host: 1, 10, 100, ... of them are started, each says that it is ready,
 * and the host's memory is compared with what it was before. MemAvailable sees everything: processes, page
 * tables, namespaces, cgroups, helper processes of the wall. The parts are shown as well: PSS of all new
 * processes, the kernel's own memory, and what the kernel charged to the sandbox's cgroup. With few sandboxes
 * whatever else the host does can outweigh them in MemAvailable, whose difference may even be negative; PSS
 * counts their processes only, at every point, and is what the charts show.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

enum { READY_S = 30, SETTLE_US = 500000, END_S = 20, PARTS_AT = 10 /* sandboxes: enough to even out */ };

struct herd {
    pid_t *pids;
    int *out;
    unsigned n;
};

static void end_herd(const struct contender *c, const struct bench *b, struct herd *h)
{
    uint64_t until = io_monotonic_ns() + END_S * 1000000000ULL;

    for (unsigned i = 0; i < h->n; i++)
        (void)kill(h->pids[i], SIGTERM);
    for (unsigned i = 0; i < h->n; i++) {
        while (waitpid(h->pids[i], NULL, WNOHANG) == 0) {
            if (io_monotonic_ns() < until) {
                (void)usleep(2000);
                continue;
            }
            (void)kill(-h->pids[i], SIGKILL);
            (void)waitpid(h->pids[i], NULL, 0);
            break;
        }
        (void)close(h->out[i]);
    }
    if (c->end)
        c->end(b);
    free(h->pids);
    free(h->out);
    (void)usleep(SETTLE_US);
}

static bool grow(const struct contender *c, const struct bench *b, struct herd *h)
{
    char *const command[] = {(char *)(uintptr_t) "ironclaw-bench-inside", (char *)(uintptr_t) "idle", NULL};
    struct words w = {0};
    bool ready;

    contender_command(c, b, NULL, command, &w);
    h->pids = x_realloc(h->pids, (h->n + 1) * sizeof(*h->pids));
    h->out = x_realloc(h->out, (h->n + 1) * sizeof(*h->out));
    h->pids[h->n] = process_start(w.v, c->private_cgroups, &h->out[h->n]);
    words_free(&w);
    if (h->pids[h->n] < 0)
        return false;
    ready = process_expect_line(h->out[h->n], "ready", READY_S);
    h->n++;
    return ready;
}

/* Adds up the processes that are in `now` and not in `before`, both sorted. */
static void add_parts(const pid_t *before, size_t nbefore, long *pss, long *kernel, size_t *processes)
{
    size_t n, at = 0;
    pid_t *now = host_pids(&n);
    char last[512] = "", path[512];

    *pss = *kernel = 0;
    *processes = 0;
    for (size_t i = 0; i < n; i++) {
        long kib;
        while (at < nbefore && before[at] < now[i])
            at++;
        if (at < nbefore && before[at] == now[i])
            continue;
        kib = host_pss(now[i]);
        if (kib == 0)
            continue; /* a thread of the kernel, or gone */
        *pss += kib;
        ++*processes;
        kib = host_cgroup_kernel(now[i], path, sizeof(path));
        if (kib > 0 && strcmp(path, last) != 0) { /* one sandbox's processes follow each other */
            *kernel += kib;
            memcpy(last, path, sizeof(last));
        }
    }
    free(now);
}

static void parts(struct bench *b, const char *name, const struct herd *h, const pid_t *before,
                  size_t nbefore)
{
    long pss, kernel;
    size_t processes;
    char what[64];

    add_parts(before, nbefore, &pss, &kernel, &processes);
    (void)io_format(what, sizeof(what), "PSS of its processes, %u running", h->n);
    (void)json_object_set_new(row_figure(b, "density", what, name, "KiB", (double)pss / h->n), "sandboxes",
                              json_integer(h->n));
    if (h->n != PARTS_AT)
        return;
    (void)row_figure(b, "density", "processes of one sandbox", name, "", (double)processes / h->n);
    if (kernel > 0)
        (void)row_figure(b, "density", "kernel memory charged to its cgroup", name, "KiB",
                         (double)kernel / h->n);
}

static void measure(struct bench *b, const struct contender *c)
{
    struct host_memory zero, now;
    struct herd h = {0};
    size_t nbefore;
    pid_t *before;
    uint64_t until;
    char what[64], text[96];
    bool ok = grow(c, b, &h); /* what is paid once (page cache, slabs) is paid */

    end_herd(c, b, &h);
    h = (struct herd){0};
    before = host_pids(&nbefore);
    host_memory(&zero);
    until = io_monotonic_ns() + (b->quick ? 5ULL : 60ULL) * 1000000000U;
    for (unsigned level = 1; ok && level <= b->sandboxes; level *= 10) {
        while (ok && h.n < level && (level <= PARTS_AT || io_monotonic_ns() < until)) {
            (void)io_format(text, sizeof(text), "density: %s, %u idle", c->name, h.n + 1);
            bench_progress(text);
            ok = grow(c, b, &h);
            host_memory(&now);
            if (now.available < zero.available / 4)
                break;
        }
        if (!ok || h.n < level)
            break; /* out of time or of memory: the curve ends here */
        (void)usleep(SETTLE_US);
        host_memory(&now);
        (void)io_format(what, sizeof(what), "host memory per sandbox, %u running", level);
        (void)row_figure(b, "density", what, c->name, "KiB",
                         (double)(zero.available - now.available) / level);
        parts(b, c->name, &h, before, nbefore);
        if (level == PARTS_AT)
            (void)row_figure(b, "density", "kernel memory, host-wide, one sandbox", c->name, "KiB",
                             (double)(now.kernel - zero.kernel) / level);
    }
    if (!ok)
        row_failed(b, "density", "host memory per sandbox, 1 running", c->name,
                   "a sandbox did not become ready");
    end_herd(c, b, &h);
    free(before);
}

int bench_density(struct bench *b, struct contender *all, size_t n, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++)
        if (!all[i].outside)
            measure(b, &all[i]);
    return 0;
}
