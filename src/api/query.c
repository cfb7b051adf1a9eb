#include "api/query.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

static const struct parameter {
    const char *name;
    unsigned flag;
    uint64_t min, max;
} parameters[] = {
    {"after", ROUTE_AFTER, 0, INT64_MAX},      {"limit", ROUTE_LIMIT, 1, ROUTE_LIMIT_MAX},
    {"wait", ROUTE_WAIT, 0, ROUTE_WAIT_MAX_S}, {"agent", ROUTE_AGENT, 0, 0},
    {"session", ROUTE_SESSION, 0, 0},
};

struct query query_default(void)
{
    return (struct query){.limit = ROUTE_LIMIT_DEFAULT};
}

int query_take(struct query *q, const struct route *r, const char *name, const char *value, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
        const struct parameter *p = &parameters[i];
        uint64_t n = 0;
        if (strcmp(p->name, name) != 0 || !(r->flags & p->flag))
            continue;
        if (q->seen & p->flag)
            return err_set(e, EINVAL, "the parameter '%s' is given twice", p->name);
        q->seen |= p->flag;
        if (p->flag == ROUTE_AGENT || p->flag == ROUTE_SESSION) {
            if (!value || !io_valid_name(value) || !io_format(q->subject, sizeof(q->subject), "%s", value))
                return err_set(e, EINVAL, "the parameter '%s' must be the name of one", p->name);
            return 0;
        }
        if (!value || !io_parse_u64(value, p->max, &n) || n < p->min)
            return err_set(e, EINVAL, "the parameter '%s' must be a whole number between %llu and %llu",
                           p->name, (unsigned long long)p->min, (unsigned long long)p->max);
        if (p->flag == ROUTE_AFTER)
            q->after = n;
        else if (p->flag == ROUTE_LIMIT)
            q->limit = (uint32_t)n;
        else
            q->wait_ms = (uint32_t)n * 1000;
        return 0;
    }
    return err_set(e, EINVAL, "the parameter '%.32s' does not exist here", name);
}
