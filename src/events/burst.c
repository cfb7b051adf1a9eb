#include "events/burst.h"

#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/io.h"

bool burst_count(struct burst *b, enum event_type type, uint64_t key, uint64_t count)
{
    for (unsigned i = 0; i < b->n; i++) {
        if (b->kinds[i].type != type || b->kinds[i].key != key)
            continue;
        b->kinds[i].pending += count;
        return true;
    }
    return false;
}

bool burst_open(struct burst *b, enum event_type type, uint64_t key, const char *detail, uint64_t count)
{
    if (b->n == BURST_KINDS) {
        b->overflow += count;
        return false;
    }
    if (!b->kinds)
        b->kinds = x_calloc(BURST_KINDS, sizeof(*b->kinds));
    b->kinds[b->n++] = (struct burst_kind){.type = type, .key = key, .detail = x_strdup(detail)};
    return true;
}

uint64_t burst_key(const char *detail)
{
    return fnv1a(FNV_BASIS, detail, strlen(detail)); /* two details that meet are counted as one, no more */
}

bool burst_flush(struct burst *b,
                 void (*tell)(void *arg, enum event_type type, const char *detail, uint64_t count), void *arg)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        struct burst_kind k = b->kinds[i];
        if (k.pending == 0) {
            free(k.detail);
            continue;
        }
        tell(arg, k.type, k.detail, k.pending);
        k.pending = 0;
        b->kinds[kept++] = k;
    }
    b->n = kept;
    if (b->overflow > 0)
        tell(arg, EVENT_DROPPED, NULL, b->overflow);
    b->overflow = 0;
    if (kept == 0) {
        free(b->kinds);
        b->kinds = NULL;
    }
    return kept > 0;
}

void burst_free(struct burst *b)
{
    for (unsigned i = 0; i < b->n; i++)
        free(b->kinds[i].detail);
    free(b->kinds);
    *b = (struct burst){0};
}
