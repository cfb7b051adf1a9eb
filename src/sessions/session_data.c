/*
 * session_data.c - what a session hears and says: messages in and out of its store, and the backend of its
 * queue port.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/weaken.h"
#include "events/notice.h"
#include "gateway/change.h"
#include "sessions/queue_port.h"
#include "sessions/session_impl.h"
#include "sessions/watch.h"
#include "vault/sql.h"

enum { REFUSALS_TOLD = 30 }; /* a minute */
static const uint64_t refusals_period_ns = 60ULL * 1000000000;

/* One record as JSON must fit into one frame with its envelope. */
enum { ENVELOPE = 256, HISTORY_BYTES = MESSAGE_MAX - ENVELOPE, REASON_ROOM = 2001 };

int session_store_failed(struct session *s, enum damage damage, const struct err *e, struct problem *p)
{
    if (damage != DAMAGE_NONE && s->damage == DAMAGE_NONE) {
        struct err why = ERR_INIT;
        s->damage = damage;
        log_error("%s", e->text);
        if (audit_append(s->h->audit, AUDIT_BATCHED, "session.damaged",
                         json_pack("{s:s,s:s}", "session", s->id, "damage", damage_name(damage)), &why) < 0)
            log_error("%s", why.text);
        session_step(s);
    }
    return problem_from_err(p, e);
}

static int check_text(const char *text, size_t len, struct problem *p)
{
    json_t *v = json_stringn(text, len);
    size_t escaped = v ? json_dumpb(v, NULL, 0, JSON_ENCODE_ANY | JSON_COMPACT) : 0;

    json_decref(v);
    if (!v)
        return problem_set(p, 400, "not_utf8", "a message must be UTF-8 text");
    if (memchr(text, 0, len))
        return problem_set(p, 400, "invalid", "a message must not hold NUL characters");
    if (escaped > MESSAGE_MAX - ENVELOPE)
        return problem_set(p, 413, "too_large", "a message may have at most %d bytes as JSON text",
                           MESSAGE_MAX - ENVELOPE);
    return 0;
}

int session_send(struct session *s, const char *text, size_t len, const char *idempotency, uint64_t *seq,
                 struct problem *p)
{
    struct queue_append a = {.direction = DIRECTION_IN,
                             .kind = RECORD_MESSAGE,
                             .text = text,
                             .len = len,
                             .idempotency = idempotency};
    struct err e = ERR_INIT;
    enum damage damage;
    uint64_t time;
    bool repeated;
    json_t *agent;

    if (s->removing)
        return problem_set(p, 409, "session_removed", "session %s is being removed", s->id);
    if (check_text(text, len, p) < 0)
        return -1;
    agent = agent_get(s->h, s->agent, p);
    if (!agent)
        return p->status == 404
                   ? problem_set(p, 409, "agent_removed",
                                 "agent \"%s\" was removed; its session takes no more messages", s->agent)
                   : -1;
    json_decref(agent);
    if (queue_append(s->h->store, session_ref(s), &a, seq, &time, &repeated, &damage, &e) < 0)
        return session_store_failed(s, damage, &e, p);
    if (!repeated)
        s->h->counters.messages_in++;
    /* Durable from here on: what follows may fail and is made good later, the sender is told of success. */
    if (session_desire(s, true, p) < 0) {
        log_error("%s", p->text);
        p->status = 0;
    }
    if (s->state == SESSION_FAILED || s->state == SESSION_RESTARTING) {
        if (s->state == SESSION_FAILED)
            s->attempt = 0;
        if (s->state == SESSION_FAILED)
            s->state = SESSION_STOPPED;
    }
    session_step(s);
    queue_port_wake(s->port);
    return 0;
}

int session_append(struct session *s, enum record_kind kind, const char *text, size_t len, uint64_t consumed,
                   uint64_t *seq, struct problem *p)
{
    struct queue_append a = {
        .direction = DIRECTION_OUT, .kind = kind, .text = text, .len = len, .consumed = consumed};
    struct err e = ERR_INIT;
    enum damage damage;
    uint64_t time;

    if (check_text(text, len, p) < 0)
        return -1;
    if (queue_append(s->h->store, session_ref(s), &a, seq, &time, NULL, &damage, &e) < 0) {
        if (e.code == EINVAL && damage == DAMAGE_NONE)
            return problem_set(p, 400, "bad_consumed", "%s", e.text);
        return session_store_failed(s, damage, &e, p);
    }
    s->h->counters.messages_out++;
    s->attempt = 0; /* it works: the next crash is a first one */
    watch_record(s);
    return 0;
}

/* ---- the queue port's backend; ctx is the session ---- */

static json_t *on_hello(void *ctx)
{
    const struct session *s = ctx;

    return json_pack("{s:s,s:s}", "session", s->id, "agent", s->agent);
}

static json_t *on_config(void *ctx, struct problem *p)
{
    struct session *s = ctx;
    json_t *agent = agent_get(s->h, s->agent, p), *out;
    static const char *const shown[] = {"instructions", "tools", "model", "provider"};

    if (!agent)
        return NULL;
    out = json_object();
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        (void)json_object_set(out, shown[i], json_object_get(agent, shown[i]));
    json_decref(agent);
    return out;
}

static bool take_first(void *arg, const struct queue_item *item)
{
    *(json_t **)arg = json_pack("{s:I,s:s%,s:I}", "seq", (json_int_t)item->seq, "text", item->text, item->len,
                                "time", (json_int_t)item->time);
    return false;
}

static int on_recv(void *ctx, json_t **message, struct problem *p)
{
    struct session *s = ctx;
    struct queue_heads heads;
    struct err e = ERR_INIT;
    enum damage damage;

    *message = NULL;
    if (queue_heads(s->h->store, session_ref(s), &heads, &damage, &e) < 0 ||
        (heads.in > heads.consumed && queue_read(s->h->store, session_ref(s), DIRECTION_IN, heads.consumed,
                                                 take_first, message, &damage, &e) < 0))
        return session_store_failed(s, damage, &e, p);
    return 0;
}

static int on_append(void *ctx, enum record_kind kind, const char *text, size_t len, uint64_t consumed,
                     uint64_t *seq, struct problem *p)
{
    return session_append(ctx, kind, text, len, consumed, seq, p);
}

static void on_delta(void *ctx, const char *text, size_t len)
{
    struct session *s = ctx;

    s->h->counters.deltas++;
    watch_delta(s, text, len);
}

static json_t *on_history(void *ctx, uint32_t limit, struct problem *p)
{
    return watch_history(ctx, true, 0, limit, HISTORY_BYTES, p);
}

static json_t *on_change(void *ctx, const char *kind, const json_t *document, const char *reason,
                         struct problem *p)
{
    struct session *s = ctx;
    char id[160];
    struct submitter by = {.id = id, .name = id, .is_agent = true};
    json_t *change, *shown;

    (void)io_format(id, sizeof(id), "agent:%s/%s", s->agent, s->id);
    change = change_submit(s->h, &by, kind, s->agent, document, reason, p);
    if (!change)
        return NULL;
    shown = json_object();
    (void)json_object_set(shown, "id", json_object_get(change, "id"));
    (void)json_object_set(shown, "state", json_object_get(change, "state"));
    (void)json_object_set(shown, "verdicts", json_object_get(change, "verdicts"));
    json_decref(change);
    return shown;
}

static json_t *on_change_status(void *ctx, const char *id, struct problem *p)
{
    struct session *s = ctx;
    json_t *change = change_get(s->h, id, false, p), *shown = NULL;
    CLEANUP_FREE char *mine = x_asprintf("agent:%s/", s->agent);
    const char *by = json_string_value(json_object_get(change, "submitted_by"));

    if (change && by && strncmp(by, mine, strlen(mine)) == 0)
        shown = json_pack("{s:s,s:O}", "id", id, "state", json_object_get(change, "state"));
    else if (change)
        (void)problem_set(p, 404, "not_found", "there is no change of this agent with that id");
    json_decref(change);
    return shown;
}

static void on_denied(void *ctx, const char *reason)
{
    const struct session *s = ctx;

    EVENT_NOTE(s->h->d, EVENT_PORT_DENIED, s->id, s->agent, s->wall, 1, {.text = "queue"}, {.text = reason});
}

#ifdef IRONCLAW_WEAKENED
/* What the queue port would be if it did not bind a connection to its session, or let the agent write both
 * directions. */
static void *on_other(void *ctx, const char *session)
{
    struct session *s = ctx;

    return session_find(s->h, session);
}

static int on_inbound(void *ctx, const char *text, size_t len, uint64_t *seq, struct problem *p)
{
    return session_send(ctx, text, len, NULL, seq, p);
}
#endif

const struct queue_backend session_backend = {
    .hello = on_hello,
    .config = on_config,
    .recv = on_recv,
    .append = on_append,
    .delta = on_delta,
    .history = on_history,
    .change = on_change,
    .change_status = on_change_status,
#ifdef IRONCLAW_WEAKENED
    .other = on_other,
    .inbound = on_inbound,
#endif
    .denied = on_denied,
};

/* ---- model use ---- */

static void save_one(void *arg, struct session *s)
{
    struct err e = ERR_INIT;

    (void)arg;
    if (!s->usage_dirty)
        return;
    if (sql_run(s->h->registry, &e,
                "UPDATE sessions SET calls = ?, tokens_in = ?, tokens_out = ? WHERE id = ?", "iiis",
                (int64_t)s->calls, (int64_t)s->tokens_in, (int64_t)s->tokens_out, s->id) < 0)
        log_error("%s", e.text);
    else
        s->usage_dirty = false;
}

void sessions_model_denied(struct hub *h, const char *id, const char *outcome)
{
    /* The port's own refusals; the others are the provider's, the client's or the host's doing. */
    static const char *const refusals[] = {"path", "method",      "request", "size",
                                           "rate", "concurrency", "budget"};
    const struct session *s = session_find(h, id);

    for (size_t i = 0; i < ARRAY_LEN(refusals); i++)
        if (strcmp(outcome, refusals[i]) == 0)
            EVENT_NOTE(h->d, EVENT_PORT_DENIED, s ? s->id : "", s ? s->agent : "", s ? s->wall : "", 1,
                       {.text = "model"}, {.text = refusals[i]});
}

void sessions_model_call(struct hub *h, const char *id, uint64_t tokens_in, uint64_t tokens_out)
{
    struct session *s = session_find(h, id);

    h->counters.tokens_in += tokens_in;
    h->counters.tokens_out += tokens_out;
    if (!s)
        return;
    s->calls++;
    s->tokens_in += tokens_in;
    s->tokens_out += tokens_out;
    s->usage_dirty = true;
    if (s->budgeted && tokens_in + tokens_out > 0)
        save_one(h,
                 s); /* a crash must not give tokens back; without a budget the next tick is early enough */
}

static void tell_refusals(struct hub *h, struct refusals *r, const char *id, bool now)
{
    struct err e = ERR_INIT;

    if (r->since == 0 || (!now && io_monotonic_ns() - r->since < refusals_period_ns))
        return;
    if (r->more > 0 &&
        audit_append(h->audit, AUDIT_BATCHED, "model.refused",
                     json_pack("{s:s,s:I}", "session", id, "calls", (json_int_t)r->more), &e) < 0) {
        log_error("%s", e.text);
        return; /* the count goes on, and is told later */
    }
    *r = (struct refusals){0};
}

bool sessions_model_refused(struct hub *h, const char *id)
{
    struct session *s = session_find(h, id);
    struct refusals *r = s ? &s->refusals : &h->strangers;

    tell_refusals(h, r, s ? id : "", false);
    if (r->since == 0)
        r->since = io_monotonic_ns();
    if (r->told < REFUSALS_TOLD) {
        r->told++;
        return true;
    }
    r->more++;
    return false;
}

static void tell_one(void *arg, struct session *s)
{
    tell_refusals(s->h, &s->refusals, s->id, *(const bool *)arg);
}

void sessions_tell_refusals(struct hub *h, bool now)
{
    sessions_each(h, tell_one, &now);
    tell_refusals(h, &h->strangers, "", now);
}

void sessions_save_usage(struct hub *h)
{
    sessions_each(h, save_one, NULL);
}
