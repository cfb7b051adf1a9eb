#include "modelproxy/call.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "modelproxy/api_error.h"
#include "modelproxy/mock.h"
#include "modelproxy/upstream_client.h"

/* Copies text of the client's for the audit record: whatever is not printable ASCII becomes '?'. */
static void copy_printable(char *dst, size_t cap, const char *text, size_t len)
{
    size_t n = len < cap - 1 ? len : cap - 1;

    for (size_t i = 0; i < n; i++)
        dst[i] = text[i] > 0x20 && text[i] < 0x7f ? text[i] : (char)'?';
    dst[n] = 0;
}

struct call *call_new(struct conn *conn, const char *method, const char *target)
{
    struct call *c = x_calloc(1, sizeof(*c));

    c->conn = conn;
    c->session = conn->session;
    c->body_fd = -1;
    c->outcome = "ok";
    c->shape = allow_error_shape(target);
    c->started_ns = io_monotonic_ns();
    copy_printable(c->method, sizeof(c->method), method, strlen(method));
    copy_printable(c->target, sizeof(c->target), target, strcspn(target, "?"));
    conn->call = c;
    return c;
}

static void send_notice(struct call *c)
{
    struct wire_out o = WIRE_OUT_INIT;

    wire_put_str(&o, c->session->id);
    wire_put_str(&o, c->session->provider);
    wire_put_str(&o, c->method);
    wire_put_str(&o, c->target);
    wire_put_u32(&o, c->status);
    wire_put_u64(&o, c->usage.input);
    wire_put_u64(&o, c->usage.output);
    wire_put_u64(&o, (io_monotonic_ns() - c->started_ns) / 1000000U);
    wire_put_str(&o, c->outcome);
    proxy_notice(c->session->proxy, &o);
}

static void stop_source(struct call *c)
{
    const struct call_source *ops = c->ops;

    c->ops = NULL;
    if (ops)
        ops->cancel(c->source);
    c->source = NULL;
}

void call_free(struct call *c)
{
    if (c->ops && !c->source_ended)
        c->outcome = "client";
    stop_source(c);
    if (c->counting)
        usage_end(&c->usage, c->body_len);
    if (!c->path || !c->path->billed || c->status < 200 || c->status > 299)
        c->usage.input = c->usage.output = 0;
    if (c->admitted)
        limits_done(&c->session->limits, c->usage.input + c->usage.output);
    send_notice(c);
    if (c->watch)
        event_free(c->watch);
    if (c->out)
        evbuffer_free(c->out);
    if (c->body_fd >= 0)
        (void)close(c->body_fd);
    if (c->conn->call == c)
        c->conn->call = NULL;
    free(c);
}

static void put(struct call *c, const void *data, size_t len)
{
    if (!c->out)
        c->out = evbuffer_new();
    if (!c->out || evbuffer_add(c->out, data, len) < 0)
        abort();
}

static void resume(struct call *c)
{
    if (!c->suspended)
        return;
    c->suspended = false;
    if (c->watch)
        (void)event_del(c->watch);
    MHD_resume_connection(c->conn->mhd);
    http_port_kick(c->session->proxy);
}

/* Makes the answer an error; nothing of it was sent yet. */
static void answer_error(struct call *c, unsigned status, const char *outcome, const char *message)
{
    char *text = api_error_json(c->shape, status, message);

    c->status = status;
    c->outcome = outcome;
    (void)io_format(c->answer_type, sizeof(c->answer_type), "application/json");
    put(c, text, strlen(text));
    free(text);
    c->source_ended = true;
}

void call_refuse(struct call *c, unsigned status, const char *outcome, const char *message)
{
    if (c->status == 0)
        answer_error(c, status, outcome, message);
}

static int body_open(struct call *c)
{
    c->body_fd = memfd_create("model-request", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return c->body_fd < 0 ? -1 : 0;
}

bool call_body(struct call *c, const void *data, size_t len)
{
    c->body_len += len;
    if (c->body_len > 2ULL * MODEL_BODY_MAX)
        return false; /* it was refused long ago and does not stop */
    if (c->body_len > MODEL_BODY_MAX)
        call_refuse(c, 413, "size", "the request is larger than the 16 MiB that the model port passes on");
    if (c->status != 0) {
        if (c->body_fd >= 0) {
            (void)close(c->body_fd);
            c->body_fd = -1;
        }
        return true;
    }
    if ((c->body_fd < 0 && body_open(c) < 0) || io_write_all(c->body_fd, data, len) < 0) {
        log_error("cannot hold a request body: %s", strerror(errno));
        call_refuse(c, 503, "memory", "the model proxy is out of memory for requests: try again later");
    }
    return true;
}

char *call_body_text(const struct call *c)
{
    char *text = x_malloc(c->body_len + 1);
    size_t got = 0;

    while (c->body_fd >= 0 && got < c->body_len) {
        ssize_t n = pread(c->body_fd, text + got, c->body_len - got, (off_t)got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    text[got] = 0;
    return text;
}

/* The agent's model is a setting of its document, not the client's choice: it replaces whatever the request
 * names. */
static bool force_model(struct call *c)
{
    char *text = call_body_text(c), *forced = NULL;
    json_t *doc = json_loadb(text, c->body_len, JSON_REJECT_DUPLICATES, NULL);
    bool ok = false;

    free(text);
    if (!json_is_object(doc)) {
        call_refuse(c, 400, "request", "the request body is not a JSON object without duplicate keys");
    } else if (json_object_set_new(doc, "model", json_string(c->session->model)) == 0 &&
               (forced = json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY))) {
        (void)close(c->body_fd);
        c->body_len = strlen(forced);
        ok = body_open(c) == 0 && io_write_all(c->body_fd, forced, c->body_len) == 0;
        if (!ok)
            call_refuse(c, 503, "memory", "the model proxy is out of memory for requests: try again later");
    }
    json_decref(doc);
    free(forced);
    return ok;
}

void call_dispatch(struct call *c)
{
    c->conn->reading_since_ns = 0;
    if (c->status != 0 || (c->body_len > 0 && *c->session->model && !force_model(c))) {
        c->state = CALL_HEAD;
        return;
    }
    if (c->body_fd < 0 && body_open(c) < 0) {
        call_refuse(c, 503, "memory", "the model proxy is out of memory for requests: try again later");
        c->state = CALL_HEAD;
        return;
    }
    (void)fcntl(c->body_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    c->state = CALL_WAITING;
    if (c->session->kind == PROVIDER_MOCK)
        mock_start(c);
    else
        upstream_start(c);
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    call_client_gone(arg);
}

void call_suspend(struct call *c)
{
    c->suspended = true;
    MHD_suspend_connection(c->conn->mhd);
    if (!c->watch)
        c->watch = event_new(c->session->proxy->d.base, c->conn->fd, EV_CLOSED | EV_PERSIST, on_hangup, c);
    if (!c->watch || event_add(c->watch, NULL) < 0)
        abort();
}

void call_client_gone(struct call *c)
{
    c->client_gone = true;
    if (!c->source_ended)
        c->outcome = "client";
    stop_source(c);
    resume(c);
}

size_t call_take(struct call *c, void *dst, size_t max)
{
    int n = c->out ? evbuffer_remove(c->out, dst, max) : 0;

    if (c->source_paused && c->ops && evbuffer_get_length(c->out) < CALL_BUFFER_LOW) {
        c->source_paused = false;
        c->ops->pause(c->source, false);
    }
    return n > 0 ? (size_t)n : 0;
}

void call_head(struct call *c, unsigned status, const char *content_type, const char *extra)
{
    if (c->state != CALL_WAITING || c->status != 0)
        return;
    c->status = status;
    (void)io_format(c->answer_type, sizeof(c->answer_type), "%s",
                    allow_header_value(content_type, sizeof(c->answer_type) - 1) ? content_type : "");
    (void)io_format(c->answer_extra, sizeof(c->answer_extra), "%s", extra);
    usage_begin(&c->usage, c->answer_type);
    c->counting = true;
    if (status >= 400)
        c->outcome = "provider";
    c->state = CALL_HEAD;
    resume(c);
}

void call_data(struct call *c, const void *data, size_t len)
{
    if (len == 0)
        return;
    usage_feed(&c->usage, data, len);
    put(c, data, len);
    if (!c->source_paused && c->ops && evbuffer_get_length(c->out) > CALL_BUFFER_HIGH) {
        c->source_paused = true;
        c->ops->pause(c->source, true);
    }
    resume(c);
}

void call_end(struct call *c, unsigned status, const char *outcome, const char *message)
{
    c->ops = NULL;
    c->source = NULL;
    c->source_ended = true;
    if (message && c->status == 0) {
        answer_error(c, status, outcome, message);
        c->state = CALL_HEAD;
    } else if (message) {
        c->outcome = outcome;
        if (!strncasecmp(c->answer_type, "text/event-stream", 17)) {
            char *text = api_error_json(c->shape, status, message);
            char *event = x_asprintf("%sdata: %s\n\n",
                                     c->shape == SHAPE_ANTHROPIC ? "\n\nevent: error\n" : "\n\n", text);
            put(c, event, strlen(event));
            free(event);
            free(text);
        } else {
            c->source_failed = true;
        }
    }
    resume(c);
}
