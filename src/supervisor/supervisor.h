/*
 * supervisor.h - `ironclaw up`: starts, connects, restarts and stops the processes of the control plane.
 *
 * The supervisor parses only the administrator's own file, speaks to nobody but its children, and keeps what
 * has to survive them: listening sockets, the configuration, the passphrase of the master key.
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "ipc/link.h"
#include "ipc/messages.h"

enum { LISTENERS_MAX = 16, PASSPHRASE_MAX = 1024 };

struct listener {
    int socket, certificate, key; /* certificate and key: read-only memfds */
};

struct child {
    enum peer peer;
    struct supervisor *up;
    pid_t pid; /* 0: not running */
    struct link *control;
    bool ready, on_demand;
    uint64_t started_ns;
    unsigned failures; /* in a row */
    struct event *retry;
};

struct supervisor {
    struct event_base *base;
    json_t *config;
    const char *state_dir;
    bool root;
    int lock; /* held on <state>/lock while we run */
    int api_socket;
    struct listener listeners[LISTENERS_MAX];
    size_t nlisteners;
    char passphrase[PASSPHRASE_MAX]; /* mlocked, wiped at the end */
    size_t passphrase_len;
    struct child children[PEER_COUNT];
    bool announced, stopping;
    int stop_step, status;
    struct event *stop_timer;
    const char *notify_socket; /* systemd's NOTIFY_SOCKET, or NULL */
};

/* state.c: the state directory, its lock, stale sockets. */
int state_open(struct supervisor *s, struct err *e);
/* sockets.c: the API's listening sockets and TLS files. */
int sockets_open(struct supervisor *s, struct err *e);
void sockets_close(struct supervisor *s);

/* sinks.c: opens what events are written to, as configured. `rotate` moves a full file to PATH.1 first.
 * Returns the descriptor, or -1 with e. */
int sinks_open(const json_t *conf, enum event_sink sink, bool rotate, struct err *e);

/* processes.c: the table of processes and links, and their life. */
int processes_start(struct supervisor *s, struct err *e);
void processes_stop(struct supervisor *s);
/* A sealed memfd with these bytes; its offset at 0. */
int memfd_with(const char *name, const void *data, size_t len, struct err *e);
