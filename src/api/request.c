/*
 * request.c - the life of one request: read, asked of the vault, answered.
 *
 * The vault decides everything; this file only carries. A request that the vault may have seen but did not
 * answer (it died) gets 503 vault_restarted: the caller repeats it, with the same idempotency key where it
 * sends a message.
 */
#include "api/request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/stream.h"
#include "base/cleanup.h"
#include "base/io.h"

void request_suspend(struct request *r)
{
    if (r->link)
        return;
    r->link = &r->server->suspended;
    r->next = r->server->suspended;
    if (r->next)
        r->next->link = &r->next;
    r->server->suspended = r;
    MHD_suspend_connection(r->mhd);
}

static void unlist(struct request *r)
{
    if (!r->link)
        return;
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    r->link = NULL;
    r->next = NULL;
}

void request_resume(struct request *r)
{
    if (!r->link)
        return;
    unlist(r);
    MHD_resume_connection(r->mhd);
    server_kick(r->listener);
}

static void set_reply(struct request *r, uint32_t status, const char *text, size_t len)
{
    free(r->reply);
    r->status = status;
    r->reply = len > 0 ? x_malloc(len) : NULL;
    r->reply_len = len;
    if (len > 0)
        memcpy(r->reply, text, len);
    r->state = REQUEST_ANSWERED;
}

void request_fail(struct request *r, uint32_t status, const char *code, const char *message)
{
    json_t *error = json_pack("{s:{s:s,s:s}}", "error", "code", code, "message", message);
    CLEANUP_FREE char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;

    json_decref(error);
    if (r->state == REQUEST_STREAMING) { /* the status line is out */
        stream_end(r, code, message);
        return;
    }
    set_reply(r, status, text ? text : "{}", text ? strlen(text) : 2);
    request_resume(r);
}

void request_end_all(struct server *s, const char *code, const char *message)
{
    struct request *next;

    for (struct request *r = s->suspended; r; r = next) {
        next = r->next;
        request_fail(r, 503, code, message);
    }
}

uint64_t request_call_vault(struct request *r, link_reply_cb cb)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (!r->server->vault)
        return 0;
    wire_put_str(&o, r->token);
    wire_put_str(&o, r->route->subject     ? r->route->subject
                     : r->query.subject[0] ? r->query.subject
                                           : r->subject);
    wire_put_u64(&o, r->query.after);
    wire_put_u32(&o, r->query.limit);
    wire_put_u32(&o, r->query.wait_ms);
    wire_put_bytes(&o, r->body ? r->body : "", r->body_len);
    return link_call(r->server->vault, r->route->op, &o, NULL, 0, cb, r);
}

/* {"text": ".."} as the text itself, with our own counters after the vault's metrics. */
static void unwrap_text(struct request *r)
{
    const struct server *s = r->server;
    json_t *doc = json_loadb(r->reply, r->reply_len, 0, NULL);
    const char *text = json_string_value(json_object_get(doc, "text"));
    CLEANUP_FREE char *out = NULL;
    unsigned conns = 0;

    for (const struct conn *c = s->conns; c; c = c->next)
        conns++;
    out = x_asprintf("%s"
                     "# TYPE ironclaw_api_requests_total counter\nironclaw_api_requests_total %llu\n"
                     "# TYPE ironclaw_api_refused_total counter\nironclaw_api_refused_total %llu\n"
                     "# TYPE ironclaw_api_rate_limited_total counter\nironclaw_api_rate_limited_total %llu\n"
                     "# TYPE ironclaw_api_cut_off_total counter\nironclaw_api_cut_off_total %llu\n"
                     "# TYPE ironclaw_api_connections gauge\nironclaw_api_connections %u\n"
                     "# TYPE ironclaw_api_streams gauge\nironclaw_api_streams %u\n",
                     text ? text : "", (unsigned long long)s->counters.requests,
                     (unsigned long long)s->counters.refused, (unsigned long long)s->counters.rate_limited,
                     (unsigned long long)s->counters.cut_off, conns, s->streams);
    json_decref(doc);
    set_reply(r, 200, out, strlen(out));
}

static bool says_ready(const struct request *r)
{
    json_t *doc = json_loadb(r->reply ? r->reply : "", r->reply_len, 0, NULL);
    bool ready = json_is_true(json_object_get(doc, "ready"));

    json_decref(doc);
    return ready;
}

static void on_reply(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct request *r = arg;
    const uint8_t *body;
    uint32_t status;
    size_t len = 0;

    (void)fds;
    (void)nfds;
    if (!more)
        r->call = 0;
    if (r->state != REQUEST_WAITING)
        return;
    if (!ok) {
        r->retry_after = 1;
        request_fail(r, 503, "vault_restarted",
                     "the vault restarted before it answered; ask again, with the same idempotency_key if "
                     "you sent a message");
        return;
    }
    status = wire_get_u32(in);
    body = wire_get_bytes(in, WIRE_MAX, &len);
    if (!wire_in_done(in) || more || status < 200 || status > 599) {
        request_fail(r, 502, "bad_reply",
                     "the vault answered with something that is not an answer; see its log");
        return;
    }
    set_reply(r, status, (const char *)body, status == 204 ? 0 : len);
    if (status < 400 && r->rate && !(r->route->flags & ROUTE_PUBLIC))
        rate_remember(&r->server->rate, r->rate, io_monotonic_ns());
    if (r->route->op == API_READY && status == 200 && !says_ready(r))
        r->status = 503;
    if (status == 200 && (r->route->flags & ROUTE_TEXT))
        unwrap_text(r);
    request_resume(r);
}

static void on_client_gone(evutil_socket_t fd, short what, void *arg)
{
    struct request *r = arg;

    (void)fd;
    (void)what;
    r->gone = true;
    r->close = true;
    if (r->state == REQUEST_STREAMING)
        stream_end(r, NULL, NULL);
    else if (r->state == REQUEST_WAITING)
        request_fail(r, 503, "client_gone", "the client closed the connection");
}

/* What may wait long is watched, so that a client that left does not leave a call behind. */
static void watch_client(struct request *r)
{
    if (!(r->route->flags & ROUTE_STREAM) && r->query.wait_ms == 0)
        return;
    r->watch = event_new(r->server->daemon->base, r->conn->fd, EV_CLOSED, on_client_gone, r);
    if (r->watch)
        (void)event_add(r->watch, NULL);
}

static void dispatch(struct request *r)
{
    server_deadline(r->conn, 0);
    if (r->route->op == ROUTE_HEALTHZ) {
        set_reply(r, 200, "{\"alive\":true}", strlen("{\"alive\":true}"));
        return;
    }
    if (r->route->op == ROUTE_OPENAPI) {
        set_reply(r, 200, NULL, 0);
        return;
    }
    if (r->route->op == API_READY && !r->server->vault) {
        set_reply(r, 503, "{\"ready\":false}", strlen("{\"ready\":false}"));
        return;
    }
    if (r->route->flags & ROUTE_STREAM) {
        stream_start(r);
    } else {
        r->call = request_call_vault(r, on_reply);
        if (!r->call) {
            r->retry_after = 1;
            request_fail(r, 503, "vault_unavailable",
                         "the vault is not running; nothing was done; try again in a moment");
            return;
        }
        r->state = REQUEST_WAITING;
        request_suspend(r);
    }
    if (r->state == REQUEST_WAITING)
        watch_client(r);
}

/* The body is forwarded byte for byte, so it is read here with the vault's strictness: one JSON object, no
 * key twice. */
static bool check_body(struct request *r)
{
    json_error_t je;
    json_t *doc;
    CLEANUP_FREE char *why = NULL;

    if (r->body_len == 0)
        return true;
    doc = json_loadb(r->body, r->body_len, JSON_REJECT_DUPLICATES, &je);
    if (json_is_object(doc)) {
        json_decref(doc);
        return true;
    }
    if (doc) {
        json_decref(doc);
        request_fail(r, 400, "bad_json", "the body must be a JSON object");
        return false;
    }
    why = x_asprintf("the body is not JSON: line %d, column %d", je.line, je.column);
    r->server->counters.refused++;
    request_fail(r, 400, "bad_json", why);
    return false;
}

static enum MHD_Result take_upload(struct request *r, const char *upload, size_t *len)
{
    size_t n = *len;

    *len = 0;
    if (r->state == REQUEST_ANSWERED)
        return MHD_YES;
    if (n > r->body_cap - r->body_len)
        return MHD_NO; /* more than Content-Length: libmicrohttpd never does that */
    if (!r->body)
        r->body = x_malloc(r->body_cap);
    memcpy(r->body + r->body_len, upload, n);
    r->body_len += n;
    return MHD_YES;
}

enum MHD_Result request_on_access(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_len, void **con_cls)
{
    struct listener *l = cls;
    struct request *r = *con_cls;

    (void)version;
    if (!r) {
        r = x_calloc(1, sizeof(*r));
        r->server = l->server;
        r->listener = l;
        r->mhd = c;
        r->conn = server_conn(c);
        *con_cls = r;
        l->server->counters.requests++;
        /* A refused request is read to its end where that is safe: a client that is still sending would not
         * see an answer that comes before it is done. */
        if (!request_check_head(r, url, method) && (r->close || r->body_cap == 0))
            return request_answer(r);
        server_deadline(r->conn, l->server->request_timeout_s);
        return MHD_YES;
    }
    if (r->queued)
        return MHD_YES;
    if (*upload_len > 0)
        return take_upload(r, upload, upload_len);
    if (r->state == REQUEST_READING && check_body(r))
        dispatch(r);
    if (r->state == REQUEST_STREAMING)
        return stream_answer(r);
    if (r->state == REQUEST_ANSWERED)
        return request_answer(r);
    return MHD_YES;
}

void request_on_completed(void *cls, struct MHD_Connection *c, void **con_cls,
                          enum MHD_RequestTerminationCode why)
{
    struct request *r = *con_cls;

    (void)cls;
    (void)c;
    (void)why;
    if (!r)
        return;
    *con_cls = NULL;
    unlist(r);
    stream_free(r);
    if (r->call && r->server->vault)
        link_forget(r->server->vault, r->call);
    if (r->watch)
        event_free(r->watch);
    server_deadline(r->conn, SERVER_IDLE_S);
    if (r->body)
        explicit_bzero(r->body, r->body_cap);
    free(r->body);
    if (r->reply)
        explicit_bzero(r->reply, r->reply_len);
    free(r->reply);
    explicit_bzero(r, sizeof(*r));
    free(r);
}
