#include "walls/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"
#include "walls/cgroup_parse.h"

#define PARENT    "ironclaw"      /* our directory; one child per sandbox */
#define SELF_LEAF "ironclaw.self" /* where we move to when v2 forbids processes beside children */
#define CPU_PERIOD                                                                                           \
    100000 /* microseconds: the kernel's default period (Documentation/scheduler/sched-bwc.rst) */

static const char *const controllers[CGROUP_CONTROLLERS] = {"memory", "pids", "cpu"};

/* Where our groups go: resolved once, as mounts do not change under a running process of ours. */
static struct {
    bool done, v2;
    char base[CGROUP_CONTROLLERS][CGROUP_PATH_MAX - 72]; /* room for "/ironclaw/" and a 63-character id */
    char why[256];
} host;

static bool v2_has_controllers(const char *dir)
{
    char path[CGROUP_PATH_MAX];
    CLEANUP_FREE char *list = NULL;

    return io_format(path, sizeof(path), "%s/cgroup.controllers", dir) &&
           io_read_file(AT_FDCWD, path, 4096, &list, NULL, NULL) == 0 &&
           cgroup_has_word(list, "memory", " \n") && cgroup_has_word(list, "pids", " \n");
}

static int knob(const char *dir, const char *name, const char *value)
{
    char path[CGROUP_PATH_MAX + 64];

    return io_format(path, sizeof(path), "%s/%s", dir, name) ? io_write_knob(AT_FDCWD, path, value)
                                                             : -ENAMETOOLONG;
}

/*
 * Hands controllers down to children of `dir`. Memory first: it alone is refused while processes are in
 * `dir`. The others would be accepted, and turn the group into a threaded one that no process can be moved
 * out of (Documentation/admin-guide/cgroup-v2.rst, "Threads").
 */
static bool v2_delegate(const char *dir)
{
    if (knob(dir, "cgroup.subtree_control", "+memory") < 0 ||
        knob(dir, "cgroup.subtree_control", "+pids") < 0)
        return false;
    (void)knob(dir, "cgroup.subtree_control", "+cpu"); /* its absence shows when a cpu limit is set */
    return true;
}

/* Moves every process of `dir` into `leaf`. One that may not be moved, or has just ended, is left to show in
 * the result. */
static void move_processes(const char *dir, const char *leaf)
{
    char path[CGROUP_PATH_MAX + 16];
    CLEANUP_FREE char *pids = NULL;
    char *save = NULL;

    if (!io_format(path, sizeof(path), "%s/cgroup.procs", dir) ||
        io_read_file(AT_FDCWD, path, 1 << 20, &pids, NULL, NULL) < 0)
        return;
    for (char *pid = strtok_r(pids, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save))
        (void)knob(leaf, "cgroup.procs", pid);
}

/* Uses our own group, after moving what is in it into a leaf ("no internal processes", cgroup-v2.rst). */
static bool v2_use_own(const char *dir)
{
    char leaf[CGROUP_PATH_MAX];

    if (!v2_has_controllers(dir))
        return false;
    if (!v2_delegate(dir)) {
        if (!io_format(leaf, sizeof(leaf), "%s/%s", dir, SELF_LEAF) ||
            (mkdir(leaf, 0755) < 0 && errno != EEXIST))
            return false;
        move_processes(dir, leaf);
        if (!v2_delegate(dir))
            return false;
    }
    if (!io_format(leaf, sizeof(leaf), "%s/%s", dir, PARENT) || (mkdir(leaf, 0755) < 0 && errno != EEXIST) ||
        !v2_delegate(leaf))
        return false;
    return io_format(host.base[0], sizeof(host.base[0]), "%s", dir);
}

/*
 * Finds a v2 directory below which groups with controllers can be made. A group that systemd delegated to us
 * comes first (it says so in an extended attribute, systemd.resource-control(5) "Delegate="): the rest of the
 * tree is then systemd's. Else the top of the hierarchy for root, else our own group.
 */
static bool v2_base(const char *mount, char *own)
{
    static const char leaf[] = "/" SELF_LEAF;
    char dir[CGROUP_PATH_MAX], top[CGROUP_PATH_MAX], mark[8];
    size_t len = strlen(own);

    /* An earlier one of us moved our parent, and so us, into the leaf. */
    if (len >= sizeof(leaf) - 1 && !strcmp(own + len - (sizeof(leaf) - 1), leaf))
        own[len - (sizeof(leaf) - 1)] = 0;
    if (!io_format(dir, sizeof(dir), "%s%s", mount, own) ||
        !io_format(top, sizeof(top), "%s/%s", mount, PARENT))
        return false;
    if (getxattr(dir, "trusted.delegate", mark, sizeof(mark)) > 0 && v2_use_own(dir))
        return true;
    if ((mkdir(top, 0755) == 0 || errno == EEXIST) && v2_delegate(mount) && v2_delegate(top))
        return io_format(host.base[0], sizeof(host.base[0]), "%s", mount);
    return v2_use_own(dir);
}

static void resolve(void)
{
    CLEANUP_FREE char *mounts = NULL;
    CLEANUP_FREE char *own = NULL;
    char mount[CGROUP_PATH_MAX - 72], path[CGROUP_PATH_MAX];

    if (host.done)
        return;
    host.done = true;
    if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, NULL, NULL) < 0 ||
        io_read_file(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &own, NULL, NULL) < 0) {
        (void)io_format(host.why, sizeof(host.why), "/proc is not mounted");
        return;
    }
    if (cgroup_mount_point(mounts, "", mount, sizeof(mount)) && v2_has_controllers(mount) &&
        cgroup_own_path(own, "", path, sizeof(path))) {
        host.v2 = true;
        if (!v2_base(mount, path))
            (void)io_format(host.why, sizeof(host.why),
                            "cgroup %.120s is not delegated to this user (start with: systemd-run --user "
                            "--scope -p Delegate=yes ...)",
                            *path ? path : "/");
        return;
    }
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        char dir[CGROUP_PATH_MAX];
        if (!cgroup_mount_point(mounts, controllers[i], mount, sizeof(mount)) ||
            !cgroup_own_path(own, controllers[i], path, sizeof(path))) {
            (void)io_format(host.why, sizeof(host.why), "the %s cgroup controller is not mounted",
                            controllers[i]);
            continue;
        }
        /* Inside a container the path may name a part of the hierarchy that is not mounted here. */
        if (!io_format(dir, sizeof(dir), "%s%s", mount, path) || access(dir, F_OK) < 0)
            path[0] = 0;
        if (!io_format(dir, sizeof(dir), "%s%s/%s", mount, path, PARENT) ||
            (mkdir(dir, 0755) < 0 && errno != EEXIST) || access(dir, W_OK) < 0) {
            (void)io_format(
                host.why, sizeof(host.why),
                "no right to create %s cgroups (run as root, or have an administrator delegate one)",
                controllers[i]);
            continue;
        }
        (void)io_format(host.base[i], sizeof(host.base[i]), "%s%s", mount, path);
    }
}

void cgroup_probe(struct cgroup_host *h)
{
    resolve();
    *h = (struct cgroup_host){.v2 = host.v2};
    h->memory = h->pids = h->cpu = host.v2 && *host.base[0];
    if (!host.v2) {
        h->memory = *host.base[0];
        h->pids = *host.base[1];
        h->cpu = *host.base[2];
    }
    (void)io_format(h->why, sizeof(h->why), "%s", host.why);
}

/* Sets one limit. `required` limits fail with a sentence, others only stay out of force. */
static int limit(const char *dir, const char *name, const char *value, bool required, bool *in_force,
                 struct err *e)
{
    int rc = knob(dir, name, value);

    *in_force = rc == 0;
    if (rc == 0 || !required)
        return 0;
    return err_sys(e, -rc, "cannot set %s to %s on %s (delegate the cgroup or run as root)", name, value,
                   dir);
}

static int set_limits(struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    const char *memory = c->dirs[0], *pids = c->v2 ? c->dirs[0] : c->dirs[1],
               *cpu = c->v2 ? c->dirs[0] : c->dirs[2];
    char value[64];
    bool swap;

    if (weakened("memory-limit")) {
        c->memory = true;
    } else if (l->memory_bytes > 0 && *memory) {
        (void)io_format(value, sizeof(value), "%llu", (unsigned long long)l->memory_bytes);
        if (limit(memory, c->v2 ? "memory.max" : "memory.limit_in_bytes", value, true, &c->memory, e) < 0)
            return -1;
        /* No swap: on v1 memory+swap equals memory. Kernels without swap accounting lack the file, and the
         * swap. */
        if (limit(memory, c->v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", c->v2 ? "0" : value,
                  false, &swap, e) < 0)
            return -1;
        if (!swap && !c->v2)
            (void)knob(memory, "memory.swappiness", "0");
        if (c->v2)
            (void)knob(memory, "memory.oom.group", "1");
    }
    if (weakened("pids-limit")) {
        c->pids = true;
    } else if (l->pids > 0 && *pids) {
        (void)io_format(value, sizeof(value), "%u", l->pids);
        if (limit(pids, "pids.max", value, true, &c->pids, e) < 0)
            return -1;
    }
    if (weakened("cpu-limit")) {
        c->cpu = true;
    } else if (l->cpu_milli > 0 && *cpu) {
        unsigned long long quota = (unsigned long long)l->cpu_milli * CPU_PERIOD / 1000;
        if (quota < 1000)
            quota = 1000; /* the kernel's minimum is 1 ms */
        if (c->v2)
            (void)io_format(value, sizeof(value), "%llu %d", quota, CPU_PERIOD);
        else
            (void)io_format(value, sizeof(value), "%llu", quota);
        if (limit(cpu, c->v2 ? "cpu.max" : "cpu.cfs_quota_us", value, l->cpu_asked, &c->cpu, e) < 0)
            return -1;
    }
    if ((l->memory_asked && !c->memory) || (l->pids_asked && !c->pids) || (l->cpu_asked && !c->cpu))
        return err_set(e, EOPNOTSUPP, "the %s limit cannot be enforced on this host: %s",
                       l->memory_asked && !c->memory ? "memory"
                       : l->pids_asked && !c->pids   ? "pids"
                                                     : "cpu",
                       *host.why ? host.why : "the controller is not available");
    return 0;
}

int cgroup_create(struct cgroup *c, const char *id, const struct cgroup_limits *limits, struct err *e)
{
    char path[CGROUP_PATH_MAX + 16];

    resolve();
    *c = (struct cgroup)CGROUP_INIT;
    c->v2 = host.v2;
    c->ndirs = host.v2 ? 1 : CGROUP_CONTROLLERS;
    for (int i = 0; i < c->ndirs; i++) {
        if (!*host.base[i])
            continue;
        if (!io_format(c->dirs[i], sizeof(c->dirs[i]), "%s/%s/%s", host.base[i], PARENT, id))
            return err_set(e, ENAMETOOLONG, "the cgroup path for %s is too long", id);
        if (mkdir(c->dirs[i], 0755) < 0) {
            int code = errno;
            c->dirs[i][0] = 0;
            cgroup_destroy(c);
            return err_sys(e, code, "cannot create the cgroup %s/%s/%s", host.base[i], PARENT, id);
        }
    }
    if (set_limits(c, limits, e) < 0) {
        cgroup_destroy(c);
        return -1;
    }
    for (int i = 0; i < c->ndirs; i++) {
        if (!*c->dirs[i])
            continue;
        (void)io_format(path, sizeof(path), "%s/%s", c->dirs[i], c->v2 ? "" : "tasks");
        if (c->v2)
            c->into = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        else
            c->join[i] = open(path, O_WRONLY | O_CLOEXEC);
        if (c->join[i] < 0 && c->into < 0) {
            (void)err_sys(e, errno, "cannot open %s", path);
            cgroup_destroy(c);
            return -1;
        }
    }
    return 0;
}

int cgroup_join(const struct cgroup *c)
{
    for (int i = 0; i < c->ndirs; i++)
        if (c->join[i] >= 0 && write(c->join[i], "0", 1) != 1)
            return -1;
    return 0;
}

void cgroup_close(struct cgroup *c)
{
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (c->join[i] >= 0)
            (void)close(c->join[i]);
        c->join[i] = -1;
    }
    if (c->into >= 0)
        (void)close(c->into);
    c->into = -1;
}

/* A number from a cgroup file: the whole file, or the value after `key` in a flat-keyed file. 0 when missing.
 */
static uint64_t read_number(const char *dir, const char *name, const char *key)
{
    char path[CGROUP_PATH_MAX + 64];
    CLEANUP_FREE char *text = NULL;
    char *save = NULL;

    if (!*dir || !io_format(path, sizeof(path), "%s/%s", dir, name) ||
        io_read_file(AT_FDCWD, path, 8192, &text, NULL, NULL) < 0)
        return 0;
    if (!key)
        return strtoull(text, NULL, 10);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
            return strtoull(line + strlen(key) + 1, NULL, 10);
    return 0;
}

void cgroup_read_stats(const struct cgroup *c, struct cgroup_stats *s)
{
    *s = (struct cgroup_stats){0};
    if (c->ndirs == 0)
        return;
    if (c->v2) {
        s->memory_bytes = read_number(c->dirs[0], "memory.current", NULL);
        s->memory_peak_bytes = read_number(c->dirs[0], "memory.peak", NULL);
        s->cpu_us = read_number(c->dirs[0], "cpu.stat", "usage_usec");
        s->pids = read_number(c->dirs[0], "pids.current", NULL);
        s->oom_kills = read_number(c->dirs[0], "memory.events", "oom_kill");
        return;
    }
    s->memory_bytes = read_number(c->dirs[0], "memory.usage_in_bytes", NULL);
    s->memory_peak_bytes = read_number(c->dirs[0], "memory.max_usage_in_bytes", NULL);
    s->oom_kills = read_number(c->dirs[0], "memory.oom_control", "oom_kill");
    s->pids = read_number(c->dirs[1], "pids.current", NULL);
    /* cpuacct is a hierarchy of its own on some hosts; there usage is not known per sandbox. */
    s->cpu_us = read_number(c->dirs[2], "cpuacct.usage", NULL) / 1000;
}

void cgroup_read_hits(const struct cgroup *c, struct cgroup_hits *h)
{
    const char *pids = c->v2 ? c->dirs[0] : c->dirs[1], *cpu = c->v2 ? c->dirs[0] : c->dirs[2];

    *h = (struct cgroup_hits){0};
    if (c->ndirs == 0)
        return;
    h->oom_kills = read_number(c->dirs[0], c->v2 ? "memory.events" : "memory.oom_control", "oom_kill");
    h->pids_refused = read_number(pids, "pids.events", "max");
    h->throttled = read_number(cpu, "cpu.stat", "nr_throttled");
    if (h->throttled > 0) /* seldom; the file is not read twice for the others */
        h->throttled_us = c->v2 ? read_number(cpu, "cpu.stat", "throttled_usec")
                                : read_number(cpu, "cpu.stat", "throttled_time") / 1000;
}

void cgroup_destroy(struct cgroup *c)
{
    cgroup_close(c);
    for (int i = 0; i < c->ndirs; i++) {
        if (!*c->dirs[i])
            continue;
        if (c->v2)
            (void)knob(c->dirs[i], "cgroup.kill", "1");
        for (int tries = 0; rmdir(c->dirs[i]) < 0 && errno == EBUSY && tries < 2000; tries++)
            (void)usleep(1000);
        c->dirs[i][0] = 0;
    }
    c->ndirs = 0;
}

/* A zombie has ended too: its parent, perhaps a slow pid 1, just has not collected it. A pidfd of either is
 * readable. */
static bool has_ended(pid_t pid)
{
    CLEANUP_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return fd < 0 ? errno == ESRCH : poll(&p, 1, 0) == 1;
}

void cgroup_sweep(void)
{
    resolve();
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        char dir[CGROUP_PATH_MAX];
        struct dirent *d;
        DIR *list;
        if (!*host.base[i] || !io_format(dir, sizeof(dir), "%s/%s", host.base[i], PARENT) ||
            !(list = opendir(dir)))
            continue;
        while ((d = readdir(list))) {
            const char *dash = strrchr(d->d_name, '-');
            uint64_t pid;
            if (d->d_type == DT_DIR && dash && io_parse_u64(dash + 1, INT_MAX, &pid) && pid > 0 &&
                has_ended((pid_t)pid))
                (void)unlinkat(dirfd(list), d->d_name, AT_REMOVEDIR);
        }
        (void)closedir(list);
    }
}
