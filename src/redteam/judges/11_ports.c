/*
 * Family 11, host side: what the audit log says was let through, whose budget was charged, and whether the
 * ports still serve everybody.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { PAGE = 1000 };

/* The number of the newest audit record; calls `see` for each after `after`. */
static long long audit(struct arena *a, long long after, void (*see)(const json_t *record, void *arg),
                       void *arg)
{
    for (;;) {
        json_t *answer = NULL, *record;
        char path[96];
        size_t i, n;
        (void)io_format(path, sizeof(path), "/v1/audit?after=%lld&limit=%d", after, PAGE);
        (void)api_call(a->plane->api, "GET", path, NULL, &answer, NULL);
        n = json_array_size(json_object_get(answer, "records"));
        json_array_foreach(json_object_get(answer, "records"), i, record)
        {
            after = json_integer_value(json_object_get(record, "seq"));
            if (see)
                see(record, arg);
        }
        json_decref(answer);
        if (n < PAGE)
            return after;
    }
}

static int arm_usage(struct arena *a, struct trial *t, struct err *e)
{
    long long *after = x_calloc(1, sizeof(*after));

    (void)e;
    *after = audit(a, 0, NULL, NULL);
    t->own = after;
    trial_param(t, "victim", "%s", a->victim.session);
    return 0;
}

static void free_own(struct arena *a, struct trial *t)
{
    (void)a;
    free(t->own);
    t->own = NULL;
}

struct seen {
    const struct arena *a;
    unsigned calls, strange, foreign;
    char example[128];
};

/* A call that was let through has a path of the allowlist, byte for byte, and belongs to the attacker. */
static void see_call(const json_t *record, void *arg)
{
    static const char *const allowed[] = {"/v1/messages",
                                          "/v1/messages/count_tokens",
                                          "/v1/chat/completions",
                                          "/v1/completions",
                                          "/v1/responses",
                                          "/v1/embeddings",
                                          "/v1/models"};
    struct seen *s = arg;
    const json_t *d = json_object_get(record, "data") ? json_object_get(record, "data") : record;
    const char *type = json_string_value(json_object_get(record, "type")),
               *path = json_string_value(json_object_get(d, "path"));
    const char *outcome = json_string_value(json_object_get(d, "outcome")),
               *session = json_string_value(json_object_get(d, "session"));
    size_t i = 0;

    if (!type || strcmp(type, "model.call") != 0)
        return;
    s->calls++;
    s->foreign += !session || strcmp(session, s->a->attacker.session) != 0;
    if (!outcome || strcmp(outcome, "ok") != 0)
        return;
    while (path && i < ARRAY_LEN(allowed) && strcmp(path, allowed[i]) != 0)
        i++;
    if (!path || i == ARRAY_LEN(allowed)) {
        s->strange++;
        (void)io_format(s->example, sizeof(s->example), "%.100s", path ? path : "none");
    }
}

static void judge_alive(struct arena *a, struct trial *t)
{
    static const char *const names[] = {"alive-queue-unix", "alive-queue-tcp", "alive-model-unix",
                                        "alive-model-tcp"};
    const char *dead = NULL;

    (void)a;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (attempt_number(&t->record, names[i], 0) != 1)
            dead = names[i];
    trial_check(t, !dead, "ports-serve",
                dead ? "not: %s" : "all four ports serve an honest client afterwards%s", dead ? dead : "");
}

static void judge_calls(struct arena *a, struct trial *t)
{
    const long long *after = t->own;
    struct seen s = {.a = a};

    (void)audit(a, *after, see_call, &s);
    trial_check(t, s.calls > 0, "audited", "%u calls are in the audit log", s.calls);
    trial_check(t, s.strange == 0, "allowlist", "%u calls with another path were let through: %s", s.strange,
                *s.example ? s.example : "none");
    trial_check(t, s.foreign == 0, "own-session", "%u calls are recorded for another session", s.foreign);
    judge_alive(a, t);
}

static void judge_budget(struct arena *a, struct trial *t)
{
    const long long *after = t->own;
    struct seen s = {.a = a};
    long answered = attempt_number(&t->record, "calls", -1);

    (void)audit(a, *after, see_call, &s);
    trial_check(t, s.foreign == 0, "victim-not-charged", "%u calls are recorded for another session",
                s.foreign);
    trial_check(t, answered > 0 && s.calls - s.foreign >= (unsigned)answered, "attacker-charged",
                "%ld calls were answered, %u recorded for who made them", answered, s.calls - s.foreign);
}

/* Not under gVisor: there a connect to a full host socket hangs for good (docs/walls.md). */
static bool can_flood_unix(const struct arena *a)
{
    return strcmp(a->wall, "gvisor") != 0;
}

static int arm_parallel(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "unix", "%d", can_flood_unix(a));
    return 0;
}

static void judge_parallel(struct arena *a, struct trial *t)
{
    trial_check(t, attempt_number(&t->record, "unix", 0) == 1, "unix-flooded",
                "the unix sockets were %sflooded", can_flood_unix(a) ? "" : "not ");
    judge_alive(a, t);
}

const struct attack port_attacks[] = {
    {.id = "port.queue-frames",
     .boundary = B2_QUEUES,
     .title = "malformed, cut and oversized frames",
     .limit_ms = 40000,
     .steps = {"queue-unix-zero", "queue-unix-huge", "queue-unix-deep", "queue-tcp-zero",
               "queue-tcp-kind-invented", "alive-queue-unix"},
     .judge = judge_alive},
    {.id = "port.model-requests",
     .boundary = B4_EGRESS,
     .title = "malformed and smuggled HTTP requests",
     .limit_ms = 40000,
     .steps = {"model-unix-length-and-chunked", "model-unix-connect", "model-tcp-two-lengths",
               "model-tcp-trace", "model-unix-header-1mib", "model-unix-noise-1mib"},
     .arm = arm_usage,
     .judge = judge_calls,
     .disarm = free_own},
    {.id = "port.model-paths",
     .boundary = B4_EGRESS,
     .title = "paths around the allowlist",
     .limit_ms = 40000,
     .steps = {"paths", "alive-model-unix"},
     .arm = arm_usage,
     .judge = judge_calls,
     .disarm = free_own},
    {.id = "port.budget",
     .boundary = B4_EGRESS,
     .title = "spend another session's budget",
     .steps = {"ask"},
     .arm = arm_usage,
     .judge = judge_budget,
     .disarm = free_own},
    {.id = "port.parallel",
     .boundary = B2_QUEUES,
     .title = "thousands of connections to each port",
     .limit_ms = 150000, /* where a full port makes its clients wait, they wait for a minute */
     .gaps = {{"gvisor", "unix-flooded",
               "a connect to a full host socket cannot be interrupted in gVisor: only the loopback ports are "
               "flooded (docs/walls.md)",
               NULL},
              {"gvisor", "ports-serve",
               "the relay cannot tell a closed connection from a half-closed one: its own flood costs a "
               "session its model port for up to a "
               "minute (docs/walls.md)",
               NULL}},
     .steps = {"queue-tcp", "model-tcp", "alive-queue-unix"},
     .arm = arm_parallel,
     .judge = judge_parallel},
    {.id = "port.slow",
     .boundary = B2_QUEUES,
     .title = "slow and half-closed connections",
     .limit_ms = 30000,
     .steps = {"open", "alive-queue-unix", "alive-model-tcp"},
     .judge = judge_alive},
    {.id = NULL},
};
