/*
 * upstream.h - what the parts of the upstream process know of each other.
 *
 *   provider.c   where a provider is and whether plain HTTP is allowed there
 *   keys.c       provider keys: asked of the vault, kept locked for KEY_KEPT_S, wiped
 *   transfer.c   one request to a provider: libcurl on our event loop, the answer redacted and passed on
 */
#pragma once
#include <curl/curl.h>

#include "proc/daemon.h"
#include "upstream/redact.h"
#include "upstream/redact_events.h"

enum {
    KEY_KEPT_S = 60,
    PROVIDER_NAME_MAX = 63,
    CONNECT_TIMEOUT_S = 10,
    IDLE_TIMEOUT_S = 300,
    TRANSFERS_MAX = 512,
    IDLE_EXIT_S = 60,       /* without a request for so long the process ends; the next one starts it again */
    BACKLOG_HIGH = 1 << 20, /* bytes queued to the model proxy before transfers pause */
};

struct transfer;
struct key;

struct upstream {
    struct daemon d;
    CURLM *multi;
    struct event *timer;   /* libcurl's */
    struct event *drained; /* looks whether the link's backlog is gone */
    struct event *idle;    /* every IDLE_EXIT_S: ends the process unless something happened since */
    bool busy;             /* a request arrived since the last look */
    struct transfer *transfers;
    unsigned ntransfers;
    struct key *keys;
    char *ca; /* PEM text of provider_ca_file, read before sealing; NULL: the system's bundle alone */
    size_t ca_len;
};

/* ---- provider.c ---- */
struct provider {
    const char *url; /* borrowed from the configuration */
    bool anthropic;  /* how the key is presented */
    bool plain;      /* http: loopback only */
};
int provider_find(const json_t *config, const char *name, struct provider *p, struct err *e);
bool address_is_loopback(const struct sockaddr *a);

/* ---- keys.c ---- */
/* Called once; `s` borrowed, NULL with e when there is no key (e->code ENOENT) or it cannot be had. */
typedef void (*key_cb)(void *arg, struct secret *s, const struct err *e);
/* Gives the key now or later. At most one pending request per arg. */
void key_get(struct upstream *u, const char *provider, key_cb cb, void *arg);
/* The asker is gone. */
void key_forget(struct upstream *u, void *arg);
/* Every key that is known now. */
void keys_each(struct upstream *u, void (*fn)(void *arg, struct secret *s), void *arg);
void key_drop(struct upstream *u,
              const char *provider); /* the key kept for this provider is no longer valid */
void keys_wipe(struct upstream *u);

/* ---- transfer.c ---- */
int transfers_init(struct upstream *u, struct err *e);
bool transfer_request(void *ctx, const struct link_req *req, struct wire_in *in);
bool transfer_cancel(void *ctx, const struct link_req *req, struct wire_in *in);
bool transfer_pause(void *ctx, const struct link_req *req, struct wire_in *in);
void transfers_drop(struct upstream *u);
