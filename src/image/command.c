/*
 * `ironclaw image`: the images of this host's state directory.
 */
#include "image/command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "image/image.h"
#include "walls/cell/cell.h"

static const char help[] =
    "usage: ironclaw image list [--json] | build base | import NAME DIR | rm NAME\n"
    "Images are root file systems below <state directory>/images. 'import' copies a directory tree.\n"
    "\n"
    "example: ironclaw image import debian /srv/debian-tree\n";

static int list(const char *images, bool json)
{
    DIR *dir = opendir(images);
    const struct dirent *d;
    const char *sep = "";

    if (json)
        (void)fputs("{\"images\":[", stdout);
    while (dir && (d = readdir(dir))) {
        char path[PATHS_MAX_LEN];
        if (!io_valid_name(d->d_name) || !io_format(path, sizeof(path), "%s/%s/rootfs", images, d->d_name) ||
            access(path, F_OK) < 0)
            continue;
        if (json)
            (void)printf("%s{\"name\":\"%s\"}", sep, d->d_name);
        else
            (void)printf("%s\n", d->d_name);
        sep = ",";
    }
    if (dir)
        (void)closedir(dir);
    if (json)
        (void)fputs("]}\n", stdout);
    return 0;
}

/* cp -a keeps links, modes and sparse files right; a directory copy of our own would be a worse one. */
static int copy_tree(const char *from, const char *to, struct err *e)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)execlp("cp", "cp", "-a", "--", from, to, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        return err_set(e, EIO, "copying %s into the image failed", from);
    return 0;
}

static int import(const char *images, const char *name, const char *source, struct err *e)
{
    char fresh[80], place[PATHS_MAX_LEN], from[PATHS_MAX_LEN];
    CLEANUP_CLOSE int dir = -1;
    struct stat st;
    int rc;

    if (!io_valid_name(name) || !strcmp(name, "base"))
        return err_set(
            e, EINVAL,
            "'%s' cannot be an image name (lower-case letters, digits, '-', '_', '.'; 'base' is built in)",
            name);
    if (stat(source, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(e, ENOTDIR, "%s is not a directory", source);
    if (io_mkdirs(AT_FDCWD, images, 0755, e) < 0)
        return -1;
    dir = open(images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(e, errno, "cannot open %s", images);
    if (faccessat(dir, name, F_OK, 0) == 0)
        return err_set(e, EEXIST, "there is an image '%s' already (ironclaw image rm %s)", name, name);
    if (!io_format(fresh, sizeof(fresh), ".%s.%d", name, (int)getpid()) ||
        !io_format(place, sizeof(place), "%s/%s/rootfs", images, fresh) ||
        !io_format(from, sizeof(from), "%s/.", source))
        return err_set(e, ENAMETOOLONG, "the image's path is too long");
    rc = mkdirat(dir, fresh, 0755) < 0 || mkdir(place, 0755) < 0
             ? err_sys(e, errno, "cannot create %s", place)
             : copy_tree(from, place, e);
    if (rc == 0 && renameat(dir, fresh, dir, name) < 0)
        rc = err_sys(e, errno, "cannot put the image %s in place", name);
    if (rc < 0)
        (void)io_remove_tree(dir, fresh, NULL);
    return rc;
}

/* What a cell is started from is made now, where it can be made, and not at the first start. */
static void prepare_for_cells(const char *state, const char *name)
{
    struct wall_config config = {.state_dir = state};
    char rootfs[PATHS_MAX_LEN];
    int fd;

    wall_configure(&config);
    if (!io_format(rootfs, sizeof(rootfs), "%s/images/%s/rootfs", state, name))
        return;
    fd = cell_image_open(rootfs, NULL);
    if (fd >= 0)
        (void)close(fd);
}

int image_main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    char state[PATHS_MAX_LEN], images[PATHS_MAX_LEN];
    int rc;

    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        (void)fputs(help, argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (paths_state_dir(state, sizeof(state), &e) < 0 ||
        !io_format(images, sizeof(images), "%s/images", state))
        rc = -1;
    else if (!strcmp(argv[1], "list") && (argc == 2 || (argc == 3 && !strcmp(argv[2], "--json"))))
        return list(images, argc == 3);
    else if (!strcmp(argv[1], "build") && argc == 3 && !strcmp(argv[2], "base"))
        rc = image_build_base(state, &e);
    else if (!strcmp(argv[1], "import") && argc == 4)
        rc = import(images, argv[2], argv[3], &e);
    else if (!strcmp(argv[1], "rm") && argc == 3)
        rc = image_remove(state, argv[2], &e);
    else {
        (void)fputs(help, stderr);
        return 2;
    }
    if (rc < 0)
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
    else if (strcmp(argv[1], "rm") != 0)
        prepare_for_cells(state, argv[2]);
    return rc < 0;
}
