/*
 * The redactor of event streams: on any bytes no memory error, the cut of the stream makes no difference, and
 * the key as it is does not come out. And any text with keys in it, said in pieces, reads as if it had been
 * redacted in one.
 */
#include <assert.h>
#include <jansson.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sse.h"
#include "base/io.h"
#include "upstream/redact_events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key[] = "sk-key/01";

struct text {
    char *at;
    size_t len;
};

static void add(void *arg, const void *data, size_t len)
{
    struct text *t = arg;

    if (len == 0)
        return;
    t->at = x_realloc(t->at, t->len + len);
    memcpy(t->at + t->len, data, len);
    t->len += len;
}

static bool same(const struct text *a, const struct text *b)
{
    return a->len == b->len && (a->len == 0 || !memcmp(a->at, b->at, a->len));
}

/* The stream redacted, fed `step` bytes at a time. */
static struct text redacted(struct secret *s, const void *data, size_t size, size_t step, size_t max)
{
    struct text out = {NULL, 0};
    struct redact_events e;
    struct redactor r;

    redactor_init(&r);
    (void)redactor_add(&r, s);
    redact_events_init(&e, &r, max, add, &out);
    for (size_t at = 0; at < size; at += step)
        redact_events_feed(&e, (const char *)data + at, step < size - at ? step : size - at);
    redact_events_end(&e);
    redact_events_free(&e);
    redactor_free(&r);
    return out;
}

static void on_event(void *arg, const char *event, const char *data, size_t len)
{
    json_t *doc = json_loadb(data, len, JSON_ALLOW_NUL, NULL);
    const json_t *text = json_object_get(json_object_get(doc, "delta"), "text");

    (void)event;
    assert(doc);
    add(arg, json_string_value(text), json_string_length(text));
    json_decref(doc);
}

/* Says the bytes (those that are ASCII; 0x80 and above: a piece of the key) in pieces. */
static void say(struct secret *s, const uint8_t *data, size_t size)
{
    struct text whole = {NULL, 0}, wanted = {NULL, 0}, stream = {NULL, 0}, out, heard = {NULL, 0};
    struct redactor r;
    struct sse sse;

    for (size_t i = 0; i < size;) {
        size_t from = whole.len, n = 1 + data[i] % 7;
        char *line;
        json_t *doc;
        for (i++; i < size && n > 0; i++, n--) {
            char c = data[i] < 0x80 ? (char)data[i] : key[data[i] % (sizeof(key) - 1)];
            add(&whole, &c, 1);
        }
        doc = json_pack("{s:s, s:{s:s%}}", "type", "content_block_delta", "delta", "text",
                        whole.at ? whole.at + from : "", whole.len - from);
        line = json_dumps(doc, 0);
        assert(line);
        add(&stream, "data: ", 6);
        add(&stream, line, strlen(line));
        add(&stream, "\n\n", 2);
        free(line);
        json_decref(doc);
    }
    redactor_init(&r);
    (void)redactor_add(&r, s);
    redactor_feed(&r, whole.at, whole.len, add, &wanted);
    redactor_flush(&r, add, &wanted);
    redactor_free(&r);
    out = redacted(s, stream.at, stream.len, 11, EVENT_BYTES_MAX);
    sse_init(&sse, 1 << 20, on_event, &heard);
    (void)sse_feed(&sse, out.at, out.len);
    sse_free(&sse);
    assert(same(&wanted, &heard));
    free(whole.at);
    free(wanted.at);
    free(stream.at);
    free(out.at);
    free(heard.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct secret *s = sodium_init() < 0 ? NULL : secret_new(key, sizeof(key) - 1);

    assert(s);
    for (size_t max = 64; max <= EVENT_BYTES_MAX; max *= EVENT_BYTES_MAX / 64) {
        struct text a = redacted(s, data, size, size + 1, max), b = redacted(s, data, size, 1, max);
        assert(same(&a, &b));
        assert(a.len == 0 || !memmem(a.at, a.len, key, sizeof(key) - 1));
        free(a.at);
        free(b.at);
    }
    if (size < 65536)
        say(s, data, size);
    secret_unref(s);
    return 0;
}
