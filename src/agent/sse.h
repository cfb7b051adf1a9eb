/*
 * sse.h - a parser for text/event-stream (HTML Living Standard, 9.2.6 "Interpreting an event stream"). Pure.
 *
 * Bytes may arrive split anywhere. Lines end with LF, CR or CRLF; a blank line dispatches the event that was
 * gathered, if it has data. Of the fields, `event` and `data` matter to our users; `id` and `retry` belong to
 * reconnection, which nobody does here. An event that the stream does not finish is discarded, as the
 * standard says. Memory is bounded: an event whose line or data grows beyond `max` is dropped whole, and the
 * parser goes on.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* `event` is "" when the stream named none; `data` is NUL-terminated and valid during the call only. */
typedef void (*sse_cb)(void *arg, const char *event, const char *data, size_t len);

struct sse {
    sse_cb cb;
    void *arg;
    size_t max;
    char *line, *data;
    size_t line_len, line_cap, data_len, data_cap;
    char event[64];
    bool has_data, after_cr, started, dropping;
    unsigned long dropped; /* events that were too long */
};

void sse_init(struct sse *s, size_t max, sse_cb cb, void *arg);
/* Returns false when an event was dropped for its size during this call. */
bool sse_feed(struct sse *s, const void *bytes, size_t len);
void sse_free(struct sse *s);
