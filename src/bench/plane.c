/*
 * A control plane on a temporary state directory, with the mock model: what it weighs when idle, what an idle
 * session adds, and how long a message takes to come back.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

/* Idle means: nothing happened for so long. The vault closes the databases of quiet sessions after 3 s and
 * looks every 2 s. */
enum { MEMBERS_MAX = 16, SETTLE_US = 7000000 };

struct plane {
    pid_t pid;
    FILE *output;
    struct api *api;
    char socket[96];
};

/* Memory of one process as its share of the pages it uses, in KiB (proc_pid_smaps(5), Pss). */
static long pss_of(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *f;

    (void)io_format(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "Pss:", 4))
            kib = strtol(line + 4, NULL, 10);
    if (f)
        (void)fclose(f);
    return kib;
}

static long fds_of(pid_t pid)
{
    char path[64];
    long n = 0;
    DIR *dir;

    (void)io_format(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        (void)closedir(dir);
    return n - 2;
}

/* The supervisor and its children; sandboxes are children of the launcher and do not count. */
static size_t members(pid_t up, pid_t *out)
{
    char path[64];
    CLEANUP_FREE char *text = NULL;
    char *save = NULL;
    size_t n = 0;

    out[n++] = up;
    (void)io_format(path, sizeof(path), "/proc/%d/task/%d/children", (int)up, (int)up);
    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return n;
    for (char *word = strtok_r(text, " ", &save); word && n < MEMBERS_MAX; word = strtok_r(NULL, " ", &save))
        out[n++] = (pid_t)strtol(word, NULL, 10);
    return n;
}

/* Weighs the control plane once it is idle. */
static void weigh(pid_t up, long *kib, long *fds, size_t *count)
{
    pid_t pids[MEMBERS_MAX];
    size_t n;

    (void)usleep(SETTLE_US);
    n = members(up, pids);
    *kib = *fds = 0;
    for (size_t i = 0; i < n; i++) {
        *kib += pss_of(pids[i]);
        *fds += fds_of(pids[i]);
    }
    *count = n;
}

static int start(const struct bench_options *o, struct plane *p, char *token, size_t cap, struct err *e)
{
    extern char **environ;
    static const char config[] =
        "api:\n  rate_per_minute: 1000000\nmodel_defaults:\n  requests_per_minute: 0\n";
    posix_spawn_file_actions_t actions;
    char state[80], path[96], line[512];
    char *argv[] = {(char *)(uintptr_t)o->ironclaw,
                    (char *)(uintptr_t) "up",
                    (char *)(uintptr_t) "--state-dir",
                    state,
                    (char *)(uintptr_t) "--config",
                    path,
                    NULL};
    int ends[2], rc;

    (void)io_format(state, sizeof(state), "%s/state", o->work);
    (void)io_format(path, sizeof(path), "%s/bench.yaml", o->work);
    (void)io_format(p->socket, sizeof(p->socket), "%s/api.sock", state);
    if (io_replace_file(AT_FDCWD, path, config, strlen(config), 0600, e) < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot create a pipe");
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    rc = posix_spawn(&p->pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    p->output = fdopen(ends[0], "r");
    if (rc != 0 || !p->output)
        return err_sys(e, rc, "cannot start 'ironclaw up'");
    token[0] = 0;
    while (fgets(line, sizeof(line), p->output)) {
        const char *found = strstr(line, "ict_");
        if (found)
            (void)io_format(token, cap, "%.*s", (int)strcspn(found, " \n"), found);
        if (strstr(line, "ready on"))
            return *token ? 0 : err_set(e, EIO, "'ironclaw up' printed no bootstrap token");
    }
    return err_set(e, EIO, "'ironclaw up' ended before it was ready");
}

static void stop(struct plane *p)
{
    api_close(p->api);
    if (p->pid > 0) {
        (void)kill(p->pid, SIGTERM);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (p->output)
        (void)fclose(p->output);
}

static int bootstrap(struct plane *p, const char *token, struct err *e)
{
    json_t *body = json_pack("{s:s,s:s}", "token", token, "name", "bench"), *answer = NULL;
    long status;

    p->api = api_open(p->socket);
    status = api_call(p->api, "POST", "/v1/bootstrap", body, &answer, e);
    json_decref(body);
    if (status == 201)
        api_set_token(p->api, json_string_value(json_object_get(answer, "token")));
    json_decref(answer);
    return status == 201 ? 0 : -1;
}

static int create_agent(struct plane *p, struct err *e)
{
    json_t *body = json_pack("{s:s,s:{s:i},s:[]}", "name", "bench", "model_limits", "requests_per_minute", 0,
                             "tools"),
           *change = NULL;
    char path[128];
    long status = api_call(p->api, "POST", "/v1/agents", body, &change, e);

    json_decref(body);
    if (status == 202) {
        (void)io_format(path, sizeof(path), "/v1/changes/%s/approve",
                        json_string_value(json_object_get(change, "id")));
        body = json_object();
        status = api_call(p->api, "POST", path, body, NULL, e);
        json_decref(body);
    }
    json_decref(change);
    return status == 200 ? 0 : -1;
}

static int create_session(struct plane *p, char *id, size_t cap, struct err *e)
{
    json_t *body = json_pack("{s:s}", "agent", "bench"), *answer = NULL;
    long status = api_call(p->api, "POST", "/v1/sessions", body, &answer, e);

    json_decref(body);
    (void)io_format(id, cap, "%s", status == 201 ? json_string_value(json_object_get(answer, "id")) : "");
    json_decref(answer);
    return status == 201 ? 0 : -1;
}

/* One message and its answer, which must quote it. Returns milliseconds, or a negative value. */
static double round_trip(struct plane *p, const char *session, unsigned i, json_int_t *last, struct err *e)
{
    char text[64], path[160];
    json_t *body, *answer = NULL;
    uint64_t begin;
    double ms = -1;

    (void)io_format(text, sizeof(text), "ping %u", i);
    (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages", session);
    body = json_pack("{s:s}", "text", text);
    begin = io_monotonic_ns();
    if (api_call(p->api, "POST", path, body, NULL, e) == 201) {
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&wait=20", session,
                        (long long)*last);
        if (api_call(p->api, "GET", path, NULL, &answer, e) == 200) {
            const json_t *message = json_array_get(json_object_get(answer, "messages"), 0);
            const char *said = json_string_value(json_object_get(message, "text"));
            ms = (double)(io_monotonic_ns() - begin) / 1e6;
            *last = json_integer_value(json_object_get(answer, "last"));
            if (!said || !strstr(said, text))
                ms = err_set(e, EIO, "the answer to '%s' was '%.80s'", text, said ? said : "nothing");
        }
    }
    json_decref(body);
    json_decref(answer);
    return ms;
}

static json_t *figure(const char *name, const char *unit, double value)
{
    return json_pack("{s:s,s:s,s:s,s:f}", "group", "control plane", "name", name, "unit", unit, "median",
                     value);
}

static int measure_chat(struct plane *p, const struct bench_options *o, json_t *results, struct err *e)
{
    CLEANUP_FREE double *ms = x_calloc(o->messages, sizeof(*ms));
    char session[64];
    long kib0, kib1, fds0, fds1;
    json_int_t last = 0;
    size_t count;
    json_t *r;

    if (create_session(p, session, sizeof(session), e) < 0)
        return -1;
    for (unsigned i = 0; i < 20;
         i++) /* the sandbox starts, caches fill, the conversation reaches its usual length */
        if (round_trip(p, session, i, &last, e) < 0)
            return -1;
    weigh(p->pid, &kib0, &fds0, &count);
    for (unsigned i = 0; i < o->messages; i++)
        if ((ms[i] = round_trip(p, session, 1000 + i, &last, e)) < 0)
            return -1;
    weigh(p->pid, &kib1, &fds1, &count);
    r = figure("chat round trip, mock model", "ms", stats_percentile(ms, o->messages, 50));
    (void)json_object_set_new(r, "p10", json_real(stats_percentile(ms, o->messages, 10)));
    (void)json_object_set_new(r, "p90", json_real(stats_percentile(ms, o->messages, 90)));
    (void)json_object_set_new(r, "n", json_integer(o->messages));
    (void)json_array_append_new(results, r);
    (void)json_array_append_new(
        results, figure("memory growth over those messages, all processes", "KiB", (double)(kib1 - kib0)));
    (void)json_array_append_new(results, figure("descriptor growth over those messages, all processes",
                                                "descriptors", (double)(fds1 - fds0)));
    return 0;
}

static int measure(struct plane *p, const struct bench_options *o, json_t *results, struct err *e)
{
    long idle, fds, with;
    size_t count;
    char session[64];

    weigh(p->pid, &idle, &fds, &count);
    (void)json_array_append_new(results, figure("idle, all processes (PSS)", "KiB", (double)idle));
    (void)json_array_append_new(results, figure("processes", "", (double)count));
    if (create_agent(p, e) < 0)
        return -1;
    if (measure_chat(p, o, results, e) < 0) /* before the slope: what is loaded once is then loaded */
        return -1;
    weigh(p->pid, &idle, &fds, &count);
    for (unsigned i = 0; i < o->sessions; i++)
        if (create_session(p, session, sizeof(session), e) < 0)
            return -1;
    weigh(p->pid, &with, &fds, &count);
    (void)json_array_append_new(results, figure("each further idle session, its sandbox not counted (PSS)",
                                                "KiB", (double)(with - idle) / (double)o->sessions));
    return 0;
}

int bench_plane(const struct bench_options *o, json_t *results, struct err *e)
{
    struct plane p = {0};
    char token[128];
    int rc = start(o, &p, token, sizeof(token), e);

    if (rc == 0)
        rc = bootstrap(&p, token, e);
    if (rc == 0)
        rc = measure(&p, o, results, e);
    stop(&p);
    return rc;
}
