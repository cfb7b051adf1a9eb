/* pidfd_open, pidfd_send_signal, waitid(P_PIDFD), CLONE_PIDFD, and how long a descriptor knows its process.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "show.h"

/* Not all libcs have names for these. */
enum { BY_PIDFD = 3, WITH_PIDFD = 0x1000, DETACHED = 0x400000, NOBODY = 4000000 };

static sigset_t go; /* SIGUSR1, blocked: what the children wait for */

static int open_pidfd(pid_t pid, unsigned flags)
{
    return (int)syscall(SYS_pidfd_open, pid, flags);
}

static long send_by(int fd, int sig, siginfo_t *info, unsigned flags)
{
    return syscall(SYS_pidfd_send_signal, fd, sig, info, flags);
}

/* A child that exits with `code` when it gets SIGUSR1. */
static pid_t child_of(int code)
{
    pid_t pid = fork();

    if (pid == 0) {
        while (sigwaitinfo(&go, NULL) < 0)
            ; /* it was stopped */
        _exit(code);
    }
    return pid;
}

/* Without POLLHUP, which Linux adds since 6.9 once the process was waited for. */
static int ready_within(int fd, int ms)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};

    return poll(&p, 1, ms) < 0 ? -1 : p.revents & ~POLLHUP;
}

static int ready(int fd)
{
    return ready_within(fd, 0);
}

static void show_wait(const char *what, int fd, int options)
{
    siginfo_t info;
    long rc;

    memset(&info, 0, sizeof(info));
    show(what, rc = waitid((idtype_t)BY_PIDFD, (id_t)fd, &info, options));
    if (rc == 0)
        printf("  signal %d code %d status %d, somebody %d\n", info.si_signo, info.si_code, info.si_status,
               info.si_pid > 0);
}

/* The line "Pid:" of fdinfo; -9: there is none. */
static int pid_in_fdinfo(int fd)
{
    char path[64], line[256];
    int pid = -9;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    if (!(f = fopen(path, "r")))
        return pid;
    while (fgets(line, sizeof(line), f))
        (void)sscanf(line, "Pid:\t%d", &pid);
    (void)fclose(f);
    return pid;
}

static void test_open(void)
{
    char buf[64], path[64];
    struct stat st;
    pid_t pid = child_of(0);
    ssize_t n;
    int fd;

    show("pid 0", open_pidfd(0, 0));
    show("pid -1", open_pidfd(-1, 0));
    show("nobody", open_pidfd(NOBODY, 0));
    show("bad flags", open_pidfd(pid, 1));
    show("close-on-exec is no flag", open_pidfd(pid, O_CLOEXEC));
    show_ok("open", fd = open_pidfd(pid, 0));
    show("close-on-exec", fcntl(fd, F_GETFD));
    show("flags", fcntl(fd, F_GETFL));
    show("nonblocking", fcntl(fd, F_SETFL, O_NONBLOCK));
    show("flags", fcntl(fd, F_GETFL));
    show("read", read(fd, buf, 8));
    show("write", write(fd, "12345678", 8));
    show("seek", lseek(fd, 0, SEEK_SET));
    show("ioctl", ioctl(fd, FIONREAD, &n));
    show("fstat", fstat(fd, &st));
    printf("links %ld size %ld\n", (long)st.st_nlink, (long)st.st_size);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    show("readlink", n = readlink(path, buf, sizeof(buf) - 1));
    buf[n > 0 ? n : 0] = 0;
    show_text("link", buf);
    show("fdinfo", pid_in_fdinfo(fd) == pid);
    (void)kill(pid, SIGUSR1);
    show("ends", ready_within(fd, 10000));
    show("fdinfo of a zombie", pid_in_fdinfo(fd) == pid);
    show_ok("open a zombie", open_pidfd(pid, 0));
    show("wait", waitpid(pid, NULL, 0) == pid);
    show("fdinfo afterwards", pid_in_fdinfo(fd));
    show("fstat afterwards", fstat(fd, &st));
    show("open afterwards", open_pidfd(pid, 0));
    show("close", close(fd));
    (void)closefrom(3);
}

/* ---- waiting */

static void test_wait(void)
{
    pid_t pid = child_of(7);
    int fd = open_pidfd(pid, 0), other = open_pidfd(pid, O_NONBLOCK);
    fd_set set;

    show("alive", ready(fd));
    show("time out", ready_within(fd, 5));
    show("flags of a nonblocking one", fcntl(other, F_GETFL));
    show_wait("not yet", fd, WEXITED | WNOHANG);
    show_wait("would block", other, WEXITED);
    show_wait("nonblocking and WNOHANG", other, WEXITED | WNOHANG);
    show_wait("no options", fd, 0);
    show_wait("bad options", fd, WEXITED | 0x40000);
    show_wait("negative", -1, WEXITED);
    show_wait("not open", 77, WEXITED);
    show_wait("no pidfd", 0, WEXITED);
    show("bad kind", waitid((idtype_t)4, (id_t)fd, NULL, WEXITED));
    (void)kill(pid, SIGSTOP);
    show_wait("stops", fd, WSTOPPED);
    show("stopped is not ready", ready(fd));
    (void)kill(pid, SIGCONT);
    show_wait("continues", fd, WCONTINUED);
    (void)kill(pid, SIGUSR1);
    show("ends", ready_within(fd, 10000));
    show("the other", ready(other));
    FD_ZERO(&set);
    FD_SET(fd, &set);
    show("select", select(fd + 1, &set, NULL, NULL, NULL));
    show_wait("look", fd, WEXITED | WNOWAIT);
    show_wait("look again", other, WEXITED | WNOWAIT);
    show_wait("not of that", fd, WSTOPPED | WNOHANG);
    show("still ready", ready(fd));
    show_wait("wait", other, WEXITED);
    show_wait("again", fd, WEXITED);
    show_wait("again, nonblocking", other, WEXITED);
    show("gone is ready", ready(fd));
    (void)closefrom(3);
}

static void test_ways_to_end(void)
{
    static const int signals[] = {SIGKILL, SIGTERM, SIGSEGV};
    int fd;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        pid_t pid = child_of(1);
        fd = open_pidfd(pid, 0);
        (void)kill(pid, signals[i]);
        show("killed", ready_within(fd, 10000));
        show_wait("by", fd, WEXITED);
        (void)close(fd);
    }
    if ((fd = open_pidfd(getpid(), 0)) >= 0)
        show("ourselves", ready(fd));
    show_wait("wait for ourselves", fd, WEXITED);
    (void)close(fd);
}

static void *wait_in_thread(void *fd)
{
    return (void *)(long)waitid((idtype_t)BY_PIDFD, (id_t)(intptr_t)fd, NULL, WEXITED);
}

static void *poll_in_thread(void *fd)
{
    return (void *)(long)ready_within((int)(intptr_t)fd, 10000);
}

static void *end_later(void *pid)
{
    (void)usleep(3000);
    (void)kill((pid_t)(intptr_t)pid, SIGUSR1);
    return NULL;
}

/* Several threads wait, in several ways; the call comes before the end. */
static void test_blocking(void)
{
    for (int i = 0; i < 3; i++) {
        pthread_t waiter, pollers[4], ender;
        pid_t pid = child_of(3);
        int fd = open_pidfd(pid, 0);
        void *result;
        (void)pthread_create(&waiter, NULL, wait_in_thread, (void *)(intptr_t)fd);
        for (int k = 0; k < 4; k++)
            (void)pthread_create(&pollers[k], NULL, poll_in_thread, (void *)(intptr_t)fd);
        (void)pthread_create(&ender, NULL, end_later, (void *)(intptr_t)pid);
        show("polled meanwhile", ready_within(fd, 10000));
        (void)pthread_join(waiter, &result);
        show("waited for", (long)result);
        for (int k = 0; k < 4; k++) {
            (void)pthread_join(pollers[k], &result);
            show("in a thread", (long)result);
        }
        (void)pthread_join(ender, NULL);
        show_wait("and gone", fd, WEXITED);
        (void)close(fd);
    }
}

static void nothing(int sig)
{
    (void)sig;
}

static void test_interruption(void)
{
    struct sigaction a = {.sa_handler = nothing};
    pid_t pid = child_of(0), parent = getpid(), disturber;
    int fd = open_pidfd(pid, 0);

    (void)sigaction(SIGUSR2, &a, NULL);
    disturber = fork();
    if (disturber == 0) {
        for (;;) {
            (void)usleep(5000);
            (void)kill(parent, SIGUSR2);
        }
    }
    show("poll", ready_within(fd, 10000));
    show_wait("waitid", fd, WEXITED);
    (void)kill(disturber, SIGKILL);
    (void)waitpid(disturber, NULL, 0);
    (void)signal(SIGUSR2, SIG_DFL);
    (void)kill(pid, SIGUSR1);
    show_wait("then", fd, WEXITED);
    (void)close(fd);
}

/* ---- epoll */

static int wait_set(int set)
{
    struct epoll_event e = {0};
    int n = epoll_wait(set, &e, 1, 20);

    return n <= 0 ? n : (int)((e.events & ~(unsigned)EPOLLHUP) | e.data.u32 << 8);
}

static void test_epoll(void)
{
    struct epoll_event level = {.events = EPOLLIN, .data.u32 = 1}, got[4];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET, .data.u32 = 2};
    struct epoll_event once = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 3};
    int sets[3] = {epoll_create1(0), epoll_create1(0), epoll_create1(0)}, all = epoll_create1(0);
    pid_t pid = child_of(0);
    int fd = open_pidfd(pid, 0), other = open_pidfd(pid, 0);

    show("level", epoll_ctl(sets[0], EPOLL_CTL_ADD, fd, &level));
    show("edge", epoll_ctl(sets[1], EPOLL_CTL_ADD, fd, &edge));
    show("one shot", epoll_ctl(sets[2], EPOLL_CTL_ADD, fd, &once));
    show("again", epoll_ctl(sets[0], EPOLL_CTL_ADD, fd, &level));
    show("two of a process", epoll_ctl(all, EPOLL_CTL_ADD, fd, &level));
    show("two of a process", epoll_ctl(all, EPOLL_CTL_ADD, other, &edge));
    show("alive", epoll_wait(all, got, 4, 0));
    (void)kill(pid, SIGUSR1);
    show("ends", epoll_wait(sets[0], got, 1, 10000));
    for (int i = 0; i < 3; i++) {
        show("set", wait_set(sets[i]));
        show("once more", wait_set(sets[i]));
    }
    show("both", epoll_wait(all, got, 4, 1000));
    show("the level", epoll_wait(all, got, 4, 0));
    show("arm again", epoll_ctl(sets[1], EPOLL_CTL_MOD, fd, &edge));
    show("edge", wait_set(sets[1]));
    (void)waitpid(pid, NULL, 0);
    show("gone", wait_set(sets[0]));
    show("add one that is gone", epoll_ctl(sets[2], EPOLL_CTL_ADD, other, &edge));
    show("edge", wait_set(sets[2]));
    show("once more", wait_set(sets[2]));
    (void)close(fd);
    show("closed", wait_set(sets[0]));
    (void)closefrom(3);
}

/* Nobody has to wait for a process whose parent ignores SIGCHLD: zombie and gone in one. */
static void test_unwanted(void)
{
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET, .data.u32 = 4};
    int set = epoll_create1(0), fd;
    pid_t pid;

    (void)signal(SIGCHLD, SIG_IGN);
    pid = child_of(0);
    fd = open_pidfd(pid, 0);
    (void)epoll_ctl(set, EPOLL_CTL_ADD, fd, &edge);
    show("signal", send_by(fd, SIGUSR1, NULL, 0));
    show("ends", ready_within(fd, 10000));
    show("edge", wait_set(set));
    show_wait("wait", fd, WEXITED);
    show("signal", send_by(fd, 0, NULL, 0));
    show("open", open_pidfd(pid, 0));
    (void)signal(SIGCHLD, SIG_DFL);
    (void)closefrom(3);
}

/* ---- signals */

static void test_signals(void)
{
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE}, got;
    pid_t pid = child_of(0);
    int fd = open_pidfd(pid, 0), ours = open_pidfd(getpid(), 0), dir;

    show("signal 0", send_by(fd, 0, NULL, 0));
    show("no signal", send_by(fd, 65, NULL, 0));
    show("no signal", send_by(fd, -1, NULL, 0));
    show("bad flags", send_by(fd, 0, NULL, 0x100));
    show("no pidfd", send_by(0, 0, NULL, 0));
    show("not open", send_by(77, 0, NULL, 0));
    show("negative", send_by(-1, 0, NULL, 0));
    show("another number", send_by(fd, SIGUSR2, &info, 0));
    show("bad address", send_by(fd, SIGUSR1, (siginfo_t *)8, 0));
    info.si_code = SI_USER;
    show("as kill says it", send_by(fd, SIGUSR1, &info, 0));
    info.si_code = SI_TKILL;
    show("as tkill says it", send_by(fd, SIGUSR1, &info, 0));
    show("another number", send_by(fd, SIGUSR2, &info, 0));
    show("take files", syscall(SYS_pidfd_getfd, fd, 0, 0));
    show("terminate", send_by(fd, SIGTERM, NULL, 0));
    show("ends", ready_within(fd, 10000));
    show("a zombie", send_by(fd, SIGTERM, NULL, 0));
    show_wait("wait", fd, WEXITED);
    show("gone", send_by(fd, 0, NULL, 0));
    show("gone, no signal", send_by(fd, 65, NULL, 0));
    show("ourselves", send_by(ours, SIGUSR1, NULL, 0));
    show("taken", sigwaitinfo(&go, &got));
    printf("code %d from us %d %d\n", got.si_code, got.si_pid == getpid(), got.si_uid == getuid());
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 33;
    show("queued", send_by(ours, SIGUSR1, &info, 0));
    show("taken", sigwaitinfo(&go, &got));
    printf("code %d value %d\n", got.si_code, got.si_value.sival_int);
    info.si_code = SI_USER;
    show("to ourselves as kill says it", send_by(ours, SIGUSR1, &info, 0));
    show("taken", sigwaitinfo(&go, &got));
    show_ok("directory", dir = open("/proc/self", O_RDONLY | O_DIRECTORY));
    show("by directory", send_by(dir, SIGUSR1, NULL, 0));
    show("taken", sigwaitinfo(&go, &got));
    show_wait("wait by directory", dir, WEXITED);
    show_ok("file", dir = open("/proc/self/status", O_RDONLY));
    show("by file", send_by(dir, 0, NULL, 0));
    show_ok("not a process's", dir = open("/proc", O_RDONLY | O_DIRECTORY));
    show("by that", send_by(dir, 0, NULL, 0));
    show_ok("O_PATH", dir = open("/proc/self", O_PATH));
    show("by that", send_by(dir, 0, NULL, 0));
    (void)closefrom(3);
}

/* ---- who has one */

static void test_many(void)
{
    enum { MANY = 300 };
    static struct pollfd fds[MANY];
    pid_t pid = child_of(9);
    int count = 0;

    for (int i = 0; i < MANY; i++)
        fds[i] = (struct pollfd){open_pidfd(pid, 0), POLLIN, 0};
    show("poll", poll(fds, MANY, 0));
    (void)kill(pid, SIGUSR1);
    show("at least one", poll(fds, MANY, 10000) > 0);
    show("all", poll(fds, MANY, 0));
    show_wait("wait", fds[200].fd, WEXITED);
    show("all", poll(fds, MANY, 0));
    for (int i = 0; i < MANY; i++)
        count += send_by(fds[i].fd, 0, NULL, 0) == -1 && errno == ESRCH;
    show("know that it is gone", count);
    (void)closefrom(3);
}

/* Descriptors of processes that went, while new ones come. */
static void test_many_processes(void)
{
    enum { MANY = 200 };
    static int fds[MANY];
    int gone = 0, known = 0;

    for (int i = 0; i < MANY; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        fds[i] = open_pidfd(pid, 0);
        (void)waitpid(pid, NULL, 0);
    }
    for (int i = 0; i < MANY; i++) {
        gone += ready(fds[i]) == (POLLIN | POLLRDNORM);
        known += send_by(fds[i], 0, NULL, 0) == 0;
    }
    show("gone", gone);
    show("known", known);
    (void)closefrom(3);
}

/* A process that is polled by several: all of them learn of its end, whose child it may be. */
static void test_several(void)
{
    enum { POLLERS = 6 };
    pid_t pid = child_of(0), pids[POLLERS];
    int fd = open_pidfd(pid, 0), up[2], status, learnt = 0;
    char c;

    (void)pipe(up);
    for (int i = 0; i < POLLERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            (void)write(up[1], "x", 1);
            c = ready_within(fd, 10000) & POLLIN;
            c += waitid((idtype_t)BY_PIDFD, (id_t)fd, NULL, WEXITED) == -1 && errno == ECHILD;
            _exit(c);
        }
    }
    for (int i = 0; i < POLLERS; i++)
        (void)read(up[0], &c, 1);
    (void)usleep(2000);
    (void)kill(pid, SIGKILL);
    for (int i = 0; i < POLLERS; i++) {
        (void)waitpid(pids[i], &status, 0);
        learnt += WIFEXITED(status) && WEXITSTATUS(status) == POLLIN + 1;
    }
    show("learnt of it", learnt);
    show_wait("wait", fd, WEXITED);
    (void)closefrom(3);
}

/* Those that poll are killed, and what they polled ends. */
static void test_killed_pollers(void)
{
    enum { POLLERS = 5 };
    struct epoll_event e = {.events = EPOLLIN};
    pid_t pid = child_of(0), pids[POLLERS];
    int fd = open_pidfd(pid, 0), up[2], set = epoll_create1(0);
    char c;

    (void)epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
    (void)pipe(up);
    for (int i = 0; i < POLLERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            (void)write(up[1], "x", 1);
            if (i % 2)
                (void)ready_within(fd, -1);
            else
                (void)epoll_wait(set, &e, 1, -1);
            _exit(0);
        }
    }
    for (int i = 0; i < POLLERS; i++)
        (void)read(up[0], &c, 1);
    (void)usleep(1000);
    for (int i = 0; i < POLLERS; i++)
        (void)kill(pids[i], SIGKILL);
    (void)kill(pid, SIGKILL);
    show("ends", ready_within(fd, 10000));
    for (int i = 0; i <= POLLERS; i++)
        show("waited for", wait(NULL) > 0);
    (void)closefrom(3);
}

/* A descriptor over a socket, to a process that is not the parent; and one of a process's parent. */
static void test_passing(void)
{
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    pid_t pid = child_of(0);
    int fd = open_pidfd(pid, 0), ends[2], parent = open_pidfd(getpid(), 0);
    ssize_t n;

    (void)socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    if (fork() == 0) {
        int got;
        (void)close(fd);
        show("received", recvmsg(ends[1], &m, MSG_CMSG_CLOEXEC));
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
        show("close-on-exec", fcntl(got, F_GETFD));
        show("alive", ready(got));
        show("signal", send_by(got, SIGUSR1, NULL, 0));
        show("ends", ready_within(got, 10000));
        show_wait("of another's child", got, WEXITED);
        show("parent is alive", ready(parent));
        show_wait("wait for the parent", parent, WEXITED);
        _exit(0);
    }
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(fd));
    memcpy(CMSG_DATA(h), &fd, sizeof(fd));
    n = sendmsg(ends[0], &m, 0);
    (void)close(fd);
    while (wait(NULL) > 0)
        ;
    show("sent", n);
    (void)closefrom(3);
}

/* ---- exec */

static const char *myself;

/* The process executes: it is the same one. */
static void test_exec(void)
{
    pid_t pid = child_of(0), runs;
    int kept = open_pidfd(pid, 0), closed = open_pidfd(pid, 0), fd, up[2];
    char k[16], n[16], w[16], c;

    (void)fcntl(kept, F_SETFD, 0);
    (void)pipe(up);
    (void)snprintf(k, sizeof(k), "%d", kept);
    (void)snprintf(n, sizeof(n), "%d", closed);
    (void)snprintf(w, sizeof(w), "%d", up[1]);
    if ((runs = fork()) == 0) {
        (void)execl("/proc/self/exe", myself, k, n, w, NULL);
        _exit(99);
    }
    fd = open_pidfd(runs, 0);
    (void)read(up[0], &c, 1); /* it is the new program */
    show("executes", ready(fd));
    (void)kill(pid, SIGUSR1);
    show("ends", ready_within(fd, 10000));
    show_wait("wait", fd, WEXITED);
    show("wait", waitpid(pid, NULL, 0) == pid);
    (void)closefrom(3);
}

static int executed(int kept, int closed, int up)
{
    show("kept", fcntl(kept, F_GETFD));
    show("closed", fcntl(closed, F_GETFD));
    show("alive", ready(kept));
    (void)write(up, "x", 1);
    show("ended", ready_within(kept, 10000));
    return 5;
}

/* ---- threads */

static pid_t thread_id;
static int thread_ready, thread_end[2];

static void *other_thread(void *unused)
{
    char c;

    (void)unused;
    thread_id = (pid_t)syscall(SYS_gettid);
    __atomic_store_n(&thread_ready, 1, __ATOMIC_SEQ_CST);
    (void)read(thread_end[0], &c, 1);
    syscall(SYS_exit, 0);
    return NULL;
}

/* The first thread ends: the process goes on until the last one does. */
static void test_threads(void)
{
    pthread_t t;
    int up[2], fd;
    pid_t pid;
    char c;

    (void)pipe(thread_end);
    (void)pipe(up);
    pid = fork();
    if (pid == 0) {
        (void)pthread_create(&t, NULL, other_thread, NULL);
        while (!__atomic_load_n(&thread_ready, __ATOMIC_SEQ_CST))
            (void)usleep(100);
        /* EINVAL until Linux 6.17, ENOENT since. */
        show("of a thread", open_pidfd(thread_id, 0) == -1 && (errno == EINVAL || errno == ENOENT));
        (void)write(up[1], "x", 1);
        syscall(SYS_exit, 3);
    }
    fd = open_pidfd(pid, 0);
    (void)read(up[0], &c, 1);
    show("first thread ended", ready_within(fd, 20));
    show_wait("no zombie", fd, WEXITED | WNOHANG);
    show("signal", send_by(fd, 0, NULL, 0));
    (void)write(thread_end[1], "x", 1);
    show("ends", ready_within(fd, 10000));
    show_wait("wait", fd, WEXITED);
    (void)closefrom(3);
}

/* ---- clone */

static pid_t clone_pidfd(unsigned long flags, int *pidfd)
{
    return (pid_t)syscall(SYS_clone, WITH_PIDFD | flags, NULL, pidfd, NULL, 0);
}

static void test_clone(void)
{
    struct rlimit few = {.rlim_cur = 3}, before;
    int fd = -1, up[2];
    pid_t pid;
    char c;

    show("one place for two", clone_pidfd(CLONE_PARENT_SETTID | SIGCHLD, &fd));
    show("detached", clone_pidfd(DETACHED | SIGCHLD, &fd));
    show("bad address", clone_pidfd(SIGCHLD, (int *)8));
    (void)getrlimit(RLIMIT_NOFILE, &before);
    few.rlim_max = before.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &few);
    show("no descriptor", clone_pidfd(SIGCHLD, &fd));
    show("nor for a known one", open_pidfd(getpid(), 0));
    (void)setrlimit(RLIMIT_NOFILE, &before);
    show("no child of these", waitpid(-1, NULL, WNOHANG));
    show("nothing left open", fcntl(3, F_GETFD));
    (void)pipe(up);
    pid = clone_pidfd(SIGCHLD, &fd);
    if (pid == 0) {
        c = fcntl(up[1] + 1, F_GETFD) == -1;
        (void)write(up[1], &c, 1);
        (void)sigwaitinfo(&go, NULL);
        _exit(4);
    }
    show("clone", pid > 0);
    show("the next descriptor", fd == up[1] + 1);
    show("close-on-exec", fcntl(fd, F_GETFD));
    show("flags", fcntl(fd, F_GETFL));
    show("fdinfo", pid_in_fdinfo(fd) == pid);
    (void)read(up[0], &c, 1);
    show("not the child's", c);
    show("alive", ready(fd));
    show("signal", send_by(fd, SIGUSR1, NULL, 0));
    show("ends", ready_within(fd, 10000));
    show_wait("wait", fd, WEXITED);
    (void)close(fd);
    pid = clone_pidfd(CLONE_VFORK | SIGCHLD, &fd);
    if (pid == 0)
        _exit(6);
    show("as vfork", ready_within(fd, 10000));
    show_wait("wait", fd, WEXITED);
    (void)closefrom(3);
}

int main(int argc, char **argv)
{
    (void)sigemptyset(&go);
    (void)sigaddset(&go, SIGUSR1);
    if (argc == 4)
        return executed((int)strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10),
                        (int)strtol(argv[3], NULL, 10));
    myself = argv[0];
    (void)sigprocmask(SIG_BLOCK, &go, NULL);
    (void)closefrom(3);
    test_open();
    test_wait();
    test_ways_to_end();
    test_blocking();
    test_interruption();
    test_epoll();
    test_unwanted();
    test_signals();
    test_many();
    test_many_processes();
    test_several();
    test_killed_pollers();
    test_passing();
    test_exec();
    test_threads();
    test_clone();
    return 0;
}
