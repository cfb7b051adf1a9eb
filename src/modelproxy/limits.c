#include "modelproxy/limits.h"

static const uint64_t minute_ns = 60ULL * 1000000000ULL;
static const uint32_t budget_retry_s = 3600; /* a budget is raised by a human, not by waiting */

void limits_init(struct limits *l, uint32_t per_minute, uint32_t concurrency, uint64_t budget, uint64_t used,
                 uint64_t now_ns)
{
    *l = (struct limits){.credit_ns = minute_ns, .last_ns = now_ns};
    limits_change(l, per_minute, concurrency, budget, used);
}

void limits_change(struct limits *l, uint32_t per_minute, uint32_t concurrency, uint64_t budget,
                   uint64_t used)
{
    l->per_minute = per_minute;
    l->concurrency = concurrency > 0 ? concurrency : 1;
    l->budget = budget;
    if (used > l->used)
        l->used = used;
}

static void refill(struct limits *l, uint64_t now_ns)
{
    uint64_t passed = now_ns > l->last_ns ? now_ns - l->last_ns : 0;

    l->last_ns = now_ns > l->last_ns ? now_ns : l->last_ns;
    l->credit_ns = passed >= minute_ns - l->credit_ns ? minute_ns : l->credit_ns + passed;
}

enum limit_verdict limits_admit(struct limits *l, uint64_t now_ns, uint32_t *retry_after_s)
{
    *retry_after_s = 1;
    if (l->budget > 0 && l->used >= l->budget) {
        *retry_after_s = budget_retry_s;
        return LIMIT_BUDGET;
    }
    if (l->running >= l->concurrency)
        return LIMIT_CONCURRENCY;
    if (l->per_minute > 0) {
        uint64_t cost = minute_ns / l->per_minute;
        refill(l, now_ns);
        if (l->credit_ns < cost) {
            *retry_after_s = (uint32_t)((cost - l->credit_ns) / 1000000000ULL) + 1;
            return LIMIT_RATE;
        }
        l->credit_ns -= cost;
    }
    l->running++;
    return LIMIT_OK;
}

void limits_done(struct limits *l, uint64_t tokens)
{
    if (l->running > 0)
        l->running--;
    if (__builtin_add_overflow(l->used, tokens, &l->used))
        l->used = UINT64_MAX;
}
