/*
 * session.c - registered sessions, their listeners, their connections.
 *
 * The listeners were made inside the sandbox by its launcher, before untrusted code ran; so whoever connects
 * to one is that session, and no other proof is needed. A session has at most CONNECTIONS_PER_SESSION
 * connections: beyond that its listeners are simply not read, further clients wait in the kernel's bounded
 * backlog, and nobody else notices.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "modelproxy/call.h"
#include "modelproxy/proxy.h"

static struct session **bucket(struct proxy *p, const char *id)
{
    uint32_t h = 2166136261U; /* FNV-1a: ids are random and come from the vault */

    for (const char *c = id; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619U;
    return &p->sessions[h % SESSION_BUCKETS];
}

static void set_paused(struct session *s, bool paused)
{
    s->paused = paused;
    for (size_t i = 0; i < ARRAY_LEN(s->listeners); i++) {
        if (!s->listeners[i])
            continue;
        if (paused)
            (void)event_del(s->listeners[i]);
        else
            (void)event_add(s->listeners[i], NULL);
    }
}

static void close_listeners(struct session *s)
{
    for (size_t i = 0; i < ARRAY_LEN(s->listeners); i++) {
        int fd;
        if (!s->listeners[i])
            continue;
        fd = event_get_fd(s->listeners[i]);
        event_free(s->listeners[i]);
        s->listeners[i] = NULL;
        (void)close(fd);
    }
}

static void session_free(struct session *s)
{
    close_listeners(s);
    free(s->model);
    free(s);
}

struct conn *conn_find(struct proxy *p, int fd)
{
    return fd >= 0 && (size_t)fd < p->conns_cap ? p->conns[fd] : NULL;
}

void conn_free(struct proxy *p, struct conn *c)
{
    struct session *s = c->session;

    if (conn_find(p, c->fd) == c)
        p->conns[c->fd] = NULL;
    free(c);
    p->conns_count--;
    s->connections--;
    if (p->conns_count == 0)
        (void)event_del(p->sweep);
    if (s->ended) {
        if (s->connections == 0)
            session_free(s);
    } else if (s->paused && s->connections < CONNECTIONS_PER_SESSION) {
        set_paused(s, false);
    }
}

static void conn_add(struct session *s, int fd)
{
    struct proxy *p = s->proxy;
    struct conn *stale = conn_find(p, fd), *c;

    if (stale) /* a connection that libmicrohttpd closed without ever announcing it */
        conn_free(p, stale);
    if ((size_t)fd >= p->conns_cap) {
        size_t cap = ((size_t)fd + 64) & ~(size_t)63;
        p->conns = x_realloc(
            p->conns, cap * sizeof(*p->conns)); /* NOLINT(bugprone-sizeof-expression): an array of pointers */
        memset(p->conns + p->conns_cap, 0,
               (cap - p->conns_cap) * sizeof(*p->conns)); /* NOLINT(bugprone-sizeof-expression) */
        p->conns_cap = cap;
    }
    c = x_calloc(1, sizeof(*c));
    *c = (struct conn){.session = s, .fd = fd, .reading_since_ns = io_monotonic_ns()};
    p->conns[fd] = c;
    s->connections++;
    if (p->conns_count++ == 0) {
        struct timeval every = {3, 0};
        (void)event_add(p->sweep, &every);
    }
    if (s->connections >= CONNECTIONS_PER_SESSION)
        set_paused(s, true);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
    struct session *s = arg;
    struct sockaddr_storage addr = {0};
    socklen_t addrlen = sizeof(addr);
    int fd = accept4(listener, (struct sockaddr *)&addr, &addrlen, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)what;
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            struct timeval soon = {1, 0};
            set_paused(s, true);
            (void)event_add(s->proxy->unpause, &soon);
        }
        return; /* anything else concerns that one client, who is gone */
    }
    conn_add(s, fd);
    http_port_add(s->proxy, fd, (struct sockaddr *)&addr, addrlen);
}

void session_unpause(struct proxy *p)
{
    for (size_t b = 0; b < SESSION_BUCKETS; b++)
        for (struct session *s = p->sessions[b]; s; s = s->next)
            if (s->paused && s->connections < CONNECTIONS_PER_SESSION)
                set_paused(s, false);
}

static int provider_kind(const struct proxy *p, const char *name, enum provider_kind *kind, struct err *e)
{
    const json_t *provider = json_object_get(json_object_get(p->d.config, "providers"), name);
    const char *text = json_string_value(json_object_get(provider, "kind"));

    if (!text && !strcmp(name, "mock"))
        text = "mock";
    if (!text)
        return err_set(e, ENOENT, "there is no provider %s: add it to \"providers\" in the configuration",
                       name);
    if (!strcmp(text, "mock"))
        *kind = PROVIDER_MOCK;
    else if (!strcmp(text, "anthropic"))
        *kind = PROVIDER_ANTHROPIC;
    else if (!strcmp(text, "openai"))
        *kind = PROVIDER_OPENAI;
    else
        return err_set(e, EINVAL, "provider %s has the unknown kind %s", name, text);
    return 0;
}

int session_register(struct proxy *p, const char *id, const char *provider, const char *model,
                     uint32_t per_minute, uint32_t concurrency, uint64_t budget, uint64_t used,
                     const int fds[2], struct err *e)
{
    struct session **at = bucket(p, id), *s = *at;
    enum provider_kind kind = PROVIDER_MOCK;

    if (provider_kind(p, provider, &kind, e) < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return -1;
    }
    while (s && strcmp(s->id, id) != 0)
        s = s->next;
    if (s) {
        close_listeners(s); /* calls under way go on: the vault restarted, the sandbox did not */
        free(s->model);
        limits_change(&s->limits, per_minute, concurrency, budget, used);
    } else {
        s = x_calloc(1, sizeof(*s));
        s->proxy = p;
        s->next = *at;
        *at = s;
        (void)io_format(s->id, sizeof(s->id), "%s", id);
        limits_init(&s->limits, per_minute, concurrency, budget, used, io_monotonic_ns());
    }
    (void)io_format(s->provider, sizeof(s->provider), "%s", provider);
    s->kind = kind;
    s->model = x_strdup(model);
    for (size_t i = 0; i < ARRAY_LEN(s->listeners); i++) {
        (void)fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
        s->listeners[i] = event_new(p->d.base, fds[i], EV_READ | EV_PERSIST, on_accept, s);
        if (!s->listeners[i])
            abort();
    }
    set_paused(s, s->connections >= CONNECTIONS_PER_SESSION);
    return 0;
}

static void end(struct session *s)
{
    struct proxy *p = s->proxy;

    s->ended = true;
    close_listeners(s);
    if (s->connections == 0) {
        session_free(s);
        return;
    }
    for (size_t fd = 0; fd < p->conns_cap; fd++) {
        struct conn *c = p->conns[fd];
        if (!c || c->session != s)
            continue;
        (void)shutdown(c->fd, SHUT_RDWR);
        if (c->call)
            call_client_gone(c->call);
    }
    http_port_kick(p);
}

void session_end(struct proxy *p, const char *id)
{
    for (struct session **at = bucket(p, id); *at; at = &(*at)->next) {
        struct session *s = *at;
        if (strcmp(s->id, id) != 0)
            continue;
        *at = s->next;
        end(s);
        return;
    }
}

void session_end_all(struct proxy *p)
{
    for (size_t b = 0; b < SESSION_BUCKETS; b++) {
        while (p->sessions[b]) {
            struct session *s = p->sessions[b];
            p->sessions[b] = s->next;
            end(s);
        }
    }
}

/* The client has shut down its sending side, everything it sent was read, and still that was no whole
 * request. */
static bool half_closed(const struct conn *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void session_sweep(struct proxy *p)
{
    uint64_t now = io_monotonic_ns();

    for (size_t fd = 0; fd < p->conns_cap; fd++) {
        struct conn *c = p->conns[fd];
        if (c && c->reading_since_ns &&
            (now - c->reading_since_ns > REQUEST_TIME_S * 1000000000ULL || half_closed(c)))
            (void)shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees the end and lets go */
    }
    http_port_kick(p);
}
