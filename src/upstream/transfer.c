/*
 * transfer.c - one request to a provider.
 *
 *     asked for the key -> handed to libcurl -> head, data, end to the model proxy
 *
 * The request is built from the allowlisted parts only. The body is read from the sealed memfd as libcurl
 * wants it. Whatever comes back passes the redactor, which knows every key this process knows; a stream of
 * events passes the one that looks at events first. Callbacks of libcurl never free a transfer; that happens
 * from our own events.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "modelproxy/allowlist.h"
#include "upstream/upstream.h"

enum { REPLY_BYTES_MAX = 64 * 1024, URL_MAX = 2048, HEADER_VALUE_MAX = 255 };

struct transfer {
    struct transfer *next;
    struct upstream *u;
    uint64_t call; /* id of the model proxy's request */
    char provider[PROVIDER_NAME_MAX + 1];
    struct provider where;
    const struct model_path *path;
    char content_type[256], accept[256];
    char *extra;
    int body_fd;
    uint64_t body_len, body_at;
    CURL *easy;
    struct curl_slist *headers;
    struct redactor redactor;
    struct redact_events events;
    char error[CURL_ERROR_SIZE];
    char answer_type[128], answer_extra[512];
    bool head_sent, compressed, refused_address;
    bool streams_events; /* the answer is text/event-stream */
    bool paused_by_proxy, paused_by_backlog;
};

/* ---- replies ---- */

static struct link *proxy_link(const struct transfer *t)
{
    return t->u->d.links[PEER_MODELPROXY];
}

static void reply_end(struct transfer *t, int code, const char *text)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_u8(&o, 'E');
    wire_put_u32(&o, (uint32_t)code);
    wire_put_str(&o, text);
    if (proxy_link(t))
        (void)link_reply(proxy_link(t), t->call, false, &o, NULL, 0);
}

static void reply_data(void *arg, const void *data, size_t len)
{
    struct transfer *t = arg;
    const uint8_t *p = data;

    while (len > 0 && proxy_link(t)) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        size_t n = len < REPLY_BYTES_MAX ? len : REPLY_BYTES_MAX;
        wire_put_u8(&o, 'D');
        wire_put_bytes(&o, p, n);
        (void)link_reply(proxy_link(t), t->call, true, &o, NULL, 0);
        p += n;
        len -= n;
    }
}

/* Collects redacted bytes into a bounded string. */
struct text_sink {
    char *dst;
    size_t used, cap;
};

static void to_text(void *arg, const void *data, size_t len)
{
    struct text_sink *s = arg;
    size_t n = len < s->cap - 1 - s->used ? len : s->cap - 1 - s->used;

    memcpy(s->dst + s->used, data, n);
    s->used += n;
    s->dst[s->used] = 0;
}

/* Copies text with every known key in it replaced. */
static void redact_text(struct transfer *t, const char *text, char *dst, size_t cap)
{
    struct text_sink sink = {dst, 0, cap};
    struct redactor r;

    dst[0] = 0;
    redactor_init(&r);
    for (size_t i = 0; i < t->redactor.nsecrets; i++)
        (void)redactor_add(&r, t->redactor.secrets[i]);
    redactor_feed(&r, text, strlen(text), to_text, &sink);
    redactor_flush(&r, to_text, &sink);
    redactor_free(&r);
}

static void reply_head(struct transfer *t, long status)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    char type[sizeof(t->answer_type)], extra[sizeof(t->answer_extra)];

    redact_text(t, t->answer_type, type, sizeof(type));
    redact_text(t, t->answer_extra, extra, sizeof(extra));
    t->head_sent = true;
    t->streams_events = !strncasecmp(t->answer_type, "text/event-stream", strlen("text/event-stream"));
    wire_put_u8(&o, 'H');
    wire_put_u32(&o, (uint32_t)status);
    wire_put_str(&o, type);
    wire_put_str(&o, extra);
    if (proxy_link(t))
        (void)link_reply(proxy_link(t), t->call, true, &o, NULL, 0);
}

/* ---- life ---- */

static void transfer_free(struct transfer *t)
{
    for (struct transfer **at = &t->u->transfers; *at; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            t->u->ntransfers--;
            break;
        }
    }
    key_forget(t->u, t);
    if (t->easy) {
        (void)curl_multi_remove_handle(t->u->multi, t->easy);
        curl_easy_cleanup(t->easy);
    }
    for (struct curl_slist *h = t->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data)); /* one of them carries the key */
    curl_slist_free_all(t->headers);
    redact_events_free(&t->events);
    redactor_free(&t->redactor);
    if (t->body_fd >= 0)
        (void)close(t->body_fd);
    free(t->extra);
    free(t);
}

static void fail(struct transfer *t, int code, const char *text)
{
    reply_end(t, code ? code : EIO, text);
    transfer_free(t);
}

/* ---- libcurl's callbacks ---- */

static size_t on_read(char *buf, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    ssize_t got = pread(t->body_fd, buf, size * n, (off_t)t->body_at);

    if (got < 0)
        return CURL_READFUNC_ABORT;
    t->body_at += (uint64_t)got;
    return (size_t)got;
}

/* libcurl rewinds when a kept connection turned out to be closed and the request is sent again. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len)
        return CURL_SEEKFUNC_FAIL;
    t->body_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Headers that may pass back: the id that a provider's support asks for, and when to come again. */
static bool passes_back(const char *name)
{
    static const char *const names[] = {"request-id", "x-request-id", "retry-after"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcasecmp(names[i], name))
            return true;
    return false;
}

static void take_header(struct transfer *t, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len), *value;
    char name[64], text[HEADER_VALUE_MAX + 1];
    size_t used = strlen(t->answer_extra);

    if (!colon || !io_format(name, sizeof(name), "%.*s", (int)(colon - line), line))
        return;
    value = colon + 1;
    while (value < line + len && (*value == ' ' || *value == '\t'))
        value++;
    if (line + len - value > HEADER_VALUE_MAX ||
        !io_format(text, sizeof(text), "%.*s", (int)(line + len - value), value) ||
        !allow_header_value(text, HEADER_VALUE_MAX))
        return;
    if (!strcasecmp(name, "content-type"))
        (void)io_format(t->answer_type, sizeof(t->answer_type), "%s", text);
    else if (!strcasecmp(name, "content-encoding") && strcasecmp(text, "identity") != 0)
        t->compressed = true;
    else if (passes_back(name) &&
             !io_format(t->answer_extra + used, sizeof(t->answer_extra) - used, "%s: %s\n", name, text))
        t->answer_extra[used] = 0;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;
    long status = 0;

    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
        len--;
    if (len >= 5 && !strncasecmp(line, "HTTP/", 5)) { /* a new head: 100 Continue may come first */
        t->answer_type[0] = t->answer_extra[0] = 0;
    } else if (len > 0) {
        if (!t->head_sent) /* trailers are dropped */
            take_header(t, line, len);
    } else if (!t->head_sent) {
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (t->compressed)
            return 0; /* we did not ask for it, and could not look for keys in it */
        if (status >= 200)
            reply_head(t, status);
    }
    return size * n;
}

static size_t on_write(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct link *l = proxy_link(t);

    if (!l)
        return 0;
    if (link_backlog(l) > BACKLOG_HIGH) {
        struct timeval soon = {0, 20000};
        t->paused_by_backlog = true;
        if (!event_pending(t->u->drained, EV_TIMEOUT, NULL))
            (void)event_add(t->u->drained, &soon);
        return CURL_WRITEFUNC_PAUSE;
    }
    if (t->streams_events)
        redact_events_feed(&t->events, data, size * n);
    else
        redactor_feed(&t->redactor, data, size * n, reply_data, t);
    return size * n;
}

/* The last word on where a connection may go: plain HTTP only to this very machine, whatever the name
 * resolved to. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct transfer *t = arg;

    (void)purpose;
    if (t->where.plain && !address_is_loopback(&a->addr)) {
        t->refused_address = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
}

/* ---- start ---- */

static void add_header(struct transfer *t, const char *line)
{
    struct curl_slist *list = curl_slist_append(t->headers, line);

    if (!list)
        abort();
    t->headers = list;
}

static void add_named(struct transfer *t, const char *name, const char *value)
{
    CLEANUP_FREE char *line = *value ? x_asprintf("%s: %s", name, value) : NULL;

    if (line)
        add_header(t, line);
}

/* The allowlisted headers of the client; checked again, for the model proxy parses what sandboxes send. */
static bool add_client_headers(struct transfer *t)
{
    bool version = false;

    for (char *line = t->extra; *line;) {
        size_t len = strcspn(line, "\n");
        char *end = line + len, *colon;
        bool more = *end == '\n';
        *end = 0;
        colon = strstr(line, ": ");
        if (!colon)
            return false;
        *colon = 0;
        if (!allow_header(line) || !allow_header_value(colon + 2, 1024))
            return false;
        version = version || !strcasecmp(line, "anthropic-version");
        add_named(t, line, colon + 2);
        line = more ? end + 1 : end;
    }
    add_named(t, "Content-Type", t->content_type);
    add_named(t, "Accept", t->accept);
    if (t->where.anthropic && !version)
        add_header(t, "anthropic-version: 2023-06-01");
    add_header(t, "Expect:");
    return true;
}

static void add_key(struct transfer *t, const struct secret *s)
{
    char *line =
        x_asprintf(t->where.anthropic ? "x-api-key: %s" : "Authorization: Bearer %s", (const char *)s->bytes);

    add_header(t, line);
    explicit_bzero(line, strlen(line));
    free(line);
}

static void set_options(struct transfer *t, const char *url)
{
    CURL *c = t->easy;

    curl_easy_setopt(c, CURLOPT_PRIVATE, t);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, t->where.plain ? "http" : "https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)IDLE_TIMEOUT_S);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "ironclaw/" IRONCLAW_VERSION);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 16384L);
    if (t->u->ca) {
        struct curl_blob blob = {t->u->ca, t->u->ca_len, CURL_BLOB_NOCOPY};
        curl_easy_setopt(c, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (!strcmp(t->path->method, "POST")) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_len);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, t);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, t);
    }
}

static void add_secret(void *arg, struct secret *s)
{
    struct transfer *t = arg;

    (void)redactor_add(&t->redactor, s);
}

static void on_key(void *arg, struct secret *s, const struct err *e)
{
    struct transfer *t = arg;
    char url[URL_MAX];
    size_t n = strlen(t->where.url);

    /* A server on this machine often wants no key; a provider elsewhere always does. */
    if (!s && !(e->code == ENOENT && t->where.plain)) {
        fail(t, e->code, e->text);
        return;
    }
    while (n > 0 && t->where.url[n - 1] == '/')
        n--;
    if (!io_format(url, sizeof(url), "%.*s%s", (int)n, t->where.url, t->path->path)) {
        fail(t, ENAMETOOLONG, "the URL of this session's provider is too long");
        return;
    }
    keys_each(t->u, add_secret, t);
    if (!add_client_headers(t)) {
        fail(t, EINVAL, "the request's headers are not on the allowlist");
        return;
    }
    if (s)
        add_key(t, s);
    t->easy = curl_easy_init();
    if (!t->easy)
        abort();
    set_options(t, url);
    if (curl_multi_add_handle(t->u->multi, t->easy) != CURLM_OK)
        fail(t, EIO, "the request could not be started");
}

/* The body may not change under our hands, and it must be a file of memory, not a pipe that blocks. */
static int check_body(struct transfer *t, struct err *e)
{
    const int need = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
    int seals = fcntl(t->body_fd, F_GET_SEALS);
    off_t end = lseek(t->body_fd, 0, SEEK_END);

    if (seals < 0 || (seals & need) != need || end < 0)
        return err_set(e, EPERM, "the request body is not a sealed memfd");
    if (end > MODEL_BODY_MAX)
        return err_set(e, EFBIG, "the request body is larger than 16 MiB");
    t->body_len = (uint64_t)end;
    return 0;
}

bool transfer_request(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct upstream *u = ctx;
    struct transfer *t = x_calloc(1, sizeof(*t));
    char method[16], path[128];
    struct err e = ERR_INIT;

    t->u = u;
    t->call = req->id;
    t->body_fd = req->fds[0];
    t->next = u->transfers;
    u->transfers = t;
    u->ntransfers++;
    u->busy = true;
    redactor_init(&t->redactor);
    redact_events_init(&t->events, &t->redactor, EVENT_BYTES_MAX, reply_data, t);
    wire_get_str(in, t->provider, sizeof(t->provider));
    wire_get_str(in, method, sizeof(method));
    wire_get_str(in, path, sizeof(path));
    wire_get_str(in, t->content_type, sizeof(t->content_type));
    wire_get_str(in, t->accept, sizeof(t->accept));
    t->extra = wire_get_strdup(in, 4096);
    t->path = allow_path(path);
    if (!wire_in_done(in) || !t->path || strcmp(t->path->path, path) != 0 ||
        strcmp(t->path->method, method) != 0 || !allow_header_value(t->content_type, 255) ||
        !allow_header_value(t->accept, 255)) {
        transfer_free(t);
        return false; /* the model proxy never sends this */
    }
    if (check_body(t, &e) < 0 || provider_find(u->d.config, t->provider, &t->where, &e) < 0)
        fail(t, e.code, e.text);
    else if (u->ntransfers > TRANSFERS_MAX)
        fail(t, EAGAIN, "too many requests are under way: try again");
    else
        key_get(u, t->provider, on_key, t);
    return true;
}

/* ---- end ---- */

static void on_finished(struct transfer *t, CURLcode code)
{
    char text[ERR_TEXT_MAX];

    redact_events_end(&t->events); /* flushes the byte redactor too */
    if (code == CURLE_OK) {
        reply_end(t, 0, "");
    } else {
        if (t->compressed)
            (void)io_format(text, sizeof(text), "provider %s compressed its answer, which nobody asked for",
                            t->provider);
        else if (t->refused_address)
            (void)io_format(
                text, sizeof(text),
                "provider %s is reached over plain HTTP, which is for loopback addresses only: use https://",
                t->provider);
        else
            (void)snprintf(text, sizeof(text), "cannot get an answer from provider %s: %s", t->provider,
                           *t->error ? t->error : curl_easy_strerror(code));
        log_warn("%s", text);
        reply_end(t, EIO, text);
    }
    transfer_free(t);
}

static void check_finished(struct upstream *u)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(u->multi, &left))) {
        struct transfer *t = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        on_finished(t, m->data.result);
    }
}

static struct transfer *find(struct upstream *u, uint64_t call)
{
    struct transfer *t = u->transfers;

    while (t && t->call != call)
        t = t->next;
    return t;
}

bool transfer_cancel(void *ctx, const struct link_req *req, struct wire_in *in)
{
    uint64_t call = wire_get_u64(in);
    struct transfer *t = find(ctx, call);

    (void)req;
    if (!wire_in_done(in))
        return false;
    if (t) /* it may have ended while the notice was on its way */
        transfer_free(t);
    return true;
}

static void set_paused(struct transfer *t)
{
    if (t->easy)
        (void)curl_easy_pause(t->easy,
                              t->paused_by_proxy || t->paused_by_backlog ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

bool transfer_pause(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct upstream *u = ctx;
    uint64_t call = wire_get_u64(in);
    uint8_t paused = wire_get_u8(in);
    struct transfer *t = find(u, call);

    (void)req;
    if (!wire_in_done(in) || paused > 1)
        return false;
    if (t) {
        t->paused_by_proxy = paused;
        set_paused(t);
        check_finished(u);
    }
    return true;
}

static void on_drained(evutil_socket_t fd, short what, void *arg)
{
    struct upstream *u = arg;
    struct link *l = u->d.links[PEER_MODELPROXY];
    struct timeval soon = {0, 20000};

    (void)fd;
    (void)what;
    if (l && link_backlog(l) > BACKLOG_HIGH / 2) {
        (void)event_add(u->drained, &soon);
        return;
    }
    for (struct transfer *t = u->transfers; t; t = t->next) {
        if (!t->paused_by_backlog)
            continue;
        t->paused_by_backlog = false;
        set_paused(t);
    }
    check_finished(u);
}

void transfers_drop(struct upstream *u)
{
    while (u->transfers)
        transfer_free(u->transfers);
}

/* ---- libcurl's multi interface on our loop (curl_multi_socket_action(3)) ---- */

static void on_curl_socket(evutil_socket_t fd, short what, void *arg)
{
    struct upstream *u = arg;
    int running, flags = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

    (void)curl_multi_socket_action(u->multi, fd, flags, &running);
    check_finished(u);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct upstream *u = arg;
    struct event *ev = socket_arg;
    short flags =
        (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);

    (void)easy;
    if (ev)
        event_free(ev);
    ev = what == CURL_POLL_REMOVE ? NULL : event_new(u->d.base, fd, flags, on_curl_socket, u);
    if (what != CURL_POLL_REMOVE && (!ev || event_add(ev, NULL) < 0))
        abort();
    (void)curl_multi_assign(u->multi, fd, ev);
    return 0;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct upstream *u = arg;
    int running;

    (void)fd;
    (void)what;
    (void)curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    check_finished(u);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    struct upstream *u = arg;
    struct timeval wait = {ms / 1000, ms % 1000 * 1000};

    (void)multi;
    if (ms < 0)
        (void)event_del(u->timer);
    else
        (void)event_add(u->timer, &wait);
    return 0;
}

int transfers_init(struct upstream *u, struct err *e)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(u->multi = curl_multi_init()))
        return err_set(e, ENOMEM, "libcurl does not start");
    u->timer = event_new(u->d.base, -1, 0, on_timer, u);
    u->drained = event_new(u->d.base, -1, 0, on_drained, u);
    if (!u->timer || !u->drained)
        abort();
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, 8L);
    return 0;
}
