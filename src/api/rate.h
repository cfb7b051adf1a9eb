/*
 * rate.h - a token bucket for each client, in a table of fixed size.
 *
 * A client is a bearer token that the vault has accepted before, or else the peer (its uid on the unix
 * socket, its address on TCP): guessing tokens does not buy fresh buckets. Buckets are found by a keyed hash,
 * so nobody can aim for another's; nothing of a token is kept but that hash. When the table is full the
 * bucket that has been idle longest gives way.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { RATE_BUCKETS = 256 };

struct rate {
    uint64_t key[2]; /* random, of the hash */
    double per_ns;   /* refill */
    double burst;
    struct rate_bucket {
        uint64_t hash; /* 0: free */
        uint64_t at;   /* io_monotonic_ns() of the last request */
        double left;
    } buckets[RATE_BUCKETS];
};

void rate_init(struct rate *r, uint32_t per_minute);

/* The hash of a client; `kind` separates tokens from peers. Never 0. */
uint64_t rate_hash(const struct rate *r, char kind, const char *client);

/* Whether the client has a bucket: for tokens, whether the vault has accepted it. */
bool rate_known(const struct rate *r, uint64_t hash);

/*
 * Takes one request from the client's bucket, making one if it has none. Returns 0, or the seconds (at least
 * 1) to wait before the next request is allowed.
 */
uint32_t rate_take(struct rate *r, uint64_t hash, uint64_t now_ns);

/* Gives the client a full bucket if it has none. */
void rate_remember(struct rate *r, uint64_t hash, uint64_t now_ns);
