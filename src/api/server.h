/*
 * server.h - what every part of the api process shares: the loop, the link to the vault, limits, listeners.
 */
#pragma once
#include <event2/event.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/rate.h"
#include "base/err.h"
#include "proc/daemon.h"

enum {
    SERVER_LISTENERS_MAX = 9,         /* the unix socket and 8 of "listen" (config/schema.c) */
    SERVER_CONNECTION_MEMORY = 16384, /* bytes for one connection's request line, headers and buffers */
    SERVER_IDLE_S = 60,               /* a kept-alive connection without a request */
    SERVER_ANSWER_S = 60,             /* time a client has to read an answer that is not a stream */
};

struct request;

struct listener {
    struct server *server;
    struct MHD_Daemon *mhd;
    struct event *ready; /* its epoll descriptor */
    struct event *timer; /* what MHD_get_timeout() asks for, and server_kick() */
    bool tls;
};

/* One accepted connection. Lives from accept to close; requests on it come one after the other. */
struct conn {
    struct conn *next, **link;
    struct listener *listener;
    int fd;            /* borrowed from libmicrohttpd */
    uint64_t deadline; /* io_monotonic_ns() at which it is cut off; 0: never */
    char peer[48];     /* uid or address, for the rate limit */
};

struct server {
    struct daemon *daemon;
    struct link *vault; /* NULL while it is down */
    struct rate rate;
    uint32_t request_timeout_s; /* to send one whole request */
    uint32_t max_connections;
    struct listener listeners[SERVER_LISTENERS_MAX];
    unsigned nlisteners;
    struct conn *conns;
    struct event *sweep;
    struct request *suspended; /* requests that wait for the vault or for the next event */
    unsigned streams;
    bool stopping;
    struct server_counters {
        uint64_t requests, refused, rate_limited, cut_off;
    } counters;
};

/*
 * Starts one listener on a listening socket (now owned by it). cert and key are PEM text for TLS, or NULL
 * both. Returns 0, or -1 with e.
 */
int server_listen(struct server *s, int fd, const char *cert, const char *key, struct err *e);

/* Runs a listener again at the next turn of the loop: after MHD_resume_connection(). */
void server_kick(struct listener *l);

/* The connection a request came on. */
struct conn *server_conn(struct MHD_Connection *c);

/* Cuts the connection off `seconds` from now unless it is set again; 0: never. */
void server_deadline(struct conn *c, uint32_t seconds);

/* Answers what is suspended with 503, then closes every connection and listener. */
void server_stop(struct server *s);
