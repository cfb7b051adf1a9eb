/*
 * cgroup.h - memory, cpu and pids limits of one sandbox, on cgroup v2 and on v1 (hybrid) hosts.
 *
 * On v2 one directory <base>/<id>; on v1 one per controller. A sandbox joins *itself* (writes "0"): moving
 * another process takes the kernel's global thread-group lock and an RCU grace period (4 ms per hierarchy,
 * measured), moving oneself through the v1 "tasks" file or being cloned into a v2 cgroup does not.
 */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { CGROUP_CONTROLLERS = 3, CGROUP_PATH_MAX = 256 };

/* What to limit. `asked`: the user named this limit, so a host that cannot enforce it is an error, not a
 * warning. */
struct cgroup_limits {
    uint64_t memory_bytes; /* resident + page cache + kernel; swap is off. 0: no limit */
    uint32_t cpu_milli;    /* 1000 = one CPU. 0: no limit */
    uint32_t pids;         /* processes and threads. 0: no limit */
    bool memory_asked, cpu_asked, pids_asked;
};

struct cgroup {
    bool v2;
    int ndirs;
    char dirs[CGROUP_CONTROLLERS][CGROUP_PATH_MAX]; /* memory, pids, cpu on v1; one on v2 */
    int join[CGROUP_CONTROLLERS]; /* v1: descriptors a process writes "0" to in order to join; -1 none */
    int into;                     /* v2: directory descriptor for clone3(CLONE_INTO_CGROUP); -1 none */
    bool memory, cpu, pids;       /* which limits are in force */
};

#define CGROUP_INIT                                                                                          \
    {                                                                                                        \
        false, 0, {{0}}, {-1, -1, -1}, -1, false, false, false                                               \
    }

struct cgroup_stats {
    uint64_t memory_bytes, memory_peak_bytes, cpu_us, pids, oom_kills;
};

/* What the host offers: every controller the caller may create groups in, or the reason why not. */
struct cgroup_host {
    bool v2;
    bool memory, cpu, pids;
    char why[256]; /* when something is missing: what, and what to do */
};
void cgroup_probe(struct cgroup_host *h);

/* Creates the group and sets its limits. A limit with *_asked that cannot be enforced is an error; others are
 * left out (see c->memory, c->cpu, c->pids). On failure nothing is left. */
int cgroup_create(struct cgroup *c, const char *id, const struct cgroup_limits *limits, struct err *e);

/* v1: the calling (single-threaded) process joins. v2: nothing to do, it was cloned into c->into. */
int cgroup_join(const struct cgroup *c);
/* Closes the join descriptors in the creator. */
void cgroup_close(struct cgroup *c);

void cgroup_read_stats(const struct cgroup *c, struct cgroup_stats *s);

/* How often the limits were hit since the group was made; zeros where the host does not count. */
struct cgroup_hits {
    uint64_t oom_kills;    /* processes killed for memory */
    uint64_t pids_refused; /* forks refused */
    uint64_t throttled;    /* scheduling periods in which the cpu limit stopped it */
    uint64_t throttled_us;
};
void cgroup_read_hits(const struct cgroup *c, struct cgroup_hits *h);

/* Kills what is inside (v2 cgroup.kill) and removes the directories, waiting for dying processes at most 2 s.
 */
void cgroup_destroy(struct cgroup *c);

/* Removes empty groups whose name ends in "-<pid>" of a process that is gone. */
void cgroup_sweep(void);
