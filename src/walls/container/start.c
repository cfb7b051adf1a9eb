/*
 * Host side of the container wall: clone the child, collect what it hands out, take it down again.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "base/weaken.h"
#include "walls/container/container.h"
#include "walls/envelope.h"
#include "walls/handover.h"

static int start(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
    bool rootless = envelope_is_rootless();
    CLEANUP_CLOSE int child_control = -1;
    int pair[2];

    *s = (struct sandbox)SANDBOX_INIT;
    if (cgroup_create(&s->cgroup, spec->id, &spec->limits, e) < 0)
        return err_wrap(e, "container");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        (void)err_sys(e, errno, "container: cannot create the control socket");
        cgroup_destroy(&s->cgroup);
        return -1;
    }
    s->control = pair[0];
    child_control = pair[1];
    s->pid = handover_clone(&s->cgroup,
                            CLONE_NEWPID | CLONE_NEWNS | (weakened("network") ? 0 : CLONE_NEWNET) |
                                CLONE_NEWIPC | CLONE_NEWUTS | (rootless ? CLONE_NEWUSER : 0),
                            &s->pidfd);
    if (s->pid == 0)
        container_child(spec, &s->cgroup, child_control, rootless);
    if (s->pid < 0) {
        int code = errno;
        s->pid = 0;
        s->pidfd = -1;
        handover_destroy(s, NULL);
        return err_sys(e, code, "container: cannot create the namespaces%s",
                       code == EPERM ? " (an outer container or sandbox forbids them; run 'ironclaw doctor')"
                       : code == ENOSPC ? " (an outer sandbox forbids them, or there are too many: see the "
                                          "sysctls user.max_*_namespaces)"
                                        : "");
    }
    cgroup_close(&s->cgroup);
    (void)close(TAKE_FD(child_control));
    if (handover_await(s, -1, e) < 0) {
        handover_destroy(s, NULL);
        if (!rootless && !envelope_is_mapped(spec->uid))
            (void)err_set(e, EPERM,
                          "an outer container or sandbox maps no uid %u, which the sandbox is to run under "
                          "(give the outer one a range of uids, or start as an ordinary user)",
                          spec->uid);
        return err_wrap(e, "container");
    }
    return 0;
}

const struct wall_ops container_wall = {
    .name = "container",
    .strength = 10,
    .probe = envelope_probe,
    .shortfall = envelope_shortfall,
    .start = start,
    .signal = handover_signal,
    .stats = handover_stats,
    .destroy = handover_destroy,
    .sweep = cgroup_sweep,
};
