/*
 * main.c - the vault process: opens what it needs, seals itself, serves its peers.
 *
 * It holds every key and has no network; it parses JSON from sandboxes (bounded frames) and from the API
 * (bounded bodies), and nothing else that is foreign.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "gateway/api.h"
#include "gateway/change.h"
#include "gateway/owed.h"
#include "gateway/providers.h"
#include "gateway/registry.h"
#include "proc/seal.h"
#include "sessions/session.h"
#include "vault/hub.h"
#include "vault/sql.h"

enum { UID_OFFSET = 1, PASSPHRASE_FD = DAEMON_FD_EXTRA, IDLE_CLOSE_MS = 3000, TICK_S = 2, SHORT_TEXT = 64 };

/* ---- requests of the peers other than api ---- */

static bool on_exited(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1], reason[SHORT_TEXT];
    uint32_t code;

    wire_get_str(in, session, sizeof(session));
    code = wire_get_u32(in);
    wire_get_str(in, reason, sizeof(reason));
    if (!wire_in_done(in) || req->id != 0 || code > 255)
        return false;
    sessions_exited(ctx, session, code, reason);
    return true;
}

static bool on_model_call(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct hub *h = ctx;
    char session[SESSION_ID_MAX + 1], provider[SHORT_TEXT], method[16], path[256], outcome[32];
    uint64_t tokens_in, tokens_out, ms;
    struct err e = ERR_INIT;
    json_t *fields, *shown;
    uint32_t status;

    wire_get_str(in, session, sizeof(session));
    wire_get_str(in, provider, sizeof(provider));
    wire_get_str(in, method, sizeof(method));
    wire_get_str(in, path, sizeof(path));
    status = wire_get_u32(in);
    tokens_in = wire_get_u64(in);
    tokens_out = wire_get_u64(in);
    ms = wire_get_u64(in);
    wire_get_str(in, outcome, sizeof(outcome));
    if (!wire_in_done(in) || req->id != 0 || tokens_in > INT32_MAX || tokens_out > INT32_MAX ||
        ms > INT64_MAX)
        return false;
    if (strcmp(outcome, "ok") == 0)
        h->counters.model_ok++;
    else
        h->counters.model_refused++;
    sessions_model_call(h, session, tokens_in, tokens_out);
    sessions_model_denied(h, session, outcome);
    if (strcmp(outcome, "ok") != 0 && !sessions_model_refused(h, session))
        return true;
    shown = json_string(path); /* a sandbox chose it: it may not be text at all */
    fields = json_pack("{s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:I,s:s}", "session", session, "provider", provider,
                       "method", method, "path", shown ? shown : json_string("?"), "status",
                       (json_int_t)status, "input_tokens", (json_int_t)tokens_in, "output_tokens",
                       (json_int_t)tokens_out, "duration_ms", (json_int_t)ms, "outcome", outcome);
    if (!fields)
        return false;
    if (audit_append(h->audit, AUDIT_BATCHED, "model.call", fields, &e) < 0)
        log_error("%s", e.text);
    return true;
}

static bool on_key(void *ctx, const struct link_req *req, struct wire_in *in)
{
    unsigned char key[PROVIDER_KEY_MAX];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT; /* wipes what it held */
    char provider[SHORT_TEXT];
    struct err e = ERR_INIT;
    size_t len = 0;
    int rc;

    wire_get_str(in, provider, sizeof(provider));
    if (!wire_in_done(in) || req->id == 0)
        return false;
    rc = providers_key(ctx, provider, key, &len, &e);
    wire_put_u32(&o, rc < 0 ? (uint32_t)(e.code ? e.code : EIO) : 0);
    wire_put_str(&o, rc < 0 ? e.text : "");
    wire_put_bytes(&o, key, rc < 0 ? 0 : len);
    explicit_bzero(key, sizeof(key));
    (void)link_reply(req->link, req->id, false, &o, NULL, 0);
    return true;
}

static bool on_event_counters(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct hub *h = ctx;
    uint64_t v[2 + DROPS];

    for (size_t i = 0; i < ARRAY_LEN(v); i++)
        v[i] = wire_get_u64(in);
    if (!wire_in_done(in) || req->id != 0)
        return false;
    h->counters.events = v[0];
    h->counters.events_evicted = v[1];
    memcpy(h->counters.events_dropped, v + 2, sizeof(h->counters.events_dropped));
    return true;
}

static const struct link_rule launcher_rules[] = {
    {LAUNCH_EXITED, "exited", 12, 12 + SESSION_ID_MAX + SHORT_TEXT, 0, on_exited},
};
static const struct link_rule modelproxy_rules[] = {
    {PROXY_CALL, "model call", 48, 1024, 0, on_model_call},
};
static const struct link_rule upstream_rules[] = {
    {UP_KEY, "provider key", 4, 4 + SHORT_TEXT, 0, on_key},
};

enum { COUNTERS_LEN = 8 * (2 + DROPS) }; /* u64 each */

static const struct link_rule events_rules[] = {
    {EVENTS_COUNTERS, "event counters", COUNTERS_LEN, COUNTERS_LEN, 0, on_event_counters},
};

static void launcher_up(void *ctx, struct link *l)
{
    (void)l;
    sessions_launcher_up(ctx);
}

static void launcher_down(void *ctx)
{
    sessions_launcher_down(ctx);
}

static void modelproxy_up(void *ctx, struct link *l)
{
    (void)l;
    sessions_modelproxy_up(ctx);
}

static void peer_down(void *ctx)
{
    (void)ctx; /* registered again when it is back */
}

static void events_up(void *ctx, struct link *l)
{
    (void)ctx;
    (void)l;
}

static void upstream_up(void *ctx, struct link *l)
{
    (void)ctx;
    (void)l;
}

/* ---- life ---- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    static bool busy;
    struct hub *h = arg;
    bool open_now = queue_store_close_idle(h->store, IDLE_CLOSE_MS) > 0;

    (void)fd;
    (void)what;
    if (busy && !open_now)
        (void)malloc_trim(
            0); /* an open queue costs some 100 KiB of heap: give it back when the last one closes */
    busy = open_now;
    sessions_save_usage(h);
    sessions_tell_refusals(h, false);
    owed_retry(h);
}

/* After the answer, before the next request: see anchors.h. */
static void on_anchor_sync(evutil_socket_t fd, short what, void *arg)
{
    struct hub *h = arg;
    struct err e = ERR_INIT;

    (void)fd;
    (void)what;
    if (anchors_sync(h->anchors, &e) < 0)
        log_error("%s; it is tried again with the next message", e.text);
}

static void anchor_later(void *arg)
{
    static const struct timeval now = {0, 0};
    struct hub *h = arg;

    (void)event_add(h->anchor_sync, &now);
}

static int open_all(struct hub *h, struct err *e)
{
    CLEANUP_CLOSE int state = open(h->root[0] ? h->root : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (state < 0)
        return err_sys(e, errno, "cannot open the state directory %s", h->root);
    if (keys_load(h->keys, state, PASSPHRASE_FD, e) < 0)
        return -1;
    h->anchors = anchors_open(state, ANCHORS_QUEUES, h->keys, e);
    h->audit_anchor = h->anchors ? anchors_open(state, ANCHORS_AUDIT, h->keys, e) : NULL;
    if (!h->audit_anchor || io_mkdirs(state, "sessions", 0700, e) < 0)
        return -1;
    h->audit = audit_open(h->root, h->keys, h->audit_anchor, h->d->base, e);
    h->registry = h->audit ? registry_open(h->root, e) : NULL;
    if (!h->registry)
        return -1;
    h->store = queue_store_new(h->root, h->keys, h->anchors);
    h->anchor_sync = event_new(h->d->base, -1, 0, on_anchor_sync, h);
    if (!h->anchor_sync)
        return err_set(e, ENOMEM, "cannot arrange the sync of the anchors");
    anchors_defer(h->anchors, anchor_later, h);
    if (owed_settle(h, e) < 0 || change_recover(h, e) < 0 || !sessions_load(h, e) || tokens_start(h, e) < 0)
        return -1;
    return 0;
}

static void close_all(struct hub *h)
{
    if (h->sessions) {
        sessions_save_usage(h);
        sessions_tell_refusals(h, true);
    }
    sessions_free(h->sessions);
    queue_store_free(h->store);
    (void)sqlite3_close_v2(h->registry);
    audit_close(h->audit);
    if (h->anchor_sync)
        event_free(h->anchor_sync);
    anchors_close(h->audit_anchor);
    anchors_close(h->anchors);
    keys_close(h->keys);
}

static void on_stop(struct daemon *d)
{
    daemon_exit(d, 0);
}

static uint32_t own_uid(const json_t *config)
{
    json_int_t base = json_integer_value(json_object_get(config, "uid_base"));

    return base > 0 && base < UINT32_MAX - UID_OFFSET ? (uint32_t)base + UID_OFFSET : 0;
}

static int fail(const struct err *e)
{
    log_error("%s", e->text);
    return 1;
}

/* A directory of the vault's own in the state directory: made before sealing, which allows no new one there.
 */
static int make_own_dir(const char *state_dir, const char *name, uint32_t uid, char *path, struct err *e)
{
    if (!io_format(path, PATH_MAX, "%s/%s", state_dir, name))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, errno, "cannot create %s", path);
    if (geteuid() == 0 && lchown(path, uid, uid) < 0)
        return err_sys(e, errno, "cannot take over %s", path);
    return 0;
}

int main(void)
{
    static const char *const own_names[] = {"vault", "sessions"};
    static char own_dirs[2][PATH_MAX];
    static struct daemon d;
    static struct hub h;
    static const struct timeval tick = {TICK_S, 0};
    struct err e = ERR_INIT;
    struct rlimit files;
    const char *state_dir;
    int status;

    daemon_init(&d, PEER_VAULT);
    h.d = &d;
    h.config = d.config;
    state_dir = json_string_value(json_object_get(d.config, "state_dir"));
    if (!state_dir || state_dir[0] != '/') {
        (void)err_set(&e, EINVAL, "the configuration has no absolute state_dir");
        return fail(&e);
    }
    /* A running session holds four listening sockets. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)umask(0077);
    h.keys = keys_new();
    sql_init();
    api_expect(&h);
    daemon_expect(&d, PEER_LAUNCHER, launcher_rules, ARRAY_LEN(launcher_rules), &h, launcher_up,
                  launcher_down);
    daemon_expect(&d, PEER_MODELPROXY, modelproxy_rules, ARRAY_LEN(modelproxy_rules), &h, modelproxy_up,
                  peer_down);
    daemon_expect(&d, PEER_UPSTREAM, upstream_rules, ARRAY_LEN(upstream_rules), &h, upstream_up, peer_down);
    daemon_expect(&d, PEER_EVENTS, events_rules, ARRAY_LEN(events_rules), &h, events_up, peer_down);
    d.on_stop = on_stop;
    for (size_t i = 0; i < ARRAY_LEN(own_dirs); i++)
        if (make_own_dir(state_dir, own_names[i], own_uid(d.config), own_dirs[i], &e) < 0)
            return fail(&e);
    {
        /* Not the whole state directory: images and workspaces in it are the launcher's, which acts on them
         * as root. */
        const struct seal_path paths[] = {
            {state_dir, LANDLOCK_FILES}, {own_dirs[0], LANDLOCK_WRITE}, {own_dirs[1], LANDLOCK_WRITE}};
        const struct seal_profile profile = {.groups = SEAL_BASE | SEAL_FILES | SEAL_ACCEPT,
                                             .uid = own_uid(d.config),
                                             .chroot_to = state_dir,
                                             .paths = paths,
                                             .npaths = ARRAY_LEN(paths)};
        if (seal_process(&profile, &e) < 0)
            return fail(&e);
    }
    h.root = daemon_state_root(&d);
    if (open_all(&h, &e) < 0) {
        close_all(&h);
        return fail(&e);
    }
    (void)close(PASSPHRASE_FD);
    h.idle_timer = event_new(d.base, -1, EV_PERSIST, on_tick, &h);
    if (!h.idle_timer || event_add(h.idle_timer, &tick) < 0)
        abort();
    status = daemon_run(&d);
    event_free(h.idle_timer);
    close_all(&h);
    return status;
}
