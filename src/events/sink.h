/*
 * sink.h - where events go besides the API: a file of JSON lines, and syslog.
 *
 * A sink has no queue of its own: it is a reader of the ring, at its own pace. When it cannot go on (a full
 * disk, a receiver that does not read) it waits, and events that leave the ring before it has written them
 * are dropped and counted. Nothing ever waits for a sink. Its descriptor is opened by the supervisor, which
 * has the rights; this process has no files and no network.
 */
#pragma once
#include <event2/event.h>
#include <stdbool.h>

#include "events/ring.h"
#include "ipc/messages.h"

struct sink {
    enum event_sink kind;
    const char *name;
    const struct ring *ring;
    int fd;           /* -1 while there is none */
    bool configured;  /* it is to have one */
    bool asking;      /* the supervisor was asked for one */
    bool told;        /* the log says already that it does not work */
    uint64_t cursor;  /* seq of the last event written or given up */
    uint64_t partial; /* seq of an event that is written in part, 0 none */
    size_t partial_at;
    uint64_t size, max_size; /* of the file; max_size 0: unlimited */
    uint64_t written, dropped, dropped_told;
    char host[64];
    struct event *writable;
    /* Asks for a descriptor; rotate: the file is full, for a fresh one. Answered by sink_opened(). */
    void (*ask)(struct sink *s, bool rotate);
};

/* Takes the descriptor, or -1 with the reason it could not be opened. */
void sink_opened(struct event_base *base, struct sink *s, int fd, const char *why);
/* Writes what is new, as far as it can without waiting. */
void sink_push(struct sink *s);
/* Each second while there is something to do: opens again what broke, notices a file that was removed. True
 * while it has something left to write. */
bool sink_tick(struct sink *s);
/* An event leaves the ring. */
void sink_evicted(struct sink *s, const struct ring_item *item);
void sink_close(struct sink *s);
