#include "sessions/queue_request.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/weaken.h"
#include "sessions/frame.h"

enum { WAIT_MAX_S = 60, HISTORY_DEFAULT = 50, HISTORY_MAX = 1000 };

/* One request being answered. */
struct request {
    const struct queue_backend *b;
    void *ctx;
    const json_t *in;
    uint32_t wait_ms;
    bool waits;
    struct problem p;
};

json_t *queue_error(const char *code, const char *text)
{
    return json_pack("{s:b,s:{s:s,s:s}}", "ok", 0, "error", "code", code, "message", text);
}

json_t *queue_message_answer(json_t *message)
{
    return json_pack("{s:b,s:o}", "ok", 1, "message", message ? message : json_null());
}

static json_t *ok_with(const char *key, json_t *value)
{
    return value ? json_pack("{s:b,s:o}", "ok", 1, key, value) : NULL;
}

static const char *text_in(const json_t *in, const char *key)
{
    const char *t = json_string_value(json_object_get(in, key));

    return t ? t : "";
}

/* A whole number from 0 to max under `key`; `missing` if absent. False (with p) when it is something else. */
static bool number_in(struct request *r, const char *key, uint64_t max, uint64_t missing, uint64_t *out)
{
    const json_t *v = json_object_get(r->in, key);

    *out = missing;
    if (!v)
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max) {
        (void)problem_set(&r->p, 400, "invalid", "\"%s\" must be a whole number from 0 to %llu", key,
                          (unsigned long long)max);
        return false;
    }
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static json_t *do_hello(struct request *r)
{
    json_t *o = r->b->hello(r->ctx);

    (void)json_object_set_new(o, "ok", json_true());
    (void)json_object_set_new(o, "max_frame", json_integer(FRAME_MAX));
    return o;
}

static json_t *do_config(struct request *r)
{
    return ok_with("config", r->b->config(r->ctx, &r->p));
}

static json_t *do_recv(struct request *r)
{
    json_t *message = NULL;
    uint64_t wait;

    if (!number_in(r, "wait", WAIT_MAX_S, 0, &wait) || r->b->recv(r->ctx, &message, &r->p) < 0)
        return NULL;
    if (!message && wait > 0) {
        r->waits = true;
        r->wait_ms = (uint32_t)wait * 1000;
        return NULL;
    }
    return queue_message_answer(message);
}

static json_t *do_append(struct request *r)
{
    static const struct {
        const char *name;
        enum record_kind kind;
    } kinds[] = {{"message", RECORD_MESSAGE}, {"question", RECORD_QUESTION}, {"notice", RECORD_NOTICE}};
    const json_t *text = json_object_get(r->in, "text");
    const char *kind = text_in(r->in, "kind");
    uint64_t consumed, seq;

    if (!json_is_string(text)) {
        (void)problem_set(&r->p, 400, "invalid", "\"text\" must be text");
        return NULL;
    }
    if (!number_in(r, "consumed", INT64_MAX, 0, &consumed))
        return NULL;
#ifdef IRONCLAW_WEAKENED
    if (weakened("queue-inbound") && strcmp(text_in(r->in, "direction"), "in") == 0 && r->b->inbound)
        return r->b->inbound(r->ctx, json_string_value(text), json_string_length(text), &seq, &r->p) < 0
                   ? NULL
                   : json_pack("{s:b,s:I}", "ok", 1, "seq", (json_int_t)seq);
#endif
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i].name) != 0)
            continue;
        if (r->b->append(r->ctx, kinds[i].kind, json_string_value(text), json_string_length(text), consumed,
                         &seq, &r->p) < 0)
            return NULL;
        return json_pack("{s:b,s:I}", "ok", 1, "seq", (json_int_t)seq);
    }
    (void)problem_set(&r->p, 400, "invalid", "\"kind\" must be message, question or notice");
    return NULL;
}

static json_t *do_delta(struct request *r)
{
    const json_t *text = json_object_get(r->in, "text");

    if (!json_is_string(text)) {
        (void)problem_set(&r->p, 400, "invalid", "\"text\" must be text");
        return NULL;
    }
    r->b->delta(r->ctx, json_string_value(text), json_string_length(text));
    return json_pack("{s:b}", "ok", 1);
}

static json_t *do_history(struct request *r)
{
    uint64_t limit;

    if (!number_in(r, "limit", HISTORY_MAX, HISTORY_DEFAULT, &limit))
        return NULL;
    return ok_with("records", r->b->history(r->ctx, (uint32_t)limit, &r->p));
}

static json_t *do_change(struct request *r)
{
    const json_t *document = json_object_get(r->in, "document");

    if (!json_is_object(document)) {
        (void)problem_set(&r->p, 400, "invalid", "\"document\" must be an object");
        return NULL;
    }
    return ok_with("change",
                   r->b->change(r->ctx, text_in(r->in, "kind"), document, text_in(r->in, "reason"), &r->p));
}

static json_t *do_change_status(struct request *r)
{
    return ok_with("change", r->b->change_status(r->ctx, text_in(r->in, "id"), &r->p));
}

static const struct {
    const char *name;
    json_t *(*run)(struct request *r);
    unsigned cost;
} operations[] = {
    {"hello", do_hello, COST_LIGHT},    {"config", do_config, COST_LIGHT},
    {"recv", do_recv, COST_LIGHT},      {"append", do_append, COST_APPEND},
    {"delta", do_delta, COST_LIGHT},    {"history", do_history, COST_HISTORY},
    {"change", do_change, COST_CHANGE}, {"change_status", do_change_status, COST_LIGHT},
};

json_t *queue_request(const struct queue_backend *b, void *ctx, const uint8_t *data, size_t len,
                      uint32_t *wait_ms, unsigned *cost)
{
    json_t *in = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL), *answer = NULL;
    struct request r = {.b = b, .ctx = ctx, .in = in};
    const char *op = json_string_value(json_object_get(in, "op"));

    *cost = COST_LIGHT;
    if (!json_is_object(in))
        (void)problem_set(&r.p, 400, "not_json", "a frame must hold one JSON object");
    else if (!op)
        (void)problem_set(&r.p, 400, "unknown_op", "the object needs \"op\"");
    else
        (void)problem_set(&r.p, 400, "unknown_op", "this \"op\" is not known");
#ifdef IRONCLAW_WEAKENED
    if (weakened("queue-binding") && *text_in(in, "session")) {
        void *other = b->other ? b->other(ctx, text_in(in, "session")) : NULL;
        r.ctx = other ? other : ctx;
    }
#endif
    for (size_t i = 0; op && i < ARRAY_LEN(operations); i++) {
        if (strcmp(op, operations[i].name) != 0)
            continue;
        r.p.status = 0;
        *cost = operations[i].cost;
        answer = operations[i].run(&r);
        break;
    }
    json_decref(in);
    if (!answer && r.waits) {
        *wait_ms = r.wait_ms;
        return NULL;
    }
    if (!answer) {
        if (r.p.status < 500) /* what is not its fault is no denial */
            b->denied(ctx, r.p.code);
        answer = problem_json(&r.p);
        (void)json_object_set_new(answer, "ok", json_false());
    }
    return answer;
}
