/*
 * queue_store.h - the two durable queues of every session: sessions/<id>/inbound.db and outbound.db.
 *
 * Invariants:
 *  - A record is on disk, and its anchor written (synced at once, or soon: anchors.h), before queue_append()
 * returns 0.
 *  - Records are numbered from 1 without gaps and never change; triggers refuse UPDATE and DELETE as well.
 *  - Whatever is wrong with the files is found when a session is first opened (the whole chain is walked) or
 * read (every record is authenticated against its predecessor) and reported as an `enum damage`; only that
 * session is refused.
 *  - At most KEY_SLOTS sessions have open databases; the least recently used is closed first, all are closed
 * after a quiet period by queue_store_close_idle(). An idle session costs nothing but its files.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vault/anchors.h"
#include "vault/keys.h"
#include "vault/record.h"

struct queue_store;

/* Names a session: its id, and the slot of its anchors. */
struct queue_ref {
    const char *session;
    uint32_t uid_index;
};

struct queue_heads {
    uint64_t in, out;  /* newest sequence numbers; 0 none */
    uint64_t consumed; /* inbound messages up to this number are handled */
};

struct queue_append {
    enum direction direction;
    enum record_kind kind;
    const char *text; /* UTF-8, not NUL-terminated */
    size_t len;
    uint64_t consumed; /* outbound: mark inbound up to here as handled; 0 leaves it */
    const char
        *idempotency; /* inbound: the client's key, or NULL; the same key again returns the first record */
};

/* One opened record, valid during the callback. */
struct queue_item {
    enum direction direction;
    uint64_t seq, time, reply_to;
    uint32_t kind;
    const char *text;
    size_t len;
};
/* Returns false to stop. */
typedef bool (*queue_visit)(void *arg, const struct queue_item *item);

/* `root` is daemon_state_root(); keys and anchors are borrowed. */
struct queue_store *queue_store_new(const char *root, struct keys *k, struct anchors *a);
void queue_store_free(struct queue_store *s);

/* Makes the directory, the key, the anchors and two empty databases of a new session. */
int queue_create(struct queue_store *s, struct queue_ref r, struct err *e);
/* Removes all of it; what is missing is fine. */
int queue_remove(struct queue_store *s, struct queue_ref r, struct err *e);

/* Each returns 0, or -1 with e; *damage then says whether (and how) the session's data are damaged. */
int queue_heads(struct queue_store *s, struct queue_ref r, struct queue_heads *out, enum damage *damage,
                struct err *e);
/*
 * Appends one record, durably. *seq and *time get its number and time (ms). *repeated (may be NULL) tells
 * that the idempotency key was seen before and nothing was added. -1 with EINVAL: `consumed` is beyond the
 * newest inbound message.
 */
int queue_append(struct queue_store *s, struct queue_ref r, const struct queue_append *what, uint64_t *seq,
                 uint64_t *time, bool *repeated, enum damage *damage, struct err *e);
/* Visits records with sequence numbers above `after`, oldest first. */
int queue_read(struct queue_store *s, struct queue_ref r, enum direction d, uint64_t after, queue_visit visit,
               void *arg, enum damage *damage, struct err *e);

/* Closes databases that were not used during the last `idle_ms`. Returns how many stay open. */
unsigned queue_store_close_idle(struct queue_store *s, uint64_t idle_ms);
