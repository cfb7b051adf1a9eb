/*
 * answer.c - the decided answer of a request as an HTTP response.
 *
 * Answers are never cached or interpreted by a browser as anything but data. A body may carry a token that is
 * shown once, so it is wiped when libmicrohttpd is done with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/openapi.h"
#include "api/request.h"
#include "base/cleanup.h"
#include "base/io.h"

static void header(struct MHD_Response *resp, const char *name, const char *value)
{
    if (MHD_add_response_header(resp, name, value) != MHD_YES)
        abort(); /* out of memory */
}

void request_common_headers(const struct request *r, struct MHD_Response *resp)
{
    header(resp, "Cache-Control", "no-store");
    header(resp, "X-Content-Type-Options", "nosniff");
    header(resp, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    header(resp, "Referrer-Policy", "no-referrer");
    if (r->listener->tls)
        header(resp, "Strict-Transport-Security", "max-age=31536000");
}

struct reply_text {
    size_t len;
    char text[];
};

static void wipe_reply(void *cls)
{
    struct reply_text *t = cls;

    explicit_bzero(t->text, t->len);
    free(t);
}

static struct MHD_Response *owned_response(const struct request *r)
{
    struct reply_text *t = x_malloc(sizeof(*t) + r->reply_len);
    struct MHD_Response *resp;

    t->len = r->reply_len;
    if (r->reply_len > 0)
        memcpy(t->text, r->reply, r->reply_len);
    resp = MHD_create_response_from_buffer_with_free_callback_cls(t->len, t->text, wipe_reply, t);
    if (!resp)
        abort();
    return resp;
}

enum MHD_Result request_answer(struct request *r)
{
    bool document = r->route && r->route->op == ROUTE_OPENAPI && r->status == 200;
    bool text = r->route && (r->route->flags & ROUTE_TEXT) && r->status == 200;
    struct MHD_Response *resp;
    enum MHD_Result rc;
    char number[16];

    if (document)
        resp = MHD_create_response_from_buffer(openapi_document_len, (void *)(uintptr_t)openapi_document,
                                               MHD_RESPMEM_PERSISTENT);
    else
        resp = owned_response(r);
    if (!resp)
        abort();
    request_common_headers(r, resp);
    if (document || r->reply_len > 0)
        header(resp, "Content-Type", text ? "text/plain; version=0.0.4; charset=utf-8" : "application/json");
    if (r->status == 401)
        header(resp, "WWW-Authenticate", "Bearer realm=\"ironclaw\"");
    if (r->allow[0])
        header(resp, "Allow", r->allow);
    if (r->retry_after) {
        (void)io_format(number, sizeof(number), "%u", r->retry_after);
        header(resp, "Retry-After", number);
    }
    if (r->close)
        header(resp, "Connection", "close");
    r->queued = true;
    server_deadline(r->conn, SERVER_ANSWER_S);
    rc = MHD_queue_response(r->mhd, r->status, resp);
    MHD_destroy_response(resp);
    return rc;
}
