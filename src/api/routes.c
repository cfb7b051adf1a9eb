#include "api/routes.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ipc/messages.h"

#define PAGE (ROUTE_AFTER | ROUTE_LIMIT)

/* clang-format off */
const struct route routes[] = {
    /* Fixed segments come before {id}, so that they win. */
    {"GET",    "/healthz",                   ROUTE_HEALTHZ,       ROUTE_PUBLIC, NULL},
    {"GET",    "/readyz",                    API_READY,           ROUTE_PUBLIC, NULL},
    {"GET",    "/metrics",                   API_METRICS,         ROUTE_TEXT, NULL},
    {"GET",    "/v1/openapi.json",           ROUTE_OPENAPI,       ROUTE_PUBLIC, NULL},
    {"POST",   "/v1/bootstrap",              API_BOOTSTRAP,       ROUTE_BODY | ROUTE_PUBLIC, NULL},
    {"GET",    "/v1/whoami",                 API_WHOAMI,          0, NULL},
    {"GET",    "/v1/tokens",                 API_TOKEN_LIST,      0, NULL},
    {"POST",   "/v1/tokens",                 API_TOKEN_CREATE,    ROUTE_BODY, NULL},
    {"DELETE", "/v1/tokens/{id}",            API_TOKEN_REVOKE,    0, NULL},
    {"GET",    "/v1/agents",                 API_AGENT_LIST,      0, NULL},
    {"POST",   "/v1/agents",                 API_AGENT_CREATE,    ROUTE_BODY, NULL},
    {"GET",    "/v1/agents/{name}",          API_AGENT_GET,       0, NULL},
    {"PATCH",  "/v1/agents/{name}",          API_AGENT_UPDATE,    ROUTE_BODY, NULL},
    {"DELETE", "/v1/agents/{name}",          API_AGENT_REMOVE,    0, NULL},
    {"GET",    "/v1/sessions",               API_SESSION_LIST,    ROUTE_AGENT, NULL},
    {"POST",   "/v1/sessions",               API_SESSION_CREATE,  ROUTE_BODY, NULL},
    {"GET",    "/v1/sessions/{id}",          API_SESSION_GET,     0, NULL},
    {"DELETE", "/v1/sessions/{id}",          API_SESSION_REMOVE,  0, NULL},
    {"POST",   "/v1/sessions/{id}/stop",     API_SESSION_STOP,    0, NULL},
    {"GET",    "/v1/sessions/{id}/logs",     API_SESSION_LOGS,    0, NULL},
    {"GET",    "/v1/sessions/{id}/stats",    API_SESSION_STATS,   0, NULL},
    {"GET",    "/v1/sessions/{id}/history",  API_HISTORY,         PAGE, NULL},
    {"GET",    "/v1/sessions/{id}/messages", API_MESSAGE_LIST,    PAGE | ROUTE_WAIT, NULL},
    {"POST",   "/v1/sessions/{id}/messages", API_MESSAGE_SEND,    ROUTE_BODY, NULL},
    {"GET",    "/v1/sessions/{id}/stream",   API_SESSION_STREAM,  ROUTE_AFTER | ROUTE_STREAM, NULL},
    {"GET",    "/v1/changes/pending",        API_CHANGE_LIST,     PAGE, "pending"},
    {"GET",    "/v1/changes",                API_CHANGE_LIST,     PAGE, NULL},
    {"POST",   "/v1/changes",                API_CHANGE_SUBMIT,   ROUTE_BODY, NULL},
    {"GET",    "/v1/changes/{id}",           API_CHANGE_GET,      0, NULL},
    {"POST",   "/v1/changes/{id}/approve",   API_CHANGE_APPROVE,  ROUTE_BODY_OPTIONAL, NULL},
    {"POST",   "/v1/changes/{id}/reject",    API_CHANGE_REJECT,   ROUTE_BODY_OPTIONAL, NULL},
    {"GET",    "/v1/audit",                  API_AUDIT_LIST,      PAGE, NULL},
    {"GET",    "/v1/events",                 API_EVENT_LIST,      PAGE | ROUTE_SESSION, NULL},
    {"GET",    "/v1/events",                 API_EVENT_STREAM,    ROUTE_AFTER | ROUTE_SESSION | ROUTE_STREAM, NULL},
    {"GET",    "/v1/audit/key",              API_AUDIT_KEY,       0, NULL},
    {"POST",   "/v1/reports/sign",           API_REPORT_SIGN,     ROUTE_BODY, NULL},
    {"GET",    "/v1/sealing-key",            API_SEALING_KEY,     0, NULL},
    {"GET",    "/v1/providers",              API_PROVIDER_LIST,   0, NULL},
    {"PUT",    "/v1/providers/{name}",       API_PROVIDER_SET,    ROUTE_BODY, NULL},
    {"DELETE", "/v1/providers/{name}",       API_PROVIDER_REMOVE, 0, NULL},
    {"GET",    "/v1/images",                 API_IMAGE_LIST,      0, NULL},
};
/* clang-format on */
const size_t nroutes = ARRAY_LEN(routes);

enum fit { FIT_NO, FIT_BAD_NAME, FIT_YES };

/* Compares one path with one pattern; copies the segment that stands for {..} into subject. */
static enum fit fits(const char *pattern, const char *path, char *subject)
{
    const char *open = strchr(pattern, '{');
    size_t head = open ? (size_t)(open - pattern) : strlen(pattern), len;
    const char *tail;

    subject[0] = 0;
    if (!open)
        return strcmp(pattern, path) == 0 ? FIT_YES : FIT_NO;
    if (strncmp(pattern, path, head) != 0)
        return FIT_NO;
    tail = strchr(open, '}') + 1;
    len = strcspn(path + head, "/");
    if (strcmp(path + head + len, tail) != 0)
        return FIT_NO;
    if (len == 0 || len > ROUTE_SUBJECT_MAX)
        return len == 0 ? FIT_NO : FIT_BAD_NAME;
    memcpy(subject, path + head, len);
    subject[len] = 0;
    return io_valid_name(subject) ? FIT_YES : FIT_BAD_NAME;
}

enum route_result route_match(const char *method, const char *path, const struct route **route, char *subject,
                              char *allow, size_t cap)
{
    enum route_result result = ROUTE_NOT_FOUND;
    const char *first = NULL; /* the pattern that fitted first; others that fit as well are shadowed by it */
    size_t used = 0;

    *route = NULL;
    allow[0] = 0;
    for (size_t i = 0; i < nroutes; i++) {
        const struct route *r = &routes[i];
        enum fit f;
        if (first && strcmp(first, r->path) != 0)
            continue;
        f = fits(r->path, path, subject);
        if (f == FIT_NO)
            continue;
        first = r->path;
        if (f == FIT_BAD_NAME) {
            result = ROUTE_BAD_NAME;
            continue;
        }
        if (!strcmp(r->method, method)) {
            *route = r;
            return ROUTE_OK;
        }
        result = ROUTE_METHOD_NOT_ALLOWED;
        int n = snprintf(allow + used, cap - used, "%s%s", used ? ", " : "", r->method);
        if (n > 0 && (size_t)n < cap - used)
            used += (size_t)n;
    }
    subject[0] = 0;
    return result;
}

const struct route *route_streamed(const struct route *r)
{
    const struct route *next = r + 1;

    return next < routes + nroutes && next->flags & ROUTE_STREAM && !strcmp(next->method, r->method) &&
                   !strcmp(next->path, r->path)
               ? next
               : r;
}
