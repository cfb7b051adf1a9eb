/*
 * How a wall's child process is made, and what passes over the control socket between it and the host side.
 */
#include "walls/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/io.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41) /* ioctl_tty(2) */
#endif

void handover_send(int control, char kind, const char *text, const int *fds, int nfds)
{
    struct fdpass room;
    struct iovec iov[2] = {{.iov_base = &kind, .iov_len = 1},
                           {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    fdpass_attach(&msg, &room, fds, nfds);
    (void)sendmsg(control, &msg, MSG_NOSIGNAL);
}

/* Opens the sandbox's own pseudo-terminal: the master goes to the host, the workload gets the slave. */
int handover_terminal(int control, int *slave, struct err *e)
{
    CLEANUP_CLOSE int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct winsize size;
    int unlock = 0;

    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
        (*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return err_sys(e, errno, "cannot open a terminal");
    /* The caller's window size, while its terminal is still here: the workload must not find another first.
     */
    if (ioctl(0, TIOCGWINSZ, &size) == 0)
        (void)ioctl(master, TIOCSWINSZ, &size);
    handover_send(control, CONTROL_TERMINAL, "", &master, 1);
    return 0;
}

/* A directory handed in as a descriptor would be a way past pivot_root: openat(0, "..", ...) starts from it.
 * A disk is worse. */
int handover_check_stdio(const struct sandbox_spec *spec, struct err *e)
{
    static const char *const names[] = {"input", "output", "error"};
    struct stat st;

    for (int i = 0; i < 3; i++)
        if (!spec->terminal && spec->stdio[i] >= 0 && fstat(spec->stdio[i], &st) == 0 &&
            (S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)))
            return err_set(e, EINVAL, "standard %s is a %s: it cannot be handed into a sandbox", names[i],
                           S_ISDIR(st.st_mode) ? "directory" : "disk");
    return 0;
}

pid_t handover_clone(const struct cgroup *cgroup, uint64_t flags, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
    };

    if (cgroup->into >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint32_t)cgroup->into;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* One message of the child with its descriptors. Returns the count of bytes, 0 at end of file. */
static ssize_t receive(int fd, int flags, char *text, size_t cap, int *fds, int *nfds)
{
    struct iovec iov = {.iov_base = text, .iov_len = cap};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;
    ssize_t n;

    *nfds = 0;
    fdpass_expect(&msg, &room);
    do {
        n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
        /* Reset: it ended without having read what we told it; what it said before is still there. */
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n <= 0)
        return n;
    *nfds = fdpass_take(&msg, fds);
    return n;
}

/* False once the deadline has passed without a message or an end. */
static bool await_message(int fd, uint64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        uint64_t now = io_monotonic_ns();
        if (now >= deadline)
            return false;
        if (poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) > 0)
            return true;
    }
}

int handover_await(struct sandbox *s, int timeout_ms, struct err *e)
{
    uint64_t deadline = timeout_ms < 0 ? 0 : io_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    char text[ERR_TEXT_MAX];
    int fds[FDPASS_MAX], nfds;

    for (;;) {
        ssize_t n;
        if (deadline && !await_message(s->control, deadline))
            return err_set(e, ETIMEDOUT, "the sandbox did not stand within %d s", timeout_ms / 1000);
        n = receive(s->control, 0, text, sizeof(text) - 1, fds, &nfds);
        if (n <= 0 || text[0] == CONTROL_EXIT)
            return err_set(e, EIO, "the sandbox ended while it was being built (out of memory, or killed)");
        text[n] = 0;
        if (text[0] == CONTROL_READY && nfds <= 1) {
            s->listener = nfds == 1 ? fds[0] : -1;
            return 0;
        }
        if (text[0] == CONTROL_PORTS && nfds == SANDBOX_PORTS)
            memcpy(s->ports, fds, sizeof(s->ports));
        else if (text[0] == CONTROL_TERMINAL && nfds == 1)
            s->terminal = fds[0];
        else
            return err_set(e, EIO, "%s", text + 1);
    }
}

int handover_end_fd(const struct sandbox *s)
{
    return s->lease < 0 ? s->pidfd : s->control;
}

int handover_wait(struct sandbox *s, char *text, size_t cap)
{
    char message[ERR_TEXT_MAX];
    int fds[FDPASS_MAX], nfds, status = SIGKILL; /* of one that ended without a word */
    ssize_t n;

    text[0] = 0;
    if (s->lease < 0) {
        while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
            ;
        s->pid = 0;
    }
    /* Our own has ended: what it said is here. Of another's the last message is its status. */
    while ((n = receive(s->control, s->lease < 0 ? MSG_DONTWAIT : 0, message, sizeof(message) - 1, fds,
                        &nfds)) > 0) {
        message[n] = 0;
        while (nfds > 0)
            (void)close(fds[--nfds]);
        if (message[0] == CONTROL_ERROR)
            (void)io_format(text, cap, "%s", message + 1);
        if (message[0] == CONTROL_EXIT && n == 2 && s->lease >= 0) {
            s->pid = 0;
            return (unsigned char)message[1] << 8;
        }
    }
    return status;
}

/* Another process is the parent: it is enough that nothing runs any more. */
static void end_leased(struct sandbox *s)
{
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

    if (s->pid > 0 && handover_signal(s, SIGKILL) == 0)
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            ;
    s->pid = 0;
    s->cgroup = (struct cgroup)CGROUP_INIT;
}

int handover_signal(const struct sandbox *s, int sig)
{
    return s->pidfd >= 0 && syscall(SYS_pidfd_send_signal, s->pidfd, sig, NULL, 0) == 0 ? 0 : -errno;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void handover_destroy(struct sandbox *s, int *status)
{
    int st = 0;

    if (s->lease >= 0)
        end_leased(s);
    if (s->pid > 0) {
        /* Killing pid 1 of the namespace kills everything in it; waitpid returns once all of it is gone
         * (pid_namespaces(7)). */
        (void)kill(s->pid, SIGKILL);
        while (waitpid(s->pid, &st, 0) < 0 && errno == EINTR)
            ;
        s->pid = 0;
        if (status)
            *status = st;
    }
    close_fd(&s->pidfd);
    close_fd(&s->control);
    close_fd(&s->terminal);
    close_fd(&s->listener);
    close_fd(&s->lease);
    for (int i = 0; i < SANDBOX_PORTS; i++)
        close_fd(&s->ports[i]);
    cgroup_destroy(&s->cgroup);
}

void handover_stats(const struct sandbox *s, struct cgroup_stats *out)
{
    cgroup_read_stats(&s->cgroup, out);
}
