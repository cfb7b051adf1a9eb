/*
 * readers.c - the vault reads: at once, or as soon as there is something new. It asks again for more, so a
 * slow client costs nothing here: the ring goes on without it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "events/events.h"

enum { READ_MAX = 1000, READ_BYTES = 256 * 1024, READERS_MAX = 4096 };

struct reader {
    struct reader *next;
    struct events *ev;
    uint64_t id, after;
    uint32_t limit;
    char session[SESSION_ID_MAX + 1];
    struct event *timer; /* the end of the wait */
};

static bool wanted(const struct reader *r, const struct ring_item *i)
{
    const struct owner *o = (const struct owner *)(const void *)i->share;

    return !r->session[0] || !strcmp(o->session, r->session);
}

/* Replies with what there is from `after` on. With `only_if_any`, returns false when that is nothing. */
static bool reply(struct reader *r, bool only_if_any)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    const struct ring_item *i = ring_after(&r->ev->ring, r->after);
    char *text = NULL;
    size_t len = 0;
    uint32_t n = 0;

    for (; i && n < r->limit; i = i->next) {
        if (wanted(r, i)) {
            if (len + i->len + 1 > READ_BYTES)
                break;
            text = x_realloc(text, len + i->len + 1);
            memcpy(text + len, i->text, i->len);
            len += i->len;
            text[len++] = '\n';
            n++;
        }
        r->after = i->seq; /* also past what was not wanted */
    }
    if (n == 0 && only_if_any)
        return false;
    wire_put_u64(&o, r->after);
    wire_put_u32(&o, n);
    wire_put_bytes(&o, text, len);
    free(text);
    if (r->ev->d.links[PEER_VAULT])
        (void)link_reply(r->ev->d.links[PEER_VAULT], r->id, false, &o, NULL, 0);
    return true;
}

static void reader_free(struct reader *r)
{
    for (struct reader **at = &r->ev->readers; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    event_free(r->timer);
    free(r);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)reply(arg, false);
    reader_free(arg);
}

bool readers_on_read(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct events *ev = ctx;
    struct reader now = {.ev = ev, .id = req->id}, *r;
    struct timeval wait;
    uint32_t wait_ms;
    unsigned waiting = 0;

    now.after = wire_get_u64(in);
    now.limit = wire_get_u32(in);
    wait_ms = wire_get_u32(in);
    wire_get_str(in, now.session, sizeof(now.session));
    if (!wire_in_done(in) || req->id == 0 || now.limit == 0 || now.limit > READ_MAX)
        return false;
    if (now.after > ev->seq)
        now.after = 0; /* from a time when the clock was ahead: rather twice than never */
    for (r = ev->readers; r; r = r->next)
        waiting++;
    if (reply(&now, wait_ms > 0 && waiting < READERS_MAX))
        return true;
    r = x_malloc(sizeof(*r));
    *r = now;
    r->timer = event_new(ev->d.base, -1, 0, on_timer, r);
    if (!r->timer)
        abort();
    wait = (struct timeval){.tv_sec = wait_ms / 1000, .tv_usec = (suseconds_t)(wait_ms % 1000) * 1000};
    (void)event_add(r->timer, &wait);
    r->next = ev->readers;
    ev->readers = r;
    return true;
}

void readers_wake(struct events *ev)
{
    struct reader *next;

    for (struct reader *r = ev->readers; r; r = next) {
        next = r->next;
        if (reply(r, true))
            reader_free(r);
    }
}

void readers_vault_up(void *ctx, struct link *l)
{
    (void)l;
    readers_tell_counters(ctx);
}

void readers_vault_down(void *ctx)
{
    readers_free(ctx);
}

void readers_free(struct events *ev)
{
    struct reader *next;

    for (struct reader *r = ev->readers; r; r = next) {
        next = r->next;
        reader_free(r);
    }
}

void readers_tell_counters(struct events *ev)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (!ev->d.links[PEER_VAULT])
        return;
    wire_put_u64(&o, ev->counters.events);
    wire_put_u64(&o, ev->counters.evicted);
    for (size_t i = 0; i < DROPS; i++)
        wire_put_u64(&o, ev->counters.dropped[i]);
    if (link_notify(ev->d.links[PEER_VAULT], EVENTS_COUNTERS, &o, NULL, 0) == 0)
        ev->counters_told = ev->counters;
}
