/*
 * audit.h - the append-only, hash-chained, signed record of what happened: <state>/audit.log.
 *
 * Line format and hashing are in audit_format.h. A signed checkpoint follows 64 records, an orderly stop, and
 * one second after the last record. A torn last line (power loss) is cut off at start, and that is itself
 * recorded.
 *
 * A log that was cut back to an earlier checkpoint is consistent in itself. So the number and hash of the
 * last checkpoint are kept in vault/audit.anchor as well, authenticated (anchors.h), and compared at start.
 * Records after the last checkpoint are covered by the next one.
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>

#include "base/err.h"
#include "vault/anchors.h"
#include "vault/keys.h"

enum audit_sync {
    AUDIT_DURABLE, /* on disk before audit_append() returns: decisions and tokens */
    AUDIT_BATCHED  /* written now, synced within 200 ms: model calls */
};

/* The two calls that reach the disk, replaceable so that tests can make the n-th one fail. */
struct audit_io {
    int (*write_all)(int fd, const void *buf, size_t len); /* 0, or -1 with errno */
    int (*fdatasync)(int fd);
};
extern struct audit_io audit_io;

struct audit;

/*
 * Opens <root>/audit.log and checks its end, and that it still holds the checkpoint that `anchor` names
 * (ANCHORS_AUDIT; borrowed). NULL with e, which names the damage: rolled-back or anchor, when the log is not
 * what it was left as.
 */
struct audit *audit_open(const char *root, const struct keys *k, struct anchors *anchor,
                         struct event_base *base, struct err *e);

/* Signs a last checkpoint, syncs, closes. Accepts NULL. */
void audit_close(struct audit *a);

/*
 * Appends one record. `fields` is an object whose members follow seq, time and type; it is stolen (also on
 * failure). After a failed write the line is cut off again. 0, or -1 with e.
 */
int audit_append(struct audit *a, enum audit_sync sync, const char *type, json_t *fields, struct err *e);

/* Up to `limit` records with a sequence number above `after`, as a new JSON array; NULL with e. */
json_t *audit_list(struct audit *a, uint64_t after, uint32_t limit, struct err *e);
