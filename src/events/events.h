/*
 * events.h - what the parts of the events process share: one struct, made once in main.c.
 */
#pragma once
#include "events/burst.h"
#include "events/notice.h"
#include "events/ring.h"
#include "events/sink.h"
#include "proc/daemon.h"

enum { OWNER_BUCKETS = 256 };

/* A session, or with the name "" the platform itself. Lives while its sandbox runs or the ring holds events
 * of it. */
struct owner {
    struct ring_share share; /* first: ring_item.share leads here */
    struct owner *next;      /* in its bucket */
    char session[SESSION_ID_MAX + 1], agent[AGENT_NAME_MAX + 1], wall[NOTICE_WALL_MAX + 1];
    struct burst burst;
    struct event *listener;
    int listener_fd;
    uint64_t window_ms; /* refused calls are answered at a bounded rate */
    uint32_t answered;
    bool running, paused;
};

struct reader; /* a read of the vault's that waits for something new */

struct events {
    struct daemon d;
    struct ring ring;
    struct owner *owners[OWNER_BUCKETS];
    struct sink sinks[EVENT_SINKS];
    struct reader *readers;
    uint64_t seq, first_seq;
    struct event *tick, *deliver, *unpause;
    struct event_counters {
        uint64_t events, evicted, dropped[DROPS];
    } counters, counters_told;
};

/* readers.c: the vault's side. */
bool readers_on_read(void *ctx, const struct link_req *req, struct wire_in *in);
void readers_vault_up(void *ctx, struct link *l);
void readers_vault_down(void *ctx);
/* Answers those for whom there is something new. */
void readers_wake(struct events *ev);
void readers_tell_counters(struct events *ev);
void readers_free(struct events *ev);
