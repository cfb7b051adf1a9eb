/*
 * query.h - the query string, read strictly: only the parameters that the route has, each at most once.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "api/routes.h"
#include "base/err.h"

struct query {
    uint64_t after;
    uint32_t limit;                      /* records */
    uint32_t wait_ms;                    /* milliseconds */
    char subject[ROUTE_SUBJECT_MAX + 1]; /* the agent or session that was asked for, or "" */
    unsigned seen;                       /* enum route_flag of the parameters given */
};

/* The values that hold when nothing is given. */
struct query query_default(void);

/* Takes one decoded parameter; `value` may be NULL. Returns 0, or -1 with e naming the parameter. */
int query_take(struct query *q, const struct route *r, const char *name, const char *value, struct err *e);
