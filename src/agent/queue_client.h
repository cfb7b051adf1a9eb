/*
 * queue_client.h - the agent's side of the queue port: one blocking connection, one answer per request, in
 * order. Frames are a 32-bit big-endian length and that many bytes of JSON (docs/ports.md).
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { QUEUE_FRAME_MAX = 262144, QUEUE_TEXT_MAX = 96 * 1024 };

struct queue {
    int fd; /* -1 while not connected */
};

/* Connects to $IRONCLAW_QUEUE (a path) or else to the loopback port. */
int queue_connect(struct queue *q, struct err *e);
void queue_close(struct queue *q);

/*
 * Sends `request` (consumed) and waits for its answer. Returns the answer (new reference), or NULL with e:
 * then either the connection is gone (q->fd == -1) or the port refused the request and said why.
 */
json_t *queue_call(struct queue *q, json_t *request, struct err *e);

/* Appends an outbound record; `consumed` 0 marks nothing. Text beyond QUEUE_TEXT_MAX is cut with a note. */
int queue_append(struct queue *q, const char *kind, const char *text, uint64_t consumed, struct err *e);

/* Valid UTF-8 out of any bytes, at most `max` of them: what is not valid becomes '?'; a cut is said.
 * malloc'ed. */
char *text_clean(const char *bytes, size_t len, size_t max);
