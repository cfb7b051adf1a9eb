/*
 * A control plane on a temporary state directory: started, bootstrapped, weighed, stopped. What is measured
 * on it is in chat.c and model.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
enum { MEMBERS_MAX = 32, SETTLE_MS = 7000, READY_S = 30 };

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

void plane_weigh(const struct plane *p, unsigned settle_ms, long *kib, long *fds, size_t *count)
{
    pid_t pids[MEMBERS_MAX];
    size_t n;

    (void)usleep(settle_ms * 1000U);
    n = members(p->pid, pids);
    *kib = *fds = 0;
    for (size_t i = 0; i < n; i++) {
        *kib += host_pss(pids[i]);
        *fds += host_fds(pids[i]);
    }
    *count = n;
}

/* Reads the output up to the line that says that it is ready; the bootstrap token comes before it. */
static int await_ready(struct plane *p, char *token, size_t cap, struct err *e)
{
    FILE *f = fdopen(dup(p->output), "r");
    char line[512];
    bool ready = false;

    token[0] = 0;
    while (f && !ready && fgets(line, sizeof(line), f)) {
        const char *found = strstr(line, "ict_");
        if (found)
            (void)io_format(token, cap, "%.*s", (int)strcspn(found, " \n"), found);
        ready = strstr(line, "ready on") != NULL;
    }
    if (f)
        (void)fclose(f);
    return ready && *token
               ? 0
               : err_set(e, EIO, "'ironclaw up' did not become ready (run it by hand to see why)");
}

static int bootstrap(struct plane *p, const char *token, struct err *e)
{
    json_t *body = json_pack("{s:s,s:s}", "token", token, "name", "bench"), *answer = NULL;
    long status;

    p->api = api_open(p->socket);
    status = api_call(p->api, "POST", "/v1/bootstrap", body, &answer, e);
    json_decref(body);
    if (status == 201) {
        (void)io_format(p->token, sizeof(p->token), "%s",
                        json_string_value(json_object_get(answer, "token")));
        api_set_token(p->api, p->token);
    }
    json_decref(answer);
    return status == 201 ? 0 : -1;
}

/* The image of everything that runs here: base and the inside program. */
static int import_image(const struct bench *b, const struct plane *p, struct err *e)
{
    char *argv[] = {(char *)(uintptr_t)b->ironclaw, (char *)(uintptr_t) "image",
                    (char *)(uintptr_t) "import",   (char *)(uintptr_t) "bench",
                    (char *)(uintptr_t)b->rootfs,   NULL};
    struct run r;

    if (setenv("IRONCLAW_STATE_DIR", p->state, 1) < 0)
        return err_sys(e, errno, "cannot set the environment");
    process_run(argv, false, 60, &r);
    (void)unsetenv("IRONCLAW_STATE_DIR");
    return r.status == 0 ? 0 : err_set(e, EIO, "cannot import the image: %s", r.error);
}

int plane_start(const struct bench *b, const char *config, struct plane *p, struct err *e)
{
    static unsigned serial;
    char path[112], token[128];
    char *argv[] = {(char *)(uintptr_t)b->ironclaw,
                    (char *)(uintptr_t) "up",
                    (char *)(uintptr_t) "--state-dir",
                    p->state,
                    (char *)(uintptr_t) "--config",
                    path,
                    NULL};

    *p = (struct plane){.output = -1};
    (void)io_format(p->state, sizeof(p->state), "%s/state-%u", b->work, serial++);
    (void)io_format(path, sizeof(path), "%s.yaml", p->state);
    (void)io_format(p->socket, sizeof(p->socket), "%s/api.sock", p->state);
    if (io_replace_file(AT_FDCWD, path, config, strlen(config), 0600, e) < 0 || import_image(b, p, e) < 0)
        return -1;
    p->pid = process_start(argv, false, &p->output);
    if (p->pid < 0)
        return err_sys(e, errno, "cannot start 'ironclaw up'");
    return await_ready(p, token, sizeof(token), e) < 0 ? -1 : bootstrap(p, token, e);
}

void plane_stop(struct plane *p)
{
    api_close(p->api);
    if (p->pid > 0) {
        (void)kill(p->pid, SIGTERM);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (p->output >= 0)
        (void)close(p->output);
}

int plane_agent(struct plane *p, json_t *document, struct err *e)
{
    json_t *change = NULL, *empty = json_object();
    char path[128];
    long status;

    (void)io_format(p->agent, sizeof(p->agent), "%s", json_string_value(json_object_get(document, "name")));
    status = api_call(p->api, "POST", "/v1/agents", document, &change, e);
    json_decref(document);
    if (status == 202) {
        (void)io_format(path, sizeof(path), "/v1/changes/%s/approve",
                        json_string_value(json_object_get(change, "id")));
        status = api_call(p->api, "POST", path, empty, NULL, e);
    }
    json_decref(empty);
    json_decref(change);
    return status == 200 ? 0 : -1;
}

int plane_session(struct plane *p, char *id, size_t cap, struct err *e)
{
    json_t *body = json_pack("{s:s}", "agent", p->agent), *answer = NULL;
    long status = api_call(p->api, "POST", "/v1/sessions", body, &answer, e);

    json_decref(body);
    (void)io_format(id, cap, "%s", status == 201 ? json_string_value(json_object_get(answer, "id")) : "");
    json_decref(answer);
    return status == 201 ? 0 : -1;
}

double plane_round_trip(struct plane *p, const char *session, const char *text, json_int_t *last,
                        struct err *e)
{
    char path[160];
    json_t *body = json_pack("{s:s}", "text", text), *answer = NULL;
    uint64_t begin = io_monotonic_ns();
    double ms = -1;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages", session);
    if (api_call(p->api, "POST", path, body, NULL, e) == 201) {
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&wait=60", session,
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

static int weigh_idle(struct bench *b, struct plane *p, struct err *e)
{
    long idle, with, fds;
    size_t count;
    char session[64];
    unsigned more = 50;

    for (unsigned i = 0; i < more; i++)
        if (plane_session(p, session, sizeof(session), e) < 0)
            return -1;
    plane_weigh(p, SETTLE_MS, &idle, &fds, &count);
    for (unsigned i = 0; i < more; i++)
        if (plane_session(p, session, sizeof(session), e) < 0)
            return -1;
    plane_weigh(p, SETTLE_MS, &with, &fds, &count);
    (void)row_figure(b, "control plane", "each further idle session, its sandbox not counted (PSS)", "",
                     "KiB", (double)(with - idle) / more);
    return 0;
}

int bench_plane(struct bench *b, struct err *e)
{
    static const char config[] =
        "api:\n  rate_per_minute: 1000000\nmodel_defaults:\n  requests_per_minute: 0\n";
    struct plane p;
    long kib, fds;
    size_t count;
    int rc;

    bench_progress("control plane: starts");
    rc = plane_start(b, config, &p, e);
    if (rc == 0) {
        plane_weigh(&p, SETTLE_MS, &kib, &fds, &count);
        (void)row_figure(b, "control plane", "idle, all processes (PSS)", "", "KiB", (double)kib);
        (void)row_figure(b, "control plane", "processes", "", "", (double)count);
        rc = bench_chat(b, &p, e);
    }
    if (rc == 0 && !b->quick) /* it takes long rests */
        rc = weigh_idle(b, &p, e);
    if (rc == 0)
        rc = bench_appends(b, &p, e);
    plane_stop(&p);
    return rc == 0 ? bench_model(b, e) : rc;
}
