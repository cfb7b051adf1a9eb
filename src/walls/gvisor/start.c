/*
 * Host side of the gVisor wall.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "walls/gvisor/gvisor.h"
#include "walls/handover.h"

/* CHOWN, DAC_OVERRIDE, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_CHROOT, SYS_ADMIN. */
#define ROOT_CAPS 0x2411c3ULL
/* A start takes a second or two; a busy host ten times that. A platform that hangs would take for ever. */
enum { START_TIMEOUT_MS = 60000, UID_LIMIT = 0x7fffffff };

static bool probe(struct err *e)
{
    struct gvisor_runtime r;

    if (geteuid() != 0 || !caps_have(ROOT_CAPS)) {
        (void)err_set(
            e, EPERM,
            "the gVisor wall needs root: its file server must give files to a uid of the sandbox's own, and "
            "an ordinary user has one uid only (start as root, or use the container wall)");
        return false;
    }
    return gvisor_runtime_ready(&r, e) == 0;
}

static void shortfall(char *text, size_t cap)
{
    struct cgroup_host h;

    text[0] = 0;
    if (geteuid() != 0)
        return; /* not available at all: probe says so */
    cgroup_probe(&h);
    if (!h.memory || !h.cpu || !h.pids)
        (void)io_format(text, cap, "no %s%s%slimit: %s", h.memory ? "" : "memory ", h.cpu ? "" : "cpu ",
                        h.pids ? "" : "pids ", h.why);
}

/* runsc's platforms ptrace and systrap do. Whether it is one of them is known only after a trial. */
static bool traces(void)
{
    struct gvisor_runtime r;

    return geteuid() == 0 && gvisor_runtime_find(&r, NULL) == 0;
}

/*
 * The workload's processes are counted by the sandbox's own kernel (RLIMIT_NPROC in config.json). The host's
 * pids group counts what the runtime needs to show them: threads of its processes, and host threads that
 * stand for those inside.
 */
static struct cgroup_limits limits_with_runtime(const struct cgroup_limits *l)
{
    struct cgroup_limits out = *l;

    if (l->pids > 0)
        out.pids = l->pids < 1U << 20 ? l->pids * 4 + 256 : l->pids;
    return out;
}

int gvisor_start_on(const struct gvisor_runtime *r, const struct sandbox_spec *spec, int timeout_ms,
                    struct sandbox *s, struct err *e)
{
    struct cgroup_limits limits = limits_with_runtime(&spec->limits);
    CLEANUP_CLOSE int child_control = -1;
    int pair[2];

    *s = (struct sandbox)SANDBOX_INIT;
    if (spec->uid == 0 || spec->uid > UID_LIMIT)
        return err_set(e, EINVAL,
                       "gvisor: the sandbox's uid must be below 2147483648 (uid_base in the configuration)");
    if (cgroup_create(&s->cgroup, spec->id, &limits, e) < 0)
        return err_wrap(e, "gvisor");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        (void)err_sys(e, errno, "gvisor: cannot create the control socket");
        cgroup_destroy(&s->cgroup);
        return -1;
    }
    s->control = pair[0];
    child_control = pair[1];
    s->pid = handover_clone(
        &s->cgroup, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, &s->pidfd);
    if (s->pid == 0) {
        (void)close(pair[0]); /* its end shows the keeper that we are gone */
        gvisor_keeper(r, spec, &s->cgroup, child_control);
    }
    if (s->pid < 0) {
        int code = errno;
        s->pid = 0;
        s->pidfd = -1;
        handover_destroy(s, NULL);
        return err_sys(e, code, "gvisor: cannot create the namespaces (an outer sandbox may forbid them)");
    }
    cgroup_close(&s->cgroup);
    (void)close(TAKE_FD(child_control));
    if (handover_await(s, timeout_ms, e) < 0) {
        handover_destroy(s, NULL);
        return err_wrap(e, "gvisor");
    }
    return 0;
}

static int start(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
    struct gvisor_runtime r;

    *s = (struct sandbox)SANDBOX_INIT;
    if (gvisor_runtime_ready(&r, e) < 0)
        return err_wrap(e, "gvisor");
    return gvisor_start_on(&r, spec, START_TIMEOUT_MS, s, e);
}

const struct wall_ops gvisor_wall = {
    .name = "gvisor",
    .strength = 20,
    .probe = probe,
    .shortfall = shortfall,
    .start = start,
    .signal = handover_signal,
    .stats = handover_stats,
    .destroy = handover_destroy,
    .sweep = cgroup_sweep,
    .traces = traces,
    .write_bundle = bundle_write,
};
