/*
 * audit.h - the append-only, hash-chained, signed record of what happened: <state>/audit.log.
 *
 * Line format and hashing are in audit_format.h. A signed checkpoint follows 64 records, an orderly stop, and
 * one second after the last record. A torn last line (power loss) is cut off at start, and that is itself
 * recorded.
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>

#include "base/err.h"
#include "vault/keys.h"

enum audit_sync {
    AUDIT_DURABLE, /* on disk before audit_append() returns: decisions and tokens */
    AUDIT_BATCHED  /* written now, synced within 200 ms: model calls */
};

struct audit;

/* Opens <root>/audit.log and checks its end. NULL with e when the last line is not what this log was left
 * with. */
struct audit *audit_open(const char *root, const struct keys *k, struct event_base *base, struct err *e);

/* Signs a last checkpoint, syncs, closes. Accepts NULL. */
void audit_close(struct audit *a);

/*
 * Appends one record. `fields` is an object whose members follow seq, time and type; it is stolen (also on
 * failure). After a failed write the line is cut off again. 0, or -1 with e.
 */
int audit_append(struct audit *a, enum audit_sync sync, const char *type, json_t *fields, struct err *e);

/* Up to `limit` records with a sequence number above `after`, as a new JSON array; NULL with e. */
json_t *audit_list(struct audit *a, uint64_t after, uint32_t limit, struct err *e);
