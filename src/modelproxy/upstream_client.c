#include "modelproxy/upstream_client.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"

enum { WANT_EVERY_MS = 200 }; /* a process that is just ending cannot be started yet: ask again */

struct upstream_call {
    struct upstream_call *next; /* while waiting for the link */
    struct proxy *proxy;
    struct call *call;
    struct link *link; /* NULL while waiting */
    uint64_t id;
    struct event *timer;
    uint64_t deadline; /* monotonic ns: how long it waits for the link */
    bool again;        /* this is the second time that it is sent */
};

static void unwait(struct upstream_call *u)
{
    for (struct upstream_call **at = &u->proxy->waiting; *at; at = &(*at)->next) {
        if (*at == u) {
            *at = u->next;
            return;
        }
    }
}

static void upstream_free(struct upstream_call *u)
{
    if (!u->link)
        unwait(u);
    if (u->timer)
        event_free(u->timer);
    free(u);
}

/* Ends the call with an error and frees. */
static void fail(struct upstream_call *u, unsigned status, const char *message)
{
    call_end(u->call, status, "upstream", message);
    upstream_free(u);
}

static void cancel(void *source)
{
    struct upstream_call *u = source;

    if (u->link) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        wire_put_u64(&o, u->id);
        link_forget(u->link, u->id);
        (void)link_notify(u->link, UP_CANCEL, &o, NULL, 0);
    }
    upstream_free(u);
}

static void pause_source(void *source, bool paused)
{
    struct upstream_call *u = source;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (!u->link)
        return;
    wire_put_u64(&o, u->id);
    wire_put_u8(&o, paused);
    (void)link_notify(u->link, UP_PAUSE, &o, NULL, 0);
}

static const struct call_source upstream_ops = {cancel, pause_source};

/* Returns false when the reply does not parse. */
static bool on_part(struct upstream_call *u, bool more, struct wire_in *in)
{
    char type[128], extra[512], text[ERR_TEXT_MAX];
    const uint8_t *data;
    uint32_t number;
    size_t len;

    switch (wire_get_u8(in)) {
    case 'H':
        number = wire_get_u32(in);
        wire_get_str(in, type, sizeof(type));
        wire_get_str(in, extra, sizeof(extra));
        if (!wire_in_done(in) || !more || number < 100 || number > 599)
            return false;
        call_head(u->call, number, type, extra);
        return true;
    case 'D':
        data = wire_get_bytes(in, WIRE_MAX, &len);
        if (!wire_in_done(in) || !more)
            return false;
        call_data(u->call, data, len);
        return true;
    case 'E':
        number = wire_get_u32(in);
        wire_get_str(in, text, sizeof(text));
        if (!wire_in_done(in) || more)
            return false;
        if (number == 0 && u->call->status != 0) {
            call_end(u->call, 0, NULL, NULL);
            upstream_free(u);
        } else {
            /* No key is stored: a person has to act, so it is not a status that clients try again by
             * themselves. */
            fail(u, number == ENOENT ? 403 : 502, number ? text : "the provider's answer had no status");
        }
        return true;
    default:
        return false;
    }
}

/* Joins those who wait for the link. */
static void wait_for_link(struct upstream_call *u)
{
    static const struct timeval period = {0, (suseconds_t)WANT_EVERY_MS * 1000};
    struct proxy *p = u->proxy;

    u->link = NULL;
    u->next = p->waiting;
    p->waiting = u;
    u->deadline = io_monotonic_ns() + (uint64_t)UPSTREAM_WAIT_S * 1000000000;
    if (!p->d.links[PEER_UPSTREAM])
        daemon_want(&p->d, PEER_UPSTREAM);
    (void)event_add(u->timer, &period);
}

static void on_reply(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct upstream_call *u = arg;
    struct link *l = u->link;
    uint64_t id = u->id;

    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (!ok && !u->again && u->call->status == 0) {
        u->again = true;
        wait_for_link(u);
        return;
    }
    if (!ok) {
        fail(u, 502, "the connection to the provider was interrupted: try again");
        return;
    }
    if (on_part(u, more, in))
        return;
    log_error("upstream sent a reply that does not parse");
    if (more)
        link_forget(l, id);
    fail(u, 502, "the provider's answer could not be passed on");
}

static void send_request(struct upstream_call *u)
{
    struct call *c = u->call;
    struct link *l = u->proxy->d.links[PEER_UPSTREAM];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    uint64_t id;

    unwait(u);
    wire_put_str(&o, c->session->provider);
    wire_put_str(&o, c->path->method);
    wire_put_str(&o, c->path->path);
    wire_put_str(&o, c->content_type);
    wire_put_str(&o, c->accept);
    wire_put_str(&o, c->extra);
    id = link_call(l, UP_REQUEST, &o, &c->body_fd, 1, on_reply, u);
    u->link = l;
    u->id = id;
    if (id == 0)
        fail(u, 502, "the upstream process does not answer: try again");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    static const struct timeval period = {0, (suseconds_t)WANT_EVERY_MS * 1000};
    struct upstream_call *u = arg;

    (void)fd;
    (void)what;
    if (u->proxy->d.links[PEER_UPSTREAM]) {
        send_request(u);
    } else if (io_monotonic_ns() >= u->deadline) {
        fail(u, 503, "the upstream process is not running: try again in a few seconds");
    } else {
        daemon_want(&u->proxy->d, PEER_UPSTREAM);
        (void)event_add(u->timer, &period);
    }
}

void upstream_start(struct call *c)
{
    struct upstream_call *u = x_calloc(1, sizeof(*u));
    struct proxy *p = c->session->proxy;
    static const struct timeval now = {0, 0};

    u->proxy = p;
    u->call = c;
    u->timer = event_new(p->d.base, -1, 0, on_timer, u);
    if (!u->timer)
        abort();
    wait_for_link(u);
    if (p->d.links[PEER_UPSTREAM])
        (void)event_add(u->timer, &now);
    c->ops = &upstream_ops;
    c->source = u;
}

void upstream_link_up(struct proxy *p)
{
    struct timeval now = {0, 0};

    for (struct upstream_call *u = p->waiting; u; u = u->next)
        (void)event_add(u->timer, &now);
}
