/*
 * api_events.c - the event stream for the API: asked of the events process, handed on as it is, never parsed
 * here.
 *
 * A stream asks for the next events when api has taken the last ones. When the events process is restarted
 * the stream stays open and goes on: numbers only grow.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "gateway/api.h"

enum { WAIT_MS = 60000, RETRY_MS = 100, BATCH = 100, BACKLOG_MAX = 1 << 20 };

struct event_stream {
    struct event_stream *next;
    struct hub *h;
    struct api_ref ref;
    char session[SESSION_ID_MAX + 1];
    uint64_t after;
    uint64_t call; /* open call to events, 0 none */
    bool once;     /* a list: one answer */
    struct event *retry;
};

static void stream_free(struct event_stream *s)
{
    struct link *events = s->h->d->links[PEER_EVENTS];

    for (struct event_stream **at = &s->h->event_streams; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    if (s->call && events)
        link_forget(events, s->call);
    if (s->retry)
        event_free(s->retry);
    free(s);
}

void event_streams_cancel(struct hub *h, uint64_t call_id)
{
    struct event_stream *next;

    for (struct event_stream *s = h->event_streams; s; s = next) {
        next = s->next;
        if (s->ref.call_id == call_id)
            stream_free(s);
    }
}

void event_streams_drop(struct hub *h)
{
    while (h->event_streams)
        stream_free(h->event_streams);
}

static void later(struct event_stream *s)
{
    static const struct timeval soon = {0, (suseconds_t)RETRY_MS * 1000};

    (void)event_add(s->retry, &soon);
}

/* Each line is one event. */
static void hand_on(struct event_stream *s, const char *lines, size_t len)
{
    static const char head[] = "{\"event\":\"event\",\"data\":";
    char *out = NULL;

    for (const char *end; len > 0 && (end = memchr(lines, '\n', len)); lines = end + 1) {
        size_t n = (size_t)(end - lines);
        out = x_realloc(out, sizeof(head) + n);
        memcpy(out, head, sizeof(head) - 1);
        memcpy(out + sizeof(head) - 1, lines, n);
        out[sizeof(head) - 1 + n] = '}';
        api_answer_text(s->h, s->ref, true, 200, out, sizeof(head) + n);
        len -= n + 1;
    }
    free(out);
}

static void answer_list(const struct event_stream *s, const char *lines, size_t len)
{
    char *list = x_malloc(len + 1), *text;

    memcpy(list, lines, len);
    for (size_t i = 0; i < len; i++)
        if (list[i] == '\n')
            list[i] = ',';
    list[len > 0 ? len - 1 : 0] = 0; /* the last comma */
    text = x_asprintf("{\"events\":[%s],\"last\":%llu}", list, (unsigned long long)s->after);
    api_answer_text(s->h, s->ref, false, 200, text, strlen(text));
    free(text);
    free(list);
}

static void unavailable(struct problem *p)
{
    (void)problem_set(p, 503, "events_unavailable", "the events process is restarting; try again");
}

static void ask(struct event_stream *s, uint32_t limit);

static void on_events(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct event_stream *s = arg;
    const uint8_t *lines = NULL;
    uint64_t last = 0;
    size_t len = 0;

    (void)more;
    s->call = 0;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (ok) {
        last = wire_get_u64(in);
        (void)wire_get_u32(in);
        lines = wire_get_bytes(in, WIRE_MAX, &len);
        ok = wire_in_done(in);
    }
    if (ok)
        s->after = last;
    if (s->once) {
        struct problem p = {0};
        if (ok) {
            answer_list(s, (const char *)lines, len);
        } else {
            unavailable(&p);
            api_answer(s->h, s->ref, p.status, problem_json(&p));
        }
        stream_free(s);
        return;
    }
    if (ok)
        hand_on(s, (const char *)lines, len);
    if (!ok || api_backlog(s->h) > BACKLOG_MAX)
        later(s);
    else
        ask(s, BATCH);
}

static void ask(struct event_stream *s, uint32_t limit)
{
    struct link *events = s->h->d->links[PEER_EVENTS];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_u64(&o, s->after);
    wire_put_u32(&o, limit);
    wire_put_u32(&o, s->once ? 0 : WAIT_MS);
    wire_put_str(&o, s->session);
    if (events)
        s->call = link_call(events, EVENTS_READ, &o, NULL, 0, on_events, s);
    if (s->call == 0 && !s->once)
        later(s);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct event_stream *s = arg;

    (void)fd;
    (void)what;
    if (api_backlog(s->h) > BACKLOG_MAX)
        later(s);
    else
        ask(s, BATCH);
}

static struct event_stream *stream_new(const struct api_call *c, bool once)
{
    struct event_stream *s = x_calloc(1, sizeof(*s));

    s->h = c->h;
    s->ref = c->ref;
    s->after = c->after;
    s->once = once;
    (void)io_format(s->session, sizeof(s->session), "%s", c->subject);
    s->retry = event_new(c->h->d->base, -1, 0, on_retry, s);
    if (!s->retry)
        abort();
    s->next = c->h->event_streams;
    c->h->event_streams = s;
    return s;
}

static unsigned list(struct api_call *c, json_t **reply, struct problem *p)
{
    struct event_stream *s = stream_new(c, true);

    (void)reply;
    ask(s, c->limit);
    if (s->call == 0) {
        stream_free(s);
        unavailable(p);
    }
    return 0;
}

static unsigned stream(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)reply;
    (void)p;
    ask(stream_new(c, false), BATCH);
    return 0;
}

const struct api_operation api_event_operations[] = {
    {API_EVENT_LIST, "event list", SCOPE_READ, list},
    {API_EVENT_STREAM, "event stream", SCOPE_READ, stream},
    {0, NULL, SCOPE_NONE, NULL},
};
