#include "launcher/sessions.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/weaken.h"
#include "image/image.h"

/* Everything parsed out of a spec; strings are borrowed from its JSON. */
struct parsed {
    struct sandbox_spec spec;
    const char *image, *agent;
    char **argv, **envp;
    char *sources[SANDBOX_MOUNTS_MAX]; /* resolved; malloc'ed */
};

static void free_parsed(struct parsed *p)
{
    for (size_t i = 0; i < SANDBOX_MOUNTS_MAX; i++)
        free(p->sources[i]);
    free(p->argv);
    free(p->envp);
}

/* A JSON array of strings as a NULL-terminated vector (strings borrowed), or NULL if it is anything else. */
static char **string_vector(const json_t *array)
{
    size_t n = json_array_size(array);
    char **out;

    if (!json_is_array(array))
        return NULL;
    out = x_calloc(n + 1, sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(array, i));
        if (!s) {
            free(out);
            return NULL;
        }
        out[i] = (char *)(uintptr_t)s;
    }
    return out;
}

/*
 * The gateway checked the mounts already; this process acts as root and checks again what it is about to
 * open: the resolved path must lie below a directory that the administrator's configuration names. Returns it
 * malloc'ed, or NULL with e.
 */
static char *resolve_mount(const json_t *config, const char *source, struct err *e)
{
    char *real = realpath(source, NULL);
    size_t i;
    json_t *entry;

    if (!real) {
        (void)err_sys(e, errno, "cannot mount %s", source);
        return NULL;
    }
    json_array_foreach(json_object_get(config, "mounts_allowed"), i, entry)
    {
        const char *allowed = json_string_value(entry);
        size_t len = allowed ? strlen(allowed) : 0;
        while (len > 1 && allowed[len - 1] == '/')
            len--;
        if (len > 0 && !strncmp(real, allowed, len) && (real[len] == '/' || !real[len] || len == 1))
            return real;
    }
    (void)err_set(e, EACCES, "the mount source %s (resolved: %s) is not below any of mounts_allowed", source,
                  real);
    free(real);
    return NULL;
}

static int parse_mounts(const json_t *mounts, const json_t *config, struct parsed *p, struct err *e)
{
    struct sandbox_spec *spec = &p->spec;
    size_t i;
    json_t *m;

    if (json_array_size(mounts) > SANDBOX_MOUNTS_MAX)
        return err_set(e, E2BIG, "more than %d mounts", SANDBOX_MOUNTS_MAX);
    json_array_foreach((json_t *)(uintptr_t)mounts, i, m)
    {
        const char *source = json_string_value(json_object_get(m, "source")),
                   *target = json_string_value(json_object_get(m, "target"));
        const char *mode = json_string_value(json_object_get(m, "mode"));
        if (!source || !target || !mode || source[0] != '/' || target[0] != '/' || !target[1] ||
            strstr(target, ".."))
            return err_set(e, EINVAL, "a mount is ill-formed");
        p->sources[i] = resolve_mount(config, source, e);
        if (!p->sources[i])
            return -1;
        spec->mounts[i] = (struct sandbox_mount){
            .source = p->sources[i], .target = target, .writable = !strcmp(mode, "rw")};
    }
    spec->nmounts = json_array_size(mounts);
    return 0;
}

/* Limits were set by policy, never guessed: a host that cannot enforce one as root refuses to launch.
 * Rootless without delegation the configuration was accepted with a warning at start (walls/wall.h,
 * shortfall). */
static void parse_limits(const json_t *spec, bool strict, struct cgroup_limits *l)
{
    double cpus = json_number_value(json_object_get(spec, "cpus"));
    json_int_t memory = json_integer_value(json_object_get(spec, "memory")),
               pids = json_integer_value(json_object_get(spec, "pids"));

    l->memory_bytes = memory > 0 ? (uint64_t)memory : 0;
    l->pids = pids > 0 && pids <= UINT32_MAX ? (uint32_t)pids : 0;
    l->cpu_milli = cpus > 0 && cpus <= 4096 ? (uint32_t)lround(cpus * 1000) : 0;
    l->memory_asked = strict && l->memory_bytes;
    l->pids_asked = strict && l->pids;
    l->cpu_asked = strict && l->cpu_milli;
}

static int parse_spec(const json_t *json, const json_t *config, bool strict, struct parsed *p,
                      const struct wall_ops **wall, struct err *e)
{
    const char *name = json_string_value(json_object_get(json, "wall"));

    memset(p, 0, sizeof(*p));
    *wall = name ? wall_find(name) : NULL;
    if (!*wall) {
        (void)err_set(e, EINVAL, "this host has no wall '%s'; nothing weaker is used instead",
                      name ? name : "");
        return -1;
    }
    p->image = json_string_value(json_object_get(json, "image"));
    p->agent = json_string_value(json_object_get(json, "agent"));
    if (!p->agent)
        p->agent = "";
    p->argv = string_vector(json_object_get(json, "command"));
    p->envp = string_vector(json_object_get(json, "env"));
    if (!p->image || !p->argv || !p->argv[0] || !p->envp ||
        parse_mounts(json_object_get(json, "mounts"), config, p, e) < 0)
        return e && e->code ? -1 : err_set(e, EINVAL, "the sandbox specification is ill-formed");
    p->spec.argv = p->argv;
    p->spec.envp = p->envp;
    parse_limits(json, strict, &p->spec.limits);
    return 0;
}

/* <state>/workspaces/<session>, belonging to the sandbox's host uid alone. */
static int prepare_workspace(const struct launcher *l, const char *session, uint32_t uid, char *out,
                             size_t cap, struct err *e)
{
    char parent[PATHS_MAX_LEN];

    if (!io_format(parent, sizeof(parent), "%s/workspaces", l->state_dir) ||
        !io_format(out, cap, "%s/%s", parent, session))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    if ((mkdir(parent, 0711) < 0 && errno != EEXIST) || (mkdir(out, 0700) < 0 && errno != EEXIST))
        return err_sys(e, errno, "cannot create the workspace %s", out);
    if (uid && lchown(out, uid, uid) < 0)
        return err_sys(e, errno, "cannot give the workspace %s to uid %u", out, uid);
    return 0;
}

int launcher_remove_workspace(struct launcher *l, const char *session, struct err *e)
{
    char parent[PATHS_MAX_LEN];
    CLEANUP_CLOSE int dir = -1;

    if (!io_format(parent, sizeof(parent), "%s/workspaces", l->state_dir))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "cannot open %s", parent);
    return io_remove_tree(dir, session, e);
}

struct launched *launcher_find(struct launcher *l, const char *session)
{
    for (struct launched *s = l->list; s; s = s->next)
        if (!strcmp(s->session, session))
            return s;
    return NULL;
}

static void drop_event(struct event **ev)
{
    if (*ev)
        event_free(*ev);
    *ev = NULL;
}

/* Keeps the last LOG_TAIL_MAX bytes. Returns false at end of file. */
static bool read_log(struct launched *s)
{
    char buf[8192];
    ssize_t n = read(s->log_fd, buf, sizeof(buf));
    size_t add, drop;

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    add = (size_t)n;
    drop = s->log_len + add > LOG_TAIL_MAX ? s->log_len + add - LOG_TAIL_MAX : 0;
    if (drop > 0) {
        memmove(s->log, s->log + drop, s->log_len - drop);
        s->log_len -= drop;
    }
    s->log = x_realloc(s->log, s->log_len + add);
    memcpy(s->log + s->log_len, buf, add);
    s->log_len += add;
    return true;
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    struct launched *s = arg;

    (void)fd;
    (void)what;
    if (!read_log(s))
        drop_event(&s->output);
}

static const char *exit_reason(const struct launched *s, int status)
{
    if (s->stopping)
        return "stopped";
    if (s->oom)
        return "oom";
    return WIFSIGNALED(status) || WEXITSTATUS(status) > 128 ? "killed" : "exited";
}

static void finish(struct launcher *l, struct launched *s, int status)
{
    struct cgroup_stats stats = {0};

    s->wall->stats(&s->sandbox, &stats);
    s->oom = stats.oom_kills > 0;
    l->on_last_hits(l, s);
    /* Before their descriptors are closed: what is closed first cannot be taken out of the epoll set any
     * more. */
    drop_event(&s->exited);
    drop_event(&s->output);
    drop_event(&s->grace);
    s->wall->destroy(&s->sandbox, NULL);
    for (struct launched **at = &l->list; *at; at = &(*at)->next) {
        if (*at == s) {
            *at = s->next;
            break;
        }
    }
    l->on_exit(l, s, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
               exit_reason(s, status));
    if (s->log_fd >= 0)
        (void)close(s->log_fd);
    if (s->image >= 0)
        (void)close(s->image);
    free(s->log);
    free(s->waiters);
    free(s);
}

/* The callbacks of one sandbox need the launcher as well. There is one per process. */
static struct launcher *the_launcher;

static void on_exited(evutil_socket_t fd, short what, void *arg)
{
    struct launched *s = arg;
    int status = 0;

    (void)fd;
    (void)what;
    if (waitpid(s->sandbox.pid, &status, WNOHANG) != s->sandbox.pid)
        return;
    s->sandbox.pid = 0;
    finish(the_launcher, s, status);
}

static void on_grace(evutil_socket_t fd, short what, void *arg)
{
    struct launched *s = arg;

    (void)fd;
    (void)what;
    (void)kill(s->sandbox.pid, SIGKILL);
}

void launcher_stop(struct launcher *l, struct launched *s, uint32_t grace_ms)
{
    struct timeval t = {.tv_sec = grace_ms / 1000, .tv_usec = (suseconds_t)(grace_ms % 1000) * 1000};

    (void)l;
    if (!s->stopping)
        (void)s->wall->signal(&s->sandbox, SIGTERM);
    s->stopping = true;
    (void)event_add(s->grace, &t);
}

static int open_log(struct launched *s, int *write_end, struct err *e)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot create the log pipe");
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(ends[0], F_SETPIPE_SZ,
                4096); /* an idle session should not reserve more of the user's pipe pages */
    s->log_fd = ends[0];
    *write_end = ends[1];
    return 0;
}

struct launched *launcher_start(struct launcher *l, const char *session, uint32_t uid_index,
                                const json_t *json, struct err *e)
{
    struct launched *s = launcher_find(l, session);
    struct parsed p;
    char rootfs[PATHS_MAX_LEN], init[PATHS_MAX_LEN], workspace[PATHS_MAX_LEN], id[96];
    char keys[PATHS_MAX_LEN];
    CLEANUP_CLOSE int log_end = -1;
    CLEANUP_CLOSE int image = -1;
    uint32_t uid = l->uid_base ? l->uid_base + uid_index : 0;
    const struct wall_ops *wall;
    int rc;

    the_launcher = l;
    if (s && !s->stopping)
        return s;
    if (s) {
        (void)err_set(e, EBUSY, "session %s is still being stopped; try again", session);
        return NULL;
    }
    if (parse_spec(json, l->config, l->uid_base != 0, &p, &wall, e) < 0) {
        free_parsed(&p);
        return NULL;
    }
    rc = wall->probe(e) ? 0 : -1;
    if (rc == 0)
        rc = image_path(l->state_dir, p.image, rootfs, sizeof(rootfs), &image, e);
    if (rc == 0)
        rc = paths_helper("ironclaw-init", init, sizeof(init), e);
    if (rc == 0)
        rc = prepare_workspace(l, session, uid, workspace, sizeof(workspace), e);
    if (rc == 0) {
        s = x_calloc(1, sizeof(*s));
        s->wall = wall;
        s->log_fd = s->image = -1;
        (void)io_format(s->session, sizeof(s->session), "%s", session);
        (void)io_format(s->agent, sizeof(s->agent), "%s", p.agent);
        s->limits = p.spec.limits;
        rc = open_log(s, &log_end, e);
    }
    if (rc == 0) {
        (void)io_format(id, sizeof(id), "%s-%d", session,
                        (int)getpid()); /* the pid lets a later start sweep it */
        p.spec.id = id;
        p.spec.rootfs = rootfs;
        p.spec.init = init;
        p.spec.workspace = workspace;
        p.spec.uid = uid;
        p.spec.stdio[0] = -1;
        p.spec.stdio[1] = p.spec.stdio[2] = log_end;
        p.spec.ports = true;
        if (weakened("key-binds") && p.spec.nmounts < SANDBOX_MOUNTS_MAX) {
            (void)io_format(keys, sizeof(keys), "%s/vault", l->state_dir);
            p.spec.mounts[p.spec.nmounts++] =
                (struct sandbox_mount){.source = keys, .target = "/keys", .writable = true};
        }
        p.spec.observe = l->observe;
        rc = wall->start(&p.spec, &s->sandbox, e);
    }
    free_parsed(&p);
    if (rc < 0 || !s) {
        if (s && s->log_fd >= 0)
            (void)close(s->log_fd);
        free(s);
        return NULL;
    }
    s->image = TAKE_FD(image);
    s->exited = event_new(l->base, s->sandbox.pidfd, EV_READ | EV_PERSIST, on_exited, s);
    s->output = event_new(l->base, s->log_fd, EV_READ | EV_PERSIST, on_output, s);
    s->grace = event_new(l->base, -1, 0, on_grace, s);
    if (!s->exited || !s->output || !s->grace || event_add(s->exited, NULL) < 0 ||
        event_add(s->output, NULL) < 0)
        abort();
    s->next = l->list;
    l->list = s;
    l->on_launch(l, s);
    /* A listener that nobody took would keep refused calls waiting for ever. */
    if (s->sandbox.listener >= 0)
        (void)close(s->sandbox.listener);
    s->sandbox.listener = -1;
    return s;
}

void launcher_stop_all(struct launcher *l)
{
    /* Kill all first, then reap one by one: the ends overlap. */
    for (struct launched *s = l->list; s; s = s->next) {
        s->stopping = true;
        (void)kill(s->sandbox.pid, SIGKILL);
    }
    while (l->list) {
        struct launched *s = l->list;
        int status = 0;
        while (waitpid(s->sandbox.pid, &status, 0) < 0 && errno == EINTR)
            ;
        s->sandbox.pid = 0;
        finish(l, s, status);
    }
}
