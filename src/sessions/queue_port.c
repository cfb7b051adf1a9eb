#include "sessions/queue_port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "sessions/frame.h"

enum {
    RATE_PER_S = 2000, /* cost units (quarters of an append): 500 durable appends a second */
    RATE_BURST = 4000,
    STALL_S = 30, /* a half-sent frame or an unread answer may rest this long */
    ACCEPT_PAUSE_MS = 100,
};

struct connection {
    struct connection *next;
    struct queue_port *port;
    int fd;
    struct event *ev;
    struct frame in;
    uint8_t *out; /* the answer being written; NULL none */
    size_t out_len, out_at;
    bool waiting;      /* in recv, until `deadline` */
    uint64_t deadline; /* monotonic ns */
};

struct queue_port {
    struct event_base *base;
    const struct queue_backend *backend;
    void *ctx;
    struct listener {
        int fd;
        struct event *ev, *resume;
    } listeners[2];
    struct connection *connections;
    unsigned nconnections;
    int64_t credit; /* cost units */
    uint64_t credit_at;
    unsigned busy; /* > 0 while a backend function runs: freeing is then deferred */
    bool dead;
};

static void on_event(evutil_socket_t fd, short what, void *arg);

static void connection_free(struct connection *c)
{
    struct queue_port *p = c->port;

    for (struct connection **at = &p->connections; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    p->nconnections--;
    event_free(c->ev);
    (void)close(c->fd);
    frame_reset(&c->in);
    free(c->out);
    free(c);
}

/* Waits for `what` on the connection, `ms` at most (0: for ever). */
static void expect(struct connection *c, short what, uint64_t ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

    (void)event_del(c->ev);
    (void)event_assign(c->ev, c->port->base, c->fd, what, on_event, c);
    (void)event_add(c->ev, ms > 0 ? &tv : NULL);
}

/* Milliseconds until the session may ask again; 0 now. */
static uint64_t refill(struct queue_port *p)
{
    uint64_t now = io_monotonic_ns(), passed = (now - p->credit_at) / 1000000;

    if (passed > 0) {
        if (passed > 10000)
            passed = 10000;
        p->credit += (int64_t)(passed * RATE_PER_S / 1000);
        if (p->credit > RATE_BURST)
            p->credit = RATE_BURST;
        p->credit_at = now;
    }
    return p->credit >= 0 ? 0 : (uint64_t)(-p->credit) * 1000 / RATE_PER_S + 1;
}

/* Writes what is left of the answer. 1 done, 0 the peer does not read, -1 gone. */
static int flush(struct connection *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        c->out_at += (size_t)n;
    }
    free(c->out);
    c->out = NULL;
    return 1;
}

/* Steals the answer. False when the connection is gone. */
static bool answer(struct connection *c, json_t *json)
{
    size_t len = json_dumpb(json, NULL, 0, JSON_COMPACT);

    c->waiting = false;
    if (len == 0 || len > FRAME_MAX) {
        json_decref(json);
        json = queue_error("too_large", "the answer does not fit into one frame; ask for less");
        len = json_dumpb(json, NULL, 0, JSON_COMPACT);
    }
    c->out = x_malloc(FRAME_HEAD + len);
    (void)json_dumpb(json, (char *)c->out + FRAME_HEAD, len, JSON_COMPACT);
    json_decref(json);
    for (unsigned i = 0; i < FRAME_HEAD; i++)
        c->out[i] = (uint8_t)(len >> (24 - 8 * i));
    c->out_len = FRAME_HEAD + len;
    c->out_at = 0;
    if (flush(c) < 0) {
        connection_free(c);
        return false;
    }
    return true;
}

/* What the connection does next, from its state alone. */
static void proceed(struct connection *c)
{
    uint64_t now = io_monotonic_ns(), pause;

    if (c->out)
        expect(c, EV_WRITE, (uint64_t)STALL_S * 1000);
    else if (c->waiting)
        expect(c, EV_CLOSED, c->deadline > now ? (c->deadline - now) / 1000000 + 1 : 1);
    else if ((pause = refill(c->port)) > 0)
        expect(c, EV_CLOSED, pause);
    else
        expect(c, EV_READ, c->in.have > 0 ? STALL_S * 1000 : 0);
}

static void really_free(struct queue_port *p)
{
    struct connection *next;

    for (struct connection *c = p->connections; c; c = next) {
        next = c->next;
        connection_free(c);
    }
    free(p);
}

static bool enter(struct queue_port *p)
{
    p->busy++;
    return true;
}

/* Returns false when the port was freed meanwhile. */
static bool leave(struct queue_port *p)
{
    if (--p->busy == 0 && p->dead) {
        really_free(p);
        return false;
    }
    return !p->dead;
}

/* Runs one complete frame. False when the connection or port is gone. */
static bool run_frame(struct connection *c)
{
    struct queue_port *p = c->port;
    uint32_t wait_ms = 0;
    unsigned cost = 0;
    json_t *reply;

    (void)enter(p);
    reply = queue_request(p->backend, p->ctx, c->in.body, c->in.len, &wait_ms, &cost);
    if (!leave(p)) {
        json_decref(reply);
        return false;
    }
    frame_reset(&c->in);
    p->credit -= cost;
    if (reply)
        return answer(c, reply);
    c->waiting = true;
    c->deadline = io_monotonic_ns() + (uint64_t)wait_ms * 1000000;
    return true;
}

/* Reads until one request was handled, or nothing is left to read. */
static void readable(struct connection *c)
{
    for (;;) {
        size_t room;
        uint8_t *at = frame_room(&c->in, &room);
        ssize_t n = recv(c->fd, at, room, MSG_DONTWAIT);
        enum frame_state st;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            connection_free(c);
            return;
        }
        st = frame_got(&c->in, (size_t)n);
        if (st == FRAME_BAD) {
            /* Where the next frame starts is unknown: say why, then hang up. */
            c->port->backend->denied(c->port->ctx, "bad_length");
            if (answer(c, queue_error("bad_length", "a frame has 1 to 262144 bytes")))
                connection_free(c);
            return;
        }
        if (st == FRAME_DONE) {
            if (!run_frame(c))
                return;
            break; /* others get their turn before this connection's next request */
        }
    }
    proceed(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;

    (void)fd;
    if (c->out) {
        if (what & EV_TIMEOUT || flush(c) < 0)
            connection_free(c);
        else
            proceed(c);
    } else if (what & EV_CLOSED) {
        connection_free(c);
    } else if (c->waiting) {
        if (io_monotonic_ns() < c->deadline || answer(c, queue_message_answer(NULL)))
            proceed(c);
    } else if (what & EV_READ) {
        readable(c);
    } else if (c->in.have > 0 && c->port->credit >= 0) {
        c->port->backend->denied(c->port->ctx, "stalled");
        connection_free(c); /* half a frame, then silence */
    } else {
        proceed(c); /* the pause is over */
    }
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;

    (void)fd;
    (void)what;
    (void)event_add(l->ev, NULL);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct queue_port *p = arg;
    struct connection *c;
    int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)what;
    if (got < 0) {
        static const struct timeval pause = {0, (suseconds_t)ACCEPT_PAUSE_MS * 1000};
        struct listener *l = &p->listeners[fd == p->listeners[1].fd];
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return;
        /* Out of descriptors: the connection stays in the backlog; do not spin on it. */
        (void)event_del(l->ev);
        (void)event_add(l->resume, &pause);
        return;
    }
    if (p->nconnections >= QUEUE_CONNECTIONS_MAX) {
        static const char text[] = "\0\0\0\x6e{\"ok\":false,\"error\":{\"code\":\"too_many_connections\","
                                   "\"message\":\"at most 16 connections per session; close one\"}}";
        _Static_assert(sizeof(text) - 1 - FRAME_HEAD == 0x6e, "the frame's length");
        p->backend->denied(p->ctx, "too_many_connections");
        (void)!send(got, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)close(got);
        return;
    }
    c = x_calloc(1, sizeof(*c));
    c->port = p;
    c->fd = got;
    c->ev = event_new(p->base, got, EV_READ, on_event, c);
    if (!c->ev)
        abort();
    c->next = p->connections;
    p->connections = c;
    p->nconnections++;
    proceed(c);
}

struct queue_port *queue_port_new(struct event_base *base, int unix_fd, int tcp_fd,
                                  const struct queue_backend *b, void *ctx)
{
    struct queue_port *p = x_calloc(1, sizeof(*p));
    int fds[2] = {unix_fd, tcp_fd};

    p->base = base;
    p->backend = b;
    p->ctx = ctx;
    p->credit = RATE_BURST;
    p->credit_at = io_monotonic_ns();
    for (int i = 0; i < 2; i++) {
        struct listener *l = &p->listeners[i];
        l->fd = fds[i];
        (void)fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) | O_NONBLOCK);
        l->ev = event_new(base, l->fd, EV_READ | EV_PERSIST, on_accept, p);
        l->resume = event_new(base, -1, 0, on_resume, l);
        if (!l->ev || !l->resume || event_add(l->ev, NULL) < 0)
            abort();
    }
    return p;
}

void queue_port_free(struct queue_port *p)
{
    if (!p || p->dead)
        return;
    p->dead = true;
    for (int i = 0; i < 2; i++) {
        event_free(p->listeners[i].ev);
        event_free(p->listeners[i].resume);
        (void)close(p->listeners[i].fd);
    }
    /* No further event of a connection may run: its backend's context is about to go. */
    for (struct connection *c = p->connections; c; c = c->next)
        (void)event_del(c->ev);
    if (p->busy == 0)
        really_free(p);
}

void queue_port_wake(struct queue_port *p)
{
    struct connection *c, *next;
    struct problem why = {0};
    json_t *message = NULL;

    if (!p || p->dead)
        return;
    (void)enter(p);
    for (c = p->connections; c && !c->waiting; c = c->next)
        ;
    if (c && p->backend->recv(p->ctx, &message, &why) < 0)
        message = NULL;
    if (!leave(p)) {
        json_decref(message);
        return;
    }
    if (!message)
        return;
    for (c = p->connections; c; c = next) {
        next = c->next;
        if (c->waiting && answer(c, queue_message_answer(json_incref(message))))
            proceed(c);
    }
    json_decref(message);
}
