/*
 * The child's way from a copy of the caller to the warden: the envelope as every wall of ours has it, but
 * around an empty root. What the cell gets of the host is three descriptors: its image, its memory, its
 * doorbell.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"
#include "cell/abi/layout.h"
#include "walls/cell/cell.h"
#include "walls/envelope.h"
#include "walls/handover.h"
#include "walls/tree.h"
#include "warden/warden.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* memfd_create(2), since Linux 6.3 */
#endif

extern int mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *data);
extern int umount2(const char *target, int flags);
enum { UMOUNT_DETACH = 2, BACKLOG = 64 };

/* Any directory that exists on every host; gone with the host's tree. */
static const char STAGING[] = "/tmp";

static int listen_at(const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)io_format(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, 0666) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "cannot listen on %s", path);
    return TAKE_FD(fd);
}

/* The warden connects to the first and the third. The others are what loopback TCP is under other walls: in a
 * cell both lead to the same stream. */
static int open_ports(int control, struct err *e)
{
    static const char *const paths[SANDBOX_PORTS] = {WARDEN_QUEUE, "/q", WARDEN_MODEL, "/m"};
    int fds[SANDBOX_PORTS];

    for (int i = 0; i < SANDBOX_PORTS; i++)
        if ((fds[i] = listen_at(paths[i], e)) < 0)
            return -1;
    handover_send(control, CONTROL_PORTS, "", fds, SANDBOX_PORTS);
    for (int i = 0; i < SANDBOX_PORTS; i++)
        (void)close(fds[i]);
    return 0;
}

/* A terminal of an instance of its own; the mount goes with the host's tree. */
static int open_terminal(int control, int *slave, struct err *e)
{
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0666") <
        0)
        return err_sys(e, errno, "cannot mount /dev/pts");
    return handover_terminal(control, slave, e);
}

static int enter_empty_root(struct err *e)
{
    CLEANUP_CLOSE int root = -1;

    if (tree_mount_tmpfs(STAGING, "mode=0555,size=16k,nr_inodes=8", TREE_TMPFS, e) < 0)
        return -1;
    root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", UMOUNT_DETACH) < 0 || chdir("/") < 0)
        return err_sys(e, errno, "cannot enter the new root");
    return 0;
}

/* The whole memory of the cell as a file: sparse, and charged to the cell's group as it is used. */
static int create_memory(const struct sandbox_spec *spec, struct err *e)
{
    uint64_t step = 2U << 20, size = spec->limits.memory_bytes ? spec->limits.memory_bytes : 4ULL << 30;
    CLEANUP_CLOSE int fd = memfd_create("cell", MFD_ALLOW_SEALING | MFD_EXEC);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("cell", MFD_ALLOW_SEALING);
    size = (size + (64U << 20) + CELL_OFF_HEAP + step - 1) / step * step;
    if (size > CELL_MEMORY_MAX)
        size = CELL_MEMORY_MAX;
    /* The warden's mapping must keep what stands behind it. */
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(e, errno, "cannot create the cell's memory");
    return TAKE_FD(fd);
}

/* What the warden finds where (warden/warden.h); nothing else survives. */
static int arrange(const struct sandbox_spec *spec, const int sources[WARDEN_DESCRIPTORS], struct err *e)
{
    int high[WARDEN_DESCRIPTORS];

    (void)spec;
    for (int i = 0; i < WARDEN_DESCRIPTORS; i++) /* out of the way first */
        if ((high[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 32)) < 0)
            return err_sys(e, errno, "cannot duplicate descriptor %d", sources[i]);
    for (int i = 0; i < WARDEN_DESCRIPTORS; i++)
        if (dup3(high[i], i, i == WARDEN_FD_SELF ? O_CLOEXEC : 0) < 0)
            return err_sys(e, errno, "cannot place descriptor %d", i);
    if (syscall(SYS_close_range, (unsigned)WARDEN_DESCRIPTORS, ~0U, 0U) < 0)
        return err_sys(e, errno, "cannot close inherited descriptors");
    return 0;
}

static int build(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, int image,
                 const int binaries[CELL_BINARIES], bool rootless, struct err *e)
{
    CLEANUP_CLOSE int proc_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP_CLOSE int memory = -1;
    CLEANUP_CLOSE int doorbell = -1;
    int sources[WARDEN_DESCRIPTORS], slave = -1;

    if (proc_self < 0 || null < 0)
        return err_sys(e, errno, "cannot open %s", null < 0 ? "/dev/null" : "/proc/self");
    if (handover_check_stdio(spec, e) < 0)
        return -1;
    if (rootless && envelope_map_ids(proc_self, geteuid(), getegid(), e) < 0)
        return -1;
    if (cgroup_join(cgroup) < 0)
        return err_sys(e, errno, "cannot join the cgroup");
    if (unshare(CLONE_NEWCGROUP) < 0)
        return err_sys(e, errno, "cannot create the cgroup namespace");
    if (sethostname("sandbox", 7) < 0)
        return err_sys(e, errno, "cannot set the host name");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, errno, "cannot make the mounts private");
    if (spec->terminal && open_terminal(control, &slave, e) < 0)
        return -1;
    if (enter_empty_root(e) < 0 || (spec->ports && open_ports(control, e) < 0) || envelope_seal_root(e) < 0)
        return -1;
    /* After joining: charged to the cell. */
    memory = create_memory(spec, e);
    doorbell = eventfd(0, EFD_NONBLOCK);
    if (memory < 0 || doorbell < 0)
        return memory < 0 ? -1 : err_sys(e, errno, "cannot create the doorbell");
    if (envelope_become(spec, proc_self, rootless, e) < 0 || envelope_give_up(e) < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        sources[i] = spec->terminal ? slave : spec->stdio[i] >= 0 ? spec->stdio[i] : null;
    sources[WARDEN_FD_CONTROL] = control;
    sources[WARDEN_FD_IMAGE] = image;
    sources[WARDEN_FD_MEMORY] = memory;
    sources[WARDEN_FD_DOORBELL] = doorbell;
    sources[WARDEN_FD_KERNEL] = binaries[1];
    sources[WARDEN_FD_SELF] = binaries[0];
    return arrange(spec, sources, e);
}

void cell_child(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, int image,
                const int binaries[CELL_BINARIES], bool rootless)
{
    struct err e = ERR_INIT;
    char letters[4], pids[16], cpus[16], memory[24];
    size_t words = 0;
    char **argv;

    envelope_begin();
    while (spec->argv[words])
        words++;
    argv = x_calloc(words + 7, sizeof(*argv));
    (void)io_format(letters, sizeof(letters), "%s%s", spec->terminal ? "t" : "-", spec->ports ? "p" : "-");
    (void)io_format(pids, sizeof(pids), "%u", spec->limits.pids);
    (void)io_format(cpus, sizeof(cpus), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    (void)io_format(memory, sizeof(memory), "%llu", (unsigned long long)spec->limits.memory_bytes);
    argv[0] = (char *)(uintptr_t) "ironclaw-warden";
    argv[1] = letters;
    argv[2] = pids;
    argv[3] = cpus;
    argv[4] = memory;
    memcpy(argv + 5, spec->argv, words * sizeof(*argv));
    if (build(spec, cgroup, control, image, binaries, rootless, &e) == 0) {
        (void)syscall(SYS_execveat, WARDEN_FD_SELF, "", argv, weaken_environment(spec->envp), AT_EMPTY_PATH);
        (void)err_sys(&e, errno, "cannot execute the warden");
        control = WARDEN_FD_CONTROL;
    }
    handover_send(control, CONTROL_ERROR, e.text, NULL, 0);
    _exit(125);
}
