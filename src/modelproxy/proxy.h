/*
 * proxy.h - what the parts of the model proxy know of each other.
 *
 *   session.c    a registered session: its two listeners, its limits, its connections
 *   http_port.c  HTTP/1.1 by libmicrohttpd, driven by our loop; connections are accepted by session.c
 *   call.c       one request from its first byte to its audit record; the buffer between source and client
 *   upstream_client.c, mock.c   the two sources of answers
 *
 * Ownership: a session is referenced by its connections, a connection by its current call. A session that
 * ended stays in memory (unlinked) until its last connection is gone.
 */
#pragma once
#include <microhttpd.h>

#include "modelproxy/allowlist.h"
#include "modelproxy/limits.h"
#include "modelproxy/mock_script.h"
#include "proc/daemon.h"

enum {
    CONNECTIONS_PER_SESSION = 32,
    PROVIDER_NAME_MAX = 63,
    MODEL_NAME_MAX = 256,
    CALL_BUFFER_HIGH = 256 * 1024, /* bytes of answer waiting for a slow client before its source is paused */
    CALL_BUFFER_LOW = 64 * 1024,
    REQUEST_TIME_S = 120, /* a request must have arrived whole within this */
    SOCKET_IDLE_S = 60,   /* a client that neither reads nor writes */
    NOTICES_KEPT = 1024,  /* audit notices kept while the vault restarts */
};

enum provider_kind { PROVIDER_MOCK, PROVIDER_ANTHROPIC, PROVIDER_OPENAI };

struct call;
struct proxy;

struct session {
    struct session *next; /* in its hash bucket */
    struct proxy *proxy;
    char id[SESSION_ID_MAX + 1];
    char provider[PROVIDER_NAME_MAX + 1];
    enum provider_kind kind;
    char *model; /* "" = whatever the client names */
    struct limits limits;
    struct event *listeners[2];
    unsigned connections;
    bool paused; /* listeners disabled: too many connections, or no descriptor left */
    bool ended;
};

/* One accepted connection, found by its descriptor. */
struct conn {
    struct session *session;
    struct MHD_Connection *mhd; /* NULL until libmicrohttpd took it */
    int fd;
    uint64_t reading_since_ns; /* 0 while an answer is being made or sent */
    struct call *call;
};

struct notice {
    struct notice *next;
    struct wire_out body;
};

enum { SESSION_BUCKETS = 256 };

struct proxy {
    struct daemon d;
    struct MHD_Daemon *mhd;
    struct event *mhd_io, *mhd_timer, *sweep, *unpause;
    struct session *sessions[SESSION_BUCKETS];
    struct conn **conns; /* by descriptor */
    size_t conns_cap;
    unsigned conns_count;
    struct mock_script *script;
    struct upstream_call *waiting; /* requests that wait for the upstream link */
    struct notice *notices, **notices_tail;
    unsigned notices_count;
};

/* ---- session.c ---- */
/* Registers or replaces. Takes both descriptors, also on failure. */
int session_register(struct proxy *p, const char *id, const char *provider, const char *model,
                     uint32_t per_minute, uint32_t concurrency, uint64_t budget, uint64_t used,
                     const int fds[2], struct err *e);
void session_end(struct proxy *p, const char *id);
void session_end_all(struct proxy *p);
/* The connection of a descriptor, or NULL. */
struct conn *conn_find(struct proxy *p, int fd);
/* Forgets a connection; its descriptor is libmicrohttpd's to close. */
void conn_free(struct proxy *p, struct conn *c);
/* Closes connections that have been sending one request for too long. */
void session_sweep(struct proxy *p);
void session_unpause(struct proxy *p);

/* ---- http_port.c ---- */
int http_port_start(struct proxy *p, struct err *e);
void http_port_stop(struct proxy *p);
/* Hands an accepted descriptor over. On failure it is closed. */
void http_port_add(struct proxy *p, int fd, const struct sockaddr *addr, socklen_t addrlen);
/* Lets libmicrohttpd work as soon as the current event is done (after a resume). */
void http_port_kick(struct proxy *p);

/* ---- main.c ---- */
/* One audit record about a call; kept while the vault is away. Takes the body. */
void proxy_notice(struct proxy *p, struct wire_out *body);
