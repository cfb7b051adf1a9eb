#include "events/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"

static size_t cost(const struct ring_item *i)
{
    return sizeof(*i) + i->len + 1;
}

static void enlist(struct ring *r, struct ring_share *s)
{
    s->next = r->shares;
    s->link = &r->shares;
    if (s->next)
        s->next->link = &s->next;
    r->shares = s;
}

static void unlist(struct ring_share *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    s->next = NULL;
    s->link = NULL;
}

/* The oldest event of a share goes. */
static void drop_oldest(struct ring *r, struct ring_share *s)
{
    struct ring_item *i = s->oldest;

    if (r->on_evict)
        r->on_evict(r->arg, i);
    *(i->prev ? &i->prev->next : &r->oldest) = i->next;
    *(i->next ? &i->next->prev : &r->newest) = i->prev;
    s->oldest = i->younger;
    s->bytes -= cost(i);
    r->bytes -= cost(i);
    if (!s->oldest) {
        s->newest = NULL;
        unlist(s);
    }
    free(i);
}

static struct ring_share *largest(const struct ring *r)
{
    struct ring_share *best = r->shares;

    for (struct ring_share *s = r->shares; s; s = s->next)
        if (s->bytes > best->bytes)
            best = s;
    return best;
}

void ring_append(struct ring *r, struct ring_share *share, const struct event_head *h, const char *text,
                 size_t len)
{
    struct ring_item *i = x_malloc(sizeof(*i) + len + 1);

    *i = (struct ring_item){
        .prev = r->newest, .share = share, .seq = h->seq, .time_ms = h->time_ms, .type = h->type, .len = len};
    memcpy(i->text, text, len);
    i->text[len] = 0;
    *(r->newest ? &r->newest->next : &r->oldest) = i;
    r->newest = i;
    if (!share->oldest) {
        share->oldest = i;
        enlist(r, share);
    } else {
        share->newest->younger = i;
    }
    share->newest = i;
    share->bytes += cost(i);
    r->bytes += cost(i);
    while (r->bytes > r->max)
        drop_oldest(r, largest(r));
}

const struct ring_item *ring_after(const struct ring *r, uint64_t seq)
{
    const struct ring_item *i = r->newest;

    if (r->oldest && r->oldest->seq > seq)
        return r->oldest;
    /* Readers are near the end. */
    if (!i || i->seq <= seq)
        return NULL;
    while (i->prev && i->prev->seq > seq)
        i = i->prev;
    return i;
}

void ring_free(struct ring *r)
{
    r->on_evict = NULL;
    while (r->oldest)
        drop_oldest(r, r->oldest->share);
}
