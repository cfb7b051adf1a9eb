#include "proc/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/seal.h"

static const char *const peer_names[PEER_COUNT] = {
    [PEER_SUPERVISOR] = "supervisor", [PEER_API] = "api",
    [PEER_VAULT] = "vault",           [PEER_LAUNCHER] = "launcher",
    [PEER_MODELPROXY] = "modelproxy", [PEER_UPSTREAM] = "upstream",
    [PEER_EVENTS] = "events",
};

const char *peer_name(enum peer p)
{
    return p < PEER_COUNT ? peer_names[p] : "unknown";
}

static void die(const struct err *e)
{
    log_error("%s", e->text);
    exit(1);
}

static void on_peer_closed(void *ctx, struct link *l, const char *why)
{
    struct daemon *d = ctx;

    (void)why;
    for (int p = 0; p < PEER_COUNT; p++) {
        if (d->links[p] != l)
            continue;
        d->links[p] = NULL;
        if (d->peers[p].on_down)
            d->peers[p].on_down(d->peers[p].ctx);
    }
}

static bool on_ctl_link(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct daemon *d = ctx;
    uint32_t peer = wire_get_u32(in);
    struct daemon_peer *p;

    if (!wire_in_done(in) || peer >= PEER_COUNT || !d->peers[peer].rules) {
        (void)close(req->fds[0]);
        return false;
    }
    p = &d->peers[peer];
    if (d->links[peer])
        link_close(d->links[peer], "replaced by a new link");
    d->links[peer] = link_new(d->base, req->fds[0], peer_name((enum peer)peer), p->rules, p->nrules, p->ctx,
                              on_peer_closed, d);
    if (p->on_up)
        p->on_up(p->ctx, d->links[peer]);
    return true;
}

static bool on_ctl_stop(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct daemon *d = ctx;

    (void)req;
    if (!wire_in_done(in))
        return false;
    if (d->on_stop)
        d->on_stop(d);
    else
        daemon_exit(d, 0);
    return true;
}

static const struct link_rule control_rules[] = {
    {CTL_LINK, "link", 4, 4, 1, on_ctl_link},
    {CTL_STOP, "stop", 0, 0, 0, on_ctl_stop},
};

static void on_control_closed(void *ctx, struct link *l, const char *why)
{
    (void)l;
    (void)why;
    /* No supervisor, no control plane: nobody would restart or stop us. */
    daemon_exit(ctx, 1);
}

void daemon_init(struct daemon *d, enum peer self)
{
    struct err e = ERR_INIT;
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;
    json_error_t je;

    memset(d, 0, sizeof(*d));
    d->self = self;
    log_name(peer_name(self));
    tzset(); /* libc reads the time zone on first use: after sealing that would be a forbidden open */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* ^C reaches the supervisor, which stops us in order */
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fcntl(DAEMON_FD_CONTROL, F_GETFD) < 0 || fcntl(DAEMON_FD_CONFIG, F_GETFD) < 0) {
        (void)err_set(&e, EINVAL, "this program is a part of 'ironclaw up' and is started by it");
        die(&e);
    }
    (void)fcntl(DAEMON_FD_CONTROL, F_SETFD, FD_CLOEXEC);
    if (io_read_fd(DAEMON_FD_CONFIG, "the configuration", 1 << 20, &text, &len, &e) < 0)
        die(&e);
    (void)close(DAEMON_FD_CONFIG);
    d->config = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!d->config) {
        (void)err_set(&e, EINVAL, "the configuration passed by the supervisor is not JSON: %s", je.text);
        die(&e);
    }
    d->base = event_base_new();
    if (!d->base)
        abort();
    d->control = link_new(d->base, DAEMON_FD_CONTROL, "supervisor", control_rules, ARRAY_LEN(control_rules),
                          d, on_control_closed, d);
}

void daemon_expect(struct daemon *d, enum peer peer, const struct link_rule *rules, size_t nrules, void *ctx,
                   void (*on_up)(void *ctx, struct link *l), void (*on_down)(void *ctx))
{
    static const struct link_rule none[1];

    d->peers[peer] = (struct daemon_peer){.rules = rules ? rules : none,
                                          .nrules = rules ? nrules : 0,
                                          .ctx = ctx,
                                          .on_up = on_up,
                                          .on_down = on_down};
}

int daemon_run(struct daemon *d)
{
    if (link_notify(d->control, CTL_READY, NULL, NULL, 0) < 0)
        return 1;
    if (event_base_dispatch(d->base) < 0)
        return 1;
    return d->status;
}

void daemon_exit(struct daemon *d, int status)
{
    d->status = status;
    (void)event_base_loopbreak(d->base);
}

void daemon_want(struct daemon *d, enum peer peer)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_u32(&o, peer);
    (void)link_notify(d->control, CTL_WANT, &o, NULL, 0);
}

void daemon_notice(struct daemon *d, const char *text)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_str(&o, text);
    (void)link_notify(d->control, CTL_NOTICE, &o, NULL, 0);
}

const char *daemon_state_root(const struct daemon *d)
{
    return seal_is_chrooted() ? "" : json_string_value(json_object_get(d->config, "state_dir"));
}
