/*
 * The child's way from a copy of the caller to a sealed pid 1. Each step gives something up; the order is the
 * argument: what needs privilege comes before the uid changes, the user namespace last, nothing untrusted
 * runs before the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"
#include "walls/container/container.h"
#include "walls/envelope.h"
#include "walls/handover.h"

enum {
    CONTROL_FD = 3, /* where ironclaw-init expects it */
    INIT_FD = 4,    /* the init binary, while it is executed */
};

/* Descriptors 0-2 as asked, 3 the control socket, 4 init; nothing else survives. */
static int arrange_descriptors(const struct sandbox_spec *spec, int control, int init, int slave,
                               struct err *e)
{
    int sources[5] = {-1, -1, -1, control, init}, high[5];
    CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return err_sys(e, errno, "cannot open /dev/null");
    for (int i = 0; i < 3; i++)
        sources[i] = spec->terminal ? slave : spec->stdio[i] >= 0 ? spec->stdio[i] : null;
    for (int i = 0; i < 5; i++) /* out of the way first: a source may sit on another's target */
        if ((high[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 16)) < 0)
            return err_sys(e, errno, "cannot duplicate descriptor %d", sources[i]);
    for (int i = 0; i < 5; i++)
        if (dup3(high[i], i, i == INIT_FD ? O_CLOEXEC : 0) < 0 && errno != EINVAL)
            return err_sys(e, errno, "cannot place descriptor %d", i);
    (void)TAKE_FD(null); /* closed with the rest */
    if (syscall(SYS_close_range, 5U, ~0U, 0U) < 0)
        return err_sys(e, errno, "cannot close inherited descriptors");
    return 0;
}

/*
 * Rootless, the init binary may belong to the very user the workload runs as, and its file stays within reach
 * as some /proc/PID/exe ("#!/proc/self/exe", CVE-2019-5736). Replaces *fd by the same file on a read-only
 * mount. The mount covers the file in our copy of the host's tree and goes with it.
 */
static int make_read_only(int *fd, const char *path, struct err *e)
{
    struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    int copy = (int)syscall(SYS_open_tree, *fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (copy < 0 || syscall(SYS_mount_setattr, copy, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0 ||
        syscall(SYS_move_mount, copy, "", *fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        int code = errno;
        if (copy >= 0)
            (void)close(copy);
        return err_sys(e, code, "cannot protect %s", path);
    }
    (void)close(*fd);
    *fd = copy;
    return 0;
}

static int build(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, bool rootless,
                 struct err *e)
{
    CLEANUP_CLOSE int proc_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int init = open(spec->init, O_RDONLY | O_CLOEXEC);
    int slave = -1;

    if (proc_self < 0 || init < 0)
        return err_sys(e, errno, "cannot open %s", init < 0 ? spec->init : "/proc/self");
    if (handover_check_stdio(spec, e) < 0)
        return -1;
    if (rootless && envelope_map_ids(proc_self, geteuid(), getegid(), e) < 0)
        return -1;
    if (rootless && make_read_only(&init, spec->init, e) < 0)
        return -1;
    if (cgroup_join(cgroup) < 0)
        return err_sys(e, errno, "cannot join the cgroup");
    /* After joining, so that the own group is the root of what /proc/self/cgroup shows. Time applies to
     * children: the workload. */
    if (unshare(CLONE_NEWCGROUP | CLONE_NEWTIME) < 0)
        return err_sys(e, errno, "cannot create the cgroup and time namespaces");
    if (sethostname("sandbox", 7) < 0)
        return err_sys(e, errno, "cannot set the host name");
    if ((!weakened("network") && container_loopback_up(e) < 0) || container_build_root(spec, rootless, e) < 0)
        return -1;
    if (spec->ports) {
        int ports[SANDBOX_PORTS];
        if (container_open_ports(ports, e) < 0)
            return -1;
        handover_send(control, CONTROL_PORTS, "", ports, SANDBOX_PORTS);
    }
    if (!weakened("read-only-mounts") && envelope_seal_root(e) < 0)
        return -1;
    if (envelope_become(spec, proc_self, rootless, e) < 0)
        return -1;
    if (spec->terminal && handover_terminal(control, &slave, e) < 0)
        return -1;
    if (envelope_give_up(e) < 0)
        return -1;
    if (chdir("/workspace") < 0)
        return err_sys(e, errno, "cannot enter /workspace (does its owner match the sandbox?)");
    return arrange_descriptors(spec, control, init, slave, e);
}

/* What init is to know: terminal or not, where else the workload may write, the command. Freed by exec. */
static char **init_arguments(const struct sandbox_spec *spec, char *count, size_t cap)
{
    size_t words = 0, writable = 0, n = 3;
    char **argv;

    while (spec->argv[words])
        words++;
    argv = x_calloc(n + spec->nmounts + words + 1, sizeof(*argv));
    for (size_t i = 0; i < spec->nmounts; i++)
        if (spec->mounts[i].writable) {
            argv[n++] = (char *)(uintptr_t)spec->mounts[i].target;
            writable++;
        }
    (void)io_format(count, cap, "%zu", writable);
    argv[0] = (char *)(uintptr_t) "ironclaw-init";
    argv[1] = (char *)(uintptr_t)(spec->terminal ? spec->observe ? "to" : "t" : spec->observe ? "o" : "-");
    argv[2] = count;
    memcpy(argv + n, spec->argv, words * sizeof(*argv));
    return argv;
}

void container_child(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, bool rootless)
{
    struct err e = ERR_INIT;
    char **argv, count[16];

    envelope_begin();
    argv = init_arguments(spec, count, sizeof(count));
    if (build(spec, cgroup, control, rootless, &e) == 0) {
        (void)syscall(SYS_execveat, INIT_FD, "", argv, weaken_environment(spec->envp), AT_EMPTY_PATH);
        (void)err_sys(&e, errno, "cannot execute the sandbox's init");
        control = CONTROL_FD;
    }
    handover_send(control, CONTROL_ERROR, e.text, NULL, 0);
    _exit(125);
}
