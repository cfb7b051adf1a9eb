/*
 * The processes and who may speak to whom. Everything else follows from these two tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/paths.h"
#include "proc/daemon.h"
#include "supervisor/supervisor.h"

enum {
    EXTRA_MAX = 1 + 3 * LISTENERS_MAX,
    STOP_TIMEOUT_S = 10,
    STEADY_NS_SHIFT = 36 /* about 69 s without a crash clears the record */
};

static const struct {
    enum peer peer;
    const char *binary;
    bool on_demand; /* started when a peer asks for it; ends by itself when idle */
} programs[] = {
    {PEER_EVENTS, "ironclaw-events", false},     {PEER_VAULT, "ironclaw-vault", false},
    {PEER_LAUNCHER, "ironclaw-launcher", false}, {PEER_MODELPROXY, "ironclaw-modelproxy", false},
    {PEER_UPSTREAM, "ironclaw-upstream", true},  {PEER_API, "ironclaw-api", false},
};

static const enum peer links[][2] = {
    {PEER_API, PEER_VAULT},           {PEER_VAULT, PEER_LAUNCHER}, {PEER_VAULT, PEER_MODELPROXY},
    {PEER_MODELPROXY, PEER_UPSTREAM}, {PEER_VAULT, PEER_UPSTREAM}, {PEER_LAUNCHER, PEER_EVENTS},
    {PEER_VAULT, PEER_EVENTS},
};

/* Orderly stop: first nobody may ask, then nothing runs, then the keeper of what was acknowledged, last
 * who tells of all that. */
static const enum peer stop_order[] = {PEER_API,      PEER_LAUNCHER, PEER_MODELPROXY,
                                       PEER_UPSTREAM, PEER_VAULT,    PEER_EVENTS};

static const char *binary_of(enum peer p)
{
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (programs[i].peer == p)
            return programs[i].binary;
    return NULL;
}

/* The descriptors from 5 on (proc/daemon.h). Returns how many; the caller closes those with own[i]. */
static int extra_fds(struct supervisor *s, enum peer p, int *fds, bool *own, struct err *e)
{
    const char *script = json_string_value(json_object_get(s->config, "mock_script"));
    int n = 0;

    memset(own, 0, EXTRA_MAX * sizeof(*own));
    if (p == PEER_VAULT) {
        own[n] = true;
        fds[n++] = memfd_with("passphrase", s->passphrase, s->passphrase_len, e);
    } else if (p == PEER_MODELPROXY) {
        own[n] = true;
        fds[n] = open(script && *script ? script : "/dev/null", O_RDONLY | O_CLOEXEC);
        if (fds[n++] < 0)
            (void)err_sys(e, errno, "cannot open mock_script %s", script);
    } else if (p == PEER_API) {
        fds[n++] = s->api_socket;
        for (size_t i = 0; i < s->nlisteners; i++) {
            fds[n++] = s->listeners[i].socket;
            fds[n++] = s->listeners[i].certificate;
            fds[n++] = s->listeners[i].key;
        }
    }
    for (int i = 0; i < n; i++)
        if (fds[i] < 0)
            return -1;
    return n;
}

static void run_child(const char *path, const char *name, int control, int config, const int *extra, int n)
{
    int high[2 + EXTRA_MAX];
    sigset_t none;

    /* Out of the way first: a source may sit on another's target. */
    high[0] = fcntl(control, F_DUPFD_CLOEXEC, 64);
    high[1] = fcntl(config, F_DUPFD_CLOEXEC, 64);
    for (int i = 0; i < n; i++) {
        high[2 + i] = fcntl(extra[i], F_DUPFD_CLOEXEC, 64);
        (void)lseek(high[2 + i], 0, SEEK_SET); /* a restarted process reads its files from the beginning */
    }
    for (int i = 0; i < n + 2; i++)
        if (dup2(high[i], DAEMON_FD_CONTROL + i) < 0)
            _exit(125);
    (void)close_range((unsigned)(DAEMON_FD_CONTROL + n + 2), ~0U, 0);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)execl(path, name, (char *)NULL);
    _exit(125);
}

static void connect_pair(struct supervisor *s, enum peer a, enum peer b)
{
    struct child *ends[2] = {&s->children[a], &s->children[b]};
    int pair[2];

    if (ends[0]->pid == 0 || ends[1]->pid == 0)
        return;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        log_error("cannot connect %s with %s: %s", peer_name(a), peer_name(b), strerror(errno));
        return;
    }
    for (int i = 0; i < 2; i++) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        wire_put_u32(&o, ends[1 - i]->peer);
        (void)link_notify(ends[i]->control, CTL_LINK, &o, &pair[i], 1);
        (void)close(pair[i]);
    }
}

static void connect_all(struct supervisor *s, enum peer p)
{
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (links[i][0] == p || links[i][1] == p)
            connect_pair(s, links[i][0], links[i][1]);
}

static void notify_systemd(const struct supervisor *s, const char *text)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEANUP_CLOSE int fd = -1;
    size_t len;

    if (!s->notify_socket || !io_format(a.sun_path, sizeof(a.sun_path), "%s", s->notify_socket))
        return;
    len = strlen(a.sun_path);
    if (a.sun_path[0] == '@')
        a.sun_path[0] = 0; /* abstract socket (sd_notify(3)) */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

static void announce(struct supervisor *s)
{
    for (int p = 0; p < PEER_COUNT; p++)
        if (s->children[p].up && !s->children[p].on_demand && !s->children[p].ready)
            return;
    if (s->announced)
        return;
    s->announced = true;
    (void)printf("ironclaw: ready on %s/api.sock\n", s->state_dir);
    (void)fflush(stdout);
    notify_systemd(s, "READY=1");
}

static bool on_ready(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct child *c = ctx;

    (void)req;
    if (!wire_in_done(in))
        return false;
    c->ready = true;
    announce(c->up);
    return true;
}

static bool on_notice(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char text[512];

    (void)ctx;
    (void)req;
    wire_get_str(in, text, sizeof(text));
    if (!wire_in_done(in))
        return false;
    (void)printf("ironclaw: %s\n", text);
    (void)fflush(stdout);
    explicit_bzero(text, sizeof(text));
    return true;
}

static int start_child(struct child *c, struct err *e);

static bool on_want(void *ctx, const struct link_req *req, struct wire_in *in)
{
    const struct child *asker = ctx;
    uint32_t peer = wire_get_u32(in);
    struct err e = ERR_INIT;
    struct child *c;

    (void)req;
    if (!wire_in_done(in) || peer >= PEER_COUNT || !asker->up->children[peer].on_demand)
        return false;
    c = &asker->up->children[peer];
    /* Running, or waiting out its back-off after a crash: the asker's requests wait as well. */
    if (asker->up->stopping || c->pid > 0 || event_pending(c->retry, EV_TIMEOUT, NULL))
        return true;
    if (start_child(c, &e) < 0)
        log_error("%s", e.text);
    return true;
}

static bool on_sink(void *ctx, const struct link_req *req, struct wire_in *in)
{
    const struct child *c = ctx;
    uint32_t sink = wire_get_u32(in);
    bool rotate = wire_get_u8(in);
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct err e = ERR_INIT;
    int fd;

    if (!wire_in_done(in) || c->peer != PEER_EVENTS || sink >= EVENT_SINKS || req->id == 0)
        return false;
    fd = sinks_open(json_object_get(c->up->config, "events"), (enum event_sink)sink, rotate, &e);
    wire_put_u32(&o, fd < 0 ? (uint32_t)e.code : 0);
    wire_put_str(&o, fd < 0 ? e.text : "");
    (void)link_reply(req->link, req->id, false, &o, &fd, fd < 0 ? 0 : 1);
    if (fd >= 0)
        (void)close(fd);
    return true;
}

static const struct link_rule control_rules[] = {
    {CTL_SINK, "sink", 5, 5, 0, on_sink},
    {CTL_WANT, "want", 4, 4, 0, on_want},
    {CTL_READY, "ready", 0, 0, 0, on_ready},
    {CTL_NOTICE, "notice", 4, 516, 0, on_notice},
};

static void on_control_closed(void *arg, struct link *l, const char *why)
{
    struct child *c = arg;

    (void)l;
    (void)why;
    c->control = NULL;
    if (c->pid > 0 && !c->up->stopping)
        (void)kill(c->pid, SIGKILL); /* dead already, or cut off for breaking the protocol */
}

static int start_child(struct child *c, struct err *e)
{
    struct supervisor *s = c->up;
    CLEANUP_FREE char *config = json_dumps(s->config, JSON_COMPACT);
    CLEANUP_CLOSE int conf = -1;
    char path[PATHS_MAX_LEN];
    int extra[EXTRA_MAX], pair[2], n;
    bool own[EXTRA_MAX];
    pid_t pid;

    if (!config || paths_helper(binary_of(c->peer), path, sizeof(path), e) < 0)
        return -1;
    conf = memfd_with("config", config, strlen(config), e);
    n = extra_fds(s, c->peer, extra, own, e);
    if (conf < 0 || n < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, errno, "cannot create a control socket");
    pid = fork();
    if (pid == 0)
        run_child(path, binary_of(c->peer), pair[1], conf, extra, n);
    (void)close(pair[1]);
    for (int i = 0; i < n; i++)
        if (own[i])
            (void)close(extra[i]);
    if (pid < 0) {
        (void)close(pair[0]);
        return err_sys(e, errno, "cannot start %s", path);
    }
    c->pid = pid;
    c->ready = false;
    c->started_ns = io_monotonic_ns();
    c->control = link_new(s->base, pair[0], peer_name(c->peer), control_rules, ARRAY_LEN(control_rules), c,
                          on_control_closed, c);
    connect_all(s, c->peer);
    return 0;
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct child *c = arg;
    struct err e = ERR_INIT;

    (void)fd;
    (void)what;
    if (c->up->stopping || c->pid > 0)
        return;
    if (start_child(c, &e) < 0)
        log_error("%s", e.text);
}

/* Back-off: 50 ms, doubling to about 13 s. */
static void schedule_restart(struct child *c)
{
    unsigned ms;
    struct timeval t;

    if ((io_monotonic_ns() - c->started_ns) >> STEADY_NS_SHIFT)
        c->failures = 0;
    ms = 50U << (c->failures < 8 ? c->failures : 8);
    c->failures++;
    t = (struct timeval){.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    (void)event_add(c->retry, &t);
}

static void stop_next(struct supervisor *s)
{
    struct timeval limit = {.tv_sec = STOP_TIMEOUT_S};

    for (; s->stop_step < (int)ARRAY_LEN(stop_order); s->stop_step++) {
        struct child *c = &s->children[stop_order[s->stop_step]];
        if (c->pid == 0)
            continue;
        if (!c->control || link_notify(c->control, CTL_STOP, NULL, NULL, 0) < 0)
            (void)kill(c->pid, SIGKILL);
        (void)event_add(s->stop_timer, &limit);
        return;
    }
    (void)event_base_loopbreak(s->base);
}

static void on_stop_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    struct child *c = &s->children[stop_order[s->stop_step]];

    (void)fd;
    (void)what;
    log_warn("%s did not stop within %d s and is killed", peer_name(c->peer), STOP_TIMEOUT_S);
    if (c->pid > 0)
        (void)kill(c->pid, SIGKILL);
}

void processes_stop(struct supervisor *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    notify_systemd(s, "STOPPING=1");
    stop_next(s);
}

static void child_ended(struct child *c, int status)
{
    struct supervisor *s = c->up;
    const char *name = peer_name(c->peer);
    bool was_ready = c->ready;

    c->pid = 0;
    c->ready = false;
    if (c->control)
        link_close(c->control, "the process ended");
    if (s->stopping) {
        if (s->stop_step < (int)ARRAY_LEN(stop_order) && stop_order[s->stop_step] == c->peer) {
            (void)event_del(s->stop_timer);
            stop_next(s);
        }
        return;
    }
    if (c->on_demand && status == 0)
        return; /* idle; the next request for it starts it again */
    if (WIFSIGNALED(status))
        log_warn("%s was killed by signal %d; restarting it", name, WTERMSIG(status));
    else
        log_warn("%s exited with status %d; restarting it", name, WEXITSTATUS(status));
    if (!was_ready && !s->announced && !c->on_demand) {
        log_error("%s could not start; giving up (its message is above)", name);
        s->status = 1;
        processes_stop(s);
        return;
    }
    schedule_restart(c);
}

static void on_sigchld(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    int status;
    pid_t pid;

    (void)fd;
    (void)what;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int p = 0; p < PEER_COUNT; p++)
            if (s->children[p].pid == pid)
                child_ended(&s->children[p], status);
}

int processes_start(struct supervisor *s, struct err *e)
{
    struct event *sigchld = evsignal_new(s->base, SIGCHLD, on_sigchld, s);

    s->stop_timer = event_new(s->base, -1, 0, on_stop_timeout, s);
    if (!sigchld || !s->stop_timer || event_add(sigchld, NULL) < 0)
        return err_set(e, ENOMEM, "cannot watch for the end of processes");
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        struct child *c = &s->children[programs[i].peer];
        c->peer = programs[i].peer;
        c->up = s;
        c->on_demand = programs[i].on_demand;
        c->retry = event_new(s->base, -1, 0, on_retry, c);
        if (!c->on_demand && start_child(c, e) < 0)
            return -1;
    }
    return 0;
}
