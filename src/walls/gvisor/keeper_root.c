/*
 * The file system that the OCI runtime sees: the system's programs and libraries, devices, the bundle with
 * the image in it, a place for its state. Nothing of the host's homes, /run, /etc or the state directory,
 * whatever the runtime's processes come to do. All of it is gone with the keeper.
 *
 *   /runtime               the binary
 *   /usr /bin /lib* /sbin  the host's, read-only
 *   /bundle/rootfs         the image's entries, read-only, and the mounts
 *   /bundle/run            sockets of the ports, init: /run/ironclaw inside
 *   /bundle/workspace, /bundle/m/N   what the workload may write to
 *   /state                 belongs to the runtime's uid
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "walls/gvisor/gvisor.h"
#include "walls/tree.h"

extern int mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *data);
extern int umount2(const char *target, int flags);
enum { UMOUNT_DETACH = 2 };

/* Where the new root is attached until pivot_root: nothing that is taken into it lies below, and /proc
 * itself stays in sight. */
static const char STAGING[] = "/proc/fs";
static const char *const host_dirs[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64"};
static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty", "kvm"};

/* The host's directory, or the link that stands in its place, at the same name in the new root. */
static int add_host_dir(int root, const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    char target[256];
    ssize_t n;

    if (lstat(path, &st) < 0)
        return 0;
    if (S_ISLNK(st.st_mode)) {
        n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = 0;
        return n > 0 && symlinkat(target, root, path + 1) == 0
                   ? 0
                   : err_sys(e, errno, "cannot copy the link %s", path);
    }
    if (tree_make_dir(root, path + 1, 0555, e) < 0)
        return -1;
    fd = tree_detach(AT_FDCWD, path, TREE_RO, true, e);
    return fd < 0 ? -1 : tree_attach(fd, root, path + 1, e);
}

static int add_file(int root, const char *source, const char *target, uint64_t attr, struct err *e)
{
    CLEANUP_CLOSE int fd = tree_detach(AT_FDCWD, source, attr, false, e);

    return fd < 0 || tree_make_file(root, target, e) < 0 ? -1 : tree_attach(fd, root, target, e);
}

static int add_devices(int root, struct err *e)
{
    char source[32];

    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        (void)io_format(source, sizeof(source), "/dev/%s", devices[i]);
        if (access(source, F_OK) == 0 &&
            add_file(root, source, source + 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e) < 0)
            return -1;
    }
    if (symlinkat("pts/ptmx", root, "dev/ptmx") < 0)
        return err_sys(e, errno, "cannot create /dev/ptmx");
    return tree_make_dir(root, "dev/pts", 0555, e);
}

/* A writable directory of the host, in which the owner's files are the sandbox's own. */
static int add_writable(int root, const char *source, const char *target, uint32_t uid, struct err *e)
{
    CLEANUP_CLOSE int fd = tree_detach(AT_FDCWD, source, TREE_RW, false, e);
    struct stat st;

    if (fd < 0 || tree_map_owner(fd, source, uid, bundle_root_id(uid), e) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "cannot examine %s", source);
    if (S_ISDIR(st.st_mode) ? tree_make_dir(root, target, 0555, e) : tree_make_file(root, target, e))
        return -1;
    return tree_attach(fd, root, target, e);
}

static bool is_below_tmp(const char *target)
{
    return !strncmp(target, "/tmp/", 5);
}

/*
 * A mount stands in the image's tree itself, so its target is found there and can lead nowhere else. What
 * must be a mount of the container as well (writable in a read-only root, or covered by its /tmp) is at
 * /bundle/m/N too.
 */
static int add_mount(const struct sandbox_mount *m, size_t i, int root, int rootfs, uint32_t uid,
                     struct err *e)
{
    CLEANUP_CLOSE int fd = -1;
    char name[32];

    (void)io_format(name, sizeof(name), "bundle/m/%zu", i);
    if (tree_is_reserved(m->target))
        return err_set(e, EINVAL, "mount target %s is the sandbox's own", m->target);
    if (m->writable) {
        if (add_writable(root, m->source, name, uid, e) < 0)
            return -1;
    } else if (is_below_tmp(m->target)) {
        struct stat st;
        fd = tree_detach(AT_FDCWD, m->source, TREE_RO, true, e);
        if (fd < 0 || fstat(fd, &st) < 0 ||
            (S_ISDIR(st.st_mode) ? tree_make_dir(root, name, 0555, e) : tree_make_file(root, name, e)) ||
            tree_attach(fd, root, name, e) < 0)
            return -1;
    }
    if (is_below_tmp(m->target))
        return 0;
    if (fd >= 0)
        (void)close(TAKE_FD(fd));
    fd = tree_detach(AT_FDCWD, m->source, TREE_RO, true, e);
    return fd < 0 ? -1 : tree_add_mount(m, rootfs, fd, e);
}

static int add_rootfs(const struct sandbox_spec *spec, int root, struct err *e)
{
    CLEANUP_CLOSE int image = -1;
    CLEANUP_CLOSE int rootfs = -1;

    char path[64];

    /* Without flags: they would be locked in the runtime's user namespace, and it has its own idea of them
     * when it makes the root read-only. Nothing can be made in it, and what is mounted below keeps its flags.
     */
    (void)io_format(path, sizeof(path), "%s/bundle/rootfs", STAGING);
    if (tree_make_dir(root, "bundle/rootfs", 0555, e) < 0 ||
        tree_mount_tmpfs(path, "mode=0555,size=1m", 0, e) < 0)
        return -1;
    rootfs = openat(root, "bundle/rootfs", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (rootfs < 0)
        return err_sys(e, errno, "cannot open the new root file system");
    if (bundle_make_own(rootfs, e) < 0)
        return -1;
    if (spec->rootfs) {
        image = open(spec->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (image < 0)
            return err_sys(e, errno, "cannot open the root file system %s", spec->rootfs);
        if (tree_add_image(image, rootfs, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < spec->nmounts; i++)
        if (add_mount(&spec->mounts[i], i, root, rootfs, spec->uid, e) < 0)
            return -1;
    return 0;
}

static int assemble(const struct gvisor_runtime *r, const struct sandbox_spec *spec, int root, struct err *e)
{
    static const char *const dirs[] = {"dev", "proc",  "sys",    "sys/fs",     "sys/fs/cgroup",
                                       "tmp", "state", "bundle", "bundle/run", "bundle/m"};
    uint32_t id = bundle_root_id(spec->uid);

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (tree_make_dir(root, dirs[i], 0555, e) < 0)
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(host_dirs); i++)
        if (add_host_dir(root, host_dirs[i], e) < 0)
            return -1;
    if (r->kind != RUNTIME_RUNSC) { /* others insist on knowing where cgroups are */
        CLEANUP_CLOSE int fd = tree_detach(AT_FDCWD, "/sys/fs/cgroup", TREE_RO, true, e);
        if (fd < 0 || tree_attach(fd, root, "sys/fs/cgroup", e) < 0)
            return -1;
    }
    if (add_file(root, r->path, "runtime", TREE_RO, e) < 0 ||
        add_file(root, spec->init, "bundle/run/init", TREE_RO, e) < 0 || add_devices(root, e) < 0 ||
        add_rootfs(spec, root, e) < 0 ||
        (spec->workspace && add_writable(root, spec->workspace, "bundle/workspace", spec->uid, e) < 0))
        return -1;
    /* The keeper will be that uid when it takes the control socket's name away. */
    if (fchownat(root, "bundle/run", id, id, 0) < 0 || fchmodat(root, "bundle/run", 0755, 0) < 0)
        return err_sys(e, errno, "cannot prepare the ports' directory");
    return 0;
}

static int enter(int root, struct err *e)
{
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", UMOUNT_DETACH) < 0 ||
        chdir("/") < 0)
        return err_sys(e, errno, "cannot enter the new root");
    return 0;
}

int gvisor_build_root(const struct gvisor_runtime *r, const struct sandbox_spec *spec, struct err *e)
{
    uint32_t id = bundle_root_id(spec->uid);
    CLEANUP_CLOSE int root = -1;
    char options[96];

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, errno, "cannot make the mounts private");
    if (tree_mount_tmpfs(STAGING, "mode=0755,size=16m", TREE_TMPFS, e) < 0)
        return -1;
    root = open(STAGING, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(e, errno, "cannot open the runtime's root");
    if (assemble(r, spec, root, e) < 0 || enter(root, e) < 0)
        return -1;
    /* crun runs on v1 or on v2 hosts, and takes one with both for neither. Our cgroups hold the sandbox
     * anyway. */
    (void)umount2("/sys/fs/cgroup/unified", UMOUNT_DETACH);
    (void)io_format(options, sizeof(options), "mode=0700,uid=%u,gid=%u", id, id);
    if (tree_mount_tmpfs("/state", options, TREE_TMPFS, e) < 0 ||
        tree_mount_tmpfs("/tmp", "mode=1777,size=16m", TREE_TMPFS, e) < 0)
        return -1;
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ||
        mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620") <
            0)
        return err_sys(e, errno, "cannot mount the runtime's /proc and /dev/pts");
    return 0;
}
