/*
 * ironclaw-events: the newest events of the whole platform in memory, the listeners of running sandboxes, the
 * sinks.
 *
 * It answers system calls that sandboxes are refused and is told the rest by the launcher and the vault; the
 * vault reads from it for the API. It holds no key, no file but the one it appends to, no network but the
 * socket to syslog, and can neither open nor connect anything.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "events/events.h"
#include "events/listener.h"
#include "events/syscalls.h"
#include "proc/seal.h"

enum { UID_OFFSET = 5, BATCH = 16, WINDOW_MS = 100, PER_WINDOW = 2000 };

static struct events events;

/* ---- sessions ---- */

static struct owner **bucket(struct events *ev, const char *session)
{
    uint32_t h = 2166136261U; /* FNV-1a: ids are random and ours */

    for (const char *c = session; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619U;
    return &ev->owners[h % OWNER_BUCKETS];
}

static struct owner *owner_of(struct events *ev, const char *session)
{
    struct owner **at = bucket(ev, session), *o;

    for (o = *at; o; o = o->next)
        if (!strcmp(o->session, session))
            return o;
    o = x_calloc(1, sizeof(*o));
    o->listener_fd = -1;
    o->next = *at;
    *at = o;
    (void)io_format(o->session, sizeof(o->session), "%s", session);
    return o;
}

static void owner_describe(struct owner *o, const char *agent, const char *wall)
{
    if (*agent)
        (void)io_format(o->agent, sizeof(o->agent), "%s", agent);
    if (*wall)
        (void)io_format(o->wall, sizeof(o->wall), "%s", wall);
}

static void close_listener(struct owner *o)
{
    if (o->listener)
        event_free(o->listener);
    o->listener = NULL;
    if (o->listener_fd >= 0)
        (void)close(o->listener_fd);
    o->listener_fd = -1;
}

/* ---- emitting ---- */

static void wake(struct events *ev)
{
    static const struct timeval second = {1, 0};

    if (!event_pending(ev->tick, EV_TIMEOUT, NULL))
        (void)event_add(ev->tick, &second);
}

static void emit(struct events *ev, struct owner *o, enum event_type type, const char *agent,
                 const char *detail, uint64_t count)
{
    static const struct timeval now = {0, 0};
    struct event_head h = {.seq = ++ev->seq,
                           .time_ms = io_wall_ms(),
                           .type = type,
                           .session = o->session,
                           .agent = *agent ? agent : o->agent,
                           .wall = o->wall,
                           .count = count};
    char line[EVENT_LINE_MAX];

    ring_append(&ev->ring, &o->share, &h, line, event_line(&h, detail, line));
    ev->counters.events++;
    (void)event_add(ev->deliver, &now); /* after this handler: many at once are delivered as one */
    wake(ev);
}

/* Tells of drops, which have a cause but no sandbox that should pay for them. */
static void emit_dropped(struct events *ev, struct owner *o, const char *sink, const char *reason,
                         uint64_t count)
{
    const union event_value values[EVENT_FIELDS_MAX] = {{.text = sink}, {.text = reason}};
    char detail[EVENT_DETAIL_MAX];

    (void)event_detail(EVENT_DROPPED, values, detail);
    emit(ev, o, EVENT_DROPPED, "", detail, count);
}

static void tell(void *arg, enum event_type type, const char *detail, uint64_t count)
{
    struct owner *o = arg;

    if (detail) {
        emit(&events, o, type, "", detail, count);
    } else {
        events.counters.dropped[DROP_BURST] += count;
        emit_dropped(&events, o, "burst", "more kinds of events within a second than are kept apart", count);
    }
}

/* One of the types that a sandbox or a stranger can cause at will. */
static void emit_burst(struct events *ev, struct owner *o, enum event_type type, uint64_t key,
                       const char *detail, uint64_t count)
{
    if (!burst_count(&o->burst, type, key, count) && burst_open(&o->burst, type, key, detail, count))
        emit(ev, o, type, "", detail, count);
    wake(ev);
}

/* ---- refused system calls ---- */

static void on_denial(struct events *ev, struct owner *o, const struct denial *d)
{
    uint32_t class = syscall_class(d->nr, d->args);
    uint64_t key = (uint64_t)(uint32_t)d->nr << 32 | class;
    char name[32], arch[16], argument[160], detail[EVENT_DETAIL_MAX];

    if (burst_count(&o->burst, EVENT_SYSCALL_DENIED, key, 1))
        return; /* the way of a flood: no text is made */
    const union event_value values[EVENT_FIELDS_MAX] = {
        {.number = (uint64_t)(uint32_t)d->nr},
        {.text = syscall_name(d->nr, name, sizeof(name))},
        {.text = syscall_arch(d->arch, arch, sizeof(arch))},
        {.text = syscall_class_text(d->nr, class, argument, sizeof(argument))},
        {.number = (uint64_t)d->error}};
    (void)event_detail(EVENT_SYSCALL_DENIED, values, detail);
    emit_burst(ev, o, EVENT_SYSCALL_DENIED, key, detail, 1);
}

/*
 * A sandbox pays for its refused calls with its own time, but we pay as well: so many are answered in each
 * window, the others wait in the kernel, together with whoever made them.
 */
static bool may_answer(struct events *ev, struct owner *o)
{
    static const struct timeval window = {0, (suseconds_t)WINDOW_MS * 1000};
    uint64_t now = io_monotonic_ns() / 1000000;

    if (now - o->window_ms >= WINDOW_MS) {
        o->window_ms = now;
        o->answered = 0;
    }
    if (++o->answered <= PER_WINDOW)
        return true;
    (void)event_del(o->listener);
    o->paused = true;
    if (!event_pending(ev->unpause, EV_TIMEOUT, NULL))
        (void)event_add(ev->unpause, &window);
    return false;
}

static void on_unpause(evutil_socket_t fd, short what, void *arg)
{
    struct events *ev = arg;

    (void)fd;
    (void)what;
    for (size_t b = 0; b < OWNER_BUCKETS; b++)
        for (struct owner *o = ev->owners[b]; o; o = o->next) {
            if (o->paused && o->listener)
                (void)event_add(o->listener, NULL);
            o->paused = false;
        }
}

static void on_listener(evutil_socket_t fd, short what, void *arg)
{
    struct owner *o = arg;

    (void)what;
    /* Each only after poll has said that there is one: to receive waits otherwise. */
    for (int i = 0; i < BATCH; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        struct denial d;
        int rc;
        if (poll(&p, 1, 0) <= 0)
            return;
        if (!(p.revents & POLLIN)) {
            close_listener(o); /* POLLHUP: nobody has the filter any more */
            return;
        }
        if (!may_answer(&events, o))
            return;
        rc = listener_answer(fd, &d);
        if (rc < 0) {
            close_listener(o);
            return;
        }
        if (rc > 0)
            on_denial(&events, o, &d);
    }
}

static bool on_sandbox(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct events *ev = ctx;
    char session[SESSION_ID_MAX + 1], agent[AGENT_NAME_MAX + 1], wall[NOTICE_WALL_MAX + 1];
    char detail[EVENT_DETAIL_MAX];
    union event_value observed[EVENT_FIELDS_MAX] = {{.number = req->nfds == 1}};
    struct owner *o;
    bool again;

    wire_get_str(in, session, sizeof(session));
    wire_get_str(in, agent, sizeof(agent));
    wire_get_str(in, wall, sizeof(wall));
    again = wire_get_u8(in);
    if (!wire_in_done(in) || req->id != 0 || req->nfds > 1 || !io_valid_name(session) ||
        (agent[0] && !io_valid_name(agent))) {
        for (int i = 0; i < req->nfds; i++)
            (void)close(req->fds[i]);
        return false;
    }
    o = owner_of(ev, session);
    owner_describe(o, agent, wall);
    o->running = true;
    close_listener(o);
    if (req->nfds == 1) {
        o->listener_fd = req->fds[0];
        listener_adopt(o->listener_fd);
        o->listener = event_new(ev->d.base, o->listener_fd, EV_READ | EV_PERSIST, on_listener, o);
        if (!o->listener || event_add(o->listener, NULL) < 0)
            abort();
    }
    if (again) {
        ev->counters.dropped[DROP_LISTENER]++;
        emit_dropped(ev, o, "listener",
                     "the events process was restarted; refused calls are not seen until the next launch", 1);
        return true;
    }
    (void)event_detail(EVENT_SANDBOX_LAUNCH, observed, detail);
    emit(ev, o, EVENT_SANDBOX_LAUNCH, "", detail, 1);
    return true;
}

/* ---- what others report ---- */

static bool take_notice(struct events *ev, const struct link_req *req, struct wire_in *in, uint32_t permitted)
{
    struct notice n;
    struct owner *o;
    char detail[EVENT_DETAIL_MAX];

    if (!notice_get(in, &n) || !wire_in_done(in) || req->id != 0 || !(permitted >> n.type & 1))
        return false;
    o = owner_of(ev, n.session);
    if (n.session[0])
        owner_describe(o, n.agent, n.wall);
    (void)event_detail(n.type, n.values, detail);
    if (n.type == EVENT_PORT_DENIED || n.type == EVENT_AUTH_DENIED) {
        emit_burst(ev, o, n.type, burst_key(detail), detail, n.count);
        return true;
    }
    if (n.type == EVENT_DROPPED)
        ev->counters.dropped[DROP_NOTICES] += n.count;
    if (n.type == EVENT_SANDBOX_KILLED || n.type == EVENT_SANDBOX_EXIT)
        (void)burst_flush(&o->burst, tell, o); /* what it did comes before its end */
    emit(ev, o, n.type, n.agent, detail, n.count);
    if (n.type == EVENT_SANDBOX_EXIT) {
        close_listener(o);
        o->running = false;
    }
    return true;
}

#define BIT(type) (1U << (type))

static bool on_launcher_notice(void *ctx, const struct link_req *req, struct wire_in *in)
{
    return take_notice(ctx, req, in,
                       BIT(EVENT_SANDBOX_EXIT) | BIT(EVENT_SANDBOX_KILLED) | BIT(EVENT_LIMIT_MEMORY) |
                           BIT(EVENT_LIMIT_PIDS) | BIT(EVENT_LIMIT_CPU) | BIT(EVENT_DROPPED));
}

static bool on_vault_notice(void *ctx, const struct link_req *req, struct wire_in *in)
{
    return take_notice(ctx, req, in,
                       BIT(EVENT_PORT_DENIED) | BIT(EVENT_POLICY_HELD) | BIT(EVENT_POLICY_REFUSED) |
                           BIT(EVENT_POLICY_APPROVED) | BIT(EVENT_POLICY_REJECTED) | BIT(EVENT_AUTH_DENIED) |
                           BIT(EVENT_DROPPED));
}

static const struct link_rule launcher_rules[] = {
    {EVENTS_NOTICE, "notice", 24, NOTICE_MAX, 0, on_launcher_notice},
    {EVENTS_SANDBOX, "sandbox", 13, 256, -1, on_sandbox},
};
static const struct link_rule vault_rules[] = {
    {EVENTS_NOTICE, "notice", 24, NOTICE_MAX, 0, on_vault_notice},
    {EVENTS_READ, "read", 20, 128, 0, readers_on_read},
};

static void on_launcher_down(void *ctx)
{
    struct events *ev = ctx;

    /* Its sandboxes end with it, and nobody is left to say so. */
    for (size_t b = 0; b < OWNER_BUCKETS; b++)
        for (struct owner *o = ev->owners[b]; o; o = o->next) {
            static const union event_value gone[EVENT_FIELDS_MAX] = {{.number = 137}, {.text = "launcher"}};
            char detail[EVENT_DETAIL_MAX];
            if (!o->running)
                continue;
            (void)burst_flush(&o->burst, tell, o);
            (void)event_detail(EVENT_SANDBOX_EXIT, gone, detail);
            emit(ev, o, EVENT_SANDBOX_EXIT, "", detail, 1);
            close_listener(o);
            o->running = false;
        }
}

/* ---- delivery ---- */

static void on_evict(void *arg, const struct ring_item *item)
{
    struct events *ev = arg;

    ev->counters.evicted++;
    for (size_t i = 0; i < EVENT_SINKS; i++)
        sink_evicted(&ev->sinks[i], item);
}

static void on_deliver(evutil_socket_t fd, short what, void *arg)
{
    struct events *ev = arg;

    (void)fd;
    (void)what;
    for (size_t i = 0; i < EVENT_SINKS; i++)
        sink_push(&ev->sinks[i]);
    readers_wake(ev);
}

/* Frees sessions that have ended and of which nothing is kept. True while one has something to tell. */
static bool flush_owners(struct events *ev)
{
    bool busy = false;

    for (size_t b = 0; b < OWNER_BUCKETS; b++) {
        for (struct owner **at = &ev->owners[b], *o; (o = *at);) {
            busy |= burst_flush(&o->burst, tell, o);
            if (o->running || o->share.oldest || o->burst.n > 0) {
                at = &o->next;
                continue;
            }
            *at = o->next;
            close_listener(o);
            burst_free(&o->burst);
            free(o);
        }
    }
    return busy;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct events *ev = arg;
    struct owner *platform = owner_of(ev, "");
    bool busy;

    (void)fd;
    (void)what;
    for (size_t i = 0; i < EVENT_SINKS; i++) {
        struct sink *s = &ev->sinks[i];
        if (s->dropped == s->dropped_told)
            continue;
        emit_dropped(ev, platform, s->name, "the sink does not keep up", s->dropped - s->dropped_told);
        s->dropped_told = s->dropped;
        ev->counters.dropped[i] = s->dropped;
    }
    busy = flush_owners(ev);
    for (size_t i = 0; i < EVENT_SINKS; i++)
        busy |= sink_tick(&ev->sinks[i]);
    if (memcmp(&ev->counters, &ev->counters_told, sizeof(ev->counters)) != 0)
        readers_tell_counters(ev);
    if (busy)
        wake(ev);
}

/* ---- sinks ---- */

static void on_sink_answer(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct sink *s = arg;
    char why[ERR_TEXT_MAX] = "the supervisor did not answer";

    (void)more;
    if (ok) {
        (void)wire_get_u32(in);
        wire_get_str(in, why, sizeof(why));
    }
    sink_opened(events.d.base, s, ok && nfds == 1 ? fds[0] : -1, why);
    for (int i = ok && nfds == 1 ? 1 : 0; i < nfds; i++)
        (void)close(fds[i]);
    wake(&events);
}

static void ask_supervisor(struct sink *s, bool rotate)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_u32(&o, s->kind);
    wire_put_u8(&o, rotate);
    if (link_call(events.d.control, CTL_SINK, &o, NULL, 0, on_sink_answer, s) == 0)
        s->asking = false;
}

static void open_sinks(struct events *ev, const json_t *conf)
{
    static const char *const names[EVENT_SINKS] = {"jsonl", "syslog"};

    for (size_t i = 0; i < EVENT_SINKS; i++) {
        struct sink *s = &ev->sinks[i];
        const char *target = json_string_value(json_object_get(conf, names[i]));
        *s = (struct sink){.kind = (enum event_sink)i, .name = names[i], .ring = &ev->ring, .fd = -1};
        s->configured = target && *target;
        s->ask = ask_supervisor;
        if (s->kind == EVENT_SINK_JSONL)
            s->max_size = (uint64_t)json_integer_value(json_object_get(conf, "jsonl_max_size"));
        (void)sink_tick(s);
    }
}

/* ---- process ---- */

static void close_all(struct events *ev)
{
    for (size_t b = 0; b < OWNER_BUCKETS; b++)
        for (struct owner *o = ev->owners[b]; o; o = o->next)
            (void)burst_flush(&o->burst, tell, o);
    for (size_t i = 0; i < EVENT_SINKS; i++) {
        sink_push(&ev->sinks[i]); /* the end of the last sandboxes */
        sink_close(&ev->sinks[i]);
    }
    ring_free(&ev->ring);
    readers_free(ev);
    for (size_t b = 0; b < OWNER_BUCKETS; b++)
        while (ev->owners[b]) {
            struct owner *o = ev->owners[b];
            ev->owners[b] = o->next;
            close_listener(o);
            burst_free(&o->burst);
            free(o);
        }
}

int main(void)
{
    struct events *ev = &events;
    struct seal_profile profile = {.groups = SEAL_BASE | SEAL_NOTIFY, .chroot_to = ""};
    const json_t *conf;
    struct err e = ERR_INIT;
    struct rlimit files;
    int status;

    daemon_init(&ev->d, PEER_EVENTS);
    conf = json_object_get(ev->d.config, "events");
    profile.uid = (uint32_t)json_integer_value(json_object_get(ev->d.config, "uid_base")) + UID_OFFSET;
    /* A running session has one listener. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    /* In microseconds since the epoch: larger than any number that an earlier life of this process gave. */
    ev->seq = ev->first_seq = io_wall_ms() * 1000;
    ev->ring = (struct ring){
        .max = (size_t)json_integer_value(json_object_get(conf, "ring")), .on_evict = on_evict, .arg = ev};
    ev->tick = event_new(ev->d.base, -1, 0, on_tick, ev);
    ev->deliver = event_new(ev->d.base, -1, 0, on_deliver, ev);
    ev->unpause = event_new(ev->d.base, -1, 0, on_unpause, ev);
    if (!ev->tick || !ev->deliver || !ev->unpause)
        abort();
    daemon_expect(&ev->d, PEER_LAUNCHER, launcher_rules, ARRAY_LEN(launcher_rules), ev, NULL,
                  on_launcher_down);
    daemon_expect(&ev->d, PEER_VAULT, vault_rules, ARRAY_LEN(vault_rules), ev, readers_vault_up,
                  readers_vault_down);
    if (seal_process(&profile, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    open_sinks(ev, conf);
    status = daemon_run(&ev->d);
    close_all(ev);
    return status;
}
