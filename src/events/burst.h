/*
 * burst.h - many alike things told as few events with a count.
 *
 * The first of a kind is told at once; those that follow are counted, and told as one at the next flush (each
 * second). A kind that was quiet for a whole period is forgotten. One session has at most BURST_KINDS kinds
 * at a time: what does not fit is counted together and told as dropped. So a sandbox costs a bounded number
 * of events and bytes a second, whatever it does.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "events/event.h"

enum { BURST_KINDS = 16 };

struct burst_kind {
    enum event_type type;
    uint64_t key; /* with the type: which kind it is */
    uint64_t pending;
    char *detail; /* as event_detail() wrote it; malloc'ed */
};

struct burst {
    struct burst_kind *kinds; /* malloc'ed with the first; NULL while quiet */
    unsigned n;
    uint64_t overflow; /* things of kinds that did not fit */
};

/* Counts one more of a known kind. False when the kind is not known. */
bool burst_count(struct burst *b, enum event_type type, uint64_t key, uint64_t count);

/* Makes a kind known. True: tell it now. False: there is no room, it was counted as dropped. */
bool burst_open(struct burst *b, enum event_type type, uint64_t key, const char *detail, uint64_t count);

/* The key of a kind that is known by its detail alone. */
uint64_t burst_key(const char *detail);

/* Tells what was counted since the last flush; for the overflow with EVENT_DROPPED and detail NULL. Returns
 * true while anything is still known. */
bool burst_flush(struct burst *b,
                 void (*tell)(void *arg, enum event_type type, const char *detail, uint64_t count),
                 void *arg);

void burst_free(struct burst *b);
