/*
 * daemon.h - the life of one process of the control plane, the same for all of them.
 *
 * The supervisor starts each with: fd 3 = its control link, fd 4 = a read-only memfd with the configuration
 * as JSON (see config/config.h), and further descriptors as listed in supervisor/processes.c (state
 * directory, listening sockets), from fd 5 on. A child calls, in this order:
 *
 *     daemon_init(&d, PEER_VAULT, argc, argv)   event loop, configuration, control link
 *     ... opens what it needs ...
 *     daemon_expect(&d, PEER_API, rules, n, ctx, on_up, on_down)   for every peer it talks to
 *     seal_process(...)                          (proc/seal.h) gives everything else up
 *     daemon_run(&d)                             tells the supervisor it is ready; returns the exit status
 *
 * A peer that dies is started again by the supervisor, which then sends a fresh link: on_down, later on_up
 * again. CTL_STOP calls d.on_stop (if set), else leaves the loop.
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>

#include "ipc/link.h"
#include "ipc/messages.h"

enum { DAEMON_FD_CONTROL = 3, DAEMON_FD_CONFIG = 4, DAEMON_FD_EXTRA = 5 };

struct daemon {
    enum peer self;
    struct event_base *base;
    struct link *control;
    json_t *config;                 /* the whole configuration; borrowed by everyone */
    struct link *links[PEER_COUNT]; /* NULL while that peer is down */
    struct daemon_peer {
        const struct link_rule *rules;
        size_t nrules;
        void *ctx;
        void (*on_up)(void *ctx, struct link *l);
        void (*on_down)(void *ctx);
    } peers[PEER_COUNT];
    void (*on_stop)(struct daemon *d); /* must end by calling daemon_exit() */
    int status;
};

const char *peer_name(enum peer p);

/* Aborts the process with one clear line on stderr if it was not started by the supervisor. */
void daemon_init(struct daemon *d, enum peer self);
void daemon_expect(struct daemon *d, enum peer peer, const struct link_rule *rules, size_t nrules, void *ctx,
                   void (*on_up)(void *ctx, struct link *l), void (*on_down)(void *ctx));
int daemon_run(struct daemon *d);
void daemon_exit(struct daemon *d, int status);
/* Asks the supervisor to start a process on demand; its link arrives later. */
void daemon_want(struct daemon *d, enum peer peer);
/* One line on the operator's terminal. */
void daemon_notice(struct daemon *d, const char *text);

/*
 * Extra descriptors, by process (the supervisor opens them before anything is sealed):
 *   vault      5: passphrase for the master key (a memfd; empty when the key is not passphrase-protected)
 *   api        5: listening unix socket; then three for every entry of config "listen": listener,
 * certificate, private key modelproxy 5: the mock script (empty when none is configured) launcher, upstream,
 * events: none
 *
 * Paths: as root the vault is confined by chroot to the state directory, rootless by Landlock alone. After
 * seal_process() it reaches its files below daemon_state_root(): "" when confined by chroot, else config
 * "state_dir".
 */
const char *daemon_state_root(const struct daemon *d);
