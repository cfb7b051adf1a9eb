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
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"
#include "walls/container/container.h"
#include "walls/tree.h"

/* <linux/mount.h> and <sys/mount.h> define the same names; the classic calls are declared here instead of
 * including both. */
extern int mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *data);
extern int umount2(const char *target, int flags);
enum { UMOUNT_DETACH = 2 };

/* Where the new root is attached until pivot_root; any directory that exists on every host. */
static const char STAGING[] = "/tmp";

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};

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
        if (tree_make_file(root, path, e) < 0 || tree_attach(fds[i], root, path, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlinkat(links[i].target, root, links[i].name) < 0)
            return err_sys(e, errno, "cannot create /%s", links[i].name);
    return tree_make_dir(root, "dev/pts", 0555, e) < 0 || tree_make_dir(root, "dev/shm", 0555, e) < 0 ? -1
                                                                                                      : 0;
}

/* Cut to what exists: kernels differ in what /proc shows. */
static int mask_proc(struct err *e)
{
    int null = open("/dev/null", O_PATH | O_CLOEXEC);
    int rc = null < 0 ? err_sys(e, errno, "cannot open /dev/null in the sandbox") : 0;

    for (size_t i = 0; rc == 0 && tree_masked[i]; i++) {
        struct stat st;
        if (lstat(tree_masked[i], &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            rc = tree_mount_tmpfs(tree_masked[i], "size=0,mode=0555,nr_inodes=1",
                                  TREE_TMPFS | MS_RDONLY | MS_NOEXEC, e);
        } else {
            CLEANUP_CLOSE int fd = tree_detach(null, "", TREE_RO & ~(uint64_t)MOUNT_ATTR_NODEV, false, e);
            rc = fd < 0 ? -1 : tree_attach(fd, AT_FDCWD, tree_masked[i], e);
        }
    }
    for (size_t i = 0; rc == 0 && tree_read_only[i]; i++) {
        CLEANUP_CLOSE int fd = -1;
        if (access(tree_read_only[i], F_OK) < 0)
            continue;
        fd = tree_detach(AT_FDCWD, tree_read_only[i], TREE_RO | MOUNT_ATTR_NOEXEC, false, e);
        rc = fd < 0 ? -1 : tree_attach(fd, AT_FDCWD, tree_read_only[i], e);
    }
    if (null >= 0)
        (void)close(null);
    return rc;
}

static int add_workspace(int root, int workspace, const char *owner, struct err *e)
{
    char options[96], path[64];

    if (tree_make_dir(root, "workspace", 0555, e) < 0)
        return -1;
    if (workspace >= 0)
        return tree_attach(workspace, root, "workspace", e);
    (void)io_format(options, sizeof(options), "mode=0700,%s", owner);
    (void)io_format(path, sizeof(path), "%s/workspace", STAGING);
    return tree_mount_tmpfs(path, options, TREE_TMPFS, e);
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
    if (spec->workspace && (s->workspace = tree_detach(AT_FDCWD, spec->workspace, TREE_RW, false, e)) < 0)
        return err_wrap(e, "workspace");
    if (s->workspace >= 0 && !rootless && tree_map_owner(s->workspace, spec->workspace, spec->uid, 0, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        char path[32];
        (void)io_format(path, sizeof(path), "/dev/%s", devices[i]);
        s->devices[i] = tree_detach(AT_FDCWD, path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false, e);
        if (s->devices[i] < 0)
            return -1;
    }
    for (size_t i = 0; i < spec->nmounts; i++) {
        s->mounts[i] = tree_detach(AT_FDCWD, spec->mounts[i].source,
                                   spec->mounts[i].writable ? TREE_RW : TREE_RO, true, e);
        if (s->mounts[i] < 0)
            return -1;
        if (spec->mounts[i].writable && !rootless &&
            tree_map_owner(s->mounts[i], spec->mounts[i].source, spec->uid, 0, e) < 0)
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
    if (tree_mount_tmpfs(STAGING, weakened("read-only-mounts") ? "mode=0777,size=1m" : "mode=0555,size=1m",
                         TREE_TMPFS, e) < 0)
        return -1;
    root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(e, errno, "cannot open the new root");
    if (tree_make_dir(root, "dev", 0555, e) < 0 || tree_make_dir(root, "proc", 0555, e) < 0 ||
        tree_make_dir(root, "tmp", 0555, e) < 0 || tree_make_dir(root, "run", 0555, e) < 0 ||
        tree_make_dir(root, "run/ironclaw", 0555, e) < 0 || tree_add_image(s->image, root, e) < 0 ||
        add_devices(root, s->devices, e) < 0 || add_workspace(root, s->workspace, owner, e) < 0)
        return -1;
    if (mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_sys(e, errno, "cannot mount /proc%s",
                       errno == EPERM ? " (an outer container masks its own /proc, which forbids it)" : "");
    if (enter(root, e) < 0)
        return -1;
    (void)io_format(options, sizeof(options), "mode=1777,%s", owner);
    if (tree_mount_tmpfs("/tmp", options, TREE_TMPFS, e) < 0 ||
        tree_mount_tmpfs("/dev/shm", options, TREE_TMPFS | MS_NOEXEC, e) < 0)
        return -1;
    for (size_t i = 0; i < spec->nmounts; i++)
        if (tree_add_mount(&spec->mounts[i], root, s->mounts[i], e) < 0)
            return -1;
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620") <
        0)
        return err_sys(e, errno, "cannot mount /dev/pts");
    return weakened("proc-masks") ? 0 : mask_proc(e);
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
