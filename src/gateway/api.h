/*
 * api.h - the operations of ipc/messages.h that api may ask for: one table, each row with the scope it needs.
 *
 * The token is checked here, before the handler runs; api has no say. Handlers answer with api_answer() now,
 * or keep the call's api_ref and answer later: nothing blocks the loop.
 */
#pragma once
#include <jansson.h>

#include "gateway/problem.h"
#include "gateway/tokens.h"
#include "ipc/link.h"
#include "sessions/session.h"
#include "vault/hub.h"

struct api_call {
    struct hub *h;
    struct api_ref ref;
    struct token_info who; /* scope NONE for operations that need no token */
    char subject[128];
    uint64_t after;
    uint32_t limit, wait_ms;
    json_t *body; /* an object; NULL when the request had none. Borrowed */
};

/*
 * Returns the HTTP status and puts the body into *reply (new reference, NULL for none); or 0 when the call is
 * answered later; or a status from p when p->status is set.
 */
typedef unsigned (*api_handler)(struct api_call *c, json_t **reply, struct problem *p);

struct api_operation {
    uint32_t type;
    const char *name;
    enum scope scope;
    api_handler run;
};

/* By topic; each ends with a row whose handler is NULL. */
extern const struct api_operation api_token_operations[];
extern const struct api_operation api_agent_operations[];
extern const struct api_operation api_session_operations[];
extern const struct api_operation api_system_operations[];
extern const struct api_operation api_event_operations[];

/* Registers the operations with the daemon; before sealing. */
void api_expect(struct hub *h);

/* Sends the last (or only) reply of a call; body may be NULL and is stolen. Calls of an earlier link are
 * dropped. */
void api_answer(struct hub *h, struct api_ref ref, unsigned status, json_t *body);
/* One event of a stream; stolen. */
void api_answer_more(struct hub *h, struct api_ref ref, json_t *body);
/* As both, with the JSON as text. */
void api_answer_text(struct hub *h, struct api_ref ref, bool more, unsigned status, const char *text,
                     size_t len);
/* Bytes that api has not read yet. */
size_t api_backlog(const struct hub *h);

/* api_events.c: ends the stream of one call, or of all. */
void event_streams_cancel(struct hub *h, uint64_t call_id);
void event_streams_drop(struct hub *h);

/* A text member of the body; NULL (with p, 400) when it is missing or no text; `fallback` unless NULL when
 * absent. */
const char *api_text(const struct api_call *c, const char *key, const char *fallback, struct problem *p);
