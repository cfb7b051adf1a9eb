#include "launcher/watcher.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "events/notice.h"

enum { SLICES = 20 }; /* of a round: no single look takes long */

static struct daemon *daemon_of;
static struct event *timer;
static unsigned slice;

static void note(const struct launched *s, enum event_type type, uint64_t count,
                 const union event_value *values)
{
    event_note(daemon_of, type, s->session, s->agent, s->wall->name, count, values);
}

void watcher_hits(struct launcher *l, struct launched *s)
{
    struct cgroup_hits now, *old = &s->hits;

    (void)l;
    cgroup_read_hits(&s->sandbox.cgroup, &now);
    if (now.oom_kills > old->oom_kills) {
        const union event_value v[EVENT_FIELDS_MAX] = {{.number = s->limits.memory_bytes}};
        note(s, EVENT_LIMIT_MEMORY, now.oom_kills - old->oom_kills, v);
    }
    if (now.pids_refused > old->pids_refused) {
        const union event_value v[EVENT_FIELDS_MAX] = {{.number = s->limits.pids}};
        note(s, EVENT_LIMIT_PIDS, now.pids_refused - old->pids_refused, v);
    }
    if (now.throttled > old->throttled) {
        uint64_t us = now.throttled_us > old->throttled_us ? now.throttled_us - old->throttled_us : 0;
        const union event_value v[EVENT_FIELDS_MAX] = {{.number = s->limits.cpu_milli}, {.number = us}};
        note(s, EVENT_LIMIT_CPU, now.throttled - old->throttled, v);
    }
    *old = now;
}

/* Which slice a sandbox belongs to; the ids are random. */
static unsigned slice_of(const struct launched *s)
{
    unsigned h = 0;

    for (const char *c = s->session; *c; c++)
        h = h * 31 + (unsigned char)*c;
    return h % SLICES;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct launcher *l = arg;

    (void)fd;
    (void)what;
    for (struct launched *s = l->list; s; s = s->next)
        if (slice_of(s) == slice)
            watcher_hits(l, s);
    slice = (slice + 1) % SLICES;
    if (!l->list)
        (void)event_del(timer); /* nothing runs: nothing to look at */
}

void watcher_init(struct daemon *d, struct launcher *l)
{
    daemon_of = d;
    timer = event_new(d->base, -1, EV_PERSIST, on_timer, l);
    if (!timer)
        abort();
    l->on_launch = watcher_launched;
    l->on_last_hits = watcher_hits;
}

static bool name_sandbox(struct launched *s, bool again)
{
    struct link *events = daemon_of->links[PEER_EVENTS];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    wire_put_str(&o, s->session);
    wire_put_str(&o, s->agent);
    wire_put_str(&o, s->wall->name);
    wire_put_u8(&o, again);
    return events && link_backlog(events) <= NOTICE_BACKLOG_MAX &&
           link_notify(events, EVENTS_SANDBOX, &o, &s->sandbox.listener, s->sandbox.listener >= 0 ? 1 : 0) ==
               0;
}

void watcher_launched(struct launcher *l, struct launched *s)
{
    static const struct timeval every = {.tv_usec = (suseconds_t)WATCH_EVERY_S * 1000000 / SLICES};

    _Static_assert(WATCH_EVERY_S * 1000000 / SLICES < 1000000, "a slice is less than a second");
    if (!event_pending(timer, EV_TIMEOUT, NULL))
        (void)event_add(timer, &every);
    s->observed = name_sandbox(s, false) && s->sandbox.listener >= 0;
    (void)l;
}

void watcher_events_up(struct launcher *l)
{
    l->observe = true;
    for (struct launched *s = l->list; s; s = s->next) {
        if (s->observed)
            (void)name_sandbox(s, true);
        s->observed = false; /* its listener is gone with the process that held it */
    }
}

void watcher_events_down(struct launcher *l)
{
    l->observe = false;
}

void watcher_exited(struct launched *s, int code, const char *reason)
{
    bool killed = !strcmp(reason, "killed") || !strcmp(reason, "oom");
    const union event_value end[EVENT_FIELDS_MAX] = {{.number = (uint64_t)code}, {.text = reason}};
    const union event_value kill[EVENT_FIELDS_MAX] = {
        {.number = (uint64_t)(code > 128 ? code - 128 : 0)},
        {.text = killed && reason[0] == 'o' ? "oom" : "signal"}};

    if (killed)
        note(s, EVENT_SANDBOX_KILLED, 1, kill);
    note(s, EVENT_SANDBOX_EXIT, 1, end);
}
