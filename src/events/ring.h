/*
 * ring.h - the newest events, in memory, in order, up to a number of bytes.
 *
 * Every event belongs to a share: one session's, or the platform's. When there is no room, the oldest event
 * of the largest share goes: a session that floods pushes out its own events, not those of the others.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "events/event.h"

struct ring_share;

struct ring_item {
    struct ring_item *prev, *next; /* in order of seq */
    struct ring_item *younger;     /* the next one of its share */
    struct ring_share *share;
    uint64_t seq, time_ms;
    enum event_type type;
    size_t len;
    char text[]; /* the line, NUL-terminated, no newline */
};

/* Zeroed by its owner, who keeps it where it is while it holds events. */
struct ring_share {
    struct ring_item *oldest, *newest;
    struct ring_share *next, **link; /* in the ring's list of shares, while it holds events */
    size_t bytes;
};

struct ring {
    size_t max, bytes; /* with what an event costs besides its text */
    struct ring_item *oldest, *newest;
    struct ring_share *shares;
    /* Called before an event goes. */
    void (*on_evict)(void *arg, const struct ring_item *item);
    void *arg;
};

/* Appends an event; its seq must be larger than any before. Never fails: others go, and one that is larger
 * than the ring goes at once. */
void ring_append(struct ring *r, struct ring_share *share, const struct event_head *h, const char *text,
                 size_t len);

/* The first event after `seq`, or NULL. */
const struct ring_item *ring_after(const struct ring *r, uint64_t seq);

void ring_free(struct ring *r);
