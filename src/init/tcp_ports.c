/*
 * Two listeners, and a table of connections with a buffer for each direction. A side is read only while the
 * buffer to the other is empty, so nothing grows; a side that ended is passed on as a half-close once all it
 * said was written.
 */
#include "init/tcp_ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "walls/wall.h"

enum { BACKLOG = 64, CHUNK = 16 * 1024 };

static const struct {
    uint16_t port;
    const char *path;
} ports[] = {{PORT_QUEUE_TCP, "/run/ironclaw/queue.sock"}, {PORT_MODEL_TCP, "/run/ironclaw/model.sock"}};

struct direction {
    size_t at, len; /* data[at..len) was read and not yet written */
    bool ended;     /* the source has no more */
    bool passed_on; /* and the target was told so */
    char data[CHUNK];
};

/* fd[0]: TCP, fd[1]: unix; way[i] leads from fd[i] to the other. */
struct connection {
    int fd[2];
    struct direction way[2];
};

static int listeners[ARRAY_LEN(ports)];
static struct connection *connections[TCP_PORTS_CONNECTIONS];
static size_t nconnections;

int tcp_ports_open(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons(ports[i].port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
            return err_sys(e, errno, "init cannot listen on 127.0.0.1:%u", ports[i].port);
        listeners[i] = fd;
    }
    return 0;
}

static void drop(size_t i)
{
    struct connection *c = connections[i];

    (void)close(c->fd[0]);
    (void)close(c->fd[1]);
    free(c);
    connections[i] = connections[--nconnections];
}

static void take(size_t port)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEANUP_CLOSE int tcp = accept4(listeners[port], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CLEANUP_CLOSE int host = tcp < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct connection *c;

    (void)strncpy(a.sun_path, ports[port].path, sizeof(a.sun_path) - 1);
    if (host < 0 || nconnections == TCP_PORTS_CONNECTIONS ||
        connect(host, (struct sockaddr *)&a, sizeof(a)) < 0 || !(c = calloc(1, sizeof(*c))))
        return; /* closed: the client sees it */
    c->fd[0] = TAKE_FD(tcp);
    c->fd[1] = TAKE_FD(host);
    connections[nconnections++] = c;
}

size_t tcp_ports_prepare(struct pollfd *fds)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        fds[n++] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
    for (size_t i = 0; i < nconnections; i++)
        for (int side = 0; side < 2; side++) {
            const struct direction *out = &connections[i]->way[side], *in = &connections[i]->way[!side];
            short events = 0;
            if (out->at == out->len && !out->ended)
                events |= POLLIN;
            if (in->at < in->len)
                events |= POLLOUT;
            /* A side that is waited on for nothing would report its hang-up for ever. */
            fds[n++] = (struct pollfd){.fd = events ? connections[i]->fd[side] : -1, .events = events};
        }
    return n;
}

/* Moves what can be moved from fd[side] to the other. False when the connection is broken. */
static bool move(struct connection *c, int side)
{
    struct direction *d = &c->way[side];
    ssize_t n;

    if (d->at == d->len && !d->ended) {
        n = recv(c->fd[side], d->data, sizeof(d->data), 0);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        d->at = 0;
        d->len = (size_t)n;
        d->ended = n == 0;
    }
    if (d->at < d->len) {
        n = send(c->fd[!side], d->data + d->at, d->len - d->at, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        d->at += (size_t)n;
    }
    if (d->ended && d->at == d->len && !d->passed_on) {
        d->passed_on = true;
        (void)shutdown(c->fd[!side], SHUT_WR);
    }
    return true;
}

void tcp_ports_serve(const struct pollfd *fds, size_t n)
{
    size_t before = (n - ARRAY_LEN(ports)) / 2;

    for (size_t i = before;
         i-- > 0;) { /* downwards: drop() moves the last one here, and that was served already */
        const struct pollfd *p = fds + ARRAY_LEN(ports) + 2 * i;
        struct connection *c = connections[i];
        bool whole = true;
        if (!p[0].revents && !p[1].revents)
            continue;
        for (int side = 0; side < 2 && whole; side++)
            whole = move(c, side);
        if (!whole || (c->way[0].passed_on && c->way[1].passed_on))
            drop(i);
    }
    for (size_t i = 0; i < ARRAY_LEN(ports); i++)
        if (fds[i].revents & POLLIN)
            take(i);
}
