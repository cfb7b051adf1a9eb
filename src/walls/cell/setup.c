/*
 * The child's way from a copy of the caller to the warden: the envelope as every wall of ours has it, but
 * around an empty root. What the cell gets of the host is three descriptors: its image, its memory, its
 * doorbell.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
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
#include "cell/abi/files.h"
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

#ifdef IRONCLAW_WEAKENED
/* What a root that is not empty would be: the host's /tmp stays in sight. */
static int show_staging(int root, int staging, struct err *e)
{
    return mkdirat(root, STAGING + 1, 0755) < 0 ||
                   syscall(SYS_move_mount, staging, "", root, STAGING + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0
               ? err_sys(e, errno, "cannot show the host's /tmp")
               : 0;
}
#else
#define show_staging(root, staging, e) ((void)(staging), -1)
#endif

static int enter_empty_root(struct err *e)
{
    CLEANUP_CLOSE int root = -1;
    CLEANUP_CLOSE int staging =
        weakened("cell-root") ? tree_detach(AT_FDCWD, STAGING, TREE_RW, false, e) : -1;

    if (tree_mount_tmpfs(STAGING, "mode=0555,size=16k,nr_inodes=8", TREE_TMPFS, e) < 0)
        return -1;
    root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (weakened("cell-root") && show_staging(root, staging, e) < 0)
        return -1;
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

/*
 * The cell finds the target itself. What it could not do is said here: the places that are the sandbox's own,
 * and directories of the image, which nothing can be made in. `image`: the root file system; links in it lead
 * nowhere else.
 */
static int check_target(int image, const struct sandbox_mount *m, const struct stat *source, struct err *e)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    CLEANUP_CLOSE int fd = (int)syscall(SYS_openat2, image, m->target + 1, &how, sizeof(how));
    CLEANUP_FREE char *top = x_strndup(m->target + 1, strcspn(m->target + 1, "/"));
    struct stat there;

    if (tree_is_reserved(m->target))
        return err_set(e, EINVAL, "mount target %s is the sandbox's own", m->target);
    if (fd < 0 && (tree_is_own(top) || faccessat(image, top, F_OK, AT_SYMLINK_NOFOLLOW) < 0))
        return 0;
    if (fd < 0)
        return err_set(e, EROFS,
                       "mount target %s (the image is read-only: choose a target outside its directories)",
                       m->target);
    if (fstat(fd, &there) < 0)
        return err_sys(e, errno, "cannot examine %s of the image", m->target);
    if (S_ISLNK(there.st_mode))
        return err_set(e, ELOOP, "mount target %s is a symbolic link in the image", m->target);
    if (S_ISDIR(there.st_mode) != S_ISDIR(source->st_mode))
        return err_set(e, ENOTDIR,
                       "mount target %s: a directory can only be mounted on a directory, a file on a file",
                       m->target);
    return 0;
}

/* What the host shows of its files: opened while its tree is in sight, without a name from then on. */
struct roots {
    int fds[FILES_ROOTS];
    unsigned n;
};

static int add_root(struct roots *r, const char *source, bool writable, uint32_t uid, bool rootless,
                    struct err *e)
{
    int fd = tree_detach(AT_FDCWD, source, writable ? TREE_RW : TREE_RO, false, e);

    if (fd < 0)
        return -1;
    r->fds[r->n++] = fd;
    return writable && !rootless ? tree_map_owner(fd, source, uid, 0, e) : 0;
}

/* A file is read and written through its descriptor, which has to be more than a place. Opened with the
 * rights that the sandbox has, no more. */
static int open_files(const struct sandbox_spec *spec, struct roots *r, int proc_self, struct err *e)
{
    unsigned first = spec->workspace ? 1 : 0;

    for (unsigned i = first; i < r->n; i++) {
        const struct sandbox_mount *m = &spec->mounts[i - first];
        struct stat st;
        char path[32];
        int fd;
        if (fstat(r->fds[i], &st) < 0)
            return err_sys(e, errno, "cannot examine a mount");
        if (!S_ISREG(st.st_mode))
            continue;
        (void)io_format(path, sizeof(path), "fd/%d", r->fds[i]);
        fd = openat(proc_self, path, (m->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        if (fd < 0)
            return err_sys(e, errno, "cannot open %s with the rights of the sandbox", m->source);
        (void)close(r->fds[i]);
        r->fds[i] = fd;
    }
    return 0;
}

static int open_roots(const struct sandbox_spec *spec, struct roots *r, bool rootless, struct err *e)
{
    CLEANUP_CLOSE int image = open(spec->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat source;

    if (image < 0)
        return err_sys(e, errno, "cannot open the root file system %s", spec->rootfs);
    if (spec->workspace && add_root(r, spec->workspace, true, spec->uid, rootless, e) < 0)
        return err_wrap(e, "workspace");
    if (spec->workspace && (fstat(r->fds[0], &source) < 0 || !S_ISDIR(source.st_mode)))
        return err_set(e, ENOTDIR, "the workspace %s is not a directory", spec->workspace);
    for (size_t i = 0; i < spec->nmounts; i++)
        if (add_root(r, spec->mounts[i].source, spec->mounts[i].writable, spec->uid, rootless, e) < 0 ||
            fstat(r->fds[r->n - 1], &source) < 0 || check_target(image, &spec->mounts[i], &source, e) < 0)
            return -1;
    return 0;
}

/* What the warden finds where (warden/warden.h); nothing else survives. */
static int arrange(const int sources[WARDEN_DESCRIPTORS], const struct roots *roots, struct err *e)
{
    enum { MOST = WARDEN_DESCRIPTORS + FILES_ROOTS, ASIDE = 64 };
    int all[MOST], n = WARDEN_DESCRIPTORS + (int)roots->n;

    memcpy(all, sources, WARDEN_DESCRIPTORS * sizeof(*all));
    memcpy(all + WARDEN_FIRST_ROOT, roots->fds, roots->n * sizeof(*all));
    for (int i = 0; i < n; i++) { /* out of the way first */
        if (all[i] >= 0 && (all[i] = fcntl(all[i], F_DUPFD_CLOEXEC, ASIDE)) < 0)
            return err_sys(e, errno, "cannot duplicate descriptor %d", sources[i]);
    }
    for (int i = 0; i < n; i++)
        if (all[i] >= 0 && dup3(all[i], i, i == WARDEN_FD_SELF ? O_CLOEXEC : 0) < 0)
            return err_sys(e, errno, "cannot place descriptor %d", i);
    if (all[WARDEN_FD_FILES] < 0)
        (void)close(WARDEN_FD_FILES);
    if (syscall(SYS_close_range, (unsigned)n, ~0U, 0U) < 0)
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
    struct roots roots = {.n = 0};
    int sources[WARDEN_DESCRIPTORS], slave = -1;

    if (proc_self < 0 || null < 0)
        return err_sys(e, errno, "cannot open %s", null < 0 ? "/dev/null" : "/proc/self");
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
    if (open_roots(spec, &roots, rootless, e) < 0 ||
        (spec->terminal && open_terminal(control, &slave, e) < 0))
        return -1;
    if (enter_empty_root(e) < 0 || (spec->ports && open_ports(control, e) < 0) || envelope_seal_root(e) < 0)
        return -1;
    /* After joining: charged to the cell. */
    memory = create_memory(spec, e);
    doorbell = eventfd(0, EFD_NONBLOCK);
    if (memory < 0 || doorbell < 0)
        return memory < 0 ? -1 : err_sys(e, errno, "cannot create the doorbell");
    if (envelope_become(spec, proc_self, rootless, e) < 0 || open_files(spec, &roots, proc_self, e) < 0 ||
        envelope_give_up(e) < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        sources[i] = spec->terminal ? slave : null; /* what others have comes with the activation */
    sources[WARDEN_FD_CONTROL] = control;
    sources[WARDEN_FD_IMAGE] = image;
    sources[WARDEN_FD_MEMORY] = memory;
    sources[WARDEN_FD_DOORBELL] = doorbell;
    sources[WARDEN_FD_KERNEL] = binaries[1];
    sources[WARDEN_FD_SELF] = binaries[0];
    sources[WARDEN_FD_FILES] = binaries[2];
    return arrange(sources, &roots, e);
}

/* Freed by exec. */
static char **warden_arguments(const struct sandbox_spec *spec)
{
    static char letters[4], pids[16], cpus[16], memory[24], count[16];
    size_t n = 0, roots = (spec->workspace ? 1U : 0U) + spec->nmounts;
    char **argv = x_calloc(WARDEN_FIXED_WORDS + roots + 1, sizeof(*argv));

    (void)io_format(letters, sizeof(letters), "%s%s", spec->terminal ? "t" : "-", spec->ports ? "p" : "-");
    (void)io_format(pids, sizeof(pids), "%u", spec->limits.pids);
    (void)io_format(cpus, sizeof(cpus), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    (void)io_format(memory, sizeof(memory), "%llu", (unsigned long long)spec->limits.memory_bytes);
    (void)io_format(count, sizeof(count), "%zu", roots);
    argv[n++] = x_asprintf("ironclaw-warden: %s", spec->id); /* ps(1) tells whose it is */
    argv[n++] = letters;
    argv[n++] = pids;
    argv[n++] = cpus;
    argv[n++] = memory;
    argv[n++] = count;
    if (spec->workspace)
        argv[n++] = (char *)(uintptr_t) "w/workspace";
    for (size_t i = 0; i < spec->nmounts; i++) {
        size_t cap = strlen(spec->mounts[i].target) + 2;
        argv[n] = x_malloc(cap);
        (void)io_format(argv[n++], cap, "%c%s", spec->mounts[i].writable ? 'w' : 'r', spec->mounts[i].target);
    }
    return argv;
}

void cell_child(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, int image,
                const int binaries[CELL_BINARIES], bool rootless)
{
    static char *const no_environment[] = {NULL};
    struct err e = ERR_INIT;
    char **argv;

    envelope_begin();
    argv = warden_arguments(spec);
    if (build(spec, cgroup, control, image, binaries, rootless, &e) == 0) {
        (void)syscall(SYS_execveat, WARDEN_FD_SELF, "", argv, weaken_environment(no_environment),
                      AT_EMPTY_PATH);
        (void)err_sys(&e, errno, "cannot execute the warden");
        control = WARDEN_FD_CONTROL;
    }
    handover_send(control, CONTROL_ERROR, e.text, NULL, 0);
    _exit(125);
}
