#include "sessions/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "gateway/api.h"
#include "gateway/change.h"
#include "gateway/owed.h"
#include "gateway/registry.h"
#include "sessions/queue_port.h"
#include "sessions/session_impl.h"
#include "sessions/watch.h"
#include "vault/sql.h"

enum { GRACE_MS = 3000, BACKOFF_MAX_S = 60, LAUNCH_ATTEMPTS = 5, STABLE_S = 60 };

struct waiter {
    struct waiter *next;
    struct api_ref ref;
    bool removal;
};

const char *session_state_name(enum session_state s)
{
    static const char *const names[SESSION_STATES] = {"stopped",    "starting", "running", "stopping",
                                                      "restarting", "damaged",  "failed"};

    return s < SESSION_STATES ? names[s] : "unknown";
}

struct queue_ref session_ref(const struct session *s)
{
    return (struct queue_ref){s->id, s->uid_index};
}

static unsigned bucket_of(const char *id)
{
    unsigned v = 5381;

    for (; *id; id++)
        v = v * 33 + (unsigned char)*id;
    return v % BUCKETS;
}

struct session *session_find(struct hub *h, const char *id)
{
    struct session *s = h->sessions->buckets[bucket_of(id)];

    while (s && strcmp(s->id, id) != 0)
        s = s->next;
    return s;
}

void sessions_each(struct hub *h, void (*visit)(void *arg, struct session *s), void *arg)
{
    for (unsigned b = 0; b < BUCKETS; b++) {
        struct session *s = h->sessions->buckets[b], *next;
        for (; s; s = next) {
            next = s->next;
            visit(arg, s);
        }
    }
}

json_t *session_json(const struct session *s)
{
    json_t *o = json_pack("{s:s,s:s,s:s,s:I,s:s,s:I}", "id", s->id, "agent", s->agent, "state",
                          session_state_name(s->state), "created", (json_int_t)s->created, "wall", s->wall,
                          "restarts", (json_int_t)s->restarts);
    json_t *reason = json_string(s->reason ? s->reason : "");

    (void)json_object_set_new(o, "last_exit",
                              s->last_code < 0
                                  ? json_null()
                                  : json_pack("{s:i,s:s}", "code", s->last_code, "reason", s->last_reason));
    (void)json_object_set_new(o, "reason", reason ? reason : json_string(""));
    return o;
}

/* reason: NULL for none. */
static void set_state(struct session *s, enum session_state state, const char *reason)
{
    bool same = s->state == state && strcmp(reason ? reason : "", s->reason ? s->reason : "") == 0;

    if (same)
        return;
    s->state = state;
    free(s->reason);
    s->reason = reason ? x_strdup(reason) : NULL;
    watch_state(s);
}

/* ---- waiters ---- */

static void wait_for(struct session *s, struct api_ref ref, bool removal)
{
    struct waiter *w = x_calloc(1, sizeof(*w));

    *w = (struct waiter){s->waiters, ref, removal};
    s->waiters = w;
}

/* Answers those who wait. p NULL: it happened. Removals are answered only when `removed`, or with a problem.
 */
static void answer_waiters(struct session *s, bool removed, const struct problem *p)
{
    struct waiter **at = &s->waiters, *w;

    while ((w = *at)) {
        if (w->removal && !removed && !p) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (p)
            api_answer(s->h, w->ref, p->status, problem_json(p));
        else if (w->removal)
            api_answer(s->h, w->ref, 204, NULL);
        else
            api_answer(s->h, w->ref, 200, session_json(s));
        free(w);
    }
}

/* ---- the ports ---- */

/* The sandbox is gone, or about to go: nothing of it is served any more. */
static void close_ports(struct session *s)
{
    struct link *proxy = s->h->d->links[PEER_MODELPROXY];

    queue_port_free(s->port);
    s->port = NULL;
    if (s->model_fds[0] < 0)
        return;
    for (int i = 0; i < 2; i++) {
        (void)close(s->model_fds[i]);
        s->model_fds[i] = -1;
    }
    if (proxy) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        wire_put_str(&o, s->id);
        (void)link_notify(proxy, PROXY_END, &o, NULL, 0);
    }
}

static void on_proxied(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    char text[ERR_TEXT_MAX];
    uint32_t code;

    (void)arg;
    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (!ok)
        return; /* registered again when it is back */
    code = wire_get_u32(in);
    wire_get_str(in, text, sizeof(text));
    if (in->failed || code != 0)
        log_error("the model proxy refused a session: %s", in->failed ? "its answer does not parse" : text);
}

static uint64_t number_of(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));

    return v > 0 ? (uint64_t)v : 0;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(o, key));

    return t ? t : "";
}

static void register_model(struct session *s)
{
    struct link *proxy = s->h->d->links[PEER_MODELPROXY];
    json_t *agent = agent_get(s->h, s->agent, NULL);
    const json_t *limits = json_object_get(agent, "model_limits");
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (proxy && agent && s->model_fds[0] >= 0) {
        s->budgeted = number_of(limits, "token_budget") > 0;
        wire_put_str(&o, s->id);
        wire_put_str(&o, text_of(agent, "provider"));
        wire_put_str(&o, text_of(agent, "model"));
        wire_put_u32(&o, (uint32_t)number_of(limits, "requests_per_minute"));
        wire_put_u32(&o, (uint32_t)number_of(limits, "concurrency"));
        wire_put_u64(&o, number_of(limits, "token_budget"));
        wire_put_u64(&o, s->tokens_in + s->tokens_out);
        (void)link_call(proxy, PROXY_SESSION, &o, s->model_fds, 2, on_proxied, NULL);
    }
    json_decref(agent);
}

/* ---- starting ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;

    (void)fd;
    (void)what;
    if (s->state == SESSION_RESTARTING)
        s->state = SESSION_STOPPED;
    session_step(s);
}

/* Tries again later: 1 s, 2 s, 4 s ... 60 s. */
static void back_off(struct session *s, const char *reason)
{
    uint32_t seconds = s->attempt >= 6 ? BACKOFF_MAX_S : 1U << s->attempt;
    struct timeval tv = {.tv_sec = seconds > BACKOFF_MAX_S ? BACKOFF_MAX_S : seconds};

    if (!s->timer)
        s->timer = event_new(s->h->d->base, -1, 0, on_timer, s);
    if (!s->timer)
        abort();
    s->attempt++;
    set_state(s, SESSION_RESTARTING, reason);
    (void)event_add(s->timer, &tv);
}

static void launch_failed(struct session *s, const char *text)
{
    if (s->attempt + 1 >= LAUNCH_ATTEMPTS) {
        set_state(s, SESSION_FAILED, text);
        log_warn("session %s cannot be started: %s", s->id, text);
    } else {
        back_off(s, text);
    }
}

static void on_started(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct session *s = arg;
    char text[ERR_TEXT_MAX];
    uint32_t code;

    (void)more;
    if (!ok) {
        /* Whatever is desired is started again when the launcher is back. */
        set_state(s, SESSION_STOPPED, "waiting for the launcher");
        if (!s->desired)
            session_step(s);
        return;
    }
    code = wire_get_u32(in);
    wire_get_str(in, text, sizeof(text));
    if (!wire_in_done(in) || (code == 0 && nfds != 4)) {
        code = EPROTO;
        (void)io_format(text, sizeof(text), "the launcher's answer does not have the agreed form");
    }
    if (code != 0) {
        for (int i = 0; i < nfds; i++)
            (void)close(fds[i]);
        s->state = SESSION_STOPPED;
        if (s->desired && !s->removing && !s->damage)
            launch_failed(s, text);
        session_step(s);
        return;
    }
    s->model_fds[0] = fds[2];
    s->model_fds[1] = fds[3];
    s->port = queue_port_new(s->h->d->base, fds[0], fds[1], &session_backend, s);
    s->started_at = io_monotonic_ns();
    register_model(s);
    set_state(s, SESSION_RUNNING, NULL);
    session_step(s);
}

static void begin_start(struct session *s, struct link *launcher)
{
    struct problem p = {0};
    json_t *agent = agent_get(s->h, s->agent, &p);
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    CLEANUP_FREE char *spec = NULL;

    if (!agent) {
        set_state(s, SESSION_FAILED, p.text);
        return;
    }
    spec = launch_spec(s, agent);
    (void)io_format(s->wall, sizeof(s->wall), "%s", text_of(agent, "wall"));
    json_decref(agent);
    wire_put_str(&o, s->id);
    wire_put_u32(&o, s->uid_index);
    wire_put_bytes(&o, spec, strlen(spec));
    s->again = false;
    set_state(s, SESSION_STARTING, NULL);
    if (link_call(launcher, LAUNCH_START, &o, NULL, 0, on_started, s) == 0) {
        s->state = SESSION_STOPPED;
        launch_failed(s, "the launcher cannot be reached");
    }
}

/* ---- stopping and removing ---- */

static void on_stopped(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct session *s = arg;
    char text[ERR_TEXT_MAX];

    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (ok) {
        uint32_t code = wire_get_u32(in);
        wire_get_str(in, text, sizeof(text));
        if (code != 0 && !in->failed)
            log_warn("stopping session %s: %s", s->id, text);
    }
    set_state(s, SESSION_STOPPED, ok ? NULL : "waiting for the launcher");
    if (ok || !s->desired)
        session_step(s);
}

static void begin_stop(struct session *s, struct link *launcher)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    close_ports(s);
    wire_put_str(&o, s->id);
    wire_put_u32(&o, GRACE_MS);
    set_state(s, SESSION_STOPPING, NULL);
    if (!launcher || link_call(launcher, LAUNCH_STOP, &o, NULL, 0, on_stopped, s) == 0)
        set_state(s, SESSION_STOPPED, NULL);
}

static void session_free(struct session *s)
{
    struct session **at = &s->h->sessions->buckets[bucket_of(s->id)];

    while (*at && *at != s)
        at = &(*at)->next;
    if (*at)
        *at = s->next;
    s->h->sessions->count--;
    close_ports(s);
    if (s->timer)
        event_free(s->timer);
    free(s->reason);
    free(s);
}

static int remove_row(const struct session *s, struct err *e)
{
    sqlite3 *db = s->h->registry;
    int rc;

    if (registry_begin(db, e) < 0)
        return -1;
    rc = sql_run(db, e, "DELETE FROM sessions WHERE id = ?", "s", s->id) < 0 ? -1 : 0;
    if (rc == 0)
        rc = owed_put(s->h, "session.removed", json_pack("{s:s}", "session", s->id), e);
    return registry_end(db, rc, e);
}

/* The workspace is gone; now the queues, the key, the row. */
static void on_removed(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct session *s = arg;
    struct problem p = {0};
    struct err e = ERR_INIT;
    char text[ERR_TEXT_MAX];
    uint32_t code = EIO;

    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    s->state = SESSION_STOPPED;
    if (ok) {
        code = wire_get_u32(in);
        wire_get_str(in, text, sizeof(text));
        if (in->failed)
            code = EPROTO;
    }
    if (!ok || code != 0) {
        (void)problem_set(&p, 503, "launcher_unavailable",
                          "the workspace of session %s could not be removed%s%s; it is tried again when the "
                          "launcher restarts",
                          s->id, ok ? ": " : "", ok ? text : "");
        answer_waiters(s, false, &p);
        return;
    }
    if (queue_remove(s->h->store, session_ref(s), &e) < 0 || remove_row(s, &e) < 0) {
        (void)problem_from_err(&p, &e);
        answer_waiters(s, false, &p);
        return;
    }
    owed_retry(s->h);
    watch_end(s);
    answer_waiters(s, true, NULL);
    session_free(s);
}

static void begin_remove(struct session *s, struct link *launcher)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct problem p = {0};

    wire_put_str(&o, s->id);
    if (launcher && link_call(launcher, LAUNCH_REMOVE, &o, NULL, 0, on_removed, s) != 0) {
        s->state = SESSION_STOPPING;
        return;
    }
    (void)problem_set(&p, 503, "launcher_unavailable",
                      "the launcher is restarting; session %s is removed as soon as it is back", s->id);
    answer_waiters(s, false, &p);
}

void session_step(struct session *s)
{
    struct link *launcher = s->h->d->links[PEER_LAUNCHER];
    bool run = s->desired && !s->removing && s->damage == DAMAGE_NONE;

    if (s->state == SESSION_STARTING || s->state == SESSION_STOPPING)
        return; /* the launcher's answer comes back here */
    if (s->state == SESSION_RUNNING && (!run || s->again)) {
        begin_stop(s, launcher);
        if (s->state == SESSION_STOPPING)
            return;
    }
    if (s->state == SESSION_RUNNING)
        return;
    if (s->inherited && launcher && (run || s->removing)) {
        s->inherited = false;
        begin_stop(s, launcher);
        if (s->state == SESSION_STOPPING)
            return;
    }
    if (s->removing) {
        begin_remove(s, launcher);
        return;
    }
    if (s->damage != DAMAGE_NONE) {
        set_state(s, SESSION_DAMAGED, damage_name(s->damage));
        answer_waiters(s, false, NULL);
        return;
    }
    if (!s->desired) {
        if (s->timer)
            (void)event_del(s->timer);
        if (s->state == SESSION_RESTARTING || s->state == SESSION_FAILED)
            set_state(s, SESSION_STOPPED, NULL);
        answer_waiters(s, false, NULL);
        return;
    }
    if (s->state == SESSION_RESTARTING || s->state == SESSION_FAILED)
        return; /* the timer, or the next message, goes on from here */
    if (launcher)
        begin_start(s, launcher);
    else
        set_state(s, SESSION_STOPPED, "waiting for the launcher");
}

/* ---- what others ask for ---- */

int session_desire(struct session *s, bool run, struct problem *p)
{
    struct err e = ERR_INIT;

    if (s->desired == run)
        return 0;
    if (sql_run(s->h->registry, &e, "UPDATE sessions SET desired = ? WHERE id = ?", "is", (int64_t)run,
                s->id) < 0)
        return problem_from_err(p, &e);
    s->desired = run;
    return 0;
}

int session_stop(struct session *s, struct api_ref ref, struct problem *p)
{
    if (session_desire(s, false, p) < 0)
        return -1;
    wait_for(s, ref, false);
    s->attempt = 0;
    session_step(s);
    return 0;
}

int session_remove(struct session *s, struct api_ref ref, struct problem *p)
{
    struct err e = ERR_INIT;

    if (sql_run(s->h->registry, &e, "UPDATE sessions SET phase = 'removing', desired = 0 WHERE id = ?", "s",
                s->id) < 0)
        return problem_from_err(p, &e);
    s->desired = false;
    s->removing = true;
    wait_for(s, ref, true);
    session_step(s);
    return 0;
}

static struct session *session_new(struct hub *h, const char *id, const char *agent, uint32_t uid_index,
                                   int64_t created)
{
    struct session *s = x_calloc(1, sizeof(*s));
    unsigned b = bucket_of(id);

    s->h = h;
    (void)io_format(s->id, sizeof(s->id), "%s", id);
    (void)io_format(s->agent, sizeof(s->agent), "%s", agent);
    s->uid_index = uid_index;
    s->created = created;
    s->last_code = -1;
    s->model_fds[0] = s->model_fds[1] = -1;
    s->next = h->sessions->buckets[b];
    h->sessions->buckets[b] = s;
    h->sessions->count++;
    return s;
}

/* A uid index that no session has, nor had: the counter only grows. */
static int reserve_row(struct hub *h, const char *id, const char *agent, int64_t created, int64_t *index,
                       struct err *e)
{
    int rc = registry_begin(h->registry, e);

    if (rc < 0)
        return -1;
    rc = registry_meta_get(h->registry, "next_uid_index", index, e);
    if (rc == 0)
        rc = registry_meta_set(h->registry, "next_uid_index", *index + 1, e);
    if (rc == 0 && sql_run(h->registry, e,
                           "INSERT INTO sessions(id, agent, uid_index, created, phase, desired) VALUES(?, ?, "
                           "?, ?, 'creating', 1)",
                           "ssii", id, agent, *index, created) < 0)
        rc = -1;
    return registry_end(h->registry, rc, e);
}

/* The record inside the transaction: no session without it. */
static int make_ready(struct hub *h, const char *id, const char *agent, struct err *e)
{
    int rc;

    if (registry_begin(h->registry, e) < 0)
        return -1;
    rc = sql_run(h->registry, e, "UPDATE sessions SET phase = 'ready' WHERE id = ?", "s", id) < 0 ? -1 : 0;
    if (rc == 0)
        rc = audit_append(h->audit, AUDIT_DURABLE, "session.created",
                          json_pack("{s:s,s:s}", "session", id, "agent", agent), e);
    return registry_end(h->registry, rc, e);
}

struct session *session_create(struct hub *h, const char *agent, struct problem *p)
{
    json_t *document = agent_get(h, agent, p);
    struct err e = ERR_INIT, ignored = ERR_INIT;
    int64_t created = (int64_t)io_wall_ms(), index = 0;
    struct session *s;
    char id[24];

    if (!document)
        return NULL;
    registry_new_id("s-", id);
    if (reserve_row(h, id, agent, created, &index, &e) < 0) {
        json_decref(document);
        (void)problem_from_err(p, &e);
        return NULL;
    }
    if (queue_create(h->store, (struct queue_ref){id, (uint32_t)index}, &e) < 0 ||
        make_ready(h, id, agent, &e) < 0) {
        (void)queue_remove(h->store, (struct queue_ref){id, (uint32_t)index}, &ignored);
        (void)sql_run(h->registry, &ignored, "DELETE FROM sessions WHERE id = ?", "s", id);
        json_decref(document);
        (void)problem_from_err(p, &e);
        return NULL;
    }
    s = session_new(h, id, agent, (uint32_t)index, created);
    (void)io_format(s->wall, sizeof(s->wall), "%s", text_of(document, "wall"));
    json_decref(document);
    s->desired = true;
    session_step(s);
    return s;
}

/* ---- events from elsewhere ---- */

static void agent_changed(void *arg, struct session *s)
{
    json_t *agent;
    struct problem p = {0};

    if (strcmp(s->agent, arg) != 0)
        return;
    agent = agent_get(s->h, s->agent, NULL);
    if (!agent)
        (void)session_desire(s, false, &p);
    json_decref(agent);
    s->again = s->state == SESSION_RUNNING || s->state == SESSION_STARTING;
    if (s->state == SESSION_FAILED || s->state == SESSION_RESTARTING) {
        s->state = SESSION_STOPPED; /* the new configuration deserves a fresh try */
        s->attempt = 0;
    }
    session_step(s);
}

void sessions_agent_changed(struct hub *h, const char *agent)
{
    char name[AGENT_NAME_MAX + 1];

    (void)io_format(name, sizeof(name), "%s", agent);
    if (h->sessions) /* none yet while changes are finished at start */
        sessions_each(h, agent_changed, name);
}

static void launcher_up(void *arg, struct session *s)
{
    (void)arg;
    session_step(s);
}

void sessions_launcher_up(struct hub *h)
{
    sessions_each(h, launcher_up, NULL);
}

static void launcher_down(void *arg, struct session *s)
{
    (void)arg;
    s->inherited = false; /* a new launcher cleans up what the old one left */
    if (s->state == SESSION_RUNNING) {
        close_ports(s);
        set_state(s, SESSION_STOPPED, "waiting for the launcher");
    }
}

void sessions_launcher_down(struct hub *h)
{
    sessions_each(h, launcher_down, NULL);
}

static void modelproxy_up(void *arg, struct session *s)
{
    (void)arg;
    if (s->state == SESSION_RUNNING)
        register_model(s);
}

void sessions_modelproxy_up(struct hub *h)
{
    sessions_each(h, modelproxy_up, NULL);
}

void sessions_exited(struct hub *h, const char *id, uint32_t code, const char *reason)
{
    struct session *s = session_find(h, id);
    struct problem p = {0};
    char text[96];

    if (!s)
        return;
    s->last_code = (int)code;
    (void)io_format(s->last_reason, sizeof(s->last_reason), "%s", reason);
    if (s->state != SESSION_RUNNING)
        return; /* we are stopping it: the answer to LAUNCH_STOP follows */
    close_ports(s);
    s->state = SESSION_STOPPED;
    if (io_monotonic_ns() - s->started_at > STABLE_S * 1000000000ULL)
        s->attempt = 0;
    if (code == 0) {
        if (session_desire(s, false, &p) < 0)
            log_error("%s", p.text);
        s->desired = false;
        s->state = SESSION_RUNNING; /* so that the change is seen */
        set_state(s, SESSION_STOPPED, "its program has ended");
    } else if (s->desired && !s->removing) {
        (void)io_format(text, sizeof(text), "its program ended with status %u (%s)", code, s->last_reason);
        s->restarts++;
        if (s->attempt + 1 >= LAUNCH_ATTEMPTS) {
            set_state(s, SESSION_FAILED, text); /* the next message, or a change, tries again */
            log_warn("session %s has failed: %s, %d times in a row", s->id, text, LAUNCH_ATTEMPTS);
        } else {
            back_off(s, text);
        }
    }
    session_step(s);
}

/* ---- at start ---- */

static int load_rows(struct hub *h, struct err *e)
{
    CLEANUP_STMT sqlite3_stmt *st = sql_prepare(
        h->registry, e,
        "SELECT id, agent, uid_index, created, phase, desired, calls, tokens_in, tokens_out FROM sessions",
        "");
    int rc = -1;

    while (st && (rc = sql_step(st, e)) > 0) {
        const char *id = sql_text(st, 0), *phase = sql_text(st, 4);
        uint32_t index = (uint32_t)sqlite3_column_int64(st, 2);
        struct session *s;
        json_t *agent;
        if (strcmp(phase, "creating") == 0) { /* nobody was told of it */
            if (queue_remove(h->store, (struct queue_ref){id, index}, e) < 0)
                return -1;
            continue;
        }
        s = session_new(h, id, sql_text(st, 1), index, sqlite3_column_int64(st, 3));
        s->removing = strcmp(phase, "removing") == 0;
        s->desired = sqlite3_column_int(st, 5) != 0;
        s->inherited = true;
        s->calls = (uint64_t)sqlite3_column_int64(st, 6);
        s->tokens_in = (uint64_t)sqlite3_column_int64(st, 7);
        s->tokens_out = (uint64_t)sqlite3_column_int64(st, 8);
        agent = agent_get(h, s->agent, NULL);
        (void)io_format(s->wall, sizeof(s->wall), "%s", text_of(agent, "wall"));
        json_decref(agent);
    }
    return rc;
}

struct sessions *sessions_load(struct hub *h, struct err *e)
{
    h->sessions = x_calloc(1, sizeof(*h->sessions));
    if (load_rows(h, e) < 0 ||
        sql_run(h->registry, e, "DELETE FROM sessions WHERE phase = 'creating'", "") < 0)
        return NULL;
    return h->sessions;
}

void sessions_free(struct sessions *all)
{
    for (unsigned b = 0; all && b < BUCKETS; b++) {
        struct session *next;
        for (struct session *s = all->buckets[b]; s; s = next) {
            next = s->next;
            while (s->waiters) {
                struct waiter *w = s->waiters;
                s->waiters = w->next;
                free(w);
            }
            session_free(s);
        }
    }
    free(all);
}
