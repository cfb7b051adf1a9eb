/*
 * Pieces of a file system for a sandbox: detached copies of host directories, the image's entries, mounts at
 * targets that cannot lead out, ownership of writable directories.
 */
#include "walls/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"

/* <linux/mount.h> and <sys/mount.h> define the same names; the classic call is declared here instead of
 * including both. */
extern int mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *data);

/* Names in the image's root that are ours to provide. */
static const char *const own_entries[] = {"dev", "proc", "sys", "tmp", "run", "workspace", "lost+found"};

const char *const tree_masked[] = {"/proc/acpi",
                                   "/proc/asound",
                                   "/proc/kcore",
                                   "/proc/keys",
                                   "/proc/latency_stats",
                                   "/proc/timer_list",
                                   "/proc/timer_stats",
                                   "/proc/sched_debug",
                                   "/proc/scsi",
                                   "/proc/interrupts",
                                   "/proc/kallsyms",
                                   "/proc/kpagecount",
                                   "/proc/kpageflags",
                                   "/proc/kpagecgroup",
                                   "/proc/vmallocinfo",
                                   "/proc/modules",
                                   NULL};
const char *const tree_read_only[] = {"/proc/bus",           "/proc/fs", "/proc/irq", "/proc/sys",
                                      "/proc/sysrq-trigger", NULL};

int tree_set_attr(int fd, uint64_t attr, bool recursive, const char *what, struct err *e)
{
    struct mount_attr a = {.attr_set = attr};

    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)) < 0)
        return err_sys(e, errno, "cannot restrict the mount of %s (Linux 5.12 or newer is needed)", what);
    return 0;
}

/* A detached copy of what is mounted at dirfd/name. */
int tree_detach(int dirfd, const char *name, uint64_t attr, bool recursive, struct err *e)
{
    unsigned flags =
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | (recursive ? AT_RECURSIVE : 0U);
    CLEANUP_CLOSE int fd =
        (int)syscall(SYS_open_tree, dirfd, name, flags | (*name ? 0U : (unsigned)AT_EMPTY_PATH));

    if (fd < 0)
        return err_sys(e, errno, "cannot take %s into the sandbox", name);
    if (attr && tree_set_attr(fd, attr, recursive, name, e) < 0)
        return -1;
    return TAKE_FD(fd);
}

int tree_attach(int fd, int root, const char *target, struct err *e)
{
    if (syscall(SYS_move_mount, fd, "", root, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_sys(e, errno, "cannot mount /%s in the sandbox", target);
    return 0;
}

int tree_make_file(int root, const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = openat(root, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);

    return fd < 0 ? err_sys(e, errno, "cannot create /%s in the sandbox", path) : 0;
}

int tree_make_dir(int root, const char *path, mode_t mode, struct err *e)
{
    if (mkdirat(root, path, mode) < 0 && errno != EEXIST)
        return err_sys(e, errno, "cannot create /%s in the sandbox", path);
    return 0;
}

bool tree_is_own(const char *name)
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
    if (S_ISDIR(st.st_mode) ? tree_make_dir(root, d->d_name, 0555, e) : tree_make_file(root, d->d_name, e))
        return -1;
    fd = tree_detach(image, d->d_name, weakened("read-only-mounts") ? TREE_RW : TREE_RO, true, e);
    return fd < 0 ? -1 : tree_attach(fd, root, d->d_name, e);
}

int tree_add_image(int image, int root, struct err *e)
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
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && !tree_is_own(d->d_name))
            rc = add_entry(image, root, d, e);
    (void)closedir(dir);
    return rc;
}

int tree_mount_tmpfs(const char *target, const char *options, unsigned long flags, struct err *e)
{
    if (mount("tmpfs", target, "tmpfs", flags, options) < 0)
        return err_sys(e, errno, "cannot mount a tmpfs on %s", target);
    return 0;
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

bool tree_is_reserved(const char *target)
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
int tree_add_mount(const struct sandbox_mount *m, int root, int fd, struct err *e)
{
    CLEANUP_FREE char *path = x_strdup(m->target + 1);
    CLEANUP_CLOSE int parent = -1;
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct stat st, there;

    if (tree_is_reserved(m->target) || !*name)
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
        if (S_ISDIR(st.st_mode) ? tree_make_dir(parent, name, 0555, e) : tree_make_file(parent, name, e))
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
    return tree_attach(fd, parent, name, e);
}

/* True once the child has said that all is there; false if it says otherwise, or was killed: the pipe does
 * not end then, for its other end is ours as well. */
static bool is_given(int ready, int child)
{
    struct pollfd p[] = {{.fd = ready, .events = POLLIN}, {.fd = child, .events = POLLIN}};
    char done = 0;

    while (poll(p, 2, -1) < 0 && errno == EINTR)
        ;
    return p[0].revents & POLLIN && io_read_full(ready, &done, 1) == 1 && done;
}

/* A child enters the namespace and hands out its /proc/self and the namespace through the descriptor table it
 * shares with us (its pid here means nothing in the host's /proc). */
int tree_user_namespace(const char *uid_map, const char *gid_map, struct err *e)
{
    CLEANUP_CLOSE int self = open("/", O_PATH | O_CLOEXEC);
    CLEANUP_CLOSE int ns = open("/", O_PATH | O_CLOEXEC);
    CLEANUP_CLOSE int child = -1;
    int ready[2], rc;
    pid_t pid, parent = getpid();

    if (self < 0 || ns < 0 || pipe2(ready, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot prepare a user namespace");
    pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_NEWUSER | CLONE_FILES | CLONE_PIDFD | SIGCHLD),
                         NULL, &child, NULL, 0L);
    if (pid == 0) {
        char given;
        int own_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC),
            own_ns = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* nobody else would end it */
        if (getppid() != parent)                         /* killed before that */
            _exit(1);
        given = own_self >= 0 && own_ns >= 0 && dup3(own_self, self, O_CLOEXEC) >= 0 &&
                dup3(own_ns, ns, O_CLOEXEC) >= 0;
        (void)close(own_self);
        (void)close(own_ns);
        (void)!write(ready[1], &given, 1);
        for (;;)
            (void)pause();
    }
    rc = pid < 0 ? -errno : is_given(ready[0], child) ? 0 : -EIO;
    (void)close(ready[0]);
    (void)close(ready[1]);
    if (rc == 0)
        rc = io_write_knob(self, "uid_map", uid_map);
    if (rc == 0)
        rc = io_write_knob(self, "gid_map", gid_map);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    return rc < 0 ? err_sys(e, -rc, "cannot map uids for the sandbox") : TAKE_FD(ns);
}

/*
 * Started by root, the sandbox runs under a host uid that owns nothing. In a directory it may write to, files
 * of the directory's owner are its own, and what it makes belongs to that owner (mount_setattr(2), id-mapped
 * mounts). Nobody else's files change hands, and the filter keeps set-uid bits from being made.
 */
int tree_map_owner(int fd, const char *what, uint32_t uid, uint32_t helper, struct err *e)
{
    struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP};
    CLEANUP_CLOSE int ns = -1;
    char uids[64], gids[64], more[32];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "cannot examine %s", what);
    if (st.st_uid == uid)
        return 0;
    more[0] = 0;
    if (helper)
        (void)io_format(more, sizeof(more), "%u %u 1\n", helper, helper);
    (void)io_format(uids, sizeof(uids), "%u %u 1\n%s", st.st_uid, uid, more);
    (void)io_format(gids, sizeof(gids), "%u %u 1\n%s", st.st_gid, uid, more);
    ns = tree_user_namespace(uids, gids, e);
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
