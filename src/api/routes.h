/*
 * routes.h - the HTTP API in one table: method, path, the vault's operation and what the request may carry.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a request may carry besides its path. */
enum route_flag {
    ROUTE_BODY = 1U << 0,          /* must have a JSON object as its body */
    ROUTE_BODY_OPTIONAL = 1U << 1, /* may have one */
    ROUTE_AFTER = 1U << 2,         /* ?after=N   sequence number to continue from */
    ROUTE_LIMIT = 1U << 3,         /* ?limit=N   1 to 1000 records */
    ROUTE_WAIT = 1U << 4,          /* ?wait=S    0 to 60 seconds of long polling */
    ROUTE_AGENT = 1U << 5,         /* ?agent=NAME */
    ROUTE_STREAM = 1U << 6,        /* answered with server-sent events */
    ROUTE_TEXT = 1U << 7,          /* the reply's "text" is sent as plain text */
    ROUTE_PUBLIC = 1U << 8,        /* no token is needed or forwarded */
    ROUTE_SESSION = 1U << 9,       /* ?session=ID */
};

/* Operations that api answers itself; numbers outside messages.h. */
enum { ROUTE_HEALTHZ = 1, ROUTE_OPENAPI };

enum {
    ROUTE_LIMIT_DEFAULT = 100,
    ROUTE_LIMIT_MAX = 1000,
    ROUTE_WAIT_MAX_S = 60,
    ROUTE_SUBJECT_MAX = 63, /* ids and names in a path: io_valid_name() */
};

struct route {
    const char *method;
    const char *path;    /* "{id}" stands for one path segment: the subject */
    uint32_t op;         /* API_* of messages.h, or ROUTE_* above */
    unsigned flags;      /* enum route_flag */
    const char *subject; /* fixed subject, or NULL: the segment, or "" */
};

extern const struct route routes[];
extern const size_t nroutes;

enum route_result { ROUTE_OK, ROUTE_NOT_FOUND, ROUTE_BAD_NAME, ROUTE_METHOD_NOT_ALLOWED };

/*
 * Finds the route of a request. On ROUTE_OK *route is set and subject (ROUTE_SUBJECT_MAX + 1 bytes) holds the
 * id, "" when the path has none. On ROUTE_METHOD_NOT_ALLOWED `allow` (cap bytes) lists the methods the path
 * has. ROUTE_BAD_NAME: the path fits, but its segment is not a valid name.
 */
enum route_result route_match(const char *method, const char *path, const struct route **route, char *subject,
                              char *allow, size_t cap);

/* The row that answers the same request with server-sent events, for a client that accepts those; `r` itself
 * when there is none. */
const struct route *route_streamed(const struct route *r);
