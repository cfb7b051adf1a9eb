/*
 * link.h - a SOCK_SEQPACKET pair between two of our processes, with a fixed table of permitted requests.
 *
 * Each end registers the requests it serves. A message that is not in the table, has the wrong size, the
 * wrong number of descriptors or fields that do not parse closes the link and reports its sender (the
 * supervisor then restarts it): privilege separation in the manner of OpenSSH's monitor. Requests are
 * answered asynchronously; when the link closes, every outstanding call is answered with `ok == false`
 * exactly once.
 *
 * Everything runs on one libevent loop in one thread. Handlers may call any function here, link_close()
 * included.
 */
#pragma once
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fdpass.h"
#include "ipc/wire.h"

enum { LINK_FDS_MAX = FDPASS_MAX };

struct link;

/* One received request. Descriptors in fds[] belong to the handler, which must close or keep each of them. */
struct link_req {
    struct link *link;
    uint64_t id; /* for link_reply(); 0 for a one-way notice */
    uint32_t type;
    int fds[LINK_FDS_MAX];
    int nfds;
};

/*
 * Reads its fields from `in`. Returns false when they do not parse: the link is then closed and the sender
 * blamed. The handler must call wire_in_done(in) itself after reading, before acting.
 */
typedef bool (*link_handler)(void *ctx, const struct link_req *req, struct wire_in *in);

struct link_rule {
    uint32_t type;    /* from messages.h; below 0x80000000 */
    const char *name; /* for logs */
    size_t min, max;  /* permitted body size in bytes */
    int nfds;         /* exact number of descriptors; -1 for any up to LINK_FDS_MAX */
    link_handler handler;
};

/*
 * A reply to link_call(). ok == false: the link closed (peer died); `in` is then empty. `more` tells that
 * further replies to the same call follow. Descriptors as in struct link_req.
 */
typedef void (*link_reply_cb)(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds);

/* Called once when the peer is gone or was cut off; `why` is a clear sentence. The link is freed after the
 * callback returns. */
typedef void (*link_closed_cb)(void *arg, struct link *l, const char *why);

/* Takes ownership of fd. rules must outlive the link; handlers get `ctx`, the closed callback `closed_arg`.
 * `peer` names the other side in logs. */
struct link *link_new(struct event_base *base, int fd, const char *peer, const struct link_rule *rules,
                      size_t nrules, void *ctx, link_closed_cb closed, void *closed_arg);

/* Sends a one-way notice. fds are duplicated by the kernel, the caller keeps its own. Never blocks (queues).
 * Returns 0 or -1. */
int link_notify(struct link *l, uint32_t type, const struct wire_out *body, const int *fds, int nfds);

/* Sends a request; cb(arg) is called with each reply, or once with ok == false. Returns the call's id, or 0
 * (cb is then not called). */
uint64_t link_call(struct link *l, uint32_t type, const struct wire_out *body, const int *fds, int nfds,
                   link_reply_cb cb, void *arg);

/* Forgets a call: its callback will not run. Late replies are dropped (their descriptors closed). */
void link_forget(struct link *l, uint64_t id);

/* Answers request `id`. `more`: further replies will follow. */
int link_reply(struct link *l, uint64_t id, bool more, const struct wire_out *body, const int *fds, int nfds);

/* Bytes waiting in our own queue because the peer reads slowly. A producer pauses above its own threshold. */
size_t link_backlog(const struct link *l);

/* Closes and frees (deferred to the end of the current handler). The closed callback does run, with `why`. */
void link_close(struct link *l, const char *why);
