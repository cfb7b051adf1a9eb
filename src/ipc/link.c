/*
 * Frame: u32 type, u32 flags, u64 id, body. One SEQPACKET datagram each, at most HEADER + WIRE_MAX bytes.
 * The kernel bounds a datagram by SO_SNDBUF; setsockopt(SO_SNDBUF, net.core.wmem_max) doubles to 425,984
 * bytes with the default wmem_max of 212,992 (socket(7)), which is above the largest frame.
 */
#include "ipc/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "base/io.h"
#include "base/le.h"
#include "base/log.h"

enum { HEADER = 16, SOCKET_BUFFER = 212992, BATCH = 32 };
#define FLAG_REPLY 1U
#define FLAG_MORE  2U

struct pending_call {
    struct pending_call *next;
    uint64_t id;
    link_reply_cb cb;
    void *arg;
};

struct queued {
    struct queued *next;
    size_t len;
    int nfds;
    int fds[LINK_FDS_MAX];
    uint8_t data[];
};

struct link {
    struct event_base *base;
    int fd;
    char peer[32];
    const struct link_rule *rules;
    size_t nrules;
    void *ctx;
    link_closed_cb closed;
    void *closed_arg;
    struct event *ev_read, *ev_write, *ev_free;
    struct pending_call *calls;
    struct queued *head, **tail;
    size_t backlog;
    uint64_t next_id;
    bool closing;
    uint8_t *inbuf;
};

/* One receive buffer serves every link of the process: handlers run to completion before the next read. */
static uint8_t shared_inbuf[HEADER + WIRE_MAX];

static void close_fds(const int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

static void on_free(evutil_socket_t fd, short what, void *arg)
{
    struct link *l = arg;

    (void)fd;
    (void)what;
    event_free(l->ev_free);
    free(l);
}

void link_close(struct link *l, const char *why)
{
    struct timeval now = {0, 0};
    struct pending_call *c;
    struct queued *q;

    if (l->closing)
        return;
    l->closing = true;
    event_free(l->ev_read);
    event_free(l->ev_write);
    (void)close(l->fd);
    l->fd = -1;
    while ((q = l->head)) {
        l->head = q->next;
        close_fds(q->fds, q->nfds);
        explicit_bzero(q->data, q->len);
        free(q);
    }
    while ((c = l->calls)) {
        struct wire_in none = wire_in_init(NULL, 0);
        l->calls = c->next;
        c->cb(c->arg, false, false, &none, NULL, 0);
        free(c);
    }
    if (l->closed)
        l->closed(l->closed_arg, l, why);
    (void)event_add(l->ev_free, &now);
}

/* Returns 1 sent, 0 would block, -1 broken. */
static int send_frame(struct link *l, const uint8_t *data, size_t len, const int *fds, int nfds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;

    fdpass_attach(&msg, &room, fds, nfds);
    for (;;) {
        ssize_t n = sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0)
            return 1;
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == ENOBUFS ? 0 : -1;
    }
}

static int transmit(struct link *l, uint32_t type, uint32_t flags, uint64_t id, const struct wire_out *body,
                    const int *fds, int nfds)
{
    size_t len = HEADER + (body ? body->len : 0);
    struct queued *q;

    if (l->closing || nfds < 0 || nfds > LINK_FDS_MAX || (body && body->failed))
        return -1;
    q = x_malloc(sizeof(*q) + len);
    q->next = NULL;
    q->len = len;
    q->nfds = nfds;
    le_put(q->data, type, 4);
    le_put(q->data + 4, flags, 4);
    le_put(q->data + 8, id, 8);
    if (body && body->len > 0)
        memcpy(q->data + HEADER, body->buf, body->len);
    if (!l->head) {
        int sent = send_frame(l, q->data, len, fds, nfds);
        if (sent != 0) {
            explicit_bzero(q->data, len);
            free(q);
            return sent > 0 ? 0 : -1; /* a broken link is noticed and closed by its reader */
        }
    }
    for (int i = 0; i < nfds; i++)
        q->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    *l->tail = q;
    l->tail = &q->next;
    l->backlog += len;
    (void)event_add(l->ev_write, NULL);
    return 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct link *l = arg;

    (void)fd;
    (void)what;
    while (l->head) {
        struct queued *q = l->head;
        int sent = send_frame(l, q->data, q->len, q->fds, q->nfds);
        if (sent == 0)
            break;
        if (sent < 0) {
            link_close(l, "the peer is gone");
            return;
        }
        l->head = q->next;
        if (!l->head)
            l->tail = &l->head;
        l->backlog -= q->len;
        close_fds(q->fds, q->nfds);
        explicit_bzero(q->data, q->len);
        free(q);
    }
    if (l->head)
        (void)event_add(l->ev_write, NULL);
}

static void blame(struct link *l, const char *what, uint32_t type)
{
    char why[128];

    (void)io_format(why, sizeof(why), "%s sent %s (request type %u); cut off", l->peer, what, type);
    log_error("%s", why);
    link_close(l, why);
}

static void dispatch_reply(struct link *l, uint64_t id, bool more, struct wire_in *in, int *fds, int nfds)
{
    for (struct pending_call **at = &l->calls; *at; at = &(*at)->next) {
        struct pending_call *c = *at;
        if (c->id != id)
            continue;
        if (more) {
            c->cb(c->arg, true, true, in, fds, nfds);
            return;
        }
        *at = c->next;
        c->cb(c->arg, true, false, in, fds, nfds);
        free(c);
        return;
    }
    close_fds(fds, nfds); /* forgotten call */
}

static void dispatch_request(struct link *l, struct link_req *req, struct wire_in *in, size_t len)
{
    for (size_t i = 0; i < l->nrules; i++) {
        const struct link_rule *r = &l->rules[i];
        if (r->type != req->type)
            continue;
        if (len < r->min || len > r->max || (r->nfds >= 0 && req->nfds != r->nfds)) {
            close_fds(req->fds, req->nfds);
            blame(l, "an ill-formed request", req->type);
        } else if (!r->handler(l->ctx, req, in)) {
            blame(l, "a request whose fields do not parse", req->type);
        }
        return;
    }
    close_fds(req->fds, req->nfds);
    blame(l, "an unknown request", req->type);
}

/* Reads one frame. Returns false when there is none left or the link was closed. */
static bool read_frame(struct link *l)
{
    struct iovec iov = {.iov_base = l->inbuf, .iov_len = HEADER + WIRE_MAX};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;
    struct link_req req = {.link = l};
    struct wire_in in;
    uint32_t flags;
    ssize_t n;

    fdpass_expect(&msg, &room);
    n = recvmsg(l->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (n < 0) {
        link_close(l, "the peer is gone");
        return false;
    }
    req.nfds = fdpass_take(&msg, req.fds);
    if (n == 0) { /* end of file, or an empty message, which may carry descriptors */
        close_fds(req.fds, req.nfds);
        link_close(l, "the peer is gone");
        return false;
    }
    if (n < HEADER || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        close_fds(req.fds, req.nfds);
        blame(l, "a truncated message", 0);
        return false;
    }
    req.type = (uint32_t)le_get(l->inbuf, 4);
    flags = (uint32_t)le_get(l->inbuf + 4, 4);
    req.id = le_get(l->inbuf + 8, 8);
    in = wire_in_init(l->inbuf + HEADER, (size_t)n - HEADER);
    if (flags & FLAG_REPLY)
        dispatch_reply(l, req.id, flags & FLAG_MORE, &in, req.fds, req.nfds);
    else
        dispatch_request(l, &req, &in, (size_t)n - HEADER);
    return !l->closing;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct link *l = arg;

    (void)fd;
    (void)what;
    /* Bounded, so that one busy peer cannot starve the rest of the loop. l outlives the loop: freeing is
     * deferred. */
    for (int i = 0; i < BATCH; i++)
        if (!read_frame(l))
            return;
}

struct link *link_new(struct event_base *base, int fd, const char *peer, const struct link_rule *rules,
                      size_t nrules, void *ctx, link_closed_cb closed, void *closed_arg)
{
    struct link *l = x_calloc(1, sizeof(*l));
    int size = SOCKET_BUFFER;

    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    l->base = base;
    l->fd = fd;
    (void)io_format(l->peer, sizeof(l->peer), "%s", peer);
    l->rules = rules;
    l->nrules = nrules;
    l->ctx = ctx;
    l->closed = closed;
    l->closed_arg = closed_arg;
    l->tail = &l->head;
    l->inbuf = shared_inbuf;
    l->ev_read = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, l);
    l->ev_write = event_new(base, fd, EV_WRITE, on_writable, l);
    l->ev_free = event_new(base, -1, 0, on_free, l);
    if (!l->ev_read || !l->ev_write || !l->ev_free || event_add(l->ev_read, NULL) < 0)
        abort();
    return l;
}

int link_notify(struct link *l, uint32_t type, const struct wire_out *body, const int *fds, int nfds)
{
    return transmit(l, type, 0, 0, body, fds, nfds);
}

uint64_t link_call(struct link *l, uint32_t type, const struct wire_out *body, const int *fds, int nfds,
                   link_reply_cb cb, void *arg)
{
    struct pending_call *c;
    uint64_t id = ++l->next_id;

    if (transmit(l, type, 0, id, body, fds, nfds) < 0)
        return 0;
    c = x_malloc(sizeof(*c));
    *c = (struct pending_call){.next = l->calls, .id = id, .cb = cb, .arg = arg};
    l->calls = c;
    return id;
}

void link_forget(struct link *l, uint64_t id)
{
    for (struct pending_call **at = &l->calls; *at; at = &(*at)->next) {
        struct pending_call *c = *at;
        if (c->id == id) {
            *at = c->next;
            free(c);
            return;
        }
    }
}

int link_reply(struct link *l, uint64_t id, bool more, const struct wire_out *body, const int *fds, int nfds)
{
    return transmit(l, 0, FLAG_REPLY | (more ? FLAG_MORE : 0), id, body, fds, nfds);
}

size_t link_backlog(const struct link *l)
{
    return l->backlog;
}
