/*
 * anchors.h - the newest acknowledged position of every queue, and of the audit log, outside their own files.
 *
 * A database that was put back to an older copy is consistent in itself: only something outside can tell.
 * vault/anchors has one slot for each session and direction (slot = uid_index * 2 + direction), each with two
 * copies of (generation, sequence, head hash, session id) authenticated with a key derived from the master
 * key. An update overwrites the older copy in place and fdatasyncs, so a torn write leaves the other copy
 * intact; a copy is 128 bytes at a multiple of 128 and so never crosses a sector. vault/audit.anchor has the
 * same form and one slot, for the last signed checkpoint of audit.log (audit.h).
 *
 * A new record's anchor is written before its acknowledgement and synced right after it (anchors_write_soon):
 * the record itself is durable by then, so that waiting for a second trip to the disk would only delay the
 * answer. What that costs: if the power fails in between (a killed process loses nothing), the anchor stands
 * a record or so behind its database, which is accepted, so a database put back by just those records in that
 * moment would be accepted too.
 *
 * Who can replace this file *and* the databases together by older copies of the same moment is not detected
 * here.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "vault/keys.h"
#include "vault/record.h"

struct anchor {
    uint64_t seq;
    unsigned char hash[RECORD_HASH];
};

/* The two calls that reach the disk, replaceable so that tests can make the n-th one fail. */
struct anchors_io {
    ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t at);
    int (*fdatasync)(int fd);
};
extern struct anchors_io anchors_io;

struct anchors;
/* Opens or creates `path` below the state directory: ANCHORS_QUEUES or ANCHORS_AUDIT. NULL with e. */
#define ANCHORS_QUEUES "vault/anchors"
#define ANCHORS_AUDIT  "vault/audit.anchor"
struct anchors *anchors_open(int state_fd, const char *path, const struct keys *k, struct err *e);
void anchors_close(struct anchors *a);

/* Reads the newest valid copy. DAMAGE_ANCHOR when neither copy is valid for this session. */
enum damage anchors_read(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                         struct anchor *out);

/* Makes `value` the newest copy, durably. 0, or -1 with e (the older copy is then still valid). */
int anchors_write(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                  const struct anchor *value, struct err *e);

/* As anchors_write(), but durable only after anchors_sync(), which `later` (anchors_defer) is asked to
 * arrange. Without a `later` it is anchors_write(). */
int anchors_write_soon(struct anchors *a, uint32_t uid_index, enum direction d, const char *session,
                       const struct anchor *value, struct err *e);

/* `later(arg)` must lead to a call of anchors_sync() from the event loop. */
void anchors_defer(struct anchors *a, void (*later)(void *arg), void *arg);
/* Syncs what anchors_write_soon() wrote; nothing to do is success. A failure leaves it owed. */
int anchors_sync(struct anchors *a, struct err *e);

/* Makes the slot invalid: its session was removed. */
int anchors_clear(struct anchors *a, uint32_t uid_index, struct err *e);
