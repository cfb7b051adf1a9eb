#include "image/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"

enum { STAMP_MAX = 2048 };

static const char *const busybox_places[] = {"/bin/busybox", "/usr/bin/busybox", "/sbin/busybox",
                                             "/usr/local/bin/busybox"};

/* True for an ELF program without an interpreter: it runs in a root that has no libraries. */
static bool is_static(const char *path)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char h[64], ph[56];
    size_t phoff, phnum, phsize;

    if (fd < 0 || io_read_full(fd, h, sizeof(h)) != sizeof(h) || memcmp(h, "\177ELF\2", 5) != 0)
        return false;
    phoff = h[32] | (size_t)h[33] << 8 | (size_t)h[34] << 16;
    phsize = h[54] | (size_t)h[55] << 8;
    phnum = h[56] | (size_t)h[57] << 8;
    for (size_t i = 0; i < phnum; i++) {
        if (pread(fd, ph, sizeof(ph), (off_t)(phoff + i * phsize)) != sizeof(ph))
            return false;
        if (ph[0] == 3 && !ph[1]) /* PT_INTERP */
            return false;
    }
    return true;
}

const char *image_find_busybox(const char *const *places, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (is_static(places[i]))
            return places[i];
    (void)err_set(e, ENOENT,
                  "the base image needs a static busybox (as root: apt-get install busybox-static)");
    return NULL;
}

/* What "base" is made of. */
struct ingredients {
    const char *busybox;
    char agent[PATHS_MAX_LEN];
    char stamp[STAMP_MAX]; /* the manifest: when this text changes, the image is built anew */
};

static int make_stamp(char *out, size_t cap, const char *busybox, const char *agent, struct err *e)
{
    struct stat b, a;

    if (stat(busybox, &b) < 0 || stat(agent, &a) < 0)
        return err_sys(e, errno, "cannot examine %s and %s", busybox, agent);
    if (!io_format(out, cap,
                   "{\"name\":\"base\",\"version\":1,\"busybox\":{\"size\":%lld,\"mtime\":%lld},\"agent\":{"
                   "\"size\":%lld,\"mtime\":%lld,\"mtime_ns\":%ld}}\n",
                   (long long)b.st_size, (long long)b.st_mtime, (long long)a.st_size, (long long)a.st_mtime,
                   a.st_mtim.tv_nsec))
        return err_set(e, ENAMETOOLONG, "the image manifest is too long");
    return 0;
}

static int copy_file(const char *from, int dir, const char *to, mode_t mode, struct err *e)
{
    CLEANUP_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP_CLOSE int out = openat(dir, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    ssize_t n;

    if (in < 0 || out < 0)
        return err_sys(e, errno, "cannot copy %s into the image", from);
    do {
        n = sendfile(out, in, NULL, 1 << 20);
    } while (n > 0);
    if (n < 0 || fchmod(out, mode) < 0)
        return err_sys(e, errno, "cannot copy %s into the image", from);
    return 0;
}

static int write_file(int dir, const char *path, const char *text, struct err *e)
{
    CLEANUP_CLOSE int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0 || io_write_all(fd, text, strlen(text)) < 0 || fchmod(fd, 0644) < 0)
        return err_sys(e, errno, "cannot write %s in the image", path);
    return 0;
}

/* One link per applet, as `busybox --list-full` names them ("bin/ls"). */
static int link_applets(const char *busybox, int root, struct err *e)
{
    CLEANUP_FREE char *list = NULL;
    char *save = NULL;
    int out[2], status;
    pid_t pid;

    if (pipe2(out, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot create a pipe");
    pid = fork();
    if (pid == 0) {
        (void)dup2(out[1], 1);
        (void)execl(busybox, "busybox", "--list", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    if (pid < 0 || io_read_fd(out[0], "the list of busybox applets", 1 << 16, &list, NULL, e) < 0) {
        (void)close(out[0]);
        return pid < 0 ? err_sys(e, errno, "cannot start busybox") : -1;
    }
    (void)close(out[0]);
    if (waitpid(pid, &status, 0) < 0 || status != 0)
        return err_set(e, EIO, "%s --list failed", busybox);
    for (char *name = strtok_r(list, "\n", &save); name; name = strtok_r(NULL, "\n", &save)) {
        char path[128];
        if (strchr(name, '/') || !strcmp(name, "busybox") ||
            !io_format(path, sizeof(path), "usr/bin/%s", name))
            continue;
        if (symlinkat("busybox", root, path) < 0 && errno != EEXIST)
            return err_sys(e, errno, "cannot create %s in the image", path);
    }
    return 0;
}

static int fill(int root, const char *busybox, const char *agent, struct err *e)
{
    static const char *const dirs[] = {"usr/bin", "usr/lib", "etc",  "home", "root", "var/tmp",
                                       "opt",     "dev",     "proc", "run",  "tmp",  "workspace"};
    static const struct {
        const char *target, *name;
    } links[] = {{"usr/bin", "bin"}, {"usr/bin", "sbin"}, {"usr/lib", "lib"}, {"bin", "usr/sbin"}};

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (io_mkdirs(root, dirs[i], 0755, e) < 0)
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlinkat(links[i].target, root, links[i].name) < 0)
            return err_sys(e, errno, "cannot create the link %s in the image", links[i].name);
    if (copy_file(busybox, root, "usr/bin/busybox", 0755, e) < 0 ||
        copy_file(agent, root, "usr/bin/ironclaw-agent", 0755, e) < 0 || link_applets(busybox, root, e) < 0)
        return -1;
    if (write_file(root, "etc/passwd",
                   "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/workspace:/bin/"
                   "sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
                   e) < 0 ||
        write_file(root, "etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n", e) < 0 ||
        write_file(root, "etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n", e) < 0 ||
        write_file(root, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n", e) < 0)
        return -1;
    return 0;
}

static int find_ingredients(struct ingredients *in, struct err *e)
{
    in->busybox = image_find_busybox(busybox_places, ARRAY_LEN(busybox_places), e);
    if (!in->busybox || paths_helper("ironclaw-agent", in->agent, sizeof(in->agent), e) < 0)
        return -1;
    return make_stamp(in->stamp, sizeof(in->stamp), in->busybox, in->agent, e);
}

static bool is_current(int dir, const char *manifest, const struct ingredients *in)
{
    CLEANUP_FREE char *have = NULL;

    return io_read_file(dir, manifest, STAMP_MAX, &have, NULL, NULL) == 0 && !strcmp(have, in->stamp);
}

/* <state>/images, made if missing. */
static int open_images(const char *state_dir, struct err *e)
{
    char images[PATHS_MAX_LEN];
    int dir;

    if (!io_format(images, sizeof(images), "%s/images", state_dir))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    dir = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 && errno == ENOENT) {
        if (io_mkdirs(AT_FDCWD, state_dir, 0700, e) < 0 || io_mkdirs(AT_FDCWD, images, 0755, e) < 0)
            return -1;
        dir = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return dir < 0 ? err_sys(e, errno, "cannot open %s", images) : dir;
}

/* Gives `name` another name that no sandbox starts from: ".old." and whatever is free. Who holds it, holds it
 * on. */
static int set_aside(int dir, const char *name, char *out, size_t cap, struct err *e)
{
    for (int i = 0; i < 1000; i++) {
        if (!io_format(out, cap, ".old.%d.%d", (int)getpid(), i))
            break;
        if (renameat(dir, name, dir, out) == 0)
            return 0;
        if (errno != EEXIST && errno != ENOTEMPTY)
            return err_sys(e, errno, "cannot set the image %s aside", name);
    }
    return err_set(e, EBUSY, "cannot set the image %s aside: too many replaced ones are still in use", name);
}

/* Removes what was set aside and is held by nobody any more: a sandbox that still ran on it has ended. */
static void sweep_old(int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    const struct dirent *d;

    if (!list && again >= 0)
        (void)close(again);
    while (list && (d = readdir(list))) {
        CLEANUP_CLOSE int tree = -1;
        if (strncmp(d->d_name, ".old.", 5) != 0)
            continue;
        tree = openat(dir, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (tree >= 0 && flock(tree, LOCK_EX | LOCK_NB) == 0)
            (void)io_remove_tree(dir, d->d_name, NULL);
    }
    if (list)
        (void)closedir(list);
}

/* Makes the tree as `fresh`, beside its place. */
static int make_base(int dir, const char *fresh, const struct ingredients *in, struct err *e)
{
    CLEANUP_CLOSE int image = -1;
    CLEANUP_CLOSE int tree = -1;

    if (io_remove_tree(dir, fresh, e) < 0)
        return -1;
    if (mkdirat(dir, fresh, 0755) < 0 || (image = openat(dir, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_sys(e, errno, "cannot create %s", fresh);
    if (io_mkdirs(image, "rootfs", 0755, e) < 0)
        return -1;
    tree = openat(image, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree < 0)
        return err_sys(e, errno, "cannot open the new image");
    if (fill(tree, in->busybox, in->agent, e) < 0)
        return -1;
    return io_replace_file(image, "manifest.json", in->stamp, strlen(in->stamp), 0644, e);
}

/* Builds under the lock of all images. Two first runs at once: the second waits, then finds the image made.
 */
static int build_base(const char *state_dir, const struct ingredients *in, struct err *e)
{
    CLEANUP_CLOSE int dir = open_images(state_dir, e); /* and with it, the lock */
    char fresh[64], old[64];
    mode_t mask;
    int rc;

    if (dir < 0)
        return -1;
    if (flock(dir, LOCK_EX) < 0)
        return err_sys(e, errno, "cannot lock %s/images", state_dir);
    if (!is_current(dir, "base/manifest.json", in)) {
        (void)io_format(fresh, sizeof(fresh), ".base.%d", (int)getpid());
        mask = umask(022);
        rc = make_base(dir, fresh, in, e);
        (void)umask(mask);
        if (rc == 0 && faccessat(dir, "base", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            rc = set_aside(dir, "base", old, sizeof(old), e);
        if (rc == 0 && renameat(dir, fresh, dir, "base") < 0)
            rc = err_sys(e, errno, "cannot put the base image in place");
        if (rc < 0) {
            (void)io_remove_tree(dir, fresh, NULL);
            return err_wrap(e, "image base");
        }
    }
    sweep_old(dir);
    return 0;
}

int image_build_base(const char *state_dir, struct err *e)
{
    struct ingredients in;

    return find_ingredients(&in, e) < 0 ? -1 : build_base(state_dir, &in, e);
}

int image_remove(const char *state_dir, const char *name, struct err *e)
{
    CLEANUP_CLOSE int dir = open_images(state_dir, e);
    CLEANUP_CLOSE int tree = -1;
    char old[64];

    if (dir < 0)
        return -1;
    if (!io_valid_name(name) || (tree = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_set(e, ENOENT, "there is no image '%s'", name);
    if (flock(dir, LOCK_EX) < 0)
        return err_sys(e, errno, "cannot lock %s/images", state_dir);
    if (flock(tree, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(e, EBUSY, "the image '%s' is in use: a sandbox runs on it (stop it first)", name)
                   : err_sys(e, errno, "cannot lock the image %s", name);
    /* Whoever opened it before the rename waits for our lock, and then finds it empty. */
    if (set_aside(dir, name, old, sizeof(old), e) < 0 || io_remove_tree(dir, old, e) < 0)
        return -1;
    sweep_old(dir);
    return 0;
}

/* The image's directory under a shared lock, or -1 if there is none. */
static int hold_image(const char *state_dir, const char *name)
{
    char path[PATHS_MAX_LEN];
    CLEANUP_CLOSE int fd = -1;

    if (!io_format(path, sizeof(path), "%s/images/%s", state_dir, name))
        return -1;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || flock(fd, LOCK_SH) < 0 ? -1 : TAKE_FD(fd);
}

/* Held first, examined then: what is current under our lock stays whole for as long as we hold it. */
static int hold_base(const char *state_dir, struct err *e)
{
    struct ingredients in;

    if (find_ingredients(&in, e) < 0)
        return -1;
    for (int tries = 0; tries < 10; tries++) {
        int fd = hold_image(state_dir, "base");
        if (fd >= 0 && is_current(fd, "manifest.json", &in))
            return fd;
        if (fd >= 0)
            (void)close(fd); /* or our own hold would keep the outdated tree */
        if (build_base(state_dir, &in, e) < 0)
            return -1;
    }
    return err_set(e, EBUSY, "the base image is being replaced again and again by another version");
}

int image_path(const char *state_dir, const char *name, char *out, size_t cap, int *hold, struct err *e)
{
    CLEANUP_CLOSE int fd = -1;

    *hold = -1;
    if (!io_valid_name(name))
        return err_set(e, EINVAL, "'%s' is not an image name", name);
    fd = !strcmp(name, "base") ? hold_base(state_dir, e) : hold_image(state_dir, name);
    if (fd < 0 && !strcmp(name, "base"))
        return -1;
    /* Not through the descriptor: it was opened in our mount namespace, and the sandbox takes its mounts from
     * a copy of that. */
    if (!io_format(out, cap, "%s/images/%s/rootfs", state_dir, name))
        return err_set(e, ENAMETOOLONG, "the path of the image %s is too long", name);
    if (fd < 0 || faccessat(fd, "rootfs", F_OK, 0) < 0)
        return err_set(
            e, ENOENT,
            "there is no image '%s' (%s/images/%s/rootfs does not exist; see 'ironclaw image list')", name,
            state_dir, name);
    *hold = TAKE_FD(fd);
    return 0;
}
