/*
 * http_port.c - HTTP/1.1 at the model port.
 *
 * libmicrohttpd parses; its epoll descriptor is one event of our loop. What it parsed is never forwarded as
 * text: a call keeps the allowlisted header values and the decoded body, and the request to the provider is
 * written anew from those. So nothing that two parsers could read differently (two lengths, length with
 * chunks, folded or bare-LF headers) reaches the provider; what we recognise of it is refused and the
 * connection closed.
 */
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "modelproxy/call.h"
#include "modelproxy/proxy.h"

enum { ANSWER_BLOCK = 16 * 1024, CONNECTION_MEMORY = 32 * 1024 };

struct header_scan {
    struct call *call;
    unsigned lengths, encodings, hosts;
    bool strange;
    uint64_t length;
    size_t extra_len; /* of call->extra so far */
};

static enum MHD_Result scan_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct header_scan *s = cls;
    struct call *c = s->call;
    const char *text = value ? value : "";

    (void)kind;
    if (!name)
        return MHD_YES;
    if (!strcasecmp(name, "content-length")) {
        s->lengths++;
        if (!io_parse_u64(text, UINT64_MAX, &s->length))
            s->strange = true;
    } else if (!strcasecmp(name, "transfer-encoding")) {
        s->encodings++;
        if (strcasecmp(text, "chunked") != 0)
            s->strange = true;
    } else if (!strcasecmp(name, "host")) {
        s->hosts++;
    } else if (allow_header(name)) {
        char *dst = !strcasecmp(name, "content-type") ? c->content_type
                    : !strcasecmp(name, "accept")     ? c->accept
                                                      : NULL;
        if (!allow_header_value(text, dst ? sizeof(c->accept) - 1 : 1024)) {
            s->strange = true;
        } else if (dst) {
            (void)io_format(dst, sizeof(c->accept), "%s", text);
        } else {
            if (io_format(c->extra + s->extra_len, sizeof(c->extra) - s->extra_len, "%s: %s\n", name, text))
                s->extra_len += strlen(name) + strlen(text) + 3; /* ": " and the newline */
            else
                s->strange = true;
        }
    }
    return MHD_YES;
}

static void check_limits(struct call *c)
{
    static const char *const outcomes[] = {"ok", "rate", "concurrency", "budget"};
    static const char *const texts[] = {
        "", "this session's rate of requests per minute is used up: wait for retry-after seconds",
        "this session has as many calls under way as it may: wait for one to end",
        "this session's token budget is used up: ask the operator for a larger one"};
    enum limit_verdict v = limits_admit(&c->session->limits, io_monotonic_ns(), &c->retry_after_s);

    c->admitted = v == LIMIT_OK;
    if (c->admitted)
        c->retry_after_s = 0;
    else
        call_refuse(c, 429, outcomes[v], texts[v]);
}

/* Everything that can be decided from the head of a request. */
static void check_head(struct call *c, const char *target, struct MHD_Connection *mhd)
{
    const struct model_path *path = allow_path(target);
    struct header_scan s = {.call = c};

    (void)MHD_get_connection_values(mhd, MHD_HEADER_KIND, scan_header, &s);
    if (s.lengths > 1 || s.encodings > 1 || (s.lengths && s.encodings) || s.hosts > 1 || s.strange) {
        c->shut = true;
        call_refuse(c, 400, "request",
                    "the request's headers are ambiguous or hold characters that do not belong there");
        return;
    }
    if (!path) {
        call_refuse(c, 404, "path",
                    "the model port does not pass this path on: see docs/ports.md for those it does");
        return;
    }
    if (strcmp(path->method, c->method) != 0) {
        call_refuse(c, 405, "method", "the model port does not pass this method on for this path");
        return;
    }
    if ((c->session->kind == PROVIDER_ANTHROPIC && !path->anthropic) ||
        (c->session->kind == PROVIDER_OPENAI && !path->openai)) {
        call_refuse(c, 404, "path", "this session's provider does not speak the API of this path");
        return;
    }
    c->path = path;
    (void)io_format(c->target, sizeof(c->target), "%s", path->path);
    if (s.length > MODEL_BODY_MAX) {
        c->shut = true;
        call_refuse(c, 413, "size", "the request is larger than the 16 MiB that the model port passes on");
        return;
    }
    check_limits(c);
}

/* Bytes for the client; suspends while there are none. */
static ssize_t read_answer(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct call *c = cls;
    size_t n;

    (void)pos;
    if (c->client_gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    n = call_take(c, buf, max);
    if (n > 0)
        return (ssize_t)n;
    if (c->source_failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (c->source_ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    call_suspend(c);
    return 0;
}

static void add_headers(struct MHD_Response *r, const struct call *c)
{
    char text[16];
    const char *line = c->answer_extra;

    if (*c->answer_type)
        (void)MHD_add_response_header(r, "Content-Type", c->answer_type);
    if (c->retry_after_s > 0 && io_format(text, sizeof(text), "%u", c->retry_after_s))
        (void)MHD_add_response_header(r, "Retry-After", text);
    if (c->status == 405)
        (void)MHD_add_response_header(r, "Allow", "POST, GET");
    if (c->shut)
        (void)MHD_add_response_header(r, "Connection", "close");
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    while (*line) {
        size_t len = strcspn(line, "\n");
        char name[64], value[256];
        const char *colon = memchr(line, ':', len);
        if (colon && io_format(name, sizeof(name), "%.*s", (int)(colon - line), line) &&
            io_format(value, sizeof(value), "%.*s", (int)(line + len - colon - 2), colon + 2))
            (void)MHD_add_response_header(r, name, value);
        line += len + (line[len] == '\n');
    }
}

static enum MHD_Result queue_answer(struct call *c)
{
    /* A finished answer that was never streamed has a length; a stream is sent in chunks. */
    uint64_t size =
        c->source_ended && !c->source_failed ? (c->out ? evbuffer_get_length(c->out) : 0) : MHD_SIZE_UNKNOWN;
    struct MHD_Response *r = MHD_create_response_from_callback(size, ANSWER_BLOCK, read_answer, c, NULL);
    enum MHD_Result ok;

    if (!r)
        return MHD_NO;
    add_headers(r, c);
    c->state = CALL_STREAMING;
    ok = MHD_queue_response(c->conn->mhd, c->status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **state)
{
    struct proxy *p = cls;
    struct call *c = *state;

    (void)version;
    if (!c) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct conn *conn = info ? conn_find(p, info->connect_fd) : NULL;
        if (!conn || conn->session->ended || conn->call)
            return MHD_NO;
        conn->mhd = mhd;
        c = call_new(conn, method, url);
        *state = c;
        check_head(c, url, mhd);
        return c->shut ? queue_answer(c) : MHD_YES;
    }
    if (*len > 0) {
        bool ok = call_body(c, data, *len);
        *len = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (c->client_gone)
        return MHD_NO;
    if (c->state == CALL_RECEIVING) {
        call_dispatch(c);
        if (c->state == CALL_WAITING) {
            call_suspend(c);
            return MHD_YES;
        }
    }
    return c->state == CALL_HEAD ? queue_answer(c) : MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct call *c = *state;

    (void)cls;
    (void)mhd;
    if (!c)
        return;
    *state = NULL;
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK && !strcmp(c->outcome, "ok"))
        c->outcome = "client";
    c->conn->reading_since_ns = io_monotonic_ns();
    call_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct proxy *p = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *c = *context;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        c = info ? conn_find(p, info->connect_fd) : NULL;
        *context = c;
        if (c)
            c->mhd = mhd;
    } else if (c) {
        *context = NULL;
        conn_free(p, c);
    }
}

/* Request targets are compared as sent: nothing is decoded. */
static size_t keep_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void drive(struct proxy *p)
{
    MHD_UNSIGNED_LONG_LONG ms;

    (void)MHD_run(p->mhd);
    if (MHD_get_timeout(p->mhd, &ms) == MHD_YES) {
        struct timeval wait = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
        (void)event_add(p->mhd_timer, &wait);
    } else {
        (void)event_del(p->mhd_timer);
    }
}

static void on_mhd(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    drive(arg);
}

void http_port_kick(struct proxy *p)
{
    struct timeval now = {0, 0};

    (void)event_add(p->mhd_timer, &now);
}

void http_port_add(struct proxy *p, int fd, const struct sockaddr *addr, socklen_t addrlen)
{
    if (MHD_add_connection(p->mhd, fd, addr, addrlen) != MHD_YES) {
        struct conn *c = conn_find(p, fd); /* libmicrohttpd has closed fd */
        if (c)
            conn_free(p, c);
    }
    http_port_kick(p);
}

int http_port_start(struct proxy *p, struct err *e)
{
    const union MHD_DaemonInfo *info;

    p->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, p,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SOCKET_IDLE_S, MHD_OPTION_CONNECTION_LIMIT, 65536U,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, p, MHD_OPTION_NOTIFY_CONNECTION, on_connection, p,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, p, MHD_OPTION_END);
    info = p->mhd ? MHD_get_daemon_info(p->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || info->epoll_fd < 0)
        return err_set(e, EINVAL,
                       "libmicrohttpd did not start with epoll: check its version (0.9.75 or newer)");
    p->mhd_io = event_new(p->d.base, info->epoll_fd, EV_READ | EV_PERSIST, on_mhd, p);
    p->mhd_timer = event_new(p->d.base, -1, 0, on_mhd, p);
    if (!p->mhd_io || !p->mhd_timer || event_add(p->mhd_io, NULL) < 0)
        abort();
    return 0;
}

void http_port_stop(struct proxy *p)
{
    event_free(p->mhd_io);
    MHD_stop_daemon(p->mhd);
    event_free(p->mhd_timer);
    p->mhd = NULL;
}
