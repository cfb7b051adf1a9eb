/* Pipes, FIFOs, poll, select, epoll, eventfd, timerfd, signalfd. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "show.h"

static void nothing(int sig)
{
    (void)sig;
}

static int events_of(int fd, short events)
{
    struct pollfd p = {fd, events, 0};

    return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static void test_pipes(void)
{
    char buf[70000];
    int fds[2], n;

    show("pipe", pipe2(fds, O_NONBLOCK));
    show("empty", read(fds[0], buf, 10));
    show("poll empty", events_of(fds[0], POLLIN));
    show("poll write", events_of(fds[1], POLLOUT));
    show("write", write(fds[1], "abc", 3));
    show("FIONREAD", (ioctl(fds[0], FIONREAD, &n), n));
    show("poll full", events_of(fds[0], POLLIN));
    show("read", read(fds[0], buf, 10));
    memset(buf, 'p', sizeof(buf));
    show("fill", write(fds[1], buf, sizeof(buf)));
    show("full", write(fds[1], buf, 1));
    show("poll full write", events_of(fds[1], POLLOUT));
    show("drain", read(fds[0], buf, sizeof(buf)));
    show("lseek", lseek(fds[0], 0, SEEK_SET));
    show("read the write end", read(fds[1], buf, 1));
    show("write the read end", write(fds[0], buf, 1));
    (void)close(fds[0]);
    (void)signal(SIGPIPE, SIG_IGN);
    show("no reader", write(fds[1], "x", 1));
    show("poll no reader", events_of(fds[1], POLLOUT));
    (void)signal(SIGPIPE, SIG_DFL);
    if (fork() == 0) {
        (void)write(fds[1], "x", 1);
        _exit(0);
    }
    (void)wait(&n);
    show("killed by", WTERMSIG(n));
    (void)pipe(fds);
    (void)close(fds[1]);
    show("no writer", read(fds[0], buf, 1));
    show("poll no writer", events_of(fds[0], POLLIN));
    (void)close(fds[0]);
    show("pipe size", (pipe(fds), fcntl(fds[0], F_GETPIPE_SZ)));
    show("pipe2 badly", pipe2(fds, 0x123));
    (void)unlink("/tmp/fifo");
    show("mkfifo", mkfifo("/tmp/fifo", 0600));
    show("writer without reader", open("/tmp/fifo", O_WRONLY | O_NONBLOCK));
    show_ok("reader", n = open("/tmp/fifo", O_RDONLY | O_NONBLOCK));
    if (fork() == 0) {
        int w = open("/tmp/fifo", O_WRONLY);
        (void)write(w, "through a name", 14);
        _exit(0);
    }
    (void)wait(NULL);
    show("read the fifo", read(n, buf, sizeof(buf)));
}

static void test_tee(void)
{
    int a[2], b[2], file = open("/tmp/plain", O_RDWR | O_CREAT, 0600);
    char buf[70000];

    (void)pipe2(a, 0);
    (void)pipe2(b, 0);
    show("tee nothing", tee(a[0], b[1], 0, 0));
    show("tee from an empty pipe", tee(a[0], b[1], 10, SPLICE_F_NONBLOCK));
    (void)write(a[1], "abcdef", 6);
    show("tee", tee(a[0], b[1], 4, 0));
    show("tee all", tee(a[0], b[1], 100, 0));
    show("copied", read(b[0], buf, sizeof(buf)));
    show_text("is", (buf[10] = 0, buf));
    show("and kept", read(a[0], buf, sizeof(buf)));
    show_text("is", (buf[6] = 0, buf));
    show("tee to itself", tee(a[0], a[1], 10, 0));
    show("tee the wrong ends", tee(a[1], b[0], 10, 0));
    show("tee to a file", tee(a[0], file, 10, 0));
    show("tee from a file", tee(file, b[1], 10, 0));
    show("tee badly", tee(a[0], b[1], 10, 0x100));
    show("tee not open", tee(99, b[1], 10, 0));
    if (fork() == 0) {
        (void)usleep(20000);
        (void)write(a[1], "later", 5);
        _exit(0);
    }
    show("tee waits", tee(a[0], b[1], 100, 0));
    (void)wait(NULL);
    show("later", read(b[0], buf, sizeof(buf)));
    show("later, kept", read(a[0], buf, sizeof(buf)));
    memset(buf, 'x', sizeof(buf));
    (void)write(a[1], buf, 65536);
    show("tee much", tee(a[0], b[1], 100000, 0));
    show("tee into a full pipe", tee(a[0], b[1], 1, SPLICE_F_NONBLOCK));
    (void)close(b[0]);
    (void)signal(SIGPIPE, SIG_IGN);
    show("tee without reader", tee(a[0], b[1], 1, 0));
    (void)read(a[0], buf, 65536);
    (void)pipe2(b, 0);
    (void)close(a[1]);
    show("tee at the end", tee(a[0], b[1], 1, 0));
    (void)signal(SIGPIPE, SIG_DFL);
    (void)closefrom(3);
}

static void test_waiting(void)
{
    struct timeval tv = {0, 2000};
    struct timespec ts = {0, 2000000};
    struct pollfd p[2];
    sigset_t mask;
    fd_set set;
    int a[2], b[2];

    (void)pipe(a);
    (void)pipe(b);
    p[0] = (struct pollfd){a[0], POLLIN, 0};
    p[1] = (struct pollfd){b[0], POLLIN, 0};
    show("time out", poll(p, 2, 2));
    if (fork() == 0) {
        (void)usleep(5000);
        (void)write(b[1], "x", 1);
        _exit(0);
    }
    show("poll", poll(p, 2, 5000));
    printf("revents %d %d\n", p[0].revents, p[1].revents);
    (void)wait(NULL);
    p[0].fd = 99;
    p[1].fd = -1;
    show("bad one", poll(p, 2, 0));
    printf("revents %d %d\n", p[0].revents, p[1].revents);
    show("too many", poll(p, 10000000, 0));
    FD_ZERO(&set);
    FD_SET(a[0], &set);
    FD_SET(b[0], &set);
    show("select", select(b[0] + 1, &set, NULL, NULL, &tv));
    printf("set %d %d\n", FD_ISSET(a[0], &set) != 0, FD_ISSET(b[0], &set) != 0);
    FD_ZERO(&set);
    FD_SET(a[0], &set);
    show("select time out", select(a[0] + 1, &set, NULL, NULL, &tv));
    FD_SET(60, &set);
    show("select bad", select(61, &set, NULL, NULL, &tv));
    (void)signal(SIGALRM, nothing);
    (void)sigemptyset(&mask);
    (void)alarm(1);
    show("ppoll", ppoll(p, 0, NULL, &mask));
    show("ppoll time out", ppoll(NULL, 0, &ts, NULL));
}

static int wait_one(int ep)
{
    struct epoll_event e = {0};
    int n = epoll_wait(ep, &e, 1, 20);

    return n <= 0 ? n : (int)(e.events | (unsigned)e.data.u32 << 8);
}

static void test_epoll(void)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = 7};
    int ep = epoll_create1(EPOLL_CLOEXEC), inner, a[2];

    (void)pipe2(a, O_NONBLOCK);
    show_ok("epoll_create1", ep);
    show("bad flags", epoll_create1(77));
    show("add", epoll_ctl(ep, EPOLL_CTL_ADD, a[0], &e));
    show("add again", epoll_ctl(ep, EPOLL_CTL_ADD, a[0], &e));
    show("modify none", epoll_ctl(ep, EPOLL_CTL_MOD, a[1], &e));
    show("delete none", epoll_ctl(ep, EPOLL_CTL_DEL, a[1], NULL));
    show("itself", epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
    show("a file", epoll_ctl(ep, EPOLL_CTL_ADD, open("/etc/passwd", O_RDONLY), &e));
    show("bad descriptor", epoll_ctl(ep, EPOLL_CTL_ADD, 98, &e));
    show("nothing", wait_one(ep));
    (void)write(a[1], "12", 2);
    show("level", wait_one(ep));
    show("level again", wait_one(ep));
    e.events = EPOLLIN | EPOLLET;
    show("modify", epoll_ctl(ep, EPOLL_CTL_MOD, a[0], &e));
    show("edge", wait_one(ep));
    show("edge again", wait_one(ep));
    (void)write(a[1], "3", 1);
    show("edge new", wait_one(ep));
    e.events = EPOLLIN | EPOLLONESHOT;
    (void)epoll_ctl(ep, EPOLL_CTL_MOD, a[0], &e);
    show("one shot", wait_one(ep));
    show("one shot again", wait_one(ep));
    (void)epoll_ctl(ep, EPOLL_CTL_MOD, a[0], &e);
    show("armed again", wait_one(ep));
    inner = epoll_create1(0);
    e.events = EPOLLIN;
    show("nested", epoll_ctl(inner, EPOLL_CTL_ADD, ep, &e));
    show("ring of sets", epoll_ctl(ep, EPOLL_CTL_ADD, inner, &e));
    e.events = EPOLLIN;
    (void)epoll_ctl(ep, EPOLL_CTL_MOD, a[0], &e);
    show("nested ready", wait_one(inner));
    show("poll of a set", events_of(ep, POLLIN));
    (void)close(a[0]);
    show("closed is gone", wait_one(ep));
    show("no room", epoll_wait(ep, &e, 0, 0));
    show("not a set", epoll_wait(0, &e, 1, 0));
}

static void test_eventfd(void)
{
    unsigned long v = 3;
    int fd = eventfd(2, EFD_NONBLOCK), sem = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);

    show("write", write(fd, &v, 8));
    show("read", read(fd, &v, 8));
    show("value", (long)v);
    show("empty", read(fd, &v, 8));
    show("short", read(fd, &v, 4));
    v = ~0UL;
    show("too large", write(fd, &v, 8));
    v = ~0UL - 1;
    show("largest", write(fd, &v, 8));
    v = 1;
    show("full", write(fd, &v, 8));
    show("poll", events_of(fd, POLLIN | POLLOUT));
    show("semaphore", (read(sem, &v, 8), (long)v));
    show("semaphore", (read(sem, &v, 8), (long)v));
    show("semaphore", read(sem, &v, 8));
}

static void test_timerfd(void)
{
    struct itimerspec t = {{0, 5000000}, {0, 5000000}}, now;
    unsigned long v = 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

    show_ok("timerfd", fd);
    show("bad clock", timerfd_create(99, 0));
    show("not yet", read(fd, &v, 8));
    show("settime", timerfd_settime(fd, 0, &t, NULL));
    (void)usleep(28000);
    show("read", read(fd, &v, 8));
    printf("several %d\n", v >= 4 && v <= 12);
    show("gettime", timerfd_gettime(fd, &now));
    printf("interval %ld\n", now.it_interval.tv_nsec);
    t.it_value.tv_nsec = 1000000000;
    show("bad time", timerfd_settime(fd, 0, &t, NULL));
    show("not a timer", timerfd_settime(0, 0, &t, NULL));
}

static void test_signalfd(void)
{
    struct signalfd_siginfo info;
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    show_ok("signalfd", fd = signalfd(-1, &set, SFD_NONBLOCK));
    show("nothing", read(fd, &info, sizeof(info)));
    (void)raise(SIGUSR1);
    show("poll", events_of(fd, POLLIN));
    show("read", read(fd, &info, sizeof(info)));
    printf("signal %u code %d from us %d\n", info.ssi_signo, info.ssi_code, (int)info.ssi_pid == getpid());
    show("short", read(fd, &info, 10));
}

static void test_timers(void)
{
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 5};
    struct itimerspec t = {{0, 0}, {0, 3000000}};
    struct timespec ts = {0, 1000000}, later;
    siginfo_t info;
    sigset_t set;
    timer_t id;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR2);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    show("timer_create", timer_create(CLOCK_MONOTONIC, &e, &id));
    show("timer_settime", timer_settime(id, 0, &t, NULL));
    show("wait", sigwaitinfo(&set, &info) == SIGUSR2);
    printf("code %d value %d\n", info.si_code, info.si_value.sival_int);
    show("timer_delete", timer_delete(id));
    show("nanosleep", nanosleep(&ts, NULL));
    ts.tv_nsec = -1;
    show("nanosleep bad", nanosleep(&ts, NULL));
    (void)clock_gettime(CLOCK_MONOTONIC, &later);
    later.tv_sec -= 5;
    show("in the past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &later, NULL));
    show("bad clock", clock_gettime(55, &ts));
    show("settime", clock_settime(CLOCK_REALTIME, &later));
}

int main(void)
{
    test_pipes();
    test_tee();
    test_waiting();
    test_epoll();
    test_eventfd();
    test_timerfd();
    test_signalfd();
    test_timers();
    return 0;
}
