/*
 * queue_request.h - what a program in a sandbox may ask of its own queue: one table of operations
 * (docs/ports.md).
 *
 * Everything here works on bytes and a backend of function pointers, so that it can be fuzzed without a
 * vault.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/problem.h"
#include "vault/record.h"

/* Each bound to one session; none can name another. Functions that can fail return -1 or NULL with p. */
struct queue_backend {
    json_t *(*hello)(void *ctx);
    json_t *(*config)(void *ctx, struct problem *p);
    int (*recv)(void *ctx, json_t **message, struct problem *p); /* *message NULL: nothing waits */
    int (*append)(void *ctx, enum record_kind kind, const char *text, size_t len, uint64_t consumed,
                  uint64_t *seq, struct problem *p);
    void (*delta)(void *ctx, const char *text, size_t len);
    json_t *(*history)(void *ctx, uint32_t limit, struct problem *p);
    json_t *(*change)(void *ctx, const char *kind, const json_t *document, const char *reason,
                      struct problem *p);
    json_t *(*change_status)(void *ctx, const char *id, struct problem *p);
#ifdef IRONCLAW_WEAKENED
    void *(*other)(void *ctx, const char *session); /* the context of another session, NULL: none */
    int (*inbound)(void *ctx, const char *text, size_t len, uint64_t *seq, struct problem *p);
#endif
    /* The port refused something; `reason` is the error's code. */
    void (*denied)(void *ctx, const char *reason);
};

/* The rate limit counts in quarters of a durable append. */
enum { COST_LIGHT = 1, COST_APPEND = 4, COST_HISTORY = 16, COST_CHANGE = 40 };

/*
 * Answers one frame. Returns the answer (new reference), or NULL when the request is a recv that has to wait
 * up to *wait_ms for a message. *cost is what the request costs.
 */
json_t *queue_request(const struct queue_backend *b, void *ctx, const uint8_t *data, size_t len,
                      uint32_t *wait_ms, unsigned *cost);

/* {"ok":false,"error":{...}} */
json_t *queue_error(const char *code, const char *text);
/* {"ok":true,"message":message or null}; steals message. */
json_t *queue_message_answer(json_t *message);
