/*
 * head.c - what the head of a request must look like before anything else happens to it.
 *
 * Framing comes first: whatever two HTTP parsers could read differently (two lengths, a length next to a
 * transfer coding, odd spellings) ends the connection. We take no transfer coding at all: a request body has
 * a Content-Length or there is none, so there is one way to find the end of a request.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "api/request.h"
#include "base/cleanup.h"
#include "base/io.h"

struct head {
    unsigned lengths, codings, authorizations, types, hosts;
    bool bad_name;
    const char *length, *authorization, *type, *last_event, *accept;
};

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct head *h = cls;

    (void)kind;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            h->bad_name = true;
    if (!*name)
        h->bad_name = true;
    for (const char *p = value ? value : ""; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            h->bad_name = true;
    if (!strcasecmp(name, "content-length")) {
        h->lengths++;
        h->length = value ? value : "";
    } else if (!strcasecmp(name, "transfer-encoding")) {
        h->codings++;
    } else if (!strcasecmp(name, "authorization")) {
        h->authorizations++;
        h->authorization = value ? value : "";
    } else if (!strcasecmp(name, "content-type")) {
        h->types++;
        h->type = value ? value : "";
    } else if (!strcasecmp(name, "host")) {
        h->hosts++;
    } else if (!strcasecmp(name, "accept")) {
        h->accept = value ? value : "";
    } else if (!strcasecmp(name, "last-event-id")) {
        h->last_event = value ? value : "";
    }
    return MHD_YES;
}

static bool refuse(struct request *r, uint32_t status, const char *code, const char *message)
{
    r->server->counters.refused++;
    request_fail(r, status, code, message);
    return false;
}

static bool check_framing(struct request *r, const struct head *h, uint64_t *length)
{
    *length = 0;
    r->close = true; /* until the framing is known to be sound */
    if (h->bad_name)
        return refuse(r, 400, "bad_request", "a header has a character that headers may not have");
    if (h->lengths > 1 || (h->lengths > 0 && h->codings > 0) || h->hosts > 1)
        return refuse(r, 400, "bad_framing",
                      "the request has conflicting lengths or hosts; send one Content-Length and one Host");
    if (h->codings > 0)
        return refuse(r, 411, "length_required",
                      "transfer codings are not accepted here; send the body with a Content-Length");
    if (h->lengths > 0 && !io_parse_u64(h->length, UINT32_MAX, length))
        return refuse(r, 400, "bad_framing", "Content-Length must be a plain decimal number");
    if (*length > API_BODY_MAX)
        return refuse(r, 413, "body_too_large",
                      "the body is larger than the 327680 bytes allowed; send less");
    r->close = false;
    r->body_cap = (size_t)*length;
    return true;
}

static bool check_route(struct request *r, const char *url, const char *method)
{
    switch (route_match(method, url, &r->route, r->subject, r->allow, sizeof(r->allow))) {
    case ROUTE_OK:
        r->allow[0] = 0;
        return true;
    case ROUTE_METHOD_NOT_ALLOWED:
        return refuse(r, 405, "method_not_allowed",
                      "this path does not have that method; the Allow header lists those it has");
    case ROUTE_BAD_NAME:
        return refuse(r, 404, "not_found",
                      "the name in the path is not valid; names have 1 to 63 of a-z 0-9 - _ .");
    case ROUTE_NOT_FOUND:
        break;
    }
    return refuse(r, 404, "not_found",
                  "there is nothing at this path; GET /v1/openapi.json lists what there is");
}

struct query_reader {
    struct request *r;
    struct err err;
};

static enum MHD_Result collect_query(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct query_reader *q = cls;

    (void)kind;
    return query_take(&q->r->query, q->r->route, name, value, &q->err) == 0 ? MHD_YES : MHD_NO;
}

static bool check_query(struct request *r)
{
    struct query_reader q = {.r = r, .err = ERR_INIT};

    r->query = query_default();
    (void)MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, collect_query, &q);
    return q.err.code == 0 || refuse(r, 400, "bad_parameter", q.err.text);
}

/* RFC 6750: "Bearer" SP b64token. */
static bool take_token(struct request *r, const struct head *h)
{
    const char *p = h->authorization;
    size_t len;

    if (h->authorizations == 0)
        return true; /* the vault says what that means */
    if (h->authorizations > 1)
        return refuse(r, 400, "bad_request", "the request has more than one Authorization header");
    if (strncasecmp(p, "Bearer ", 7) != 0)
        return refuse(r, 401, "bad_token", "the Authorization header must be 'Bearer' and a token");
    p += 7;
    p += strspn(p, " ");
    len = strlen(p);
    if (len == 0 || len > TOKEN_TEXT_MAX - 1 ||
        strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") != len)
        return refuse(r, 401, "bad_token", "the token in the Authorization header is not a token of ours");
    memcpy(r->token, p, len + 1);
    return true;
}

static bool check_rate(struct request *r)
{
    struct rate *rate = &r->server->rate;
    uint64_t now = io_monotonic_ns(), hash = 0;
    uint32_t wait;

    if (r->token[0]) {
        r->rate = rate_hash(rate, 't', r->token);
        hash = rate_known(rate, r->rate) ? r->rate : 0;
    }
    if (!hash)
        hash = rate_hash(rate, 'p', r->conn->peer);
    wait = rate_take(rate, hash, now);
    if (wait == 0)
        return true;
    r->server->counters.rate_limited++;
    r->retry_after = wait;
    return refuse(r, 429, "rate_limited", "too many requests; wait as long as the Retry-After header says");
}

static bool check_body_head(struct request *r, const struct head *h, uint64_t length)
{
    bool wanted = r->route->flags & ROUTE_BODY;
    bool allowed = wanted || (r->route->flags & ROUTE_BODY_OPTIONAL);
    size_t media;

    if (length == 0)
        return !wanted || refuse(r, 400, "body_required", "this request needs a JSON object as its body");
    if (!allowed)
        return refuse(r, 400, "no_body_allowed", "this request takes no body");
    media = h->type ? strcspn(h->type, "; \t") : 0;
    if (h->types != 1 || media != strlen("application/json") ||
        strncasecmp(h->type, "application/json", media) != 0)
        return refuse(r, 415, "unsupported_media_type",
                      "the body must be JSON; send it with Content-Type: application/json");
    return true;
}

bool request_check_head(struct request *r, const char *url, const char *method)
{
    struct head h = {0};
    uint64_t length;

    (void)MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, collect, &h);
    if (!check_framing(r, &h, &length) || !take_token(r, &h) || !check_rate(r))
        return false;
    if (!check_route(r, url, method))
        return false;
    if (h.accept && strcasestr(h.accept, "text/event-stream"))
        r->route = route_streamed(r->route);
    if (!check_query(r) || !check_body_head(r, &h, length))
        return false;
    if (h.last_event && (r->route->flags & ROUTE_STREAM) && !(r->query.seen & ROUTE_AFTER) &&
        !io_parse_u64(h.last_event, INT64_MAX, &r->query.after))
        return refuse(r, 400, "bad_parameter",
                      "Last-Event-ID must be the number of the last message received");
    if (r->route->flags & ROUTE_PUBLIC)
        explicit_bzero(r->token, sizeof(r->token));
    return true;
}
