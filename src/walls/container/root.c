/*
 * The file system a sandbox sees: a small read-only tmpfs whose directories are bind mounts of the image's,
 * plus what is the sandbox's own. Built from detached mounts (open_tree, move_mount), so that nothing depends
 * on where the pieces lie on the host. Every source is opened before the new root covers anything.
 *
 *   /<each entry of the image>   read-only, nosuid, nodev
 *   /workspace                   read-write, nosuid, nodev
 *   /tmp, /dev/shm               own tmpfs, gone with the sandbox
 *   /dev                         null zero full random urandom tty, pts, ptmx; read-only itself
 *   /proc                        own pid namespace, masked as usual
 *   /run/ironclaw                port sockets
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "walls/container/container.h"

/* <linux/mount.h> and <sys/mount.h> define the same names; the classic calls are declared here instead of
 * including both. */
extern int mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *data);
extern int umount2(const char *target, int flags);
enum { UMOUNT_DETACH = 2 };

#define ATTR_RO     (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define ATTR_RW     (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define TMPFS_FLAGS (MS_NOSUID | MS_NODEV)

/* Where the new root is attached until pivot_root; any directory that exists on every host. */
static const char STAGING[] = "/tmp";

/* Names in the image's root that are ours to provide. */
static const char *const own_entries[] = {"dev", "proc", "sys", "tmp", "run", "workspace", "lost+found"};

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};

/* The masks that container engines agree on (OCI runtime defaults): what leaks host facts or takes commands.
 */
static const char *const masked[] = {
    "/proc/acpi",          "/proc/asound",      "/proc/kcore",       "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list",  "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",          "/proc/interrupts",  "/proc/kallsyms",    "/proc/kpagecount",
    "/proc/kpageflags",    "/proc/kpagecgroup", "/proc/vmallocinfo", "/proc/modules"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};

static int set_attr(int fd, uint64_t attr, bool recursive, const char *what, struct err *e)
{
    struct mount_attr a = {.attr_set = attr};

    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)) < 0)
        return err_sys(e, errno, "cannot restrict the mount of %s (Linux 5.12 or newer is needed)", what);
    return 0;
}

/* A detached copy of what is mounted at dirfd/name. */
static int detach(int dirfd, const char *name, uint64_t attr, bool recursive, struct err *e)
{
    unsigned flags =
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | (recursive ? AT_RECURSIVE : 0U);
    CLEANUP_CLOSE int fd =
        (int)syscall(SYS_open_tree, dirfd, name, flags | (*name ? 0U : (unsigned)AT_EMPTY_PATH));

    if (fd < 0)
        return err_sys(e, errno, "cannot take %s into the sandbox", name);
    if (attr && set_attr(fd, attr, recursive, name, e) < 0)
        return -1;
    return TAKE_FD(fd);
}

static int attach(int fd, int root, const char *target, struct err *e)
{
    if (syscall(SYS_move_mount, fd, "", root, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(e, errno, "cannot mount /%s in the sandbox", target);
    return 0;
}

static int make_file(int root, const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);

    return fd < 0 ? err_sys(e, errno, "cannot create /%s in the sandbox", path) : 0;
}

static int make_dir(int root, const char *path, mode_t mode, struct err *e)
{
    if (mkdirat(root, path, mode) < 0 && errno != EEXIST)
        return err_sys(e, errno, "cannot create /%s in the sandbox", path);
    return 0;
}

static bool is_own(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_entries); i++)
        if (!strcmp(own_entries[i], name))
            return true;
    return false;
}

/* One top-level entry of the image: links are copied, files and directories bound read-only. */
static int add_entry(int image, int root, const struct dirent *d, struct err *e)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st;

    if (fstatat(image, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "cannot examine /%s of the image", d->d_name);
    if (S_ISLNK(st.st_mode)) {
        char target[1024];
        ssize_t n = readlinkat(image, d->d_name, target, sizeof(target) - 1);
        if (n < 0)
            return err_sys(e, errno, "cannot read the link /%s of the image", d->d_name);
        target[n] = 0;
        return symlinkat(target, root, d->d_name) < 0
                   ? err_sys(e, errno, "cannot create the link /%s", d->d_name)
                   : 0;
    }
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return 0; /* sockets, pipes and devices of an image's root are never carried in */
    if (S_ISDIR(st.st_mode) ? make_dir(root, d->d_name, 0555, e) : make_file(root, d->d_name, e))
        return -1;
    fd = detach(image, d->d_name, ATTR_RO, true, e);
    return fd < 0 ? -1 : attach(fd, root, d->d_name, e);
}

static int add_image(int image, int root, struct err *e)
{
    int copy = openat(image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *d;
    int rc = 0;

    if (!dir) {
        if (copy >= 0)
            (void)close(copy);
        return err_sys(e, errno, "cannot list the image");
    }
    while (rc == 0 && (d = readdir(dir)))
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && !is_own(d->d_name))
            rc = add_entry(image, root, d, e);
    (void)closedir(dir);
    return rc;
}

static int mount_tmpfs(const char *target, const char *options, unsigned long flags, struct err *e)
{
    if (mount("tmpfs", target, "tmpfs", flags, options) < 0)
        return err_sys(e, errno, "cannot mount a tmpfs on %s", target);
    return 0;
}

/* fds[i]: the device node of devices[i], detached from the host's /dev. */
static int add_devices(int root, const int *fds, struct err *e)
{
    static const struct {
        const char *name, *target;
    } links[] = {{"dev/fd", "/proc/self/fd"},
                 {"dev/stdin", "/proc/self/fd/0"},
                 {"dev/stdout", "/proc/self/fd/1"},
                 {"dev/stderr", "/proc/self/fd/2"},
                 {"dev/ptmx", "pts/ptmx"}};
    char path[32];

    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        (void)io_format(path, sizeof(path), "dev/%s", devices[i]);
        if (make_file(root, path, e) < 0 || attach(fds[i], root, path, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlinkat(links[i].target, root, links[i].name) < 0)
            return err_sys(e, errno, "cannot create /%s", links[i].name);
    return make_dir(root, "dev/pts", 0555, e) < 0 || make_dir(root, "dev/shm", 0555, e) < 0 ? -1 : 0;
}

/* Cut to what exists: kernels differ in what /proc shows. */
static int mask_proc(struct err *e)
{
    int null = open("/dev/null", O_PATH | O_CLOEXEC);
    int rc = null < 0 ? err_sys(e, errno, "cannot open /dev/null in the sandbox") : 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(masked); i++) {
        struct stat st;
        if (lstat(masked[i], &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            rc = mount_tmpfs(masked[i], "size=0,mode=0555,nr_inodes=1", TMPFS_FLAGS | MS_RDONLY | MS_NOEXEC,
                             e);
        } else {
            CLEANUP_CLOSE int fd = detach(null, "", ATTR_RO & ~(uint64_t)MOUNT_ATTR_NODEV, false, e);
            rc = fd < 0 ? -1 : attach(fd, AT_FDCWD, masked[i], e);
        }
    }
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(read_only); i++) {
        CLEANUP_CLOSE int fd = -1;
        if (access(read_only[i], F_OK) < 0)
            continue;
        fd = detach(AT_FDCWD, read_only[i], ATTR_RO | MOUNT_ATTR_NOEXEC, false, e);
        rc = fd < 0 ? -1 : attach(fd, AT_FDCWD, read_only[i], e);
    }
    if (null >= 0)
        (void)close(null);
    return rc;
}

static int add_workspace(int root, int workspace, const char *owner, struct err *e)
{
    char options[96], path[64];

    if (make_dir(root, "workspace", 0555, e) < 0)
        return -1;
    if (workspace >= 0)
        return attach(workspace, root, "workspace", e);
    (void)io_format(options, sizeof(options), "mode=0700,%s", owner);
    (void)io_format(path, sizeof(path), "%s/workspace", STAGING);
    return mount_tmpfs(path, options, TMPFS_FLAGS, e);
}

/*
 * A directory below `root`, made where it is missing. The image and writable mounts are not ours: a symbolic
 * link in them resolves inside the new root, and one to /proc/self/fd/N leads nowhere, so neither names a
 * file of the host.
 */
static int open_directory(int root, const char *path, struct err *e)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    CLEANUP_FREE char *prefix = x_strdup(path);
    CLEANUP_CLOSE int at = fcntl(root, F_DUPFD_CLOEXEC, 3);

    for (char *p = prefix; at >= 0 && *p;) {
        char *slash = strchr(p, '/');
        int next;
        if (slash)
            *slash = 0;
        next = (int)syscall(SYS_openat2, root, prefix, &how, sizeof(how));
        if (next < 0 && errno == ENOENT && mkdirat(at, p, 0555) == 0)
            next = (int)syscall(SYS_openat2, root, prefix, &how, sizeof(how));
        if (next < 0)
            return err_sys(e, errno, "cannot create /%s in the sandbox", prefix);
        (void)close(at);
        at = next;
        if (!slash)
            break;
        *slash = '/';
        p = slash + 1;
    }
    return at < 0 ? err_sys(e, errno, "cannot open the new root") : TAKE_FD(at);
}

static bool is_reserved(const char *target)
{
    static const char *const reserved[] = {"/proc", "/dev", "/sys", "/run/ironclaw", "/workspace"};

    for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
        size_t len = strlen(reserved[i]);
        if (!strncmp(target, reserved[i], len) &&
            (!target[len] || (target[len] == '/' && strcmp(reserved[i], "/workspace") != 0)))
            return true;
    }
    return !strcmp(target, "/tmp") || !strcmp(target, "/run");
}

/* A mount of the specification: its target's parents are made in our root, or must exist in the image. */
static int add_mount(const struct sandbox_mount *m, int root, int fd, struct err *e)
{
    CLEANUP_FREE char *path = x_strdup(m->target + 1);
    CLEANUP_CLOSE int parent = -1;
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct stat st, there;

    if (is_reserved(m->target) || !*name)
        return err_set(e, EINVAL, "mount target %s is the sandbox's own", m->target);
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "cannot examine %s", m->source);
    if (slash)
        *slash = 0;
    parent = open_directory(root, slash ? path : "", e);
    if (parent < 0)
        return err_wrap(e,
                        "mount target %s (the image is read-only: choose a target outside its directories)",
                        m->target);
    if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) < 0) {
        if (S_ISDIR(st.st_mode) ? make_dir(parent, name, 0555, e) : make_file(parent, name, e))
            return err_wrap(
                e, "mount target %s (the image is read-only: choose a target outside its directories)",
                m->target);
    } else if (S_ISLNK(there.st_mode)) {
        return err_set(e, ELOOP, "mount target %s is a symbolic link in the image", m->target);
    } else if (S_ISDIR(st.st_mode) != S_ISDIR(there.st_mode)) {
        return err_set(e, ENOTDIR,
                       "mount target %s: a directory can only be mounted on a directory, a file on a file",
                       m->target);
    }
    return attach(fd, parent, name, e);
}

/* A user namespace in which `owner` stands for the host's `uid`: what an id-mapped mount is described by. A
 * child enters it and hands out its /proc/self and the namespace through the descriptor table it shares with
 * us (its pid here means nothing in the host's /proc). */
static int mapping_namespace(const struct stat *owner, uint32_t uid, struct err *e)
{
    CLEANUP_CLOSE int self = open("/", O_PATH | O_CLOEXEC);
    CLEANUP_CLOSE int ns = open("/", O_PATH | O_CLOEXEC);
    int ready[2], rc;
    char line[64], done = 0;
    pid_t pid;

    if (self < 0 || ns < 0 || pipe2(ready, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot prepare the owner's mapping");
    pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | CLONE_FILES | SIGCHLD), NULL, NULL, NULL,
                         0L);
    if (pid == 0) {
        bool given;
        int own_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC),
            own_ns = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
        given = own_self >= 0 && own_ns >= 0 && dup3(own_self, self, O_CLOEXEC) >= 0 &&
                dup3(own_ns, ns, O_CLOEXEC) >= 0;
        done = given ? 1 : 0;
        (void)close(own_self);
        (void)close(own_ns);
        (void)!write(ready[1], &done, 1);
        for (;;)
            (void)pause();
    }
    rc = pid < 0 ? -errno : io_read_full(ready[0], &done, 1) == 1 && done ? 0 : -EIO;
    (void)close(ready[0]);
    (void)close(ready[1]);
    if (rc == 0) {
        (void)io_format(line, sizeof(line), "%u %u 1\n", owner->st_uid, uid);
        rc = io_write_knob(self, "uid_map", line);
    }
    if (rc == 0) {
        (void)io_format(line, sizeof(line), "%u %u 1\n", owner->st_gid, uid);
        rc = io_write_knob(self, "gid_map", line);
    }
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    return rc < 0 ? err_sys(e, -rc, "cannot map uid %u to the sandbox's", owner->st_uid) : TAKE_FD(ns);
}

/*
 * Started by root, the sandbox runs under a host uid that owns nothing. In a directory it may write to, files
 * of the directory's owner are its own, and what it makes belongs to that owner (mount_setattr(2), id-mapped
 * mounts). Nobody else's files change hands, and the filter keeps set-uid bits from being made.
 */
static int map_owner(int fd, const char *what, uint32_t uid, struct err *e)
{
    struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP};
    CLEANUP_CLOSE int ns = -1;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "cannot examine %s", what);
    if (st.st_uid == uid)
        return 0;
    ns = mapping_namespace(&st, uid, e);
    if (ns < 0)
        return -1;
    a.userns_fd = (uint32_t)ns;
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &a, sizeof(a)) == 0 ||
        (st.st_mode & S_IRWXO) == S_IRWXO)
        return 0;
    return err_sys(e, errno,
                   "%s belongs to uid %u and its file system has no id-mapped mounts (chmod o+rwx it, or "
                   "choose another directory)",
                   what, st.st_uid);
}

static int enter(int root, struct err *e)
{
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", UMOUNT_DETACH) < 0 ||
        chdir("/") < 0)
        return err_sys(e, errno, "cannot enter the new root");
    return 0;
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

/* Everything from the host, opened while the host's tree is still visible. */
struct sources {
    int image, workspace;
    int devices[ARRAY_LEN(devices)];
    int mounts[SANDBOX_MOUNTS_MAX];
};

static int open_sources(const struct sandbox_spec *spec, struct sources *s, bool rootless, struct err *e)
{
    memset(s, -1, sizeof(*s));
    s->image = open(spec->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->image < 0)
        return err_sys(e, errno, "cannot open the root file system %s", spec->rootfs);
    if (spec->workspace && (s->workspace = detach(AT_FDCWD, spec->workspace, ATTR_RW, false, e)) < 0)
        return err_wrap(e, "workspace");
    if (s->workspace >= 0 && !rootless && map_owner(s->workspace, spec->workspace, spec->uid, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        char path[32];
        (void)io_format(path, sizeof(path), "/dev/%s", devices[i]);
        s->devices[i] = detach(AT_FDCWD, path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false, e);
        if (s->devices[i] < 0)
            return -1;
    }
    for (size_t i = 0; i < spec->nmounts; i++) {
        s->mounts[i] =
            detach(AT_FDCWD, spec->mounts[i].source, spec->mounts[i].writable ? ATTR_RW : ATTR_RO, true, e);
        if (s->mounts[i] < 0)
            return -1;
        if (spec->mounts[i].writable && !rootless &&
            map_owner(s->mounts[i], spec->mounts[i].source, spec->uid, e) < 0)
            return -1;
    }
    return 0;
}

static int assemble(const struct sandbox_spec *spec, const struct sources *s, bool rootless, struct err *e)
{
    char owner[64] = "", options[128];
    CLEANUP_CLOSE int root = -1;
    /* Rootless, uid 1000 inside is mapped already; as root the files must belong to the host uid that is
     * about to run. */
    uint32_t uid = rootless ? SANDBOX_UID : spec->uid;

    (void)io_format(owner, sizeof(owner), "uid=%u,gid=%u", uid, uid);
    if (mount_tmpfs(STAGING, "mode=0555,size=1m", TMPFS_FLAGS, e) < 0)
        return -1;
    root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(e, errno, "cannot open the new root");
    if (make_dir(root, "dev", 0555, e) < 0 || make_dir(root, "proc", 0555, e) < 0 ||
        make_dir(root, "tmp", 0555, e) < 0 || make_dir(root, "run", 0555, e) < 0 ||
        make_dir(root, "run/ironclaw", 0555, e) < 0 || add_image(s->image, root, e) < 0 ||
        add_devices(root, s->devices, e) < 0 || add_workspace(root, s->workspace, owner, e) < 0)
        return -1;
    if (mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(e, errno, "cannot mount /proc%s",
                       errno == EPERM ? " (an outer container masks its own /proc, which forbids it)" : "");
    if (enter(root, e) < 0)
        return -1;
    (void)io_format(options, sizeof(options), "mode=1777,%s", owner);
    if (mount_tmpfs("/tmp", options, TMPFS_FLAGS, e) < 0 ||
        mount_tmpfs("/dev/shm", options, TMPFS_FLAGS | MS_NOEXEC, e) < 0)
        return -1;
    for (size_t i = 0; i < spec->nmounts; i++)
        if (add_mount(&spec->mounts[i], root, s->mounts[i], e) < 0)
            return -1;
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620") <
        0)
        return err_sys(e, errno, "cannot mount /dev/pts");
    return mask_proc(e);
}

int container_build_root(const struct sandbox_spec *spec, bool rootless, struct err *e)
{
    struct sources s;
    int rc;

    /* Nothing we mount may propagate to the host, nothing of the host to us. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, errno, "cannot make the mounts private");
    rc = open_sources(spec, &s, rootless, e);
    if (rc == 0)
        rc = assemble(spec, &s, rootless, e);
    close_all(&s.image, 1);
    close_all(&s.workspace, 1);
    close_all(s.devices, ARRAY_LEN(s.devices));
    close_all(s.mounts, ARRAY_LEN(s.mounts));
    return rc;
}
