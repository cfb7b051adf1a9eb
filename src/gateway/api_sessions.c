/*
 * api_sessions.c - operations on sessions and their messages.
 *
 * session: see session.h. message: {"seq","kind","text","time","in_reply_to"?}, kind message, question or
 * notice. Message lists: {"messages":[..],"last":n}, where n is what to pass as `after` next. History:
 * {"records":[{"direction":"in"|"out","seq","kind","text","time"}]}, the newest `limit` in time order; its
 * `after` is a time in ms. Logs: {"text"}. Stats: {"memory_bytes","cpu_us","pids"}. Stream events:
 * {"event":"message","data":message},
 * {"event":"delta","data":{"text"}}, {"event":"state","data":session}.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "gateway/api.h"
#include "sessions/watch.h"

enum { LIST_BYTES = 280 * 1024, LOGS_MAX = 64 * 1024, IDEMPOTENCY_MAX = 128, HISTORY_BYTES = 280 * 1024 };

static struct session *subject(struct api_call *c, struct problem *p)
{
    struct session *s = session_find(c->h, c->subject);

    if (!s)
        (void)problem_set(p, 404, "not_found", "there is no session \"%s\"", c->subject);
    return s;
}

struct listing {
    json_t *list;
    const char *agent;
    size_t bytes;
    bool truncated;
};

static void list_one(void *arg, struct session *s)
{
    struct listing *l = arg;

    if (l->agent[0] && strcmp(l->agent, s->agent) != 0)
        return;
    l->truncated = l->truncated || l->bytes > LIST_BYTES;
    if (l->truncated)
        return;
    (void)json_array_append_new(l->list, session_json(s));
    l->bytes += 320 + (s->reason ? strlen(s->reason) : 0);
}

static unsigned list(struct api_call *c, json_t **reply, struct problem *p)
{
    struct listing l = {json_array(), c->subject, 0, false};

    (void)p;
    sessions_each(c->h, list_one, &l);
    *reply = json_pack("{s:o,s:b}", "sessions", l.list, "truncated", (int)l.truncated);
    return 200;
}

static unsigned get(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);

    *reply = s ? session_json(s) : NULL;
    return 200;
}

static unsigned create(struct api_call *c, json_t **reply, struct problem *p)
{
    const char *agent = api_text(c, "agent", NULL, p);
    struct session *s = agent ? session_create(c->h, agent, p) : NULL;

    *reply = s ? session_json(s) : NULL;
    return 201;
}

static unsigned stop(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);

    (void)reply;
    if (s)
        (void)session_stop(s, c->ref, p);
    return 0;
}

static unsigned removal(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);

    (void)reply;
    if (s)
        (void)session_remove(s, c->ref, p);
    return 0;
}

/* ---- asked of the launcher ---- */

struct asked {
    struct hub *h;
    struct api_ref ref;
    bool logs;
};

static void on_told(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct asked *a = arg;
    struct problem p = {0};
    char text[ERR_TEXT_MAX];
    uint32_t code = 0;

    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (ok) {
        code = wire_get_u32(in);
        wire_get_str(in, text, sizeof(text));
    }
    if (!ok || in->failed || code != 0) {
        (void)problem_set(&p, 503, "launcher_unavailable", "%s",
                          ok && !in->failed ? text : "the launcher is restarting; try again");
        api_answer(a->h, a->ref, p.status, problem_json(&p));
    } else if (a->logs) {
        size_t len;
        const uint8_t *tail = wire_get_bytes(in, LOGS_MAX, &len);
        CLEANUP_FREE char *clean = x_malloc(len + 1);
        /* A sandbox writes what it likes; JSON holds UTF-8. Bytes that are not are shown as '?'. */
        for (size_t i = 0; i < len; i++)
            clean[i] = tail[i] < 0x80 && tail[i] != 0 ? (char)tail[i] : (char)'?';
        {
            json_t *exact = tail && !memchr(tail, 0, len) ? json_stringn((const char *)tail, len) : NULL;
            api_answer(a->h, a->ref, 200,
                       json_pack("{s:o}", "text", exact ? exact : json_stringn(clean, len)));
        }
    } else {
        uint64_t memory = wire_get_u64(in), cpu = wire_get_u64(in), pids = wire_get_u64(in);
        api_answer(a->h, a->ref, 200,
                   json_pack("{s:I,s:I,s:I}", "memory_bytes", (json_int_t)memory, "cpu_us", (json_int_t)cpu,
                             "pids", (json_int_t)pids));
    }
    free(a);
}

static unsigned ask(struct api_call *c, uint32_t type, bool logs, struct problem *p)
{
    struct session *s = subject(c, p);
    struct link *launcher = c->h->d->links[PEER_LAUNCHER];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct asked *a;

    if (!s)
        return 0;
    a = x_malloc(sizeof(*a));
    *a = (struct asked){c->h, c->ref, logs};
    wire_put_str(&o, s->id);
    if (!launcher || link_call(launcher, type, &o, NULL, 0, on_told, a) == 0) {
        free(a);
        (void)problem_set(p, 503, "launcher_unavailable", "the launcher is restarting; try again");
    }
    return 0;
}

static unsigned logs(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)reply;
    return ask(c, LAUNCH_LOGS, true, p);
}

static unsigned stats(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)reply;
    return ask(c, LAUNCH_STATS, false, p);
}

/* ---- messages ---- */

static unsigned send_message(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);
    const json_t *text = json_object_get(c->body, "text");
    const char *key;
    uint64_t seq;

    if (!s)
        return 0;
    if (!json_is_string(text) || json_string_length(text) == 0) {
        (void)problem_set(p, 400, "invalid", "the body needs \"text\", a text that is not empty");
        return 0;
    }
    key = api_text(c, "idempotency_key", "", p);
    if (key && strlen(key) > IDEMPOTENCY_MAX)
        (void)problem_set(p, 400, "too_long", "\"idempotency_key\" is longer than %d bytes", IDEMPOTENCY_MAX);
    if (p->status || session_send(s, json_string_value(text), json_string_length(text),
                                  key && key[0] ? key : NULL, &seq, p) < 0)
        return 0;
    *reply = json_pack("{s:I}", "seq", (json_int_t)seq);
    return 201;
}

static unsigned messages(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);

    (void)reply;
    if (s)
        watch_poll(s, c->ref, c->after, c->limit, c->wait_ms);
    return 0;
}

static unsigned history(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);
    json_t *records = s ? watch_history(s, false, c->after, c->limit, HISTORY_BYTES, p) : NULL;

    *reply = records ? json_pack("{s:o}", "records", records) : NULL;
    return 200;
}

static unsigned stream(struct api_call *c, json_t **reply, struct problem *p)
{
    struct session *s = subject(c, p);

    (void)reply;
    if (s)
        watch_stream(s, c->ref, c->after);
    return 0;
}

static unsigned cancel(struct api_call *c, json_t **reply, struct problem *p)
{
    uint64_t id;

    (void)reply;
    (void)p;
    if (io_parse_u64(c->subject, UINT64_MAX, &id)) {
        watch_cancel(c->h, id);
        event_streams_cancel(c->h, id);
    }
    return 0;
}

const struct api_operation api_session_operations[] = {
    {API_SESSION_LIST, "session list", SCOPE_READ, list},
    {API_SESSION_GET, "session get", SCOPE_READ, get},
    {API_SESSION_CREATE, "session create", SCOPE_OPERATOR, create},
    {API_SESSION_STOP, "session stop", SCOPE_OPERATOR, stop},
    {API_SESSION_REMOVE, "session remove", SCOPE_OPERATOR, removal},
    {API_SESSION_LOGS, "session logs", SCOPE_READ, logs},
    {API_SESSION_STATS, "session stats", SCOPE_READ, stats},
    {API_MESSAGE_SEND, "message send", SCOPE_OPERATOR, send_message},
    {API_MESSAGE_LIST, "message list", SCOPE_READ, messages},
    {API_HISTORY, "history", SCOPE_READ, history},
    {API_SESSION_STREAM, "session stream", SCOPE_READ, stream},
    {API_STREAM_CANCEL, "stream cancel", SCOPE_NONE, cancel},
    {0, NULL, SCOPE_NONE, NULL},
};
