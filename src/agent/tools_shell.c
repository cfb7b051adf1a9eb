/*
 * tools_shell.c - one command line by /bin/sh, in a process group of its own, which ends with it: what the
 * command left running in the background is killed, and so is everything when the time is up.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/tools.h"
#include "base/cleanup.h"
#include "base/io.h"

enum { POLL_MS = 200 };

static pid_t start(const char *command, int out)
{
    pid_t pid = fork();

    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        (void)setpgid(0, 0);
        if (null >= 0)
            (void)dup2(null, STDIN_FILENO);
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
        (void)close_range(3, ~0U, 0);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        (void)setpgid(pid, pid);
    return pid;
}

struct output {
    char *buf;
    size_t len;   /* kept */
    size_t total; /* seen */
};

/* Reads what is there. Returns false at end of file. */
static bool drain(int fd, struct output *o)
{
    char part[8192];
    ssize_t n = read(fd, part, sizeof(part));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    if (o->len < TOOL_OUTPUT_MAX) {
        size_t keep = (size_t)n < TOOL_OUTPUT_MAX - o->len ? (size_t)n : TOOL_OUTPUT_MAX - o->len;
        memcpy(o->buf + o->len, part, keep);
        o->len += keep;
    }
    o->total += (size_t)n;
    return true;
}

/* Waits for the command's end; returns false when it had to be killed for its time. */
static bool supervise(pid_t pid, int fd, struct output *o, uint64_t deadline, int *status)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bool open = true, in_time = true;

    while (waitpid(pid, status, WNOHANG) == 0) {
        if (io_monotonic_ns() >= deadline || agent_stopping) {
            in_time = false;
            (void)kill(-pid, SIGKILL);
            (void)waitpid(pid, status, 0);
            break;
        }
        if (!open)
            (void)poll(NULL, 0, POLL_MS / 10);
        else if (poll(&p, 1, POLL_MS) > 0)
            open = drain(fd, o);
    }
    (void)kill(-pid, SIGKILL); /* whatever it left in the background */
    while (open && poll(&p, 1, 0) > 0)
        open = drain(fd, o);
    return in_time;
}

static void run_shell(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *command = tool_string(input, "command", r);
    json_int_t seconds = json_integer_value(json_object_get(input, "timeout_s"));
    struct output o = {.buf = NULL};
    CLEANUP_FREE char *clean = NULL, *cut = NULL;
    char tail[160];
    int fds[2], status = 0;
    bool in_time;
    pid_t pid;

    (void)q;
    if (!command)
        return;
    if (seconds <= 0)
        seconds = SHELL_TIMEOUT_S;
    if (seconds > SHELL_TIMEOUT_MAX_S)
        seconds = SHELL_TIMEOUT_MAX_S;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        tool_fail(r, "cannot run a command: %s", strerror(errno));
        return;
    }
    (void)fcntl(fds[1], F_SETFL, 0); /* the command's output blocks, only our reading does not */
    pid = start(command, fds[1]);
    (void)close(fds[1]);
    if (pid < 0) {
        tool_fail(r, "cannot run a command: %s", strerror(errno));
        (void)close(fds[0]);
        return;
    }
    o.buf = x_malloc(TOOL_OUTPUT_MAX);
    in_time = supervise(pid, fds[0], &o, io_monotonic_ns() + (uint64_t)seconds * 1000000000ULL, &status);
    (void)close(fds[0]);
    clean = text_clean(o.buf, o.len, TOOL_OUTPUT_MAX);
    free(o.buf);
    if (o.total > o.len)
        cut = x_asprintf("\n[output cut here: %zu of %zu bytes shown]", o.len, o.total);
    if (!in_time)
        (void)io_format(tail, sizeof(tail), "\n[killed after %lld s]", (long long)seconds);
    else if (WIFSIGNALED(status))
        (void)io_format(tail, sizeof(tail), "\n[ended by signal %d]", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        (void)io_format(tail, sizeof(tail), "\n[exit status %d]", WEXITSTATUS(status));
    else
        tail[0] = 0;
    r->text = x_asprintf("%s%s%s", *clean || *tail ? clean : "(no output)", cut ? cut : "", tail);
    r->is_error = !in_time || status != 0;
}

const struct tool tools_shell[] = {
    {"shell",
     "Runs a command line with /bin/sh in /workspace and returns its output (stdout and stderr together).",
     "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\"},"
     "\"timeout_s\":{\"type\":\"integer\",\"description\":\"seconds, default 60, at most 600\"}},"
     "\"required\":[\"command\"]}",
     run_shell},
};
const size_t tools_shell_n = ARRAY_LEN(tools_shell);
