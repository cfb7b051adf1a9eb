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
#include "walls/handover.h"

#define CAP_BIT(n) (1ULL << (n))
/* CHOWN, DAC_OVERRIDE, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_CHROOT, SYS_ADMIN: what building a sandbox as
 * root takes. */
#define ROOT_CAPS                                                                                            \
    (CAP_BIT(0) | CAP_BIT(1) | CAP_BIT(6) | CAP_BIT(7) | CAP_BIT(8) | CAP_BIT(12) | CAP_BIT(18) | CAP_BIT(21))

static bool is_rootless(void)
{
    return geteuid() != 0 || !caps_have(ROOT_CAPS);
}

static bool read_flag(const char *path, char *value)
{
    CLEANUP_FREE char *text = NULL;

    if (io_read_file(AT_FDCWD, path, 64, &text, NULL, NULL) < 0)
        return false;
    *value = text[0];
    return true;
}

static bool probe(struct err *e)
{
    char v;
    CLEANUP_FREE char *max = NULL;

    if (io_read_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 64, &max, NULL, NULL) < 0 ||
        max[0] == '0') {
        (void)err_set(e, EOPNOTSUPP,
                      "user namespaces are disabled (sysctl -w user.max_user_namespaces=65536)");
        return false;
    }
    if (is_rootless()) {
        if (read_flag("/proc/sys/kernel/unprivileged_userns_clone", &v) && v == '0') {
            (void)err_set(e, EPERM,
                          "unprivileged user namespaces are disabled (as root: sysctl -w "
                          "kernel.unprivileged_userns_clone=1)");
            return false;
        }
        if (read_flag("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", &v) && v == '1') {
            CLEANUP_FREE char *label = NULL;
            /* A profile that grants userns shows as our label; "unconfined" means that none is loaded for
             * this binary. */
            if (io_read_file(AT_FDCWD, "/proc/self/attr/current", 256, &label, NULL, NULL) < 0 ||
                !strncmp(label, "unconfined\n", 11) || !strcmp(label, "unconfined")) {
                (void)err_set(e, EPERM,
                              "AppArmor restricts unprivileged user namespaces (as root: ironclaw doctor "
                              "--install-apparmor-profile)");
                return false;
            }
        }
    }
    return true;
}

static void shortfall(char *text, size_t cap)
{
    struct cgroup_host h;
    const char *uid = is_rootless() ? "the sandbox runs under your own uid" : "";

    cgroup_probe(&h);
    if (h.memory && h.cpu && h.pids)
        (void)io_format(text, cap, "%s%s", *uid ? "rootless: " : "", uid);
    else
        (void)io_format(text, cap, "%s%s%sno %s%s%slimit: %s", *uid ? "rootless: " : "", uid,
                        *uid ? "; " : "", h.memory ? "" : "memory ", h.cpu ? "" : "cpu ",
                        h.pids ? "" : "pids ", h.why);
    if (landlock_abi() == 0) {
        size_t used = strlen(text);
        (void)io_format(text + used, cap - used, "%sno Landlock in this kernel", used ? "; " : "");
    }
}

/* Does our user namespace have this uid? Only asked when something failed: the initial one has them all. */
static bool is_mapped(uint32_t uid)
{
    CLEANUP_FREE char *map = NULL;
    char *save = NULL;

    if (io_read_file(AT_FDCWD, "/proc/self/uid_map", 1 << 14, &map, NULL, NULL) < 0)
        return true;
    for (char *line = strtok_r(map, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *rest;
        unsigned long long first = strtoull(line, &rest, 10), count;
        (void)strtoull(rest, &rest, 10);
        count = strtoull(rest, NULL, 10);
        if (uid >= first && uid - first < count)
            return true;
    }
    return false;
}

static int start(const struct sandbox_spec *spec, struct sandbox *s, struct err *e)
{
    bool rootless = is_rootless();
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
        if (!rootless && !is_mapped(spec->uid))
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
    .probe = probe,
    .shortfall = shortfall,
    .start = start,
    .signal = handover_signal,
    .stats = handover_stats,
    .destroy = handover_destroy,
    .sweep = cgroup_sweep,
};
