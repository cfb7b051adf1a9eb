/*
 * `ironclaw run --events`: the same events as the control plane's, of one sandbox, written by the command
 * itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "events/listener.h"
#include "events/syscalls.h"
#include "run/run.h"

static const uint64_t flush_every_ns = 1000000000;

int run_events_open(struct run_events *ev, const char *path, const char *wall, struct err *e)
{
    *ev = (struct run_events){.fd = -1, .listener = -1, .wall = wall};
    if (!path)
        return 0;
    ev->fd = !strcmp(path, "-")
                 ? fcntl(2, F_DUPFD_CLOEXEC, 3)
                 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    return ev->fd < 0 ? err_sys(e, errno, "cannot open --events %s", path) : 0;
}

static void write_event(struct run_events *ev, enum event_type type, const char *detail, uint64_t count)
{
    struct event_head h = {.seq = ++ev->seq,
                           .time_ms = io_wall_ms(),
                           .type = type,
                           .session = "",
                           .agent = "",
                           .wall = ev->wall,
                           .count = count};
    char line[EVENT_LINE_MAX + 1];
    size_t len = event_line(&h, detail, line);

    line[len++] = '\n';
    if (ev->fd >= 0)
        (void)!write(ev->fd, line,
                     len); /* what does not go out now is lost: the sandbox does not wait for a reader */
}

static void tell(void *arg, enum event_type type, const char *detail, uint64_t count)
{
    const union event_value overflow[EVENT_FIELDS_MAX] = {
        {.text = "burst"}, {.text = "more kinds of events within a second than are kept apart"}};
    char text[EVENT_DETAIL_MAX];

    if (!detail)
        (void)event_detail(type, overflow, text);
    write_event(arg, type, detail ? detail : text, count);
}

static void tell_values(struct run_events *ev, enum event_type type, uint64_t count,
                        const union event_value *values)
{
    char detail[EVENT_DETAIL_MAX];

    (void)event_detail(type, values, detail);
    write_event(ev, type, detail, count);
}

void run_events_launched(struct run_events *ev, const struct sandbox *s)
{
    const union event_value values[EVENT_FIELDS_MAX] = {{.number = s->listener >= 0}};

    if (ev->fd < 0)
        return;
    ev->listener = s->listener;
    if (ev->listener >= 0)
        listener_adopt(ev->listener);
    tell_values(ev, EVENT_SANDBOX_LAUNCH, 1, values);
}

void run_events_readable(struct run_events *ev)
{
    char name[32], arch[16], argument[160], detail[EVENT_DETAIL_MAX];
    struct denial d;
    uint32_t class;
    uint64_t key;
    int rc = listener_answer(ev->listener, &d);

    if (rc < 0)
        ev->listener = -1; /* closed with the sandbox */
    if (rc <= 0)
        return;
    class = syscall_class(d.nr, d.args);
    key = (uint64_t)(uint32_t)d.nr << 32 | class;
    if (!ev->flush_at)
        ev->flush_at = io_monotonic_ns() + flush_every_ns;
    if (burst_count(&ev->burst, EVENT_SYSCALL_DENIED, key, 1))
        return;
    const union event_value values[EVENT_FIELDS_MAX] = {
        {.number = (uint64_t)(uint32_t)d.nr},
        {.text = syscall_name(d.nr, name, sizeof(name))},
        {.text = syscall_arch(d.arch, arch, sizeof(arch))},
        {.text = syscall_class_text(d.nr, class, argument, sizeof(argument))},
        {.number = (uint64_t)d.error}};
    (void)event_detail(EVENT_SYSCALL_DENIED, values, detail);
    if (burst_open(&ev->burst, EVENT_SYSCALL_DENIED, key, detail, 1))
        write_event(ev, EVENT_SYSCALL_DENIED, detail, 1);
}

void run_events_flush(struct run_events *ev)
{
    bool more = burst_flush(&ev->burst, tell, ev);

    ev->flush_at = more ? io_monotonic_ns() + flush_every_ns : 0;
}

void run_events_ended(struct run_events *ev, const struct cgroup *c, const struct cgroup_limits *l,
                      int status, bool timed_out)
{
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    struct cgroup_hits hits;

    if (ev->fd < 0)
        return;
    (void)burst_flush(&ev->burst, tell, ev);
    cgroup_read_hits(c, &hits);
    const union event_value memory[EVENT_FIELDS_MAX] = {{.number = l->memory_bytes}};
    const union event_value pids[EVENT_FIELDS_MAX] = {{.number = l->pids}};
    const union event_value cpu[EVENT_FIELDS_MAX] = {{.number = l->cpu_milli}, {.number = hits.throttled_us}};
    const char *why = hits.oom_kills ? "oom" : "signal";
    const union event_value killed[EVENT_FIELDS_MAX] = {{.number = (uint64_t)(code > 128 ? code - 128 : 0)},
                                                        {.text = why}};
    const union event_value end[EVENT_FIELDS_MAX] = {{.number = (uint64_t)code},
                                                     {.text = timed_out                      ? "timeout"
                                                              : hits.oom_kills && code > 128 ? "oom"
                                                              : code > 128                   ? "killed"
                                                                                             : "exited"}};

    if (hits.oom_kills)
        tell_values(ev, EVENT_LIMIT_MEMORY, hits.oom_kills, memory);
    if (hits.pids_refused)
        tell_values(ev, EVENT_LIMIT_PIDS, hits.pids_refused, pids);
    if (hits.throttled)
        tell_values(ev, EVENT_LIMIT_CPU, hits.throttled, cpu);
    if (code > 128)
        tell_values(ev, EVENT_SANDBOX_KILLED, 1, killed);
    tell_values(ev, EVENT_SANDBOX_EXIT, 1, end);
    burst_free(&ev->burst);
    (void)close(ev->fd);
    ev->fd = -1;
}
