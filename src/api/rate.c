#include "api/rate.h"

#include <string.h>

#include "base/fnv.h"
#include "base/io.h"

void rate_init(struct rate *r, uint32_t per_minute)
{
    memset(r, 0, sizeof(*r));
    io_random(r->key, sizeof(r->key));
    r->per_ns = (double)per_minute / 60e9;
    r->burst = (double)per_minute;
}

uint64_t rate_hash(const struct rate *r, char kind, const char *client)
{
    /* FNV-1a from a secret start, finished with a secret multiply: only the table's placement depends on it.
     */
    uint64_t h = fnv1a(r->key[0] ^ (uint8_t)kind, client, strlen(client));

    h ^= h >> 32;
    h *= r->key[1] | 1;
    h ^= h >> 29;
    return h ? h : 1;
}

static struct rate_bucket *find(struct rate *r, uint64_t hash)
{
    for (unsigned i = 0; i < RATE_BUCKETS; i++)
        if (r->buckets[i].hash == hash)
            return &r->buckets[i];
    return NULL;
}

bool rate_known(const struct rate *r, uint64_t hash)
{
    for (unsigned i = 0; i < RATE_BUCKETS; i++)
        if (r->buckets[i].hash == hash)
            return true;
    return false;
}

static struct rate_bucket *obtain(struct rate *r, uint64_t hash, uint64_t now_ns)
{
    struct rate_bucket *b = find(r, hash), *oldest = &r->buckets[0];

    if (b)
        return b;
    for (unsigned i = 0; i < RATE_BUCKETS; i++) {
        if (!r->buckets[i].hash) {
            oldest = &r->buckets[i];
            break;
        }
        if (r->buckets[i].at < oldest->at)
            oldest = &r->buckets[i];
    }
    *oldest = (struct rate_bucket){.hash = hash, .at = now_ns, .left = r->burst};
    return oldest;
}

void rate_remember(struct rate *r, uint64_t hash, uint64_t now_ns)
{
    (void)obtain(r, hash, now_ns);
}

uint32_t rate_take(struct rate *r, uint64_t hash, uint64_t now_ns)
{
    struct rate_bucket *b = obtain(r, hash, now_ns);

    if (now_ns > b->at)
        b->left += (double)(now_ns - b->at) * r->per_ns;
    if (b->left > r->burst)
        b->left = r->burst;
    b->at = now_ns;
    if (b->left >= 1.0) {
        b->left -= 1.0;
        return 0;
    }
    return (uint32_t)((1.0 - b->left) / r->per_ns / 1e9) + 1;
}
