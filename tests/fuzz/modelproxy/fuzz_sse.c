/* The event-stream parser: no memory error on any bytes, and the cut of the stream makes no difference. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct digest {
    uint64_t hash;
    unsigned events;
};

static void note(void *arg, const char *event, const char *data, size_t len)
{
    struct digest *d = arg;

    assert(data[len] == 0);
    d->events++;
    for (size_t i = 0; event[i]; i++)
        d->hash = (d->hash ^ (uint8_t)event[i]) * 1099511628211ULL;
    for (size_t i = 0; i < len; i++)
        d->hash = (d->hash ^ (uint8_t)data[i]) * 1099511628211ULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct digest whole = {14695981039346656037ULL, 0}, bytes = whole;
    struct sse s;

    sse_init(&s, size + 1, note, &whole);
    (void)sse_feed(&s, data, size);
    sse_free(&s);
    sse_init(&s, size + 1, note, &bytes);
    for (size_t i = 0; i < size; i++)
        (void)sse_feed(&s, data + i, 1);
    sse_free(&s);
    assert(whole.hash == bytes.hash && whole.events == bytes.events);
    /* With a small limit events are dropped; memory stays bounded. */
    sse_init(&s, 16, note, &bytes);
    (void)sse_feed(&s, data, size);
    assert(s.line_len <= 16 && s.data_len <= 16);
    sse_free(&s);
    return 0;
}
