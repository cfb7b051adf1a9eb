/*
 * session.h - the life of sessions: what should run, what does, and how one becomes the other.
 *
 *   stopped -> starting -> running -> stopping -> stopped
 *                 |  ^         |
 *                 v  |         v (exit with an error, out of memory)
 *             restarting <-----+      back-off 1 s doubling to 60 s; after 5 failed launches: failed
 *   any -> damaged: its stored data do not verify; its sandbox is stopped, nothing is served, other sessions
 * go on
 *
 * `desired` (stored) says whether a session should run; step() compares it with the state and takes the one
 * next action, so a restart of the launcher, the model proxy or the vault itself needs no case of its own. A
 * program that ends with status 0 has finished: its session is stopped until the next message.
 *
 * A session as JSON: {"id","agent","state","created","wall","restarts","last_exit","reason"}; last_exit is
 * null or
 * {"code","reason"}, reason is text ("" when there is nothing to say).
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/problem.h"
#include "ipc/messages.h"
#include "vault/hub.h"
#include "vault/queue_store.h"

enum session_state {
    SESSION_STOPPED,
    SESSION_STARTING,
    SESSION_RUNNING,
    SESSION_STOPPING,
    SESSION_RESTARTING,
    SESSION_DAMAGED,
    SESSION_FAILED,
    SESSION_STATES
};
const char *session_state_name(enum session_state s);

/* An API call that is answered later. */
struct api_ref {
    uint64_t call_id, epoch;
};

struct watch;
struct queue_port;

struct session {
    struct session *next; /* in its bucket */
    struct hub *h;
    char id[SESSION_ID_MAX + 1];
    char agent[AGENT_NAME_MAX + 1];
    uint32_t uid_index;
    int64_t created;
    enum session_state state;
    enum damage damage;
    bool desired, removing;
    bool again;     /* running with an outdated configuration: stop, then start */
    bool inherited; /* a sandbox of an earlier life of this process may still run */
    char wall[16];
    char *reason;  /* malloc'ed or NULL */
    int last_code; /* -1: never ended */
    char last_reason[16];
    uint32_t restarts, attempt;
    uint64_t started_at; /* monotonic ns */
    uint64_t calls, tokens_in, tokens_out;
    bool usage_dirty;
    bool budgeted; /* its agent has a token budget: usage is saved with every call */
    struct refusals refusals;
    struct event *timer; /* back-off; NULL until needed */
    int model_fds[2];    /* kept so that a new model proxy can be given them again; -1 while not running */
    struct queue_port *port;
    struct watch *watches;
    struct waiter *waiters; /* API calls waiting for the end of the sandbox */
};

/* Reads the sessions of the registry, finishes half-done creations. NULL with e. */
struct sessions *sessions_load(struct hub *h, struct err *e);
void sessions_free(struct sessions *s);

struct session *session_find(struct hub *h, const char *id);
void sessions_each(struct hub *h, void (*visit)(void *arg, struct session *s), void *arg);

/* Creates the data of a new session of an agent and starts it. NULL with p. */
struct session *session_create(struct hub *h, const char *agent, struct problem *p);
/* Ends its sandbox; `ref` is answered with the session once it is gone. */
int session_stop(struct session *s, struct api_ref ref, struct problem *p);
/* Ends the sandbox and deletes workspace, queues and key; `ref` is answered with 204. */
int session_remove(struct session *s, struct api_ref ref, struct problem *p);
/* Stores an inbound message and starts the session if it does not run. */
int session_send(struct session *s, const char *text, size_t len, const char *idempotency, uint64_t *seq,
                 struct problem *p);
/* Stores an outbound record and shows it to whoever watches. */
int session_append(struct session *s, enum record_kind kind, const char *text, size_t len, uint64_t consumed,
                   uint64_t *seq, struct problem *p);

json_t *session_json(const struct session *s);
struct queue_ref session_ref(const struct session *s);
/* Turns a failure of the store into p, and the session into a damaged one when that is what it was. Returns
 * -1. */
int session_store_failed(struct session *s, enum damage damage, const struct err *e, struct problem *p);

/* Events from elsewhere. */
void sessions_agent_changed(struct hub *h, const char *agent);
void sessions_launcher_up(struct hub *h);
void sessions_launcher_down(struct hub *h);
void sessions_modelproxy_up(struct hub *h);
void sessions_exited(struct hub *h, const char *id, uint32_t code, const char *reason);
/* An event, if the outcome of a call means that the model port refused it. */
void sessions_model_denied(struct hub *h, const char *id, const char *outcome);
void sessions_model_call(struct hub *h, const char *id, uint64_t tokens_in, uint64_t tokens_out);

/*
 * A sandbox can be refused as often as it likes. Does this refused call get an audit record of its own? The
 * others of the minute are counted, and sessions_tell_refusals() records their number: when the minute is
 * over, or at once with `now`.
 */
bool sessions_model_refused(struct hub *h, const char *id);
void sessions_tell_refusals(struct hub *h, bool now);
void sessions_save_usage(struct hub *h);
