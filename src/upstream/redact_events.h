/*
 * redact_events.h - keeps provider keys out of answers that are streams of events. Pure (no I/O).
 *
 * A model says a text piece by piece, each piece in an event of its own, so a key may stand in no event as a
 * whole and still be put together by whoever reads them. Here the stream is cut into events
 * (text/event-stream), and each text that grows over events (a content block of Anthropic's, a choice or a
 * tool call of OpenAI's, an output item of the Responses API) is looked at as the one text it is.
 *
 * What is held back of a text is, as in redact.h, a proper prefix of a secret. It comes out at the beginning
 * of that text's next piece, or, when the text ends first, in an event of the same shape that is put in
 * before the one that ends it. An event in which nothing had to change passes byte for byte, as soon as it is
 * complete. All that leaves goes through the byte redactor too, which knows nothing of events: it is the only
 * one to see what is no JSON, or not of a known shape.
 *
 * Bounded: an event of more than `max` bytes passes through the byte redactor in pieces; of more than
 * PENDING_MAX texts that hold something back, the oldest gives it out.
 */
#pragma once
#include <jansson.h>

#include "upstream/redact.h"

enum { EVENT_BYTES_MAX = 256 * 1024, PENDING_MAX = 64 };

struct pending; /* a text of which something is held back */

struct redact_events {
    struct redactor *bytes; /* borrowed: knows the secrets; all output goes through it */
    redact_out out;
    void *arg;
    size_t max;
    char *buf; /* the event that is being gathered */
    size_t len, cap;
    bool in_line, after_cr; /* the last byte was inside a line; it was a CR */
    bool passing;           /* in an event that is too long */
    bool started;           /* one event was dealt with: a byte order mark would be data now */
    struct pending *pending, **pending_tail;
    size_t npending;
    uint64_t number; /* of the event */
};

void redact_events_init(struct redact_events *e, struct redactor *bytes, size_t max, redact_out out,
                        void *arg);
void redact_events_feed(struct redact_events *e, const void *data, size_t len);
/* The answer ended: gives out all that is held back, here and in the byte redactor. */
void redact_events_end(struct redact_events *e);
void redact_events_free(struct redact_events *e);
