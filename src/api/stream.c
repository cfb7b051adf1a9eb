/*
 * stream.c - event streams.
 *
 * Events arrive from the vault when they happen and wait in a buffer until the client has taken them. A
 * client that does not read while STREAM_BUFFER_MAX bytes gather is cut off: it reconnects with Last-Event-ID
 * and loses no message, only deltas. A comment line goes out every STREAM_HEARTBEAT_S, so that a dead client
 * is found.
 */
#include "api/stream.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/io.h"

enum {
    STREAM_BUFFER_MAX = 1 << 20, /* bytes waiting for one slow client: a few of the largest messages */
    STREAM_HEARTBEAT_S = 15,
    STREAM_FIRST_MS =
        300, /* an answer of the vault that is an error arrives within this; then the headers go out */
    STREAM_BLOCK = 4096, /* bytes handed to libmicrohttpd at a time */
};

struct stream {
    char *data;
    size_t at, len, cap;
    bool ended, cut;
    struct event *timer;
};

static void push(struct request *r, const char *text, size_t len)
{
    struct stream *s = r->stream;

    if (s->ended)
        return;
    if (s->len - s->at + len > STREAM_BUFFER_MAX) {
        s->ended = true;
        s->cut = true;
        s->at = s->len;
        (void)shutdown(r->conn->fd, SHUT_RDWR); /* too slow: nothing more is kept for it */
        request_resume(r);
        server_kick(r->listener);
        return;
    }
    if (s->at > 0) {
        memmove(s->data, s->data + s->at, s->len - s->at);
        s->len -= s->at;
        s->at = 0;
    }
    if (s->len + len > s->cap) {
        s->cap = (s->len + len) * 2;
        s->data = x_realloc(s->data, s->cap);
    }
    memcpy(s->data + s->len, text, len);
    s->len += len;
    request_resume(r);
}

static void push_event(struct request *r, const char *event, const json_t *data)
{
    CLEANUP_FREE char *text = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY);
    json_t *seq = json_object_get(data, "seq");
    CLEANUP_FREE char *id = NULL;
    CLEANUP_FREE char *out = NULL;

    if (!text)
        return;
    /* Only what is kept is numbered: a delta is gone once shown. */
    id = (!strcmp(event, "message") || !strcmp(event, "event")) && json_is_integer(seq)
             ? x_asprintf("id: %lld\n", (long long)json_integer_value(seq))
             : x_strdup("");
    out = x_asprintf("event: %s\n%sdata: %s\n\n", event, id, text);
    push(r, out, strlen(out));
}

static bool event_name_ok(const char *name)
{
    return name && *name && strlen(name) < 32 && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name);
}

static void arm(struct stream *s, unsigned ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000};

    (void)event_add(s->timer, &tv);
}

static void begin(struct request *r)
{
    if (r->state != REQUEST_WAITING)
        return;
    r->state = REQUEST_STREAMING;
    arm(r->stream, STREAM_HEARTBEAT_S * 1000U);
    request_resume(r);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct request *r = arg;

    (void)fd;
    (void)what;
    if (r->state == REQUEST_WAITING) {
        begin(r);
        return;
    }
    push(r, ": still here\n\n", strlen(": still here\n\n"));
    arm(r->stream, STREAM_HEARTBEAT_S * 1000U);
}

static void on_event(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct request *r = arg;
    uint32_t status;
    const uint8_t *body;
    size_t len = 0;
    json_t *event;

    (void)fds;
    (void)nfds;
    if (!more)
        r->call = 0;
    if (!ok) {
        if (r->state == REQUEST_WAITING)
            request_fail(r, 503, "vault_restarted", "the vault restarted; open the stream again");
        else
            stream_end(r, "vault_restarted", "the vault restarted; open the stream again");
        return;
    }
    status = wire_get_u32(in);
    body = wire_get_bytes(in, WIRE_MAX, &len);
    if (!wire_in_done(in)) {
        request_fail(r, 502, "bad_reply",
                     "the vault answered with something that is not an answer; see its log");
        return;
    }
    if (status != 200 && r->state == REQUEST_WAITING) {
        r->status = status >= 400 && status <= 599 ? status : 502;
        r->reply = len > 0 ? x_malloc(len) : NULL;
        r->reply_len = len;
        if (len > 0)
            memcpy(r->reply, body, len);
        r->state = REQUEST_ANSWERED;
        request_resume(r);
        return;
    }
    begin(r);
    event = json_loadb((const char *)body, len, 0, NULL);
    if (event && status != 200)
        push_event(r, "error", json_object_get(event, "error"));
    else if (event && event_name_ok(json_string_value(json_object_get(event, "event"))))
        push_event(r, json_string_value(json_object_get(event, "event")), json_object_get(event, "data"));
    json_decref(event);
    if (!more)
        stream_end(r, NULL, NULL);
}

void stream_start(struct request *r)
{
    struct server *s = r->server;

    if (s->streams >= s->max_connections / 2) {
        r->retry_after = 5;
        request_fail(
            r, 503, "too_many_streams",
            "half of all connections are event streams already; close one or raise api.max_connections");
        return;
    }
    r->call = request_call_vault(r, on_event);
    if (!r->call) {
        r->retry_after = 1;
        request_fail(r, 503, "vault_unavailable", "the vault is not running; try again in a moment");
        return;
    }
    s->streams++;
    r->stream = x_calloc(1, sizeof(*r->stream));
    r->stream->timer = event_new(s->daemon->base, -1, 0, on_timer, r);
    if (!r->stream->timer)
        abort();
    arm(r->stream, STREAM_FIRST_MS);
    r->state = REQUEST_WAITING;
    request_suspend(r);
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct request *r = cls;
    struct stream *s = r->stream;
    size_t n = s->len - s->at;

    (void)pos;
    if (n > max)
        n = max;
    if (n > 0) {
        memcpy(buf, s->data + s->at, n);
        s->at += n;
        if (s->at == s->len) {
            free(s->data); /* an idle stream holds no buffer */
            s->data = NULL;
            s->at = s->len = s->cap = 0;
        }
        return (ssize_t)n;
    }
    if (s->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (s->ended || r->gone)
        return MHD_CONTENT_READER_END_OF_STREAM;
    request_suspend(r);
    return 0;
}

enum MHD_Result stream_answer(struct request *r)
{
    struct MHD_Response *resp =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, r, NULL);
    enum MHD_Result rc;

    if (!resp || MHD_add_response_header(resp, "Content-Type", "text/event-stream") != MHD_YES)
        abort();
    request_common_headers(r, resp);
    r->queued = true;
    server_deadline(r->conn, 0);
    rc = MHD_queue_response(r->mhd, 200, resp);
    MHD_destroy_response(resp);
    return rc;
}

void stream_end(struct request *r, const char *code, const char *message)
{
    if (code) {
        json_t *data = json_pack("{s:s,s:s}", "code", code, "message", message);
        push_event(r, "error", data);
        json_decref(data);
    }
    r->stream->ended = true;
    request_resume(r);
}

void stream_free(struct request *r)
{
    struct stream *s = r->stream;

    if (!s)
        return;
    if (r->call && r->server->vault) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        char id[24];
        (void)io_format(id, sizeof(id), "%llu", (unsigned long long)r->call);
        wire_put_str(&o, "");
        wire_put_str(&o, id);
        wire_put_u64(&o, 0);
        wire_put_u32(&o, 0);
        wire_put_u32(&o, 0);
        wire_put_bytes(&o, "", 0);
        (void)link_notify(r->server->vault, API_STREAM_CANCEL, &o, NULL, 0);
    }
    r->server->streams--;
    event_free(s->timer);
    free(s->data);
    free(s);
    r->stream = NULL;
}
