/*
 * allowlist.h - which requests may pass the model port, and which of their headers. Pure: no state, no I/O.
 *
 * A path passes only when it equals an entry byte for byte (after the query string is cut off, which is never
 * forwarded): no percent-decoding, no normalising, so there is no second spelling of anything.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Whose JSON a path speaks; also decides the shape of an error. */
enum shape { SHAPE_ANTHROPIC, SHAPE_OPENAI };

enum endpoint {
    ENDPOINT_MESSAGES,
    ENDPOINT_COUNT_TOKENS,
    ENDPOINT_CHAT,
    ENDPOINT_COMPLETIONS,
    ENDPOINT_RESPONSES,
    ENDPOINT_EMBEDDINGS,
    ENDPOINT_MODELS,
};

struct model_path {
    const char *method;
    const char *path;
    enum endpoint endpoint;
    enum shape shape;
    bool anthropic, openai; /* which kind of provider serves it */
    bool billed;            /* consumes tokens */
};

/* The entry for a request target as the client sent it, or NULL. */
const struct model_path *allow_path(const char *target);

/* The shape in which an error about this target is told: Anthropic's below /v1/messages, else OpenAI's. */
enum shape allow_error_shape(const char *target);

/* May this request header be forwarded (name compared without case)? */
bool allow_header(const char *name);

/* Printable ASCII of at most `max` bytes: nothing that could end a header line. */
bool allow_header_value(const char *value, size_t max);
