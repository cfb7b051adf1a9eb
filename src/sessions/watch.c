#include "sessions/watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "gateway/api.h"
#include "vault/queue_store.h"

enum { BYTES_MAX = 280 * 1024, BACKLOG_MAX = 1 << 20, RETRY_MS = 50, STREAM_BATCH = 64 };

struct watch {
    struct watch *next;
    struct session *session;
    struct api_ref ref;
    bool stream;
    uint64_t after;
    uint32_t limit;
    struct event *timer; /* end of a poll; retry of a stream whose reader is slow */
};

const char *record_kind_name(uint32_t kind)
{
    return kind == RECORD_QUESTION ? "question" : kind == RECORD_NOTICE ? "notice" : "message";
}

struct gather {
    json_t *list;
    uint32_t limit;
    size_t bytes;
    uint64_t last;
};

static bool take_message(void *arg, const struct queue_item *item)
{
    struct gather *g = arg;
    json_t *m;

    if (json_array_size(g->list) >= g->limit || (g->bytes > 0 && g->bytes + item->len * 2 > BYTES_MAX))
        return false;
    m = json_pack("{s:I,s:s,s:s%,s:I}", "seq", (json_int_t)item->seq, "kind", record_kind_name(item->kind),
                  "text", item->text, item->len, "time", (json_int_t)item->time);
    if (item->reply_to)
        (void)json_object_set_new(m, "in_reply_to", json_integer((json_int_t)item->reply_to));
    (void)json_array_append_new(g->list, m);
    g->bytes += json_dumpb(m, NULL, 0, JSON_COMPACT);
    g->last = item->seq;
    return true;
}

json_t *watch_messages(struct session *s, uint64_t after, uint32_t limit, struct problem *p)
{
    struct gather g = {.list = json_array(), .limit = limit, .last = after};
    struct err e = ERR_INIT;
    enum damage damage;

    if (queue_read(s->h->store, session_ref(s), DIRECTION_OUT, after, take_message, &g, &damage, &e) < 0) {
        json_decref(g.list);
        (void)session_store_failed(s, damage, &e, p);
        return NULL;
    }
    return json_pack("{s:o,s:I}", "messages", g.list, "last", (json_int_t)g.last);
}

/* ---- history ---- */

struct collect {
    json_t *list;
    uint64_t since_ms, up_to;
};

static bool take_history(void *arg, const struct queue_item *item)
{
    struct collect *c = arg;

    if (item->direction == DIRECTION_IN && item->seq > c->up_to)
        return false;
    if (item->time > c->since_ms)
        (void)json_array_append_new(c->list,
                                    json_pack("{s:s,s:I,s:s,s:s%,s:I}", "direction",
                                              item->direction == DIRECTION_IN ? "in" : "out", "seq",
                                              (json_int_t)item->seq, "kind", record_kind_name(item->kind),
                                              "text", item->text, item->len, "time", (json_int_t)item->time));
    return true;
}

static json_int_t time_of(const json_t *list, size_t i)
{
    return json_integer_value(json_object_get(json_array_get(list, i), "time"));
}

/* Newest first from both lists, until limit or bytes run out; then turned around. */
static json_t *merge_newest(json_t *in, json_t *out, uint32_t limit, size_t bytes)
{
    size_t i = json_array_size(in), o = json_array_size(out), used = 0;
    json_t *newest = json_array(), *list = json_array();

    while ((i > 0 || o > 0) && json_array_size(newest) < limit) {
        bool from_out = i == 0 || (o > 0 && time_of(out, o - 1) >= time_of(in, i - 1));
        json_t *r = from_out ? json_array_get(out, --o) : json_array_get(in, --i);
        used += json_dumpb(r, NULL, 0, JSON_COMPACT) + 1;
        if (used > bytes)
            break;
        (void)json_array_append(newest, r);
    }
    for (size_t k = json_array_size(newest); k-- > 0;)
        (void)json_array_append(list, json_array_get(newest, k));
    json_decref(newest);
    return list;
}

json_t *watch_history(struct session *s, bool only_handled, uint64_t since_ms, uint32_t limit, size_t bytes,
                      struct problem *p)
{
    struct collect in = {json_array(), since_ms, UINT64_MAX}, out = {json_array(), since_ms, UINT64_MAX};
    struct queue_heads heads;
    struct err e = ERR_INIT;
    enum damage damage;
    json_t *list = NULL;
    uint64_t newest_in;

    if (queue_heads(s->h->store, session_ref(s), &heads, &damage, &e) < 0)
        goto failed;
    newest_in = only_handled ? heads.consumed : heads.in;
    in.up_to = newest_in;
    if (queue_read(s->h->store, session_ref(s), DIRECTION_IN, newest_in > limit ? newest_in - limit : 0,
                   take_history, &in, &damage, &e) < 0 ||
        queue_read(s->h->store, session_ref(s), DIRECTION_OUT, heads.out > limit ? heads.out - limit : 0,
                   take_history, &out, &damage, &e) < 0)
        goto failed;
    list = merge_newest(in.list, out.list, limit, bytes);
    goto out;
failed:
    (void)session_store_failed(s, damage, &e, p);
out:
    json_decref(in.list);
    json_decref(out.list);
    return list;
}

/* ---- watches ---- */

static void watch_free(struct watch *w)
{
    for (struct watch **at = &w->session->watches; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    if (w->timer)
        event_free(w->timer);
    free(w);
}

static void send_event(struct watch *w, const char *event, json_t *data)
{
    api_answer_more(w->session->h, w->ref, json_pack("{s:s,s:o}", "event", event, "data", data));
}

static void set_timer(struct watch *w, uint32_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

    (void)event_add(w->timer, &tv);
}

/* Sends stored records from where the reader is, as long as the link takes them. */
static void pump(struct watch *w)
{
    struct problem p = {0};
    json_t *batch, *list, *m;
    size_t i;

    for (;;) {
        if (api_backlog(w->session->h) > BACKLOG_MAX) {
            set_timer(w, RETRY_MS);
            return;
        }
        batch = watch_messages(w->session, w->after, STREAM_BATCH, &p);
        if (!batch)
            return; /* damaged: the change of state tells */
        list = json_object_get(batch, "messages");
        json_array_foreach(list, i, m) send_event(w, "message", json_incref(m));
        i = json_array_size(list);
        w->after = (uint64_t)json_integer_value(json_object_get(batch, "last"));
        json_decref(batch);
        if (i == 0)
            return;
    }
}

static void finish_poll(struct watch *w)
{
    struct problem p = {0};
    json_t *reply = watch_messages(w->session, w->after, w->limit, &p);

    api_answer(w->session->h, w->ref, reply ? 200 : p.status, reply ? reply : problem_json(&p));
    watch_free(w);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct watch *w = arg;

    (void)fd;
    (void)what;
    if (w->stream)
        pump(w);
    else
        finish_poll(w);
}

static struct watch *watch_new(struct session *s, struct api_ref ref, uint64_t after, bool stream)
{
    struct watch *w = x_calloc(1, sizeof(*w));

    w->session = s;
    w->ref = ref;
    w->after = after;
    w->stream = stream;
    w->timer = event_new(s->h->d->base, -1, 0, on_timer, w);
    if (!w->timer)
        abort();
    w->next = s->watches;
    s->watches = w;
    return w;
}

void watch_poll(struct session *s, struct api_ref ref, uint64_t after, uint32_t limit, uint32_t wait_ms)
{
    struct watch *w = watch_new(s, ref, after, false);
    struct queue_heads heads;
    struct err e = ERR_INIT;
    enum damage damage;

    w->limit = limit;
    if (wait_ms == 0 || queue_heads(s->h->store, session_ref(s), &heads, &damage, &e) < 0 ||
        heads.out > after)
        finish_poll(w);
    else
        set_timer(w, wait_ms);
}

void watch_stream(struct session *s, struct api_ref ref, uint64_t after)
{
    struct watch *w = watch_new(s, ref, after, true);

    send_event(w, "state", session_json(s));
    pump(w);
}

struct visit_all {
    void (*visit)(struct watch *w, void *arg);
    void *arg;
};

static void visit_session(void *arg, struct session *s)
{
    const struct visit_all *v = arg;
    struct watch *next;

    for (struct watch *w = s->watches; w; w = next) {
        next = w->next;
        v->visit(w, v->arg);
    }
}

static void each_watch(struct hub *h, void (*visit)(struct watch *w, void *arg), void *arg)
{
    struct visit_all v = {visit, arg};

    sessions_each(h, visit_session, &v);
}

static void cancel_one(struct watch *w, void *arg)
{
    if (w->ref.call_id == *(const uint64_t *)arg)
        watch_free(w);
}

static void drop_one(struct watch *w, void *arg)
{
    (void)arg;
    watch_free(w);
}

void watch_cancel(struct hub *h, uint64_t call_id)
{
    each_watch(h, cancel_one, &call_id);
}

void watch_drop_all(struct hub *h)
{
    each_watch(h, drop_one, NULL);
}

void watch_record(struct session *s)
{
    struct watch *next;

    for (struct watch *w = s->watches; w; w = next) {
        next = w->next;
        if (w->stream)
            pump(w);
        else
            finish_poll(w);
    }
}

void watch_delta(struct session *s, const char *text, size_t len)
{
    for (struct watch *w = s->watches; w; w = w->next)
        if (w->stream && api_backlog(s->h) <= BACKLOG_MAX)
            send_event(w, "delta", json_pack("{s:s%}", "text", text, len));
}

void watch_state(struct session *s)
{
    for (struct watch *w = s->watches; w; w = w->next)
        if (w->stream)
            send_event(w, "state", session_json(s));
}

void watch_end(struct session *s)
{
    struct watch *next;

    for (struct watch *w = s->watches; w; w = next) {
        next = w->next;
        if (w->stream)
            api_answer(
                s->h, w->ref, 200,
                json_pack("{s:s,s:{s:s,s:s}}", "event", "state", "data", "id", s->id, "state", "removed"));
        else
            api_answer(s->h, w->ref, 404,
                       json_pack("{s:{s:s,s:s}}", "error", "code", "not_found", "message",
                                 "the session was removed"));
        watch_free(w);
    }
}
