/*
 * limits.h - what one session may spend at the model port: requests per minute, calls at a time, tokens in
 * total. Pure: the caller passes the time.
 *
 * The rate is a token bucket counted in nanoseconds of credit: credit grows with the clock up to one minute,
 * and a request costs 1 minute / rate. A burst of at most `rate` requests is therefore possible after a quiet
 * minute.
 *
 * The budget is checked before a call and charged after it: calls that are already running may overshoot it,
 * by at most `concurrency` answers.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct limits {
    uint32_t per_minute;  /* 0: no limit */
    uint32_t concurrency; /* 0 is treated as 1 */
    uint64_t budget;      /* tokens; 0: no limit */
    uint64_t used;        /* tokens, input and output together */
    uint32_t running;
    uint64_t credit_ns;
    uint64_t last_ns;
};

enum limit_verdict { LIMIT_OK, LIMIT_RATE, LIMIT_CONCURRENCY, LIMIT_BUDGET };

/* Starts with a full bucket and no running call. */
void limits_init(struct limits *l, uint32_t per_minute, uint32_t concurrency, uint64_t budget, uint64_t used,
                 uint64_t now_ns);

/* New figures for a session that is already known; running calls and credit are kept, `used` never goes back.
 */
void limits_change(struct limits *l, uint32_t per_minute, uint32_t concurrency, uint64_t budget,
                   uint64_t used);

/*
 * Admits one call (LIMIT_OK: limits_done() must follow) or says which limit refuses it; then *retry_after_s
 * is when trying again makes sense, in seconds, at least 1.
 */
enum limit_verdict limits_admit(struct limits *l, uint64_t now_ns, uint32_t *retry_after_s);

/* Ends an admitted call that consumed so many tokens. */
void limits_done(struct limits *l, uint64_t tokens);
