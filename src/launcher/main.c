/*
 * ironclaw-launcher: the process that builds walls. It obeys the vault alone, holds no key, and parses
 * nothing that comes from a sandbox (a sandbox's output is kept as bytes). Sandboxes die with it; the vault
 * has them started again.
 */
#include <errno.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "image/image.h"
#include "launcher/sessions.h"
#include "launcher/watcher.h"
#include "proc/daemon.h"
#include "proc/seal.h"

enum { SPEC_MAX = 64 * 1024, UID_SESSIONS_OFFSET = 1024 };

static struct daemon daemon_;
static struct launcher launcher;

static void put_error(struct wire_out *o, const struct err *e)
{
    wire_put_u32(o, (uint32_t)(e->code > 0 ? e->code : 0));
    wire_put_str(o, e->code ? e->text : "");
}

/* Reply "u32 errno, str text" alone. */
static void answer(struct link *link, uint64_t id, const struct err *e)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    put_error(&o, e);
    (void)link_reply(link, id, false, &o, NULL, 0);
}

static bool get_session(struct wire_in *in, char *session)
{
    wire_get_str(in, session, SESSION_ID_MAX + 1);
    return !in->failed && io_valid_name(session);
}

static bool on_start(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1];
    struct err e = ERR_INIT;
    bool named = get_session(in, session);
    uint32_t uid_index = wire_get_u32(in);
    size_t len;
    const uint8_t *text = wire_get_bytes(in, SPEC_MAX, &len);
    struct launched *s = NULL;
    json_error_t je;
    json_t *spec;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    (void)ctx;
    if (!named || !wire_in_done(in) || uid_index > (1U << 24) - UID_SESSIONS_OFFSET - 1)
        return false;
    spec = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, &je);
    if (!spec)
        return false;
    s = launcher_start(&launcher, session, uid_index, spec, &e);
    json_decref(spec);
    if (s)
        e = (struct err)ERR_INIT;
    put_error(&o, &e);
    (void)link_reply(req->link, req->id, false, &o, s ? s->sandbox.ports : NULL, s ? SANDBOX_PORTS : 0);
    return true;
}

static void wait_for(struct launched *s, uint64_t id)
{
    s->waiters = x_realloc(s->waiters, (s->nwaiters + 1) * sizeof(*s->waiters));
    s->waiters[s->nwaiters++] = id;
}

static bool stop_or_remove(const struct link_req *req, const char *session, uint32_t grace_ms, bool remove)
{
    struct launched *s = launcher_find(&launcher, session);
    struct err e = ERR_INIT;

    if (s) {
        s->remove_after |= remove;
        wait_for(s, req->id);
        launcher_stop(&launcher, s, grace_ms);
        return true;
    }
    if (remove)
        (void)launcher_remove_workspace(&launcher, session, &e);
    answer(req->link, req->id, &e);
    return true;
}

static bool on_stop(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1];
    bool named = get_session(in, session);
    uint32_t grace = wire_get_u32(in);

    (void)ctx;
    return named && wire_in_done(in) && stop_or_remove(req, session, grace, false);
}

static bool on_remove(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1];
    bool named = get_session(in, session);

    (void)ctx;
    return named && wire_in_done(in) && stop_or_remove(req, session, 0, true);
}

static void not_running(struct err *e, const char *session)
{
    (void)err_set(e, ENOENT, "session %s is not running", session);
}

static bool on_stats(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1];
    bool named = get_session(in, session);
    struct cgroup_stats st = {0};
    struct err e = ERR_INIT;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct launched *s;

    (void)ctx;
    if (!named || !wire_in_done(in))
        return false;
    s = launcher_find(&launcher, session);
    if (s)
        s->wall->stats(&s->sandbox, &st);
    else
        not_running(&e, session);
    put_error(&o, &e);
    wire_put_u64(&o, st.memory_bytes);
    wire_put_u64(&o, st.cpu_us);
    wire_put_u64(&o, st.pids);
    (void)link_reply(req->link, req->id, false, &o, NULL, 0);
    return true;
}

static bool on_logs(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char session[SESSION_ID_MAX + 1];
    bool named = get_session(in, session);
    struct err e = ERR_INIT;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    const struct launched *s;

    (void)ctx;
    if (!named || !wire_in_done(in))
        return false;
    s = launcher_find(&launcher, session);
    if (!s)
        not_running(&e, session);
    put_error(&o, &e);
    wire_put_bytes(&o, s ? s->log : NULL, s ? s->log_len : 0);
    (void)link_reply(req->link, req->id, false, &o, NULL, 0);
    return true;
}

static void reply_json(const struct link_req *req, json_t *list)
{
    CLEANUP_FREE char *text = json_dumps(list, JSON_COMPACT);
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    json_decref(list);
    wire_put_bytes(&o, text ? text : "[]", text ? strlen(text) : 2);
    (void)link_reply(req->link, req->id, false, &o, NULL, 0);
}

static bool on_images(void *ctx, const struct link_req *req, struct wire_in *in)
{
    json_t *list = json_array();
    char images[512];
    DIR *dir;
    const struct dirent *d;

    (void)ctx;
    if (!wire_in_done(in)) {
        json_decref(list);
        return false;
    }
    dir = io_format(images, sizeof(images), "%s/images", launcher.state_dir) ? opendir(images) : NULL;
    while (dir && (d = readdir(dir)))
        if (io_valid_name(d->d_name))
            (void)json_array_append_new(list, json_pack("{s:s}", "name", d->d_name));
    if (dir)
        (void)closedir(dir);
    reply_json(req, list);
    return true;
}

static bool on_probe(void *ctx, const struct link_req *req, struct wire_in *in)
{
    json_t *list = json_array();
    const struct wall_ops *wall;

    (void)ctx;
    if (!wire_in_done(in)) {
        json_decref(list);
        return false;
    }
    for (size_t i = 0; (wall = wall_at(i)); i++) {
        struct err e = ERR_INIT;
        bool can = wall->probe(&e);
        (void)json_array_append_new(list, json_pack("{s:s,s:b,s:s}", "wall", wall->name, "available", can,
                                                    "missing", can ? "" : e.text));
    }
    reply_json(req, list);
    return true;
}

static const struct link_rule vault_rules[] = {
    {LAUNCH_START, "start", 12, SPEC_MAX + 256, 0, on_start},
    {LAUNCH_STOP, "stop", 8, 256, 0, on_stop},
    {LAUNCH_REMOVE, "remove", 4, 256, 0, on_remove},
    {LAUNCH_STATS, "stats", 4, 256, 0, on_stats},
    {LAUNCH_LOGS, "logs", 4, 256, 0, on_logs},
    {LAUNCH_IMAGES, "images", 0, 0, 0, on_images},
    {LAUNCH_PROBE, "probe", 0, 0, 0, on_probe},
};

static void on_sandbox_exit(struct launcher *l, struct launched *s, int code, const char *reason)
{
    struct link *vault = daemon_.links[PEER_VAULT];
    struct err e = ERR_INIT;
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    watcher_exited(s, code, reason);
    if (s->remove_after)
        (void)launcher_remove_workspace(l, s->session, &e);
    if (!vault)
        return; /* it will ask for what should run when it is back */
    for (size_t i = 0; i < s->nwaiters; i++)
        answer(vault, s->waiters[i], &e);
    wire_put_str(&o, s->session);
    wire_put_u32(&o, (uint32_t)code);
    wire_put_str(&o, reason);
    (void)link_notify(vault, LAUNCH_EXITED, &o, NULL, 0);
}

/* Calls of a vault that died must not be answered to the next one. */
static void on_vault_down(void *ctx)
{
    (void)ctx;
    for (struct launched *s = launcher.list; s; s = s->next)
        s->nwaiters = 0;
}

static void on_events_up(void *ctx, struct link *l)
{
    (void)l;
    watcher_events_up(ctx);
}

static void on_events_down(void *ctx)
{
    watcher_events_down(ctx);
}

static void on_ctl_stop(struct daemon *d)
{
    launcher_stop_all(&launcher);
    daemon_exit(d, 0);
}

/* One line about what this host cannot give its sandboxes. */
static void warn_shortfall(void)
{
    for (size_t i = 0; wall_at(i); i++) {
        char text[512];
        wall_at(i)->shortfall(text, sizeof(text));
        if (*text)
            log_warn("wall %s: %s", wall_at(i)->name, text);
    }
}

/* What the gvisor wall was told in the configuration. Strings live as long as the process. */
static void configure_walls(void)
{
    const json_t *gvisor = json_object_get(daemon_.config, "gvisor");
    struct wall_config config = {.state_dir = launcher.state_dir,
                                 .oci_runtime = json_string_value(json_object_get(gvisor, "runtime")),
                                 .oci_platform = json_string_value(json_object_get(gvisor, "platform"))};

    wall_configure(&config);
}

/* Does some wall on this host trace its sandboxes' processes? Only then may our children trace theirs. */
static bool is_tracing(void)
{
    for (size_t i = 0; wall_at(i); i++)
        if (wall_at(i)->traces && wall_at(i)->traces())
            return true;
    return false;
}

int main(void)
{
    struct err e = ERR_INIT;
    bool root = geteuid() == 0;
    /* CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_CHROOT, SYS_ADMIN
     * (walls/container/start.c). */
    struct seal_profile profile = {.groups = SEAL_LAUNCH,
                                   .keep_caps = 1ULL << 0 | 1ULL << 1 | 1ULL << 3 | 1ULL << 5 | 1ULL << 6 |
                                                1ULL << 7 | 1ULL << 8 | 1ULL << 12 | 1ULL << 18 | 1ULL << 21};
    struct rlimit files;

    daemon_init(&daemon_, PEER_LAUNCHER);
    launcher.base = daemon_.base;
    launcher.config = daemon_.config;
    launcher.state_dir = json_string_value(json_object_get(daemon_.config, "state_dir"));
    launcher.uid_base =
        root ? (uint32_t)json_integer_value(json_object_get(daemon_.config, "uid_base")) + UID_SESSIONS_OFFSET
             : 0;
    launcher.on_exit = on_sandbox_exit;
    configure_walls();
    if (is_tracing())
        profile.groups |= SEAL_TRACE;
    daemon_.on_stop = on_ctl_stop;
    /* Nine descriptors per sandbox. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (image_build_base(launcher.state_dir, &e) < 0)
        log_warn("%s", e.text); /* sessions that need it say so again */
    daemon_expect(&daemon_, PEER_VAULT, vault_rules, ARRAY_LEN(vault_rules), NULL, NULL, on_vault_down);
    watcher_init(&daemon_, &launcher);
    daemon_expect(&daemon_, PEER_EVENTS, NULL, 0, &launcher, on_events_up, on_events_down);
    if (seal_process(&profile, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    warn_shortfall();
    for (size_t i = 0; wall_at(i); i++)
        wall_at(i)->sweep();
    return daemon_run(&daemon_);
}
