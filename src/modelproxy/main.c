/*
 * main.c - the model proxy: serves the model port of every session. It holds no key and reaches no network;
 * it parses what sandboxes send, so it is sealed to sockets it was handed.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "config/config.h"
#include "modelproxy/call.h"
#include "modelproxy/proxy.h"
#include "modelproxy/upstream_client.h"
#include "proc/seal.h"

enum { MOCK_SCRIPT_MAX = 1 << 20, UID_OFFSET = 3, SESSION_REQUEST_MAX = 1024 };

/* ---- vault ---- */

static bool on_session(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct proxy *p = ctx;
    char id[SESSION_ID_MAX + 1], provider[PROVIDER_NAME_MAX + 1], model[MODEL_NAME_MAX + 1];
    uint32_t per_minute, concurrency;
    uint64_t budget, used;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct err e = ERR_INIT;

    wire_get_str(in, id, sizeof(id));
    wire_get_str(in, provider, sizeof(provider));
    wire_get_str(in, model, sizeof(model));
    per_minute = wire_get_u32(in);
    concurrency = wire_get_u32(in);
    budget = wire_get_u64(in);
    used = wire_get_u64(in);
    if (!wire_in_done(in) || !io_valid_name(id)) {
        (void)close(req->fds[0]);
        (void)close(req->fds[1]);
        return false;
    }
    (void)session_register(p, id, provider, model, per_minute, concurrency, budget, used, req->fds, &e);
    wire_put_u32(&o, (uint32_t)e.code);
    wire_put_str(&o, e.text);
    (void)link_reply(req->link, req->id, false, &o, NULL, 0);
    return true;
}

static bool on_end(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char id[SESSION_ID_MAX + 1];

    (void)req;
    wire_get_str(in, id, sizeof(id));
    if (!wire_in_done(in))
        return false;
    session_end(ctx, id);
    return true;
}

static const struct link_rule vault_rules[] = {
    {PROXY_SESSION, "session", 38, SESSION_REQUEST_MAX, 2, on_session},
    {PROXY_END, "end", 5, 4 + SESSION_ID_MAX, 0, on_end},
};

static void send_kept_notices(struct proxy *p)
{
    while (p->notices && p->d.links[PEER_VAULT]) {
        struct notice *n = p->notices;
        p->notices = n->next;
        p->notices_count--;
        (void)link_notify(p->d.links[PEER_VAULT], PROXY_CALL, &n->body, NULL, 0);
        wire_out_free(&n->body);
        free(n);
    }
    if (!p->notices)
        p->notices_tail = &p->notices;
}

void proxy_notice(struct proxy *p, struct wire_out *body)
{
    struct notice *n;

    if (p->notices_count >= NOTICES_KEPT) {
        log_warn("the vault has been away for %u model calls: their audit records are lost from here on",
                 NOTICES_KEPT);
        wire_out_free(body);
        return;
    }
    n = x_calloc(1, sizeof(*n));
    n->body = *body;
    *p->notices_tail = n;
    p->notices_tail = &n->next;
    p->notices_count++;
    send_kept_notices(p);
}

static void on_vault_up(void *ctx, struct link *l)
{
    (void)l;
    send_kept_notices(ctx);
}

/* ---- upstream ---- */

static void on_upstream_up(void *ctx, struct link *l)
{
    (void)l;
    upstream_link_up(ctx);
}

/* ---- process ---- */

static int load_script(struct proxy *p, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;

    if (fcntl(DAEMON_FD_EXTRA, F_GETFD) >= 0) {
        if (io_read_fd(DAEMON_FD_EXTRA, "the mock script", MOCK_SCRIPT_MAX, &text, &len, e) < 0)
            return -1;
        (void)close(DAEMON_FD_EXTRA);
    }
    if (len > 0) {
        doc = config_yaml_to_json(text, len, "mock_script", e);
        if (!doc)
            return -1;
    }
    p->script = mock_script_new(doc, e);
    json_decref(doc);
    return p->script ? 0 : -1;
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    session_sweep(arg);
}

static void on_unpause(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    session_unpause(arg);
}

static void stop(struct proxy *p)
{
    session_end_all(p);
    http_port_stop(p);
    event_free(p->sweep);
    event_free(p->unpause);
    while (p->notices) {
        struct notice *n = p->notices;
        p->notices = n->next;
        wire_out_free(&n->body);
        free(n);
    }
    free(p->conns);
    mock_script_free(p->script);
}

int main(void)
{
    static struct proxy p;
    struct err e = ERR_INIT;
    struct seal_profile profile = {.groups = SEAL_BASE | SEAL_ACCEPT, .chroot_to = ""};
    int status;

    daemon_init(&p.d, PEER_MODELPROXY);
    p.notices_tail = &p.notices;
    profile.uid = (uint32_t)json_integer_value(json_object_get(p.d.config, "uid_base")) + UID_OFFSET;
    p.sweep = event_new(p.d.base, -1, EV_PERSIST, on_sweep, &p);
    p.unpause = event_new(p.d.base, -1, 0, on_unpause, &p);
    if (!p.sweep || !p.unpause)
        abort();
    tzset(); /* libmicrohttpd's Date header makes the C library read the time zone once: now, not when sealed
              */
    daemon_expect(&p.d, PEER_VAULT, vault_rules, ARRAY_LEN(vault_rules), &p, on_vault_up, NULL);
    daemon_expect(&p.d, PEER_UPSTREAM, NULL, 0, &p, on_upstream_up, NULL);
    if (load_script(&p, &e) < 0 || http_port_start(&p, &e) < 0 || seal_process(&profile, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    status = daemon_run(&p.d);
    stop(&p);
    return status;
}
