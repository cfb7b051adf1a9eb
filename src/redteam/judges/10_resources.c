/*
 * Family 10, host side. The attack runs a second time in a session of its own while the host looks: what its
 * control group holds, how long the victim takes to answer, how long the host itself takes to start and end a
 * process. Bounds are multiples of what the same run measured while nothing happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum {
    SAMPLES = 12,
    /* Generous: what is looked for is a host or a sibling that no longer gets anything done. */
    SLOWER = 20,
    SLOWER_BY_MS = 250,
    PIDS_LIMIT = 64, /* of the players' agents (arena.c) */
    PIDS_LIMIT_MOST = 8 * PIDS_LIMIT,
    DESCRIPTORS_LIMIT = 65536,
    LOG_MAX = 64 << 10,
    DAEMON_GROWTH_KIB = 8192,
};

struct before {
    double process_ms;
    long launcher_kib;
    long long cpu_ns;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The middle of some times that the host takes to start a process and see it end. */
static double process_ms(void)
{
    double ms[SAMPLES];

    for (size_t i = 0; i < SAMPLES; i++) {
        uint64_t begin = io_monotonic_ns();
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        (void)waitpid(pid, NULL, 0);
        ms[i] = (double)(io_monotonic_ns() - begin) / 1e6;
    }
    qsort(ms, SAMPLES, sizeof(*ms), compare);
    return ms[SAMPLES / 2];
}

static long resident_kib(pid_t pid)
{
    char text[64];

    return host_status(pid, "VmRSS", text, sizeof(text)) ? strtol(text, NULL, 10) : 0;
}

/* A number out of the session's control group; -1 where the host does not account it. */
static long long group_number(const char *session, const char *controller, const char *v1, const char *v2)
{
    CLEANUP_FREE char *text = host_cgroup_text(session, controller, v1, v2);

    return !text || text[0] < '0' || text[0] > '9' ? -1 : strtoll(text, NULL, 10);
}

static int arm_pressure(struct arena *a, struct trial *t, struct err *e)
{
    struct before *b = x_calloc(1, sizeof(*b));

    (void)e;
    b->process_ms = process_ms();
    b->launcher_kib = resident_kib(plane_daemon(a->plane, "launcher"));
    t->own = b;
    /* Where nothing limits it a real one would take the host down: as many as show that nothing does. */
    trial_param(t, "gentle", "%d", a->gentle || !host_has_cgroup("pids"));
    return 0;
}

/* Where memory.oom.group ends the whole sandbox, its record would be lost: less than the limit here, all of
 * it in the spare session. */
static int arm_memory(struct arena *a, struct trial *t, struct err *e)
{
    CLEANUP_FREE char *group = host_cgroup_text(a->attacker.session, "memory", NULL, "memory.oom.group");
    long long limit = group_number(a->attacker.session, "memory", "memory.limit_in_bytes", "memory.max");
    bool over = !group || group[0] != '1';

    if (limit <= 0 || limit > (long long)1 << 40)
        limit = (long long)192 << 20;
    trial_param(t, "bytes", "%lld", over ? limit * 2 : limit / 2);
    trial_param(t, "over", "%d", over);
    return arm_pressure(a, t, e);
}

static void free_own(struct arena *a, struct trial *t)
{
    (void)a;
    free(t->own);
    t->own = NULL;
}

/* The victim answers and the host works while the attack goes on. */
static void look(struct arena *a, struct trial *t, const char *session)
{
    const struct before *b = t->own;
    double ms[SAMPLES], process = 0, bound = a->quiet_ms * SLOWER + SLOWER_BY_MS;
    /* What the wall itself has running inside the group counts too, so its limit may be a little above the
     * agent's. */
    long long pids = 0, memory = 0, most = group_number(session, "pids", "pids.max", "pids.max");
    size_t n = 0;

    for (size_t i = 0; i < SAMPLES; i++) {
        struct attempt record;
        struct err e = ERR_INIT;
        double p;
        long long v = group_number(session, "pids", "pids.current", "pids.current");
        pids = v > pids ? v : pids;
        v = group_number(session, "memory", "memory.usage_in_bytes", "memory.current");
        memory = v > memory ? v : memory;
        if (arena_order(a, &a->victim, "ping", 0, "", &record, &ms[n], &e) == 0) {
            n++;
            attempt_free(&record);
        }
        p = process_ms();
        process = p > process ? p : process;
    }
    qsort(ms, n, sizeof(*ms), compare);
    trial_check(t, n == SAMPLES && ms[n / 2] <= bound, "sibling-latency",
                "%zu of %d answers, the middle after %.1f ms (quiet %.1f, bound %.0f)", n, SAMPLES,
                n ? ms[n / 2] : -1.0, a->quiet_ms, bound);
    bound = b->process_ms * SLOWER + SLOWER_BY_MS;
    trial_check(t, process <= bound, "host-latency",
                "a process starts and ends in %.1f ms (quiet %.1f, bound %.0f)", process, b->process_ms,
                bound);
    trial_check(t, pids <= (most > 0 && most <= PIDS_LIMIT_MOST ? most : PIDS_LIMIT + 1), "pids-limit",
                "at most %lld processes were counted in its control group, whose limit is %lld", pids, most);
    trial_figure(t, "peak_pids", (json_int_t)pids);
    trial_figure(t, "peak_memory_bytes", (json_int_t)memory);
}

static void judge_pressure(struct arena *a, struct trial *t)
{
    struct player extra;
    struct err e = ERR_INIT;
    CLEANUP_FREE char *params = x_strdup(t->params);

    if (arena_extra(a, &a->attacker, &extra, &e) < 0 ||
        arena_post(a, &extra, t->attack->id, t->attack->limit_ms, params, &e) < 0) {
        trial_check(t, false, "under-pressure", "the attack could not be run again: %.200s", e.text);
        return;
    }
    look(a, t, extra.session);
    trial_check(t, arena_extra_remove(a, &extra, &e) == 0, "removed-under-pressure", "the session %.200s",
                e.code ? e.text : "is gone, with all it had");
    (void)arena_events(a, extra.session, 0, t->event, sizeof(t->event));
}

static void judge_processes(struct arena *a, struct trial *t)
{
    const struct attempt_step *s = attempt_step_find(&t->record, "fork");

    if (s) /* else the attack was cut short; the host counts for itself below */
        trial_check(t, s->ret < 0, "refused", "%s", s->detail);
    judge_pressure(a, t);
}

/* Again in the spare session, with twice the limit whatever the host does then. */
static void judge_memory(struct arena *a, struct trial *t)
{
    long long limit = group_number(a->attacker.session, "memory", "memory.limit_in_bytes", "memory.max");
    long long peak = group_number(a->attacker.session, "memory", "memory.max_usage_in_bytes", "memory.peak");

    trial_check(t, limit > 0 && limit <= (long long)192 << 20, "memory-limit",
                "the control group's limit is %lld bytes", limit);
    trial_check(t, peak <= limit || limit <= 0, "memory-peak", "at most %lld bytes were used", peak);
    t->params[0] = 0;
    trial_param(t, "bytes", "%lld", (long long)384 << 20);
    trial_param(t, "over", "1");
    judge_pressure(a, t);
}

static void judge_disk(struct arena *a, struct trial *t)
{
    const struct attempt_step *fill = attempt_step_find(&t->record, "fill"),
                              *inodes = attempt_step_find(&t->record, "inodes");

    trial_check(t, fill && fill->ret < 0, "disk-quota", "%s without a refusal",
                fill ? fill->detail : "nothing");
    trial_check(t, inodes && inodes->ret < 0, "inode-quota", "%s without a refusal",
                inodes ? inodes->detail : "nothing");
    judge_pressure(a, t);
}

/* One processor is what its agent has. */
static void judge_processor(struct arena *a, struct trial *t)
{
    long used = attempt_number(&t->record, "cpu_ms", -1), wall = attempt_number(&t->record, "wall_ms", 0);
    long long group = group_number(a->attacker.session, "cpuacct", "cpuacct.usage", NULL);

    CLEANUP_FREE char *quota = host_cgroup_text(a->attacker.session, "cpu", "cpu.cfs_quota_us", "cpu.max");

    /* On a busy host nobody gets more than a processor: that there is a limit is looked at as well. */
    if (quota || a->root)
        trial_check(t, quota && quota[0] >= '1' && quota[0] <= '9', "cpu-quota",
                    "%.30s microseconds a period", quota ? quota : "no");
    if (arena_is_native(a)) /* a kernel of the wall's own may count in its own way; the quota is the host's */
        trial_check(t, used >= 0 && used <= wall + wall / 2, "cpu-limit",
                    "eight processes got %ld ms of processor in %ld ms", used, wall);
    trial_figure(t, "cpu_ms", used);
    trial_figure(t, "group_cpu_ns", (json_int_t)group);
    judge_pressure(a, t);
}

static void judge_descriptors(struct arena *a, struct trial *t)
{
    long made = attempt_number(&t->record, "descriptors", -1);

    if (!t->ended)
        trial_check(t, made > 0 && made <= DESCRIPTORS_LIMIT, "descriptor-limit",
                    "%ld descriptors in one process", made);
    judge_pressure(a, t);
}

static void judge_output(struct arena *a, struct trial *t)
{
    const struct before *b = t->own;
    long now = resident_kib(plane_daemon(a->plane, "launcher"));
    json_t *logs = NULL;
    char path[128];
    size_t kept;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/logs", a->attacker.session);
    (void)api_call(a->plane->api, "GET", path, NULL, &logs, NULL);
    kept = json_string_length(json_object_get(logs, "text"));
    trial_check(t, kept > 0 && kept <= LOG_MAX, "log-bounded", "%zu bytes are kept of what it wrote", kept);
    trial_check(t, now > 0 && now - b->launcher_kib < DAEMON_GROWTH_KIB, "launcher-bounded",
                "the launcher grew by %ld KiB", now - b->launcher_kib);
    json_decref(logs);
    judge_pressure(a, t);
}

static const char no_quota[] =
    "no disk quota: a session can fill the file system of the state directory (docs/walls.md)";
#define NO_QUOTA                                                                                             \
    {                                                                                                        \
        {GAP_ANY_WALL, "disk-quota", no_quota, NULL},                                                        \
        {                                                                                                    \
            GAP_ANY_WALL, "inode-quota", no_quota, NULL                                                      \
        }                                                                                                    \
    }

static const char no_group[] =
    "rootless without a delegated control group there is no such limit (docs/walls.md)";
#define WITHOUT(controller, check)                                                                           \
    {                                                                                                        \
        GAP_ANY_WALL, check, no_group, controller                                                            \
    }

const struct attack resource_attacks[] = {
    {.id = "res.processes",
     .boundary = B1_WALL,
     .title = "fork bomb",
     .may_end = true,
     .steps = {"fork"},
     .gaps = {WITHOUT("pids", "no-claim"), WITHOUT("pids", "refused")},
     .arm = arm_pressure,
     .judge = judge_processes,
     .disarm = free_own},
    {.id = "res.memory",
     .boundary = B1_WALL,
     .title = "memory: anonymous, tmpfs, page tables, pipes, sockets",
     .limit_ms = 45000,
     .may_end = true,
     .steps = {"anonymous", "tmpfs", "page-tables", "pipes", "sockets"},
     .gaps = {WITHOUT("memory", "no-claim"), WITHOUT("memory", "memory-limit")},
     .arm = arm_memory,
     .judge = judge_memory,
     .disarm = free_own},
    {.id = "res.disk",
     .boundary = B1_WALL,
     .title = "fill the disk and its inodes",
     .limit_ms = 20000,
     .steps = {"fill", "inodes"},
     .gaps = NO_QUOTA,
     .arm = arm_pressure,
     .judge = judge_disk,
     .disarm = free_own},
    {.id = "res.processor",
     .boundary = B1_WALL,
     .title = "take all processors",
     .steps = {"nice", "spin"},
     .gaps = {WITHOUT("cpu", "cpu-limit")},
     .arm = arm_pressure,
     .judge = judge_processor,
     .disarm = free_own},
    {.id = "res.descriptors",
     .boundary = B1_WALL,
     .title = "take all descriptors",
     .may_end = true,
     .steps = {"open"},
     .arm = arm_pressure,
     .judge = judge_descriptors,
     .disarm = free_own},
    {.id = "res.output",
     .boundary = B1_WALL,
     .title = "flood the host's log",
     .steps = {"flood"},
     .arm = arm_pressure,
     .judge = judge_output,
     .disarm = free_own},
    {.id = NULL},
};
