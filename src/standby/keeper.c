#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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

enum { REQUEST_MS = 1000 };

static void tell(int events, uint32_t kind)
{
    const struct standby_event ev = {.pid = getpid(), .kind = kind};

    (void)!write(events, &ev, sizeof(ev)); /* smaller than PIPE_BUF: whole or not at all */
}

static bool takes_request(int client, const struct standby_key *key)
{
    struct pollfd p = {.fd = client, .events = POLLIN};
    struct standby_key asked;

    return standby_is_own_peer(client) && poll(&p, 1, REQUEST_MS) == 1 &&
           recv(client, &asked, sizeof(asked), MSG_DONTWAIT) == (ssize_t)sizeof(asked) &&
           memcmp(&asked, key, sizeof(asked)) == 0;
}

static bool answer(int client, const struct sandbox *s)
{
    struct standby_answer a;
    struct iovec iov = {.iov_base = &a, .iov_len = sizeof(a)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    const int fds[STANDBY_FDS] = {[STANDBY_CONTROL] = s->control, [STANDBY_PIDFD] = s->pidfd};
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

/* False: the cell is of no use any more, or nobody wants one. */
static bool serve(struct sandbox *s, int listener, int events, int signals, const struct sandbox_spec *spec,
                  const struct standby_key *key)
{
    enum { END, SIGNALS, LISTENER };
    struct pollfd p[] = {[END] = {.fd = s->pidfd, .events = POLLIN},
                         [SIGNALS] = {.fd = signals, .events = POLLIN},
                         [LISTENER] = {.fd = listener, .events = POLLIN}};
    CLEANUP_CLOSE int client = -1;
    struct standby_key now;

    if (poll(p, ARRAY_LEN(p), -1) < 0)
        return errno == EINTR;
    if (p[END].revents || p[SIGNALS].revents)
        return false;
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return true; /* another keeper was faster, or the client gave up */
    if (!takes_request(client, key)) {
        const struct standby_answer no = {.kind = STANDBY_NONE};
        (void)send(client, &no, sizeof(no), MSG_NOSIGNAL | MSG_DONTWAIT);
        return standby_key(spec, &now) && memcmp(&now, key, sizeof(now)) == 0;
    }
    if (!answer(client, s))
        return true; /* it did not get the cell: another will */
    /* From here on the server's end is none of our business. */
    (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    (void)close(listener);
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
    int signals;

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
    tell(events, STANDBY_READY);
    while (serve(&s, listener, events, signals, spec, key))
        ;
    handover_destroy(&s, NULL);
    _exit(0);
}
