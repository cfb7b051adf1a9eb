/*
 * Everything a sandbox can send to its queue port: the stream is cut into reads as the first byte says, every
 * complete frame is answered by the real request table over a backend that remembers nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "sessions/frame.h"
#include "sessions/queue_request.h"

static void b_denied(void *ctx, const char *reason)
{
    (void)ctx;
    if (!*reason)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *b_hello(void *ctx)
{
    (void)ctx;
    return json_object();
}

static json_t *b_config(void *ctx, struct problem *p)
{
    (void)ctx;
    (void)p;
    return json_object();
}

static int b_recv(void *ctx, json_t **message, struct problem *p)
{
    (void)p;
    *message = *(int *)ctx ? json_object() : NULL;
    return 0;
}

static int b_append(void *ctx, enum record_kind kind, const char *text, size_t len, uint64_t consumed,
                    uint64_t *seq, struct problem *p)
{
    (void)ctx;
    (void)kind;
    if (strlen(text) != len)
        abort(); /* NUL characters never get this far */
    if (consumed > 1000)
        return problem_set(p, 400, "bad_consumed", "too much");
    *seq = 1;
    return 0;
}

static void b_delta(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    if (strlen(text) != len)
        abort();
}

static json_t *b_history(void *ctx, uint32_t limit, struct problem *p)
{
    (void)ctx;
    (void)p;
    if (limit > 1000)
        abort();
    return json_array();
}

static json_t *b_change(void *ctx, const char *kind, const json_t *document, const char *reason,
                        struct problem *p)
{
    (void)ctx;
    (void)kind;
    (void)reason;
    if (json_object_size(document) == 0)
        (void)problem_set(p, 400, "empty", "nothing");
    return json_object_size(document) ? json_object() : NULL;
}

static json_t *b_status(void *ctx, const char *id, struct problem *p)
{
    (void)ctx;
    (void)problem_set(p, 404, "not_found", "no %s", id);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct queue_backend backend = {b_hello,   b_config, b_recv,   b_append, b_delta,
                                                 b_history, b_change, b_status, b_denied};
    struct frame f = {0};
    int has_message = size > 0 && data[0] & 1;
    size_t step = size > 0 ? (size_t)(data[0] >> 1) + 1 : 1;
    const uint8_t *at = data + (size > 0), *end = data + size;

    while (at < end) {
        size_t room, n = (size_t)(end - at);
        uint8_t *to = frame_room(&f, &room);
        enum frame_state st;
        if (room == 0)
            abort();
        n = n < room ? n : room;
        n = n < step ? n : step;
        memcpy(to, at, n);
        at += n;
        st = frame_got(&f, n);
        if (f.cap > FRAME_MAX)
            abort();
        if (st == FRAME_BAD)
            break;
        if (st == FRAME_DONE) {
            uint32_t wait_ms = 0;
            unsigned cost = 0;
            json_t *answer = queue_request(&backend, &has_message, f.body, f.len, &wait_ms, &cost);
            if ((!answer && (wait_ms == 0 || wait_ms > 60000)) || cost == 0 ||
                (answer && !json_is_boolean(json_object_get(answer, "ok"))))
                abort();
            json_decref(answer);
            frame_reset(&f);
        }
    }
    frame_reset(&f);
    return 0;
}
