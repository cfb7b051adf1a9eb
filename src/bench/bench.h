/*
 * bench.h - `ironclaw bench` and `ironclaw capacity`: figures as ratios against peers measured in the same
 * run, and what one more session costs on this host.
 *
 *   main.c        options, the order of the parts
 *   stats.c       medians and percentiles
 *   process.c     runs one command to its end, or starts it and waits for its first line
 *   contender.c   who takes part, and the command line with which each runs the same command on the same root
 *   standby.c     keeps cells ready for one of them
 *   workloads.c   whole commands (start, python, a compile) and loops timed inside, interleaved round by
 * round density.c     what one more idle sandbox costs the host plane.c       a control plane of its own;
 * chat.c, model.c measure it, api.c is its HTTP client stream.c      a model server that stamps every chunk
 * it sends goals.c what the cell is to reach capacity.c    `ironclaw capacity` report.c      Markdown,
 * results.json, methodology.txt; charts.c draws them inside/       the program that runs inside the sandboxes
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"

enum { BENCH_CONTENDERS = 12, BENCH_WALLS_TEXT = 128 };

struct bench {
    bool quick;
    unsigned rounds;    /* of everything that is started */
    unsigned sandboxes; /* idle sandboxes at most, for the density curve */
    unsigned sessions;  /* sessions at most, for chat */
    const char *only;   /* comma-separated groups; NULL: all */
    const char *walls;  /* comma-separated; NULL: every wall this host can give */
    const char *out;    /* directory for the report; NULL: the table only */
    char ironclaw[512]; /* the command under test: the one this binary belongs to */
    char inside[512];   /* host path of ironclaw-bench-inside */
    char work[64];      /* a temporary directory, removed at the end */
    char rootfs[128];   /* the base image with the inside program, one copy for all contenders */
    char tools[512];    /* root of the image "tools", or "" */
    json_t *results;    /* array; see docs/benchmarks.md */
};

/* True if `group` is to be run. */
bool bench_wants(const struct bench *b, const char *group);
/* One line on a terminal, replaced by the next; NULL clears it. Nothing where stderr is not a terminal. */
void bench_progress(const char *text);

/* ---- stats.c: all values in the unit of the samples; `samples` is sorted in place ---- */
double stats_percentile(double *samples, size_t n, double p);

/* ---- process.c ---- */
struct run {
    int status;      /* exit status, 128+n for a signal, -1: could not start or timed out */
    uint64_t ns;     /* from spawn to wait */
    char out[4096];  /* what it printed, cut, with a NUL */
    char error[256]; /* first line of what it said on stderr */
};
/* Runs argv to its end, at most `limit_s` seconds. `private_cgroups`: in a mount namespace of its own, where
 * the unified hierarchy of a hybrid cgroup host is unmounted (crun refuses hybrid hosts). */
void process_run(char *const *argv, bool private_cgroups, unsigned limit_s, struct run *r);
/* Starts argv; *out gets the reading end of its stdout. Returns the pid or -1. */
pid_t process_start(char *const *argv, bool private_cgroups, int *out);
/* Waits at most `limit_s` for one line on fd. */
bool process_expect_line(int fd, const char *line, unsigned limit_s);
/* True if the program is on PATH. */
bool process_have(const char *program);

/* ---- contender.c ---- */
/* A growing argument vector that owns its words. */
struct words {
    char **v;
    size_t n;
};
void words_add(struct words *w, const char *word);
void words_free(struct words *w);

struct contender {
    const char *name;     /* "ironclaw container", "runc", ... */
    bool ours;            /* one of our walls */
    bool outside;         /* no wall at all: for loops only */
    bool private_cgroups; /* see process_run() */
    char wall[32];        /* of ours */
    bool ready;           /* takes cells that stand ready (standby.c): for starts only */
    void (*command)(const struct contender *c, const struct bench *b, const char *rootfs,
                    char *const *command, struct words *w);
    void (*end)(const struct bench *b); /* takes away what the peer leaves; may be NULL */
    char failed[256]; /* not empty: it did not do its work, and why; it is not timed again */
};

/* Fills `all`; the first one is ours, one that is `ready` the last. Returns how many. A wall that was named
 * and is not there is an error.
 */
int contenders_find(const struct bench *b, struct contender all[BENCH_CONTENDERS], size_t *n, struct err *e);
/* The whole argument vector for one run; with NULL as rootfs the base image. Freed with words_free(). */
void contender_command(const struct contender *c, const struct bench *b, const char *rootfs,
                       char *const *command, struct words *w);

/*
 * <state>/images/NAME/rootfs, or false: our own commands name an image, for what is made of one once (the
 * cell's EROFS file) is kept beside it.
 */
bool contender_image(const char *rootfs, char *state, size_t cap, char *name, size_t name_cap);

/* ---- standby.c: `ironclaw run --standby` for the contender that is `ready` ---- */
int standby_begin(const struct bench *b, struct err *e);
void standby_end(const struct bench *b);
/* What tells those cells from others: a limit of their own. */
#define STANDBY_PIDS "1023"

/* ---- report rows ---- */
/* Adds a row: {"group","what","contender","unit","median","p10","p90","n"} from `samples` (sorted in place).
 * Returns the row, borrowed. contender "" where there is only one. */
json_t *row_add(struct bench *b, const char *group, const char *what, const char *contender, const char *unit,
                double *samples, size_t n);
/* A row of one figure. */
json_t *row_figure(struct bench *b, const char *group, const char *what, const char *contender,
                   const char *unit, double value);
/* A row that says why there is no figure. */
void row_failed(struct bench *b, const char *group, const char *what, const char *contender, const char *why);

/* A text of a row, "" if it has none of that name; the row of that name, or NULL. */
const char *row_text(const json_t *r, const char *key);
const json_t *row_find(const json_t *results, const char *group, const char *what, const char *contender);

/* ---- goals.c: what the cell is to reach (docs/cell.md), next to what these rows say; nothing where they
 * have none of it ---- */
void goals_print(FILE *f, const json_t *results);

/* ---- the parts: each adds rows; -1 with e only when the bench itself cannot go on ---- */
int bench_start(struct bench *b, struct contender *all, size_t n, struct err *e);
int bench_loops(struct bench *b, struct contender *all, size_t n, struct err *e);
int bench_programs(struct bench *b, struct contender *all, size_t n, struct err *e);
int bench_density(struct bench *b, struct contender *all, size_t n, struct err *e);
int bench_plane(struct bench *b, struct err *e);

/* ---- host.c: what the kernel tells about memory ---- */
struct host_memory {
    long available,
        kernel; /* KiB: MemAvailable; Slab + KernelStack + PageTables + Percpu (proc_meminfo(5)) */
};
void host_memory(struct host_memory *m);
/* Share of its pages in KiB (proc_pid_smaps(5), Pss), 0 when it is gone; open descriptors. */
long host_pss(pid_t pid);
long host_fds(pid_t pid);
/* All process ids, sorted; *n of them; freed by the caller. */
pid_t *host_pids(size_t *n);
/* Kernel memory charged to the memory cgroup of `pid`, KiB, or -1 where it is not accounted or is the
 * caller's own group. `path` (may be NULL) gets the group's path. */
long host_cgroup_kernel(pid_t pid, char *path, size_t cap);

/* ---- plane.c: a control plane on a temporary state directory, with the mock model ---- */
struct plane {
    pid_t pid;
    int output;
    struct api *api;
    char state[96], socket[112], token[128];
    char agent[64];
};
/* Starts it. `config`: its YAML. */
int plane_start(const struct bench *b, const char *config, struct plane *p, struct err *e);
void plane_stop(struct plane *p);
/* Creates and approves an agent from its document (reference stolen), which p->agent then names. */
int plane_agent(struct plane *p, json_t *document, struct err *e);
/* Starts a session of p->agent. */
int plane_session(struct plane *p, char *id, size_t cap, struct err *e);
/* PSS of all its processes and their number of descriptors, after `settle_ms` of quiet. */
void plane_weigh(const struct plane *p, unsigned settle_ms, long *kib, long *fds, size_t *count);
/* Sends one message and waits for the answer, which must quote it. Returns milliseconds, or -1 with e. */
double plane_round_trip(struct plane *p, const char *session, const char *text, json_int_t *last,
                        struct err *e);

/* ---- chat.c, model.c ---- */
int bench_chat(struct bench *b, struct plane *p, struct err *e);
int bench_appends(struct bench *b, struct plane *p, struct err *e);
int bench_model(struct bench *b, struct err *e);

/* ---- stream.c: a model server on the host's loopback that answers every request with `chunks` events, each
 * carrying CLOCK_MONOTONIC in nanoseconds ---- */
struct stream_server {
    int socket;
    uint16_t port;
    unsigned chunks, gap_us;
    unsigned long thread;
};
int stream_start(struct stream_server *s, struct err *e);
void stream_stop(struct stream_server *s);

/* ---- api.c ---- */
struct api;
struct api *api_open(const char *socket_path);
void api_close(struct api *a);
void api_set_token(struct api *a, const char *token);
/* One call on a kept connection. Returns the HTTP status or -1 with e; *out (may be NULL) a new reference. */
long api_call(struct api *a, const char *method, const char *path, const json_t *body, json_t **out,
              struct err *e);

/* ---- report.c, charts.c ---- */
void report_print(const struct bench *b);
int report_write(const struct bench *b, const struct contender *all, size_t n, struct err *e);
/* start.svg, memory.svg, density.svg through gnuplot; returns false if it is not there or fails. */
bool charts_write(const struct bench *b);

/* ---- capacity.c ---- */
/* Parses its options, calls `prepare`, measures and prints. Returns 0, 1 after --help, or -1 with e. */
int capacity_main(struct bench *b, int argc, char **argv, int (*prepare)(struct bench *, struct err *),
                  struct err *e);
