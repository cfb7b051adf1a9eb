#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

bool process_have(const char *program)
{
    const char *path = getenv("PATH");
    CLEANUP_FREE char *copy = x_strdup(path ? path : "/usr/bin:/bin");
    char *save = NULL, full[PATHS_MAX_LEN];

    for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save))
        if (io_format(full, sizeof(full), "%s/%s", dir, program) && access(full, X_OK) == 0)
            return true;
    return false;
}

/*
 * The child: own process group (so that a run that hangs can be killed whole), streams, exec. Its input is a
 * pipe that has ended, never /dev/null: some runtimes, started by root, give what stands on their streams to
 * the sandbox's uid, and that would be the host's device.
 */
static void child(char *const *argv, bool private_cgroups, int out, int error)
{
    int ends[2];

    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (private_cgroups) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            _exit(125);
        (void)umount2("/sys/fs/cgroup/unified", MNT_DETACH); /* not there on other hosts */
    }
    if (pipe2(ends, O_CLOEXEC) < 0 || dup2(ends[0], 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0)
        _exit(125);
    (void)close(ends[1]);
    (void)execvp(argv[0], argv);
    _exit(127);
}

/* fork: the buffers of this process are small, and the child has to unshare before it executes. */
static pid_t spawn(char *const *argv, bool private_cgroups, int out, int error)
{
    pid_t pid = fork();

    if (pid == 0)
        child(argv, private_cgroups, out, error);
    return pid;
}

/* Waits for `pid`; kills its group after the limit. */
static int wait_limited(pid_t pid, unsigned limit_s)
{
    CLEANUP_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int status = 0;

    if (poll(&p, 1, (int)limit_s * 1000) <= 0) {
        (void)kill(-pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        return -1;
    }
    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void read_back(int fd, char *text, size_t cap)
{
    ssize_t n = pread(fd, text, cap - 1, 0);

    text[n > 0 ? n : 0] = 0;
}

void process_run(char *const *argv, bool private_cgroups, unsigned limit_s, struct run *r)
{
    CLEANUP_CLOSE int out = memfd_create("bench-out", MFD_CLOEXEC);
    CLEANUP_CLOSE int error = memfd_create("bench-error", MFD_CLOEXEC);
    uint64_t begin = io_monotonic_ns();
    pid_t pid;

    memset(r, 0, sizeof(*r));
    pid = out < 0 || error < 0 ? -1 : spawn(argv, private_cgroups, out, error);
    r->status = pid < 0 ? -1 : wait_limited(pid, limit_s);
    r->ns = io_monotonic_ns() - begin;
    if (pid < 0)
        return;
    read_back(out, r->out, sizeof(r->out));
    read_back(error, r->error, sizeof(r->error));
    r->error[strcspn(r->error, "\n")] = 0;
    if (r->status == -1)
        (void)io_format(r->error, sizeof(r->error), "it did not end within %u s", limit_s);
}

pid_t process_start(char *const *argv, bool private_cgroups, int *out)
{
    CLEANUP_CLOSE int error = memfd_create("bench-error", MFD_CLOEXEC); /* not looked at */
    int ends[2];
    pid_t pid;

    if (error < 0 || pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pid = spawn(argv, private_cgroups, ends[1], error);
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return -1;
    }
    *out = ends[0];
    return pid;
}

bool process_expect_line(int fd, const char *line, unsigned limit_s)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t until = io_monotonic_ns() + (uint64_t)limit_s * 1000000000U;
    char text[256];
    size_t len = 0;

    while (len + 1 < sizeof(text)) {
        uint64_t now = io_monotonic_ns();
        if (now >= until || poll(&p, 1, (int)((until - now) / 1000000U) + 1) <= 0 ||
            read(fd, text + len, 1) != 1)
            return false;
        if (text[len] == '\n')
            break;
        len++;
    }
    text[len] = 0;
    return !strcmp(text, line);
}
