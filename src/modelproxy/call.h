/*
 * call.h - one request to the model port, from its first byte to its audit record.
 *
 *     RECEIVING  the body is gathered into a memfd, so that it is passed on without a copy and outside our
 * heap WAITING    a source (upstream or mock) was asked; the client's connection is suspended HEAD       the
 * status is known; the answer can be queued STREAMING  bytes flow source -> buffer -> client; either side may
 * be the slower one (freed)    when libmicrohttpd is done with the request, for whatever reason; exactly one
 * audit notice is sent
 *
 * A call that is refused is answered after its body was read and thrown away, so that clients see the answer
 * and not a reset connection.
 *
 * While a connection is suspended libmicrohttpd does not look at its socket, so we do: when the client hangs
 * up (also half: a client that shuts down its sending side is taken to be gone, as reverse proxies do), its
 * source is cancelled and the connection is resumed to be closed.
 */
#pragma once
#include <event2/buffer.h>

#include "modelproxy/proxy.h"
#include "modelproxy/usage.h"

/* How a source of answers is steered; `source` is its own object. */
struct call_source {
    void (*cancel)(void *source); /* no more call_*() afterwards; frees it */
    void (*pause)(void *source, bool paused);
};

enum call_state { CALL_RECEIVING, CALL_WAITING, CALL_HEAD, CALL_STREAMING };

struct call {
    struct conn *conn;
    struct session *session;
    const struct model_path *path; /* NULL when refused for its path */
    enum call_state state;
    enum shape shape;
    char method[16];
    char target[128]; /* as sent by the client, cut: for the audit record */
    char content_type[256], accept[256];
    char extra[2560]; /* "name: value\n" lines */
    int body_fd;      /* memfd, -1 while empty */
    uint64_t body_len;
    bool admitted; /* counts against the session's concurrency */
    bool suspended;
    bool source_ended, source_failed, source_paused, client_gone, shut;
    const struct call_source *ops; /* NULL while there is no running source */
    void *source;
    struct event *watch;  /* the client's socket while suspended */
    struct evbuffer *out; /* answer bytes on their way */
    unsigned status;
    unsigned retry_after_s; /* 0: none */
    const char *outcome;
    char answer_type[128];
    char answer_extra[512]; /* response headers, "name: value\n" lines */
    struct usage usage;
    bool counting;
    uint64_t started_ns;
};

struct call *call_new(struct conn *conn, const char *method, const char *target)
    __attribute__((returns_nonnull));
/* Frees; sends the audit notice. Cancels a source that still runs. */
void call_free(struct call *c);

/* Refuses before any source was asked: the answer is an error in the provider's shape. The first refusal
 * wins. */
void call_refuse(struct call *c, unsigned status, const char *outcome, const char *message);
/* Adds body bytes. Returns false when the connection should be cut. */
bool call_body(struct call *c, const void *data, size_t len);
/* The request is complete: asks the source. Afterwards state is WAITING or HEAD. */
void call_dispatch(struct call *c);
/* Stops libmicrohttpd from looking at the connection until there is something to do. */
void call_suspend(struct call *c);
/* Takes up to `max` bytes of the answer for the client; resumes a source that was paused. */
size_t call_take(struct call *c, void *dst, size_t max);
void call_client_gone(struct call *c);

/* ---- for sources ---- */
/* The whole body, NUL-terminated, malloc'ed (caller frees). */
char *call_body_text(const struct call *c);
void call_head(struct call *c, unsigned status, const char *content_type, const char *extra);
void call_data(struct call *c, const void *data, size_t len);
/*
 * The source is done and forgets the call. `message` NULL: complete. Otherwise it failed: before the head
 * that is an error with `status`; afterwards an event stream ends with an error event and anything else is
 * cut off.
 */
void call_end(struct call *c, unsigned status, const char *outcome, const char *message);
