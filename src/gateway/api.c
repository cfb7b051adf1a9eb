#include "gateway/api.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "events/notice.h"
#include "sessions/watch.h"
#include "vault/hub.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000, WAIT_MAX_MS = 60000, SUBJECT_MAX = 127 };

static const struct api_operation *const topics[] = {api_token_operations, api_agent_operations,
                                                     api_session_operations, api_system_operations,
                                                     api_event_operations};

static const struct api_operation *find(uint32_t type)
{
    for (size_t t = 0; t < ARRAY_LEN(topics); t++)
        for (const struct api_operation *o = topics[t]; o->run; o++)
            if (o->type == type)
                return o;
    return NULL;
}

void api_answer_text(struct hub *h, struct api_ref ref, bool more, unsigned status, const char *text,
                     size_t len)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct link *l = h->d->links[PEER_API];

    if (l && ref.epoch == h->api_epoch) {
        wire_put_u32(&o, status);
        wire_put_bytes(&o, text, len);
        if (o.failed) {
            static const char too_large[] = "{\"error\":{\"code\":\"too_large\",\"message\":\"the answer is "
                                            "too large; ask for less with limit\"}}";
            wire_out_free(&o);
            wire_put_u32(&o, 500);
            wire_put_bytes(&o, too_large, sizeof(too_large) - 1);
        }
        (void)link_reply(l, ref.call_id, more, &o, NULL, 0);
    }
}

static void reply(struct hub *h, struct api_ref ref, bool more, unsigned status, json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0;

    api_answer_text(h, ref, more, status, text, len);
    if (text)
        explicit_bzero(text, len); /* a new token may stand in it */
    free(text);
    json_decref(body);
}

void api_answer(struct hub *h, struct api_ref ref, unsigned status, json_t *body)
{
    reply(h, ref, false, status, body);
}

void api_answer_more(struct hub *h, struct api_ref ref, json_t *body)
{
    reply(h, ref, true, 200, body);
}

size_t api_backlog(const struct hub *h)
{
    const struct link *l = h->d->links[PEER_API];

    return l ? link_backlog(l) : 0;
}

const char *api_text(const struct api_call *c, const char *key, const char *fallback, struct problem *p)
{
    const json_t *v = json_object_get(c->body, key);

    if (!v && fallback)
        return fallback;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v)) {
        (void)problem_set(p, 400, "invalid", "the body needs \"%s\", a text", key);
        return NULL;
    }
    return json_string_value(v);
}

/* Who asks, and may they? */
static int authorize(struct api_call *c, const struct api_operation *o, const char *token, struct problem *p)
{
    if (o->scope == SCOPE_NONE)
        return 0;
    if (!c->h->tokens.bootstrapped)
        return problem_set(
            p, 403, "not_bootstrapped",
            "no administrator exists yet: exchange the bootstrap token that 'ironclaw up' printed");
    if (tokens_check(c->h, token, &c->who, p) < 0)
        return -1;
    if (c->who.scope < o->scope) {
        EVENT_NOTE(c->h->d, EVENT_AUTH_DENIED, "", "", "", 1, {.text = "scope"}, {.text = c->who.id});
        return problem_set(p, 403, "insufficient_scope", "this needs a token with the scope %s; yours has %s",
                           scope_name(o->scope), scope_name(c->who.scope));
    }
    return 0;
}

static int parse_body(struct api_call *c, const uint8_t *body, size_t len, struct problem *p)
{
    if (len == 0)
        return 0;
    c->body = json_loadb((const char *)body, len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(c->body))
        return problem_set(p, 400, "not_json",
                           "the body must be one JSON object, in UTF-8, without duplicate members");
    return 0;
}

static bool on_call(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct hub *h = ctx;
    const struct api_operation *o = find(req->type);
    struct api_call c = {.h = h, .ref = {req->id, h->api_epoch}};
    char token[TOKEN_TEXT_MAX + 1];
    struct problem p = {0};
    json_t *body = NULL;
    unsigned status = 0;
    const uint8_t *raw;
    size_t len;

    wire_get_str(in, token, sizeof(token));
    wire_get_str(in, c.subject, sizeof(c.subject));
    c.after = wire_get_u64(in);
    c.limit = wire_get_u32(in);
    c.wait_ms = wire_get_u32(in);
    raw = wire_get_bytes(in, API_BODY_MAX, &len);
    if (!wire_in_done(in) || !o || (req->id == 0) != (req->type == API_STREAM_CANCEL))
        return false;
    c.limit = c.limit == 0 ? LIMIT_DEFAULT : c.limit > LIMIT_MAX ? LIMIT_MAX : c.limit;
    c.wait_ms = c.wait_ms > WAIT_MAX_MS ? WAIT_MAX_MS : c.wait_ms;
    c.after = c.after > INT64_MAX ? INT64_MAX : c.after;
    if (authorize(&c, o, token, &p) == 0 && parse_body(&c, raw, len, &p) == 0)
        status = o->run(&c, &body, &p);
    explicit_bzero(token, sizeof(token));
    json_decref(c.body);
    if (req->id == 0) {
        json_decref(body);
        return true;
    }
    if (p.status) {
        json_decref(body);
        api_answer(h, c.ref, p.status, problem_json(&p));
    } else if (status) {
        api_answer(h, c.ref, status, body);
    }
    return true;
}

static void on_up(void *ctx, struct link *l)
{
    struct hub *h = ctx;

    (void)l;
    h->api_epoch++;
}

static void on_down(void *ctx)
{
    struct hub *h = ctx;

    h->api_epoch++;
    watch_drop_all(h);
    event_streams_drop(h);
}

void api_expect(struct hub *h)
{
    static struct link_rule rules[API_LAST - API_BOOTSTRAP];
    size_t n = 0;

    for (size_t t = 0; t < ARRAY_LEN(topics); t++)
        for (const struct api_operation *o = topics[t]; o->run; o++)
            rules[n++] = (struct link_rule){.type = o->type,
                                            .name = o->name,
                                            .min = 4 + 4 + 8 + 4 + 4 + 4,
                                            .max = 28 + TOKEN_TEXT_MAX + SUBJECT_MAX + API_BODY_MAX,
                                            .nfds = 0,
                                            .handler = on_call};
    daemon_expect(h->d, PEER_API, rules, n, h, on_up, on_down);
}
