#include "modelproxy/usage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"

static uint64_t counter(const json_t *usage, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(usage, name));

    /* A counter beyond 2^40 is nonsense; believing it would let an answer overflow the session's sum. */
    return v > 0 && v < ((json_int_t)1 << 40) ? (uint64_t)v : 0;
}

static void take(struct usage *u, const json_t *doc)
{
    static const char *const places[] = {NULL, "message", "response"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const json_t *usage = json_object_get(places[i] ? json_object_get(doc, places[i]) : doc, "usage");
        uint64_t in, out;
        if (!json_is_object(usage))
            continue;
        in = counter(usage, "input_tokens") + counter(usage, "cache_creation_input_tokens") +
             counter(usage, "cache_read_input_tokens") + counter(usage, "prompt_tokens");
        out = counter(usage, "output_tokens") + counter(usage, "completion_tokens");
        if (in > u->input)
            u->input = in;
        if (out > u->output)
            u->output = out;
        u->seen = true;
    }
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
    struct usage *u = arg;
    json_t *doc;

    (void)event;
    if (!memmem(data, len, "\"usage\"", 7))
        return;
    doc = json_loadb(data, len, 0, NULL);
    if (doc)
        take(u, doc);
    json_decref(doc);
}

void usage_begin(struct usage *u, const char *content_type)
{
    memset(u, 0, sizeof(*u));
    u->events = !strncasecmp(content_type, "text/event-stream", 17);
    if (u->events)
        sse_init(&u->sse, USAGE_JSON_MAX, on_event, u);
}

void usage_feed(struct usage *u, const void *data, size_t len)
{
    u->bytes += len;
    if (u->events) {
        (void)sse_feed(&u->sse, data, len);
        return;
    }
    if (u->too_long || len > USAGE_JSON_MAX - u->len) {
        u->too_long = true;
        free(u->json);
        u->json = NULL;
        return;
    }
    u->json = x_realloc(u->json, u->len + len);
    memcpy(u->json + u->len, data, len);
    u->len += len;
}

void usage_end(struct usage *u, uint64_t request_bytes)
{
    if (u->events) {
        sse_free(&u->sse);
    } else if (u->json) {
        json_t *doc = json_loadb(u->json, u->len, 0, NULL);
        if (doc)
            take(u, doc);
        json_decref(doc);
    }
    free(u->json);
    u->json = NULL;
    if (!u->seen) {
        u->input = request_bytes / USAGE_BYTES_PER_TOKEN + 1;
        u->output = u->bytes / USAGE_BYTES_PER_TOKEN;
    }
}
