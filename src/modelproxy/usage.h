/*
 * usage.h - how many tokens an answer cost, read from the answer as it streams by. Pure.
 *
 * Anthropic and OpenAI put a "usage" object at the top of a JSON answer, inside "message" or "response" of an
 * event, or at the top of one; its counters are cumulative, so the greatest value seen is the value. Cached
 * input counts as input. A JSON answer is kept (up to USAGE_JSON_MAX) until it ends; of an event stream only
 * the current event is. When an answer names no usage, bytes / 4 is taken: an estimate, and never zero for a
 * call that was answered.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/sse.h"

enum { USAGE_JSON_MAX = 1 << 20, USAGE_BYTES_PER_TOKEN = 4 };

struct usage {
    bool events; /* text/event-stream */
    struct sse sse;
    char *json;
    size_t len;
    bool too_long;
    bool seen;
    uint64_t input, output;
    uint64_t bytes; /* of answer so far */
};

void usage_begin(struct usage *u, const char *content_type);
void usage_feed(struct usage *u, const void *data, size_t len);
/* Frees what is held; then input and output are final. `request_bytes` is the size of the request's body. */
void usage_end(struct usage *u, uint64_t request_bytes);
