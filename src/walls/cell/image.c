/*
 * A root file system as one EROFS file. mkfs.erofs(1) writes it, uncompressed, so that programs are mapped
 * straight from it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "walls/cell/cell.h"

static const char *const makers[] = {"/usr/bin/mkfs.erofs", "/sbin/mkfs.erofs", "/usr/sbin/mkfs.erofs",
                                     "/usr/local/bin/mkfs.erofs"};

static const char *find_maker(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(makers); i++)
        if (access(makers[i], X_OK) == 0)
            return makers[i];
    (void)err_set(e, ENOENT,
                  "the cell wall needs mkfs.erofs to make the image (as root: apt-get install erofs-utils)");
    return NULL;
}

/* Runs mkfs.erofs on `directory`; the image goes to `file`. */
static int make(const char *file, const char *directory, struct err *e)
{
    const char *maker = find_maker(e);
    int status = -1;
    pid_t pid;

    if (!maker)
        return -1;
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            (void)dup2(null, 1);
            (void)dup2(null, 2);
        }
        (void)execl(maker, "mkfs.erofs", "-x-1", "-T0", "--quiet", file, directory, (char *)NULL);
        _exit(127);
    }
    if (pid < 0)
        return err_sys(e, errno, "cannot start mkfs.erofs");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0 ? 0 : err_set(e, EIO, "mkfs.erofs could not make an image of %s", directory);
}

/* A directory of the user's may change at any time: the image is made for this start alone. */
static int make_anonymous(const char *rootfs, struct err *e)
{
    CLEANUP_CLOSE int memory =
        memfd_create("ironclaw-image", 0); /* not close-on-exec: mkfs.erofs opens it again */
    char path[64];
    int fd;

    if (memory < 0)
        return err_sys(e, errno, "cannot create memory for the image");
    (void)io_format(path, sizeof(path), "/proc/self/fd/%d", memory);
    if (make(path, rootfs, e) < 0)
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "cannot open the new image") : fd;
}

int cell_image_open(const char *rootfs, struct err *e)
{
    char directory[PATHS_MAX_LEN], image[PATHS_MAX_LEN], fresh[PATHS_MAX_LEN];
    size_t n = strlen(rootfs);
    int fd;

    if (n < 8 || strcmp(rootfs + n - 7, "/rootfs") != 0 ||
        !io_format(directory, sizeof(directory), "%.*s", (int)(n - 7), rootfs) ||
        !io_format(image, sizeof(image), "%s/manifest.json", directory) || access(image, F_OK) < 0)
        return make_anonymous(rootfs, e);
    if (!io_format(image, sizeof(image), "%s/image.erofs", directory) ||
        !io_format(fresh, sizeof(fresh), "%s/.image.%d", directory, (int)getpid()))
        return err_set(e, ENAMETOOLONG, "the path of the image is too long");
    fd = open(image, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    /* Trees of images do not change, so two who make it at once make the same. */
    if (make(fresh, rootfs, e) < 0 || chmod(fresh, 0644) < 0 || rename(fresh, image) < 0) {
        (void)unlink(fresh);
        return e->code ? -1 : err_sys(e, errno, "cannot write %s", image);
    }
    fd = open(image, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "cannot open %s", image) : fd;
}
