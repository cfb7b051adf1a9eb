/*
 * Family 3, host side. The victim itself testifies in the standing checks (its secrets, its doors, the
 * signals it got); here the host looks at what the two sandboxes share.
 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

/* Numbers and places that no attacker would know: those of the sibling and of the control plane. */
static int arm_targets(struct arena *a, struct trial *t, struct err *e)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->victim.session, pids, 6);
    char list[256] = "";
    struct attempt record;

    if (n == 0)
        return err_set(e, 0, "the sibling's processes are not to be found on the host");
    n += plane_pids(a->plane, pids + n, 6);
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof(list) - used, "%s%d", used ? "," : "", (int)pids[i]);
    }
    trial_param(t, "pids", "%s", list);
    trial_param(t, "victim_workspace", "%s/workspaces/%s", a->plane->state, a->victim.session);
    if (arena_order(a, &a->victim, "where", 0, "", &record, NULL, e) < 0)
        return -1;
    trial_param(t, "address", "%.32s",
                attempt_fact(&record, "address") ? attempt_fact(&record, "address") : "0");
    attempt_free(&record);
    return 0;
}

static void judge_apart(struct arena *a, struct trial *t)
{
    static const char *const kinds[] = {"pid", "mnt", "net", "ipc", "uts", "user", "cgroup"};
    pid_t mine[PIDS_MAX], theirs[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, mine, PIDS_MAX);
    size_t m = host_sandbox_pids(a->plane, a->victim.session, theirs, PIDS_MAX), looked = 0;
    const char *shared = NULL;
    char one[64] = "", other[64] = "";

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                int same = host_share_namespace(mine[i], theirs[j], kinds[k]);
                looked += same >= 0;
                /* What both share with the host is not a door between the two: an engine's helper. */
                if (same == 1 && host_same_namespace(mine[i], kinds[k]) != 1)
                    shared = kinds[k];
                if (same == 1 && arena_is_bare(a) && host_same_namespace(mine[i], kinds[k]) == 1)
                    shared = kinds[k];
            }
    trial_check(t, n > 0 && m > 0 && looked > 0, "both-seen", "%zu and %zu processes on the host", n, m);
    trial_check(t, !shared, "no-shared-namespace", shared ? "both are in one %s namespace" : "none%s",
                shared ? shared : "");
    if (a->root && n > 0 && m > 0 && host_status(mine[0], "Uid", one, sizeof(one)) &&
        host_status(theirs[0], "Uid", other, sizeof(other)) && arena_is_bare(a))
        trial_check(t, strcmp(one, other) != 0, "own-uid", "host uids %.12s and %.12s", one, other);
}

/* As many processes as the attacker sees listed may not be more than its own sandbox has. */
static void judge_listed(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX);
    long listed = attempt_number(&t->record, "listed", -1);

    /* The attack's own child had ended when the host counted. */
    trial_check(t, listed > 0 && listed <= (arena_is_native(a) ? (long)n + 2 : 16), "only-own-processes",
                "%ld processes listed inside, %zu on the host", listed, n);
    judge_apart(a, t);
}

const struct attack sibling_attacks[] = {
    {.id = "sibling.signal",
     .boundary = B1_WALL,
     .title = "signal a sibling and the control plane",
     .steps = {"kill"},
     .arm = arm_targets,
     .judge = judge_apart},
    {.id = "sibling.trace",
     .boundary = B1_WALL,
     .title = "trace, read and write a sibling's memory",
     .steps = {"seize", "attach", "vm-read", "vm-write", "mem", "kcmp"},
     .arm = arm_targets,
     .judge = judge_apart},
    {.id = "sibling.proc",
     .boundary = B1_WALL,
     .title = "find a sibling in /proc",
     .steps = {"list", "read", "root", "cwd"},
     .arm = arm_targets,
     .judge = judge_listed},
    {.id = "sibling.files",
     .boundary = B1_WALL,
     .title = "a sibling's workspace and shared memory files",
     .steps = {"file-0", "file-1", "file-2", "workspace", "workspace-root"},
     .arm = arm_targets},
    {.id = "sibling.system-v",
     .boundary = B1_WALL,
     .title = "a sibling's System V memory, semaphores, messages",
     .steps = {"shmget", "shm-scan", "semget", "msgget", "sysvipc"},
     .judge = judge_apart},
    {.id = "sibling.posix-queues",
     .boundary = B1_WALL,
     .title = "a sibling's POSIX message queue",
     .steps = {"mq-open", "mq-unlink"}},
    {.id = "sibling.sockets",
     .boundary = B1_WALL,
     .title = "a sibling's loopback port and abstract socket",
     .steps = {"tcp", "abstract"}},
    {.id = "sibling.pidfd",
     .boundary = B1_WALL,
     .title = "hold a sibling by descriptor and take its files",
     .steps = {"open"},
     .arm = arm_targets},
    {.id = "sibling.pid-reuse",
     .boundary = B1_WALL,
     .title = "win the race for a reused process id",
     .steps = {"cycle", "shoot"},
     .arm = arm_targets,
     .judge = judge_apart},
    {.id = NULL},
};
