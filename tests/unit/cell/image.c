/*
 * The host's part of the tests: files of its own, mkfs.erofs, mappings at fixed addresses.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cell/abi/layout.h"
#include "hosted.h"

extern char **environ;

static void run(const char *program, char *const argv[])
{
    posix_spawn_file_actions_t actions;
    int status, rc;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    rc = posix_spawnp(&pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        errno = rc, err(1, "cannot run %s", program);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        errx(1, "%s failed", program);
}

static void join(char *out, const char *dir, const char *name)
{
    if ((unsigned)snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        errx(1, "%s/%s is too long", dir, name);
}

void image_dir(const char *dir, const char *name, unsigned mode)
{
    char path[PATH_MAX];

    join(path, dir, name);
    if (mkdir(path, 0700) < 0 || chmod(path, mode) < 0)
        err(1, "cannot make %s", path);
}

void image_file(const char *dir, const char *name, const void *data, size_t n, unsigned mode)
{
    char path[PATH_MAX];
    int fd;

    join(path, dir, name);
    fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n || fchmod(fd, mode) < 0)
        err(1, "cannot write %s", path);
    close(fd);
}

void image_link(const char *dir, const char *name, const char *target)
{
    char path[PATH_MAX];

    join(path, dir, name);
    if (symlink(target, path) < 0)
        err(1, "cannot make the link %s", path);
}

static void map_at(int fd, uint64_t address, uint64_t size, int prot, int flags)
{
    void *at = (void *)(uintptr_t)address;

    if (mmap(at, size, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) != at)
        err(1, "cannot map %#lx", (unsigned long)address);
}

uint64_t image_make(void (*build)(const char *dir))
{
    char dir[] = "/tmp/cell-image-XXXXXX", tree[PATH_MAX], image[PATH_MAX];
    struct stat st;
    int fd;

    if (!mkdtemp(dir))
        err(1, "cannot make a temporary directory");
    join(tree, dir, "tree");
    join(image, dir, "image");
    if (mkdir(tree, 0755) < 0)
        err(1, "cannot make %s", tree);
    build(tree);
    run("mkfs.erofs", (char *[]){"mkfs.erofs", "--quiet", "--all-root", "-T1700000000", image, tree, NULL});
    fd = open(image, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || dup2(fd, CELL_FD_IMAGE) < 0)
        err(1, "cannot open the image");
    run("rm", (char *[]){"rm", "-rf", dir, NULL});
    map_at(CELL_FD_IMAGE, CELL_IMAGE, (uint64_t)st.st_size, PROT_READ, MAP_PRIVATE);
    return (uint64_t)st.st_size;
}

void memory_make(uint64_t size)
{
    int fd = memfd_create("cell", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || dup2(fd, CELL_FD_MEMORY) < 0)
        err(1, "cannot make the memory file");
    map_at(CELL_FD_MEMORY, CELL_MEMORY, size, PROT_READ | PROT_WRITE, MAP_SHARED);
    ((struct cell_header *)(uintptr_t)CELL_MEMORY)->memory_size = size;
}

void image_nothing(const char *dir)
{
    (void)dir;
}

static char directory[] = "/dev/shm/cell-test-XXXXXX";

static void remove_directory(void)
{
    if (chdir("/") == 0) {
        run("chmod", (char *[]){"chmod", "-R", "u+rwx", directory, NULL});
        run("rm", (char *[]){"rm", "-rf", directory, NULL});
    }
}

const char *hosted_directory(void)
{
    if (getuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 || setresuid(1000, 1000, 1000) < 0))
        err(1, "cannot become an ordinary user");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(022);
    if (!mkdtemp(directory))
        err(1, "cannot make %s", directory);
    (void)atexit(remove_directory);
    return directory;
}

void hosted_environment(uint64_t *seed, uint32_t *steps)
{
    const char *s = getenv("SEED"), *n = getenv("STEPS");

    if (s)
        *seed = strtoull(s, NULL, 0) | 1;
    if (n)
        *steps = (uint32_t)strtoul(n, NULL, 0);
}
