/*
 * Host side of the cell wall: the image, the child, what it hands out.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "base/weaken.h"
#include "walls/cell/cell.h"
#include "walls/envelope.h"
#include "walls/handover.h"

enum { HWCAP2_FSGSBASE_BIT = 2, START_LIMIT_MS = 30000 };

static bool probe(struct err *e)
{
#ifndef __x86_64__
    (void)err_set(e, EOPNOTSUPP, "the cell wall exists for x86-64 only (use --wall container)");
    return false;
#else
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)) {
        (void)err_set(e, EOPNOTSUPP,
                      "the processor or kernel lacks FSGSBASE (Linux 5.9 or newer, without 'nofsgsbase'), "
                      "which the cell wall needs (or use --wall container)");
        return false;
    }
    return envelope_probe(e);
#endif
}

static int open_binary(const char *name, struct err *e)
{
    char path[PATHS_MAX_LEN];
    int fd;

    if (paths_helper(name, path, sizeof(path), e) < 0)
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "cannot open %s", path) : fd;
}

/* `activate`: the cell is told at once what to run, while it is being built. */
static int build(const struct sandbox_spec *spec, struct sandbox *s, bool activate, struct err *e)
{
    bool rootless = envelope_is_rootless();
    CLEANUP_CLOSE int child_control = -1;
    CLEANUP_CLOSE int image = -1;
    CLEANUP_CLOSE int warden = -1;
    CLEANUP_CLOSE int kernel = -1;
    CLEANUP_CLOSE int files = -1;
    bool shows_files = spec->workspace || spec->nmounts > 0;
    struct cell_command command = {.strings = -1, .null = -1};
    int pair[2], rc;

    *s = (struct sandbox)SANDBOX_INIT;
    if ((image = cell_image_open(spec->rootfs, e)) < 0 || (warden = open_binary("ironclaw-warden", e)) < 0 ||
        (kernel = open_binary("ironclaw-cell", e)) < 0 ||
        (shows_files && (files = open_binary("ironclaw-files", e)) < 0) ||
        cgroup_create(&s->cgroup, spec->id, &spec->limits, e) < 0)
        return err_wrap(e, "cell");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        (void)err_sys(e, errno, "cell: cannot create the control socket");
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
        cell_child(spec, &s->cgroup, child_control, image, (const int[]){warden, kernel, files}, rootless);
    if (s->pid < 0) {
        int code = errno;
        s->pid = 0;
        s->pidfd = -1;
        handover_destroy(s, NULL);
        return err_sys(e, code, "cell: cannot create the namespaces%s",
                       code == EPERM || code == ENOSPC
                           ? " (an outer container or sandbox forbids them; run 'ironclaw doctor')"
                           : "");
    }
    cgroup_close(&s->cgroup);
    (void)close(TAKE_FD(child_control));
    rc = activate ? cell_command_open(&command, spec, e) : 0;
    /* A child that ended already has said why: that is the error to tell. */
    if (rc == 0 && activate && cell_activate(s->control, &command, e) < 0 && e->code != EPIPE)
        rc = -1;
    cell_command_close(&command);
    if (rc < 0 || handover_await(s, START_LIMIT_MS, e) < 0) {
        handover_destroy(s, NULL);
        if (!rootless && !envelope_is_mapped(spec->uid))
            (void)err_set(e, EPERM,
                          "an outer container or sandbox maps no uid %u, which the sandbox is to run under "
                          "(give the outer one a range of uids, or start as an ordinary user)",
                          spec->uid);
        return err_wrap(e, "cell");
    }
    return 0;
}

static int start(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
    return build(spec, s, true, e);
}

int cell_prepare(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
    return build(spec, s, false, e);
}

const struct wall_ops cell_wall = {
    .name = "cell",
    .strength = 15,
    .probe = probe,
    .shortfall = envelope_shortfall,
    .start = start,
    .signal = handover_signal,
    .stats = handover_stats,
    .destroy = handover_destroy,
    .sweep = cgroup_sweep,
    .stands_by = true,
};
