/*
 * A root file system as one EROFS file. mkfs.erofs(1) writes it, uncompressed, so that programs are mapped
 * straight from it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
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

const char *cell_image_maker(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(makers); i++)
        if (access(makers[i], X_OK) == 0)
            return makers[i];
    (void)err_set(e, ENOENT,
                  "the cell wall needs mkfs.erofs to make the image (as root: apt-get install erofs-utils)");
    return NULL;
}

/* Runs mkfs.erofs on `directory`; the image goes to `file`. Returns the wait status, or -1. */
static int run_maker(const char *maker, const char *file, const char *directory, bool aligned)
{
    /* No attributes beyond modes; times as they are: a program may compare them (bytecode with its source).
     */
    const char *argv[] = {"mkfs.erofs", "-x-1", "--preserve-mtime", "--quiet", NULL, NULL, NULL, NULL};
    int status = -1, n = 4;
    pid_t pid = fork();

    if (aligned) /* no file's end shares a block with its inode: every page can be mapped */
        argv[n++] = "-Enoinline_data";
    argv[n++] = file;
    argv[n] = directory;
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) {
            (void)dup2(null, 1);
            (void)dup2(null, 2);
        }
        (void)execv(maker, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int make(const char *file, const char *directory, struct err *e)
{
    const char *maker = cell_image_maker(e);

    if (!maker)
        return -1;
    /* Old versions know no such alignment; the cell copies such ends. */
    if (run_maker(maker, file, directory, true) == 0 || run_maker(maker, file, directory, false) == 0)
        return 0;
    return err_set(e, EIO, "mkfs.erofs could not make an image of %s", directory);
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

/* Is this <state>/images/NAME/rootfs? Then *directory is <state>/images/NAME. */
static bool is_image(const char *rootfs, char *directory, size_t cap)
{
    const char *state = wall_config()->state_dir;
    size_t n = strlen(rootfs), length = state ? strlen(state) : 0;

    return length > 0 && n > length + 15 && strncmp(rootfs, state, length) == 0 &&
           strncmp(rootfs + length, "/images/", 8) == 0 && strcmp(rootfs + n - 7, "/rootfs") == 0 &&
           io_format(directory, cap, "%.*s", (int)(n - 7), rootfs);
}

int cell_image_open(const char *rootfs, struct err *e)
{
    char directory[PATHS_MAX_LEN], image[PATHS_MAX_LEN], fresh[PATHS_MAX_LEN];
    int fd;

    if (!is_image(rootfs, directory, sizeof(directory)))
        return make_anonymous(rootfs, e);
    if (!io_format(image, sizeof(image), "%s/image.erofs", directory) ||
        !io_format(fresh, sizeof(fresh), "%s/.image.%d", directory, (int)getpid()))
        return err_set(e, ENAMETOOLONG, "the path of the image is too long");
    fd = open(image, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    /* Trees of images do not change, so two who make it at once make the same. */
    if (make(fresh, rootfs, e) < 0 || chmod(fresh, 0644) < 0 || rename(fresh, image) < 0) {
        int code = errno;
        (void)unlink(fresh);
        return e && e->code ? -1 : err_sys(e, code, "cannot write %s", image);
    }
    fd = open(image, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "cannot open %s", image) : fd;
}
