#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/io.h"
#include "standby/standby.h"
#include "walls/cell/cell.h"
#include "walls/handover.h"

enum { REQUEST_MS = 1000, REST_MS = 3 };

static void tell(int events, uint32_t kind)
{
    const struct standby_event ev = {.pid = getpid(), .kind = kind};

    (void)!write(events, &ev, sizeof(ev)); /* smaller than PIPE_BUF: whole or not at all */
}

/* What came with it is the caller's to close, whatever it is. */
static bool takes_request(int client, const struct standby_key *key, struct cell_command *c)
{
    struct pollfd p = {.fd = client, .events = POLLIN};
    struct standby_request r;
    struct iovec iov = {.iov_base = &r, .iov_len = sizeof(r)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;
    ssize_t n;

    memset(&r, 0, sizeof(r));
    *c = (struct cell_command){.strings = -1, .null = -1};
    if (!standby_is_own_peer(client) || poll(&p, 1, REQUEST_MS) != 1)
        return false;
    fdpass_expect(&msg, &room);
    n = recvmsg(client, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return false;
    c->nfds = fdpass_take(&msg, c->fds);
    c->message = r.command;
    return n == (ssize_t)sizeof(r) && c->nfds == WARDEN_ACTIVATION_FDS &&
           memcmp(&r.key, key, sizeof(r.key)) == 0;
}

static void close_command(struct cell_command *c)
{
    while (c->nfds > 0)
        (void)close(c->fds[--c->nfds]);
}

static bool answer(int client, const struct sandbox *s)
{
    struct standby_answer a;
    struct iovec iov = {.iov_base = &a, .iov_len = sizeof(a)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[STANDBY_FDS] = {[STANDBY_CONTROL] = s->control, [STANDBY_PIDFD] = s->pidfd};
    struct fdpass room;

    memset(&a, 0, sizeof(a));
    a.kind = STANDBY_TAKEN;
    a.pid = s->pid;
    a.cgroup = s->cgroup;
    cell_wall.shortfall(a.shortfall, sizeof(a.shortfall));
    fdpass_attach(&msg, &room, fds, STANDBY_FDS);
    return sendmsg(client, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(a);
}

/* The client is the host side now. The cell's group stays until the client has read what it wants of it. */
static void outlive(struct sandbox *s, int client)
{
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
    char more;
    ssize_t n;

    (void)close(s->control);
    s->control = -1;
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    do {
        n = recv(client, &more, 1, 0);
    } while (n > 0 || (n < 0 && errno == EINTR));
}

/* A connection wakes one keeper, not all of them (epoll_ctl(2), EPOLLEXCLUSIVE). */
static int watch(int end, int signals, int listener)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = end};

    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, end, &ev) < 0)
        return -1;
    ev.data.fd = signals;
    if (epoll_ctl(set, EPOLL_CTL_ADD, signals, &ev) < 0)
        return -1;
    ev.events |= EPOLLEXCLUSIVE;
    ev.data.fd = listener;
    return epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev) < 0 ? -1 : set;
}

/* The server's work can wait: the run's first moments are what it is all for. */
static void rest(const struct sandbox *s)
{
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

    (void)poll(&p, 1, REST_MS);
}

/* False: the cell is of no use any more, or nobody wants one. */
static bool serve(struct sandbox *s, int set, int listener, int events, const struct sandbox_spec *spec,
                  const struct standby_key *key)
{
    CLEANUP_CLOSE int client = -1;
    struct standby_key now;
    struct cell_command command;
    struct epoll_event ev;
    struct err e = ERR_INIT;
    bool taken;

    if (epoll_wait(set, &ev, 1, -1) < 0)
        return errno == EINTR;
    if (ev.data.fd != listener)
        return false;
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return true; /* another keeper was faster, or the client gave up */
    if (!takes_request(client, key, &command)) {
        const struct standby_answer no = {.kind = STANDBY_NONE};
        close_command(&command);
        (void)send(client, &no, sizeof(no), MSG_NOSIGNAL | MSG_DONTWAIT);
        return standby_key(spec, &now) && memcmp(&now, key, sizeof(now)) == 0;
    }
    taken = answer(client, s) && cell_activate(s->control, &command, &e) == 0;
    close_command(&command);
    if (!taken)
        return true; /* it gave up: another may have the cell */
    /* From here on the server's end is none of our business. */
    (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    (void)close(set);
    (void)close(listener);
    rest(s);
    tell(events, STANDBY_LEFT);
    outlive(s, client);
    return false;
}

void standby_keep(pid_t server, int listener, int events, const struct sandbox_spec *spec,
                  const struct standby_key *key)
{
    struct sandbox s = SANDBOX_INIT;
    struct err e = ERR_INIT;
    sigset_t all;
    int signals, set;

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    if (getppid() != server) /* it ended before it could tell us */
        _exit(0);
    (void)setsid(); /* what is typed at the server's terminal is for the server */
    (void)sigemptyset(&all);
    (void)sigaddset(&all, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &all, NULL);
    signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (signals < 0 || cell_prepare(spec, &s, &e) < 0) {
        (void)fprintf(stderr, "ironclaw: standby: %s\n", signals < 0 ? "no descriptors are left" : e.text);
        _exit(1);
    }
    set = watch(s.pidfd, signals, listener);
    tell(events, STANDBY_READY);
    while (set >= 0 && serve(&s, set, listener, events, spec, key))
        ;
    handover_destroy(&s, NULL);
    _exit(0);
}
