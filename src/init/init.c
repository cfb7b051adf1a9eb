/*
 * ironclaw-init: pid 1 of a sandbox. Static, small, without secrets: it is executed only after the sandbox
 * was built, so nothing of the host's memory is left in it. It restricts itself (and so the workload) with
 * Landlock and the system call filter, starts the workload in a session of its own, reaps whatever is
 * orphaned, forwards signals, and ends with the workload's status; its end takes everything else in the pid
 * namespace with it.
 *
 *     ironclaw-init LETTERS N PATH*N COMMAND [ARGUMENT]...       descriptor 3: control socket to the host
 *
 * 't': descriptor 0 is the slave of the sandbox's own terminal and becomes the controlling one. 'o': system
 * calls that the filter refuses are reported to the host. The N paths are mounts the workload may write to,
 * besides its own places.
 *
 * 'r': this is pid 1 of an OCI container. It has no descriptor 3; 'c': it connects to a control socket among
 * the ports. 'p': it serves the ports on TCP. `ironclaw-init self-test` does nothing, successfully.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/landlock.h"
#include "base/weaken.h"
#include "init/tcp_ports.h"
#include "walls/container/seccomp.h"
#include "walls/handover.h"

enum { CONTROL_FD = 3 };

static bool has_control = true;

static void report(char kind, const char *text)
{
    char message[ERR_TEXT_MAX + 1];
    size_t len = strnlen(text, ERR_TEXT_MAX - 1);

    if (!has_control) {
        if (kind == CONTROL_ERROR)
            (void)dprintf(2, "ironclaw: %s\n", text);
        return;
    }
    message[0] = kind;
    memcpy(message + 1, text, len);
    (void)send(CONTROL_FD, message, len + 1, MSG_NOSIGNAL);
}

/* Tells the host that all walls stand and hands it the listener, if there is one: no copy stays in here. */
static void report_ready(int listener)
{
    char kind = CONTROL_READY;
    struct iovec iov = {.iov_base = &kind, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;

    fdpass_attach(&msg, &room, &listener, listener >= 0 ? 1 : 0);
    (void)sendmsg(CONTROL_FD, &msg, MSG_NOSIGNAL);
    if (listener >= 0)
        (void)close(listener);
}

/* The program may use all the wall offers; Landlock repeats the file rules independently of mounts and keeps
 * signals and abstract sockets inside. A kernel without Landlock has the other walls (named by `ironclaw
 * doctor`). */
static int restrict_self(char *const *writable, size_t nwritable, struct err *e)
{
    static const struct {
        const char *path;
        enum landlock_mode mode;
    } places[] = {{"/", LANDLOCK_READ},
                  {"/workspace", LANDLOCK_WRITE},
                  {"/tmp", LANDLOCK_WRITE},
                  {"/dev", LANDLOCK_WRITE},
                  {"/proc", LANDLOCK_WRITE}};
    struct landlock_path rules[ARRAY_LEN(places) + SANDBOX_MOUNTS_MAX];
    size_t n = ARRAY_LEN(places) + nwritable;
    int rc;

    for (size_t i = 0; i < n; i++) {
        bool own = i < ARRAY_LEN(places);
        const char *path = own ? places[i].path : writable[i - ARRAY_LEN(places)];
        rules[i].fd = open(path, O_PATH | O_CLOEXEC);
        rules[i].mode = own ? places[i].mode : LANDLOCK_WRITE;
        if (rules[i].fd < 0)
            return err_sys(e, errno, "cannot open %s", path);
    }
    rc = landlock_restrict(rules, n, false, true, e);
    for (size_t i = 0; i < n; i++)
        (void)close(rules[i].fd);
    return rc < 0 ? -1 : 0;
}

/* Under an OCI runtime pid 1 leads the session and has its terminal already: the workload is a process group
 * in front of it. */
static bool take_terminal(bool oci)
{
    if (!oci)
        return ioctl(0, TIOCSCTTY, 0) == 0;
    return setpgid(0, 0) == 0 && tcsetpgrp(0, getpid()) == 0;
}

static void workload(bool terminal, bool oci, char **argv)
{
    char text[ERR_TEXT_MAX];
    sigset_t none;
    int code;

    if (!terminal || !oci)
        (void)setsid();
    if (terminal && !take_terminal(oci)) { /* while SIGTTOU is still blocked */
        report(CONTROL_ERROR, "cannot make the terminal the controlling one");
        _exit(126);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execvp(argv[0], argv);
    code = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
    (void)snprintf(text, sizeof(text), "cannot execute %.512s in the sandbox: %s", argv[0], strerror(errno));
    report(CONTROL_ERROR, text);
    _exit(code);
}

/* Reaps everything that ended. Returns true once the workload is among it. */
static bool reap(pid_t main_pid, int *status)
{
    bool ended = false;
    pid_t pid;
    int st;

    while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
        if (pid != main_pid)
            continue;
        *status = st;
        ended = true;
    }
    return ended;
}

/* The keeper of an OCI container passes the host's signals on by message. */
static void take_order(pid_t main_pid)
{
    char message[2];

    if (recv(CONTROL_FD, message, sizeof(message), MSG_DONTWAIT) == 2 && message[0] == CONTROL_SIGNAL &&
        message[1] > 0 && message[1] < NSIG)
        (void)kill(-main_pid, message[1]);
}

static int supervise(pid_t main_pid, int signals, const char *letters)
{
    enum { SIGNALS, CONTROL, PORTS };
    bool ports = strchr(letters, 'p'), orders = strchr(letters, 'c');
    static struct pollfd fds[PORTS + TCP_PORTS_POLL];
    struct signalfd_siginfo info;
    int status = 0;

    for (;;) {
        size_t n = ports ? tcp_ports_prepare(fds + PORTS) : 0;
        fds[SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
        fds[CONTROL] = (struct pollfd){.fd = has_control ? CONTROL_FD : -1, .events = orders ? POLLIN : 0};
        if (poll(fds, PORTS + n, -1) < 0) {
            if (errno != EINTR)
                return 125;
            continue;
        }
        if (fds[CONTROL].revents & (POLLHUP | POLLERR))
            return 128 + SIGKILL; /* the host side is gone: so are we */
        if (fds[CONTROL].revents & POLLIN)
            take_order(main_pid);
        if (ports)
            tcp_ports_serve(fds + PORTS, n);
        if (!(fds[SIGNALS].revents & POLLIN) || read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        if (info.ssi_signo == SIGCHLD) {
            if (reap(main_pid, &status))
                return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        } else if (info.ssi_code != SI_USER || info.ssi_pid != 0) {
            /* Not from the host, whose pid shows as 0 here: tgkill, sigqueue, SIGIO and the like come from
             * inside, and pid 1 takes no orders from the workload. */
            continue;
        } else {
            (void)kill(-main_pid, (int)info.ssi_signo);
        }
    }
}

/* The control socket of an OCI container has a name, until the first has connected to it: us. */
static int connect_control(struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/ironclaw/control.sock"};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_sys(e, errno, "init cannot connect to its keeper");
    if (fd != CONTROL_FD) {
        if (dup3(fd, CONTROL_FD, O_CLOEXEC) < 0)
            return err_sys(e, errno, "init cannot place its control socket");
        (void)close(fd);
    }
    has_control = true;
    return 0;
}

int main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    sigset_t all;
    pid_t pid;
    size_t nwritable = argc > 3 ? (size_t)strtoul(argv[2], NULL, 10) : 0;
    int signals, listener = -1, code;
    bool oci = argc > 1 && strchr(argv[1], 'r');

    if (argc == 2 && !strcmp(argv[1], "self-test"))
        return 0;
    if (argc < 4 || nwritable > SANDBOX_MOUNTS_MAX || (size_t)argc < nwritable + 4 || getpid() != 1 ||
        (!oci && fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)) {
        (void)!write(2, "ironclaw-init is started by a sandbox, not by hand\n", 51);
        return 125;
    }
    /* exec made us dumpable again; from here on no process of the same uid may look into pid 1 (ptrace(2),
     * proc(5)). */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    has_control = !oci;
    if (strchr(argv[1], 'c') && connect_control(&e) < 0) {
        report(CONTROL_ERROR, e.text);
        return 125;
    }
    signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (signals < 0) {
        (void)err_sys(&e, errno, "init cannot receive signals");
    } else if ((!strchr(argv[1], 'p') || tcp_ports_open(&e) == 0) &&
               (weakened("landlock") || restrict_self(argv + 3, nwritable, &e) == 0) &&
               (weakened("seccomp") || seccomp_install(strchr(argv[1], 'o') ? &listener : NULL, &e) == 0)) {
        /* Before the workload exists: what it may have to say comes after this, never in its place. */
        if (has_control)
            report_ready(listener);
        pid = fork();
        if (pid == 0)
            workload(strchr(argv[1], 't') != NULL, oci, argv + 3 + nwritable);
        if (pid > 0) {
            /* Our copies of the workload's descriptors would keep its pipes open after it ended. */
            for (int fd = 0; fd < 3; fd++)
                (void)close(fd);
            code = supervise(pid, signals, argv[1]);
            if (oci && has_control) {
                const char last[2] = {CONTROL_EXIT, (char)code};
                (void)send(CONTROL_FD, last, sizeof(last), MSG_NOSIGNAL);
            }
            return code;
        }
        (void)err_sys(&e, errno, "init cannot start the workload");
    }
    report(CONTROL_ERROR, e.text);
    return 125;
}
