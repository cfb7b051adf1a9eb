/*
 * server.c - libmicrohttpd's listeners on our libevent loop, and the clock against slow clients.
 *
 * libmicrohttpd runs without threads: its epoll descriptor is one event of ours, its timeout another. Every
 * connection carries a deadline for the step it is in (send one whole request, read one answer, stay idle),
 * which a byte now and then does not move; a connection past its deadline is shut down and libmicrohttpd
 * cleans up.
 */
#include "api/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/request.h"
#include "base/io.h"
#include "base/log.h"

#if MHD_VERSION >= 0x00097701
#define STRICT_OPTION MHD_OPTION_CLIENT_DISCIPLINE_LVL
#else
#define STRICT_OPTION MHD_OPTION_STRICT_FOR_CLIENT
#endif

static void run(struct listener *l)
{
    MHD_UNSIGNED_LONG_LONG ms;
    struct timeval tv;

    if (MHD_run(l->mhd) != MHD_YES) {
        log_error("the HTTP listener failed; restarting");
        daemon_exit(l->server->daemon, 1);
        return;
    }
    if (MHD_get_timeout(l->mhd, &ms) != MHD_YES)
        return;
    tv.tv_sec = (time_t)(ms / 1000);
    tv.tv_usec = (suseconds_t)(ms % 1000) * 1000;
    (void)event_add(l->timer, &tv);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run(arg);
}

void server_kick(struct listener *l)
{
    struct timeval now = {0, 0};

    (void)event_add(l->timer, &now);
}

struct conn *server_conn(struct MHD_Connection *c)
{
    return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

void server_deadline(struct conn *c, uint32_t seconds)
{
    c->deadline = seconds ? io_monotonic_ns() + (uint64_t)seconds * 1000000000U : 0;
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    uint64_t now = io_monotonic_ns();
    struct timeval second = {1, 0};

    (void)fd;
    (void)what;
    for (struct conn *c = s->conns; c; c = c->next) {
        if (!c->deadline || now < c->deadline)
            continue;
        c->deadline = 0;
        s->counters.cut_off++;
        (void)shutdown(c->fd, SHUT_RDWR);
        server_kick(c->listener);
    }
    if (s->conns)
        (void)event_add(s->sweep, &second);
}

static void name_peer(struct conn *c, struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *sa = info ? info->client_addr : NULL;
    struct ucred cred = {.uid = (uid_t)-1};
    socklen_t len = sizeof(cred);

    if (sa && sa->sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, c->peer,
                        sizeof(c->peer));
        return;
    }
    if (sa && sa->sa_family == AF_INET6) {
        /* One budget for a /64: that is what one client usually owns. */
        struct in6_addr net = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
        memset(net.s6_addr + 8, 0, 8);
        (void)inet_ntop(AF_INET6, &net, c->peer, sizeof(c->peer));
        return;
    }
    (void)getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
    (void)io_format(c->peer, sizeof(c->peer), "uid %u", cred.uid);
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct listener *l = cls;
    struct server *s = l->server;
    struct conn *c;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        c = *socket_context;
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        free(c);
        *socket_context = NULL;
        return;
    }
    c = x_calloc(1, sizeof(*c));
    c->listener = l;
    c->fd = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->link = &s->conns;
    c->next = s->conns;
    if (c->next)
        c->next->link = &c->next;
    s->conns = c;
    name_peer(c, mc);
    server_deadline(c, s->request_timeout_s);
    if (!event_pending(s->sweep, EV_TIMEOUT, NULL)) {
        struct timeval second = {1, 0};
        (void)event_add(s->sweep, &second);
    }
    *socket_context = c;
}

/* Percent escapes are left as they are: no name, id or number here needs one, so nothing has two spellings.
 */
static size_t keep_escapes(void *cls, struct MHD_Connection *c, char *text)
{
    (void)cls;
    (void)c;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    char line[256];
    int n = vsnprintf(line, sizeof(line), fmt, ap);

    (void)cls;
    if (n <= 0)
        return;
    line[strcspn(line, "\n")] = 0;
    log_info("http: %s", line);
}

int server_listen(struct server *s, int fd, const char *cert, const char *key, struct err *e)
{
    struct listener *l;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (cert ? MHD_USE_TLS : 0U);
    const union MHD_DaemonInfo *info;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)(s->max_connections / 2 + 1), NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};

    if (s->nlisteners == SERVER_LISTENERS_MAX)
        return err_set(e, E2BIG, "more than %d listeners are configured", SERVER_LISTENERS_MAX);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot use the listening socket on descriptor %d", fd);
    l = &s->listeners[s->nlisteners];
    *l = (struct listener){.server = s, .tls = cert != NULL};
    l->mhd = MHD_start_daemon(
        flags, 0, NULL, NULL, request_on_access, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, s->max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SERVER_CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)SERVER_IDLE_S + 5U, STRICT_OPTION, 1, MHD_OPTION_NOTIFY_CONNECTION, on_connection, l,
        MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, l, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_ARRAY, cert ? tls : plain, MHD_OPTION_END);
    if (!l->mhd)
        return err_set(e, EINVAL, "cannot start the %s listener%s", cert ? "TLS" : "unix socket",
                       cert ? "; check that the certificate and its key are PEM and belong together" : "");
    info = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    l->ready = event_new(s->daemon->base, info->listen_fd, EV_READ | EV_PERSIST, on_ready, l);
    l->timer = event_new(s->daemon->base, -1, 0, on_ready, l);
    if (!s->sweep)
        s->sweep = event_new(s->daemon->base, -1, 0, on_sweep, s);
    if (!l->ready || !l->timer || !s->sweep || event_add(l->ready, NULL) < 0)
        abort();
    s->nlisteners++;
    return 0;
}

void server_stop(struct server *s)
{
    s->stopping = true;
    request_end_all(s, "stopping", "the control plane is stopping; start it again with 'ironclaw up'");
    for (unsigned i = 0; i < s->nlisteners; i++) {
        struct listener *l = &s->listeners[i];
        (void)MHD_run(l->mhd); /* hands the answers out */
        event_free(l->ready);
        event_free(l->timer);
        MHD_stop_daemon(l->mhd);
    }
    s->nlisteners = 0;
    if (s->sweep)
        event_free(s->sweep);
    s->sweep = NULL;
}
