#include "image/image.h"

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

static const char *find_busybox(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(busybox_places); i++)
        if (is_static(busybox_places[i]))
            return busybox_places[i];
    (void)err_set(e, ENOENT,
                  "the base image needs a static busybox (as root: apt-get install busybox-static)");
    return NULL;
}

/* What the image is made of: when this text changes, it is built anew. */
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

int image_build_base(const char *state_dir, struct err *e)
{
    char images[PATHS_MAX_LEN], agent[PATHS_MAX_LEN], stamp[STAMP_MAX], fresh[64], old[64];
    const char *busybox = find_busybox(e);
    CLEANUP_FREE char *have = NULL;
    CLEANUP_CLOSE int dir = -1;
    CLEANUP_CLOSE int root = -1; /* released last is the lock, with `dir` */
    mode_t mask;
    int rc;

    if (!busybox || paths_helper("ironclaw-agent", agent, sizeof(agent), e) < 0 ||
        make_stamp(stamp, sizeof(stamp), busybox, agent, e) < 0)
        return -1;
    if (!io_format(images, sizeof(images), "%s/images", state_dir))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    dir = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && io_read_file(dir, "base/manifest.json", STAMP_MAX, &have, NULL, NULL) == 0 &&
        !strcmp(have, stamp))
        return 0;
    if (dir < 0) {
        if (io_mkdirs(AT_FDCWD, state_dir, 0700, e) < 0 || io_mkdirs(AT_FDCWD, images, 0755, e) < 0)
            return -1;
        dir = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return err_sys(e, errno, "cannot open %s", images);
    }
    /* Two first runs at once: the second waits, then finds the image made. */
    if (flock(dir, LOCK_EX) < 0)
        return err_sys(e, errno, "cannot lock %s", images);
    free(TAKE_PTR(have));
    if (io_read_file(dir, "base/manifest.json", STAMP_MAX, &have, NULL, NULL) == 0 && !strcmp(have, stamp))
        return 0;
    (void)io_format(fresh, sizeof(fresh), ".base.%d", (int)getpid());
    (void)io_format(old, sizeof(old), ".old.%d", (int)getpid());
    mask = umask(022);
    rc = io_remove_tree(dir, fresh, e);
    if (rc == 0 && (mkdirat(dir, fresh, 0755) < 0 ||
                    (root = openat(dir, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0))
        rc = err_sys(e, errno, "cannot create %s/%s", images, fresh);
    if (rc == 0)
        rc = io_mkdirs(root, "rootfs", 0755, e);
    if (rc == 0) {
        CLEANUP_CLOSE int tree = openat(root, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = tree < 0 ? err_sys(e, errno, "cannot open the new image") : fill(tree, busybox, agent, e);
    }
    if (rc == 0)
        rc = io_replace_file(root, "manifest.json", stamp, strlen(stamp), 0644, e);
    (void)umask(mask);
    /* A running sandbox keeps the old tree: its mounts hold the inodes. */
    if (rc == 0 && renameat(dir, "base", dir, old) < 0 && errno != ENOENT)
        rc = err_sys(e, errno, "cannot replace the base image");
    if (rc == 0 && renameat(dir, fresh, dir, "base") < 0 && errno != ENOTEMPTY && errno != EEXIST)
        rc = err_sys(e, errno, "cannot put the base image in place");
    (void)io_remove_tree(dir, old, NULL);
    (void)io_remove_tree(dir, fresh, NULL);
    return rc < 0 ? err_wrap(e, "image base") : 0;
}

int image_path(const char *state_dir, const char *name, char *out, size_t cap, struct err *e)
{
    if (!io_valid_name(name))
        return err_set(e, EINVAL, "'%s' is not an image name", name);
    if (!strcmp(name, "base") && image_build_base(state_dir, e) < 0)
        return -1;
    if (!io_format(out, cap, "%s/images/%s/rootfs", state_dir, name))
        return err_set(e, ENAMETOOLONG, "the path of the image %s is too long", name);
    if (access(out, F_OK) < 0)
        return err_set(e, ENOENT, "there is no image '%s' (%s does not exist; see 'ironclaw image list')",
                       name, out);
    return 0;
}
