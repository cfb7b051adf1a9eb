/*
 * request.h - one HTTP request, from its headers to the end of its answer.
 *
 *     READING   headers checked, the body is arriving
 *     WAITING   asked the vault; the connection is suspended
 *     STREAMING an event stream that is being sent; suspended between events
 *     ANSWERED  the answer is decided, or already handed to libmicrohttpd
 *
 * A request is made at the first call of the access handler and freed when libmicrohttpd reports its
 * completion, whatever the reason; a call to the vault that is still open then is forgotten.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/query.h"
#include "api/routes.h"
#include "api/server.h"
#include "ipc/messages.h"

enum request_state { REQUEST_READING, REQUEST_WAITING, REQUEST_STREAMING, REQUEST_ANSWERED };

struct request {
    struct request *next, **link; /* in server.suspended, while link is not NULL */
    struct server *server;
    struct listener *listener;
    struct conn *conn;
    struct MHD_Connection *mhd;
    enum request_state state;
    bool queued; /* an answer was handed to libmicrohttpd */
    bool close;  /* the connection must not be used again */
    bool gone;   /* the client closed while we waited */
    const struct route *route;
    char subject[ROUTE_SUBJECT_MAX + 1];
    char token[TOKEN_TEXT_MAX + 1];
    struct query query;
    uint64_t after_event; /* Last-Event-ID of a stream */
    uint64_t rate;        /* hash of the token, 0 without one */
    char *body;           /* owned, wiped */
    size_t body_len, body_cap;
    uint64_t call; /* open call to the vault, 0: none */
    uint32_t status;
    char *reply; /* owned until it is handed to libmicrohttpd */
    size_t reply_len;
    char allow[64];       /* Allow header of a 405 */
    uint32_t retry_after; /* seconds, 0: no header */
    struct event *watch;  /* notices that the client went away */
    struct stream *stream;
};

/* libmicrohttpd's callbacks; cls is the listener. */
enum MHD_Result request_on_access(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_len,
                                  void **con_cls);
void request_on_completed(void *cls, struct MHD_Connection *c, void **con_cls,
                          enum MHD_RequestTerminationCode why);

/* Decides the answer of a request: an error object. Never blocks; a suspended connection is resumed. */
void request_fail(struct request *r, uint32_t status, const char *code, const char *message);

/* Suspends or resumes the connection; safe to repeat. */
void request_suspend(struct request *r);
void request_resume(struct request *r);

/* Ends every request that waits: the vault died, or we stop. */
void request_end_all(struct server *s, const char *code, const char *message);

/* Writes the fields of a call to the vault (ipc/messages.h). */
uint64_t request_call_vault(struct request *r, link_reply_cb cb);

/* head.c: checks the headers of a new request; returns false after request_fail(). */
bool request_check_head(struct request *r, const char *url, const char *method);

/* answer.c: hands the decided answer to libmicrohttpd. */
enum MHD_Result request_answer(struct request *r);
/* Headers that every answer carries. */
void request_common_headers(const struct request *r, struct MHD_Response *resp);
