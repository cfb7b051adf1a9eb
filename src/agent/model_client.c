#include "agent/model_client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <stdlib.h>
#include <string.h>

#include "agent/queue_client.h"
#include "agent/sse.h"
#include "base/cleanup.h"
#include "base/io.h"

enum {
    MODEL_TCP_PORT = 8471,
    MODEL_TIMEOUT_S = 310, /* the port gives a provider 300 s of silence; it should be the one to give up */
    MODEL_ANSWER_MAX = 4 << 20, /* bytes of one answer */
    MODEL_EVENT_MAX = 1 << 20,
    MODEL_TOKENS_MAX = 4096,
    SHOW_AFTER_MS = 15,
};

/* One answer while it arrives. */
struct attempt {
    struct event_base *base;
    const struct model_options *o;
    struct model_answer *a;
    struct err *e;
    struct sse sse;
    char *partial; /* input of the tool call that is open */
    size_t partial_len, total;
    char *error_body;
    size_t error_len;
    char *shown; /* text that waits to be shown to whoever watches */
    size_t shown_len;
    struct event *show;
    bool stopped, failed, done;
};

static void fail(struct attempt *t, int code, const char *text)
{
    if (!t->failed)
        (void)err_set(t->e, code, "%s", text);
    t->failed = true;
}

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static json_t *open_block(const struct attempt *t)
{
    size_t n = json_array_size(t->a->blocks);

    return n ? json_array_get(t->a->blocks, n - 1) : NULL;
}

static void append_partial(struct attempt *t, const char *text)
{
    size_t n = strlen(text);

    t->partial = x_realloc(t->partial, t->partial_len + n + 1);
    memcpy(t->partial + t->partial_len, text, n + 1);
    t->partial_len += n;
}

/* Shows what has gathered. */
static void show_now(struct attempt *t)
{
    if (t->shown_len > 0)
        t->o->on_text(t->o->arg, t->shown);
    t->shown_len = 0;
}

static void on_show(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    show_now(arg);
}

/* A model may send a word at a time; each showing is a round trip on the queue port. What comes within
 * SHOW_AFTER_MS, less than anybody sees, goes together. */
static void show_later(struct attempt *t, const char *text)
{
    struct timeval soon = {0, (suseconds_t)SHOW_AFTER_MS * 1000};
    size_t len = strlen(text);

    if (!t->o->on_text || len == 0)
        return;
    t->shown = x_realloc(t->shown, t->shown_len + len + 1);
    memcpy(t->shown + t->shown_len, text, len + 1);
    if (t->shown_len == 0)
        (void)event_add(t->show, &soon);
    t->shown_len += len;
}

static void on_delta(struct attempt *t, const json_t *delta)
{
    json_t *block = open_block(t);
    const char *type = str(delta, "type");

    if (!strcmp(type, "text_delta") && !strcmp(str(block, "type"), "text")) {
        CLEANUP_FREE char *joined = x_asprintf("%s%s", str(block, "text"), str(delta, "text"));
        (void)json_object_set_new(block, "text", json_string(joined));
        show_later(t, str(delta, "text"));
    } else if (!strcmp(type, "input_json_delta")) {
        append_partial(t, str(delta, "partial_json"));
    }
}

/* A tool's input is complete: malformed input is told to the model, not to the user. */
static void close_block(struct attempt *t)
{
    json_t *block = open_block(t), *input;

    if (t->partial_len > 0 && !strcmp(str(block, "type"), "tool_use")) {
        input = json_loadb(t->partial, t->partial_len, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(input)) {
            json_decref(input);
            input = json_object();
            (void)json_object_set_new(block, "malformed", json_true());
        }
        (void)json_object_set_new(block, "input", input);
    }
    free(t->partial);
    t->partial = NULL;
    t->partial_len = 0;
}

static void start_block(struct attempt *t, const json_t *block)
{
    const char *type = str(block, "type");

    if (!strcmp(type, "text")) {
        (void)json_array_append_new(t->a->blocks,
                                    json_pack("{s:s, s:s}", "type", "text", "text", str(block, "text")));
    } else if (!strcmp(type, "tool_use")) {
        json_t *input = json_object_get(block, "input");
        (void)json_array_append_new(t->a->blocks,
                                    json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id",
                                              str(block, "id"), "name", str(block, "name"), "input",
                                              json_is_object(input) ? json_deep_copy(input) : json_object()));
    } else { /* a kind we do not know (thinking, ...): kept out of the conversation */
        (void)json_array_append_new(t->a->blocks, json_pack("{s:s}", "type", "skip"));
    }
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
    struct attempt *t = arg;
    json_t *doc = json_loadb(data, len, 0, NULL);
    const char *type = str(doc, "type");

    (void)event;
    if (!strcmp(type, "content_block_start"))
        start_block(t, json_object_get(doc, "content_block"));
    else if (!strcmp(type, "content_block_delta"))
        on_delta(t, json_object_get(doc, "delta"));
    else if (!strcmp(type, "content_block_stop"))
        close_block(t);
    else if (!strcmp(type, "message_delta"))
        (void)io_format(t->a->stop, sizeof(t->a->stop), "%s",
                        str(json_object_get(doc, "delta"), "stop_reason"));
    else if (!strcmp(type, "message_stop"))
        t->stopped = true;
    else if (!strcmp(type, "error"))
        fail(t, EIO, str(json_object_get(doc, "error"), "message"));
    json_decref(doc);
}

static void on_chunk(struct evhttp_request *req, void *arg)
{
    struct attempt *t = arg;
    struct evbuffer *in = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(in);
    const char *data = (const char *)evbuffer_pullup(in, -1);

    t->total += len;
    if (t->total > MODEL_ANSWER_MAX) {
        fail(t, EFBIG, "the model's answer is larger than 4 MiB");
        (void)event_base_loopbreak(t->base);
    } else if (evhttp_request_get_response_code(req) == 200) {
        (void)sse_feed(&t->sse, data, len);
    } else if (len <= ((size_t)64 << 10) - t->error_len) {
        t->error_body = x_realloc(t->error_body, t->error_len + len + 1);
        memcpy(t->error_body + t->error_len, data, len);
        t->error_len += len;
        t->error_body[t->error_len] = 0;
    }
    (void)evbuffer_drain(in, len);
}

static void on_done(struct evhttp_request *req, void *arg)
{
    struct attempt *t = arg;

    t->done = true;
    if (req && evhttp_request_get_response_code(req) > 0) {
        const char *after = evhttp_find_header(evhttp_request_get_input_headers(req), "Retry-After");
        uint64_t s;
        t->a->status = (unsigned)evhttp_request_get_response_code(req);
        if (after && io_parse_u64(after, 86400, &s))
            t->a->retry_after_s = (unsigned)s;
        if (evbuffer_get_length(evhttp_request_get_input_buffer(req)) > 0)
            on_chunk(req, arg);
    }
    (void)event_base_loopbreak(t->base);
}

static char *request_body(const struct model_options *o)
{
    json_t *doc = json_pack("{s:s, s:i, s:b, s:O}", "model", *o->model ? o->model : "default", "max_tokens",
                            MODEL_TOKENS_MAX, "stream", 1, "messages", (json_t *)(uintptr_t)o->messages);
    char *text;

    if (*o->instructions)
        (void)json_object_set_new(doc, "system", json_string(o->instructions));
    if (json_array_size(o->tools) > 0)
        (void)json_object_set(doc, "tools", (json_t *)(uintptr_t)o->tools);
    text = json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
    return text;
}

/* Where the model port listens: $ANTHROPIC_BASE_URL's host and port, as for any other client. */
static void find_port(char host[64], uint16_t *port)
{
    const char *url = getenv("ANTHROPIC_BASE_URL");
    struct evhttp_uri *uri = url ? evhttp_uri_parse(url) : NULL;
    const char *named = uri ? evhttp_uri_get_host(uri) : NULL;

    if (!named || !io_format(host, 64, "%s", named))
        (void)io_format(host, 64, "127.0.0.1");
    *port = uri && evhttp_uri_get_port(uri) > 0 ? (uint16_t)evhttp_uri_get_port(uri) : MODEL_TCP_PORT;
    if (uri)
        evhttp_uri_free(uri);
}

static void judge(struct attempt *t)
{
    json_t *doc;
    const char *message;

    if (t->failed)
        return;
    if (!t->done || t->a->status == 0) {
        fail(t, EPIPE, "the model port does not answer");
    } else if (t->a->status != 200) {
        char text[ERR_TEXT_MAX];
        doc = t->error_body ? json_loadb(t->error_body, t->error_len, 0, NULL) : NULL;
        message = str(json_object_get(doc, "error"), "message");
        (void)snprintf(text, sizeof(text), "the model answered with HTTP status %u%s%.600s", t->a->status,
                       *message ? ": " : "", message);
        fail(t, EIO, text);
        json_decref(doc);
    } else if (!t->stopped) {
        t->a->status = 0;
        fail(t, EPIPE, "the model's answer broke off");
    }
}

static void drop_skipped(json_t *blocks)
{
    for (size_t i = json_array_size(blocks); i-- > 0;) {
        const json_t *b = json_array_get(blocks, i);
        if (!strcmp(str(b, "type"), "skip") || (!strcmp(str(b, "type"), "text") && !*str(b, "text")))
            (void)json_array_remove(blocks, i);
    }
}

int model_ask(const struct model_options *o, struct model_answer *a, struct err *e)
{
    struct attempt t = {.o = o, .a = a, .e = e, .base = event_base_new()};
    struct evhttp_connection *c;
    struct evhttp_request *req;
    CLEANUP_FREE char *body = request_body(o);
    char host[64];
    uint16_t port;

    memset(a, 0, sizeof(*a));
    a->blocks = json_array();
    if (!body || !t.base) {
        if (t.base)
            event_base_free(t.base);
        return err_set(e, EINVAL, "the conversation cannot be written as JSON");
    }
    find_port(host, &port);
    sse_init(&t.sse, MODEL_EVENT_MAX, on_event, &t);
    t.show = event_new(t.base, -1, 0, on_show, &t);
    if (!t.show)
        abort();
    c = evhttp_connection_base_new(t.base, NULL, host, port);
    req = evhttp_request_new(on_done, &t);
    if (!c || !req)
        abort();
    evhttp_connection_set_timeout(c, MODEL_TIMEOUT_S);
    evhttp_request_set_chunked_cb(req, on_chunk);
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Host", host);
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Accept", "text/event-stream");
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "anthropic-version", "2023-06-01");
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
    (void)evbuffer_add(evhttp_request_get_output_buffer(req), body, strlen(body));
    if (evhttp_make_request(c, req, EVHTTP_REQ_POST, "/v1/messages") == 0)
        (void)event_base_dispatch(t.base);
    if (o->on_text)
        show_now(&t);
    judge(&t);
    evhttp_connection_free(c);
    event_free(t.show);
    event_base_free(t.base);
    free(t.shown);
    sse_free(&t.sse);
    free(t.partial);
    free(t.error_body);
    drop_skipped(a->blocks);
    return t.failed ? -1 : 0;
}

void model_answer_free(struct model_answer *a)
{
    json_decref(a->blocks);
    a->blocks = NULL;
}

int model_worth_retry(unsigned status)
{
    return status == 0 || status == 429 || status >= 500;
}
