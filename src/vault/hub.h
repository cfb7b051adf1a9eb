/*
 * hub.h - what the parts of the vault process share: one struct, made once in main.c, living as long as the
 * process.
 */
#pragma once
#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/tokens.h"
#include "proc/daemon.h"
#include "vault/anchors.h"
#include "vault/audit.h"
#include "vault/keys.h"
#include "vault/queue_store.h"

struct sessions; /* sessions/session.h */

/* Since start; for /metrics. */
struct counters {
    uint64_t messages_in, messages_out, deltas;
    uint64_t model_ok, model_refused; /* calls that reached the provider and succeeded; all others */
    uint64_t tokens_in, tokens_out;
    uint64_t rejected_tokens;                               /* API requests with an unknown token */
    uint64_t events, events_evicted, events_dropped[DROPS]; /* as the events process said last */
};

/* Calls to the model port that were refused, of one session, in this minute. */
struct refusals {
    uint64_t since; /* monotonic ns */
    uint32_t told;  /* that have an audit record of their own */
    uint64_t more;  /* that have not: one record counts them */
};

struct hub {
    struct daemon *d;
    const json_t *config;
    const char *root; /* daemon_state_root() after sealing */
    struct keys *keys;
    struct anchors *anchors, *audit_anchor;
    struct queue_store *store;
    struct audit *audit;
    bool audit_owed; /* the registry holds audit records that are not in the log yet (gateway/owed.h) */
    sqlite3 *registry;
    struct tokens tokens;
    struct sessions *sessions;
    struct counters counters;
    struct refusals strangers; /* calls of sessions that do not exist (any more) */
    uint64_t api_epoch; /* grows with every new link to api: answers to calls of an older one are dropped */
    struct event_stream *event_streams; /* gateway/api_events.c */
    struct event *idle_timer;
    struct event *anchor_sync; /* runs once the handler that wrote an anchor has answered */
};
