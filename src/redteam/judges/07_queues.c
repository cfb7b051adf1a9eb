/*
 * Family 7, host side: both sessions' records as the API shows them, before and after. What stood there still
 * stands there, at the same place; nothing that the attacker wrote stands as inbound, or in the victim's
 * session.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

struct seen {
    json_t *outbound; /* the attacker's records */
    char marker[SECRET_LEN + 1];
};

enum { PAGE = 200, SIBLING_SLOWER = 20, SIBLING_SLOWER_BY_MS = 250, SAMPLES = 8 };

/* Every outbound record of the attacker's session, in order; NULL with e. */
static json_t *outbound(struct arena *a, struct err *e)
{
    json_t *all = json_array();
    long long after = 0;

    for (;;) {
        json_t *answer = NULL, *page;
        char path[192];
        size_t n;
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&limit=%d",
                        a->attacker.session, after, PAGE);
        if (api_need(a->plane->api, "GET", path, NULL, &answer, e) < 0) {
            json_decref(all);
            return NULL;
        }
        page = json_object_get(answer, "messages");
        n = json_array_size(page);
        if (n > 0)
            after = json_integer_value(json_object_get(json_array_get(page, n - 1), "seq"));
        (void)json_array_extend(all, page);
        json_decref(answer);
        if (n == 0)
            return all;
    }
}

static int arm_queues(struct arena *a, struct trial *t, struct err *e)
{
    struct seen *s = x_calloc(1, sizeof(*s));
    unsigned char raw[16];

    t->own = s;
    io_random(raw, sizeof(raw));
    io_hex(s->marker, raw, sizeof(raw));
    s->outbound = outbound(a, e);
    if (!s->outbound)
        return -1;
    trial_param(t, "marker", "%s", s->marker);
    trial_param(t, "victim_session", "%s", a->victim.session);
    trial_param(t, "victim_agent", "%s", a->victim.agent);
    trial_param(t, "inbound_db", "%s/sessions/%s/inbound.db", a->plane->state, a->victim.session);
    trial_param(t, "session_key", "%s/sessions/%s/session.key", a->plane->state, a->victim.session);
    return 0;
}

static void disarm_queues(struct arena *a, struct trial *t)
{
    struct seen *s = t->own;

    (void)a;
    if (s)
        json_decref(s->outbound);
    free(s);
    t->own = NULL;
}

static void check_append_only(struct arena *a, struct trial *t)
{
    const struct seen *s = t->own;
    struct err e = ERR_INIT;
    json_t *now = outbound(a, &e), *old;
    size_t i, changed = 0;

    json_array_foreach(s->outbound, i, old)
    {
        changed += !json_equal(old, json_array_get(now, i));
    }
    trial_check(t, now && changed == 0 && json_array_size(now) >= json_array_size(s->outbound), "append-only",
                "%zu of %zu earlier records changed or missing", changed, json_array_size(s->outbound));
    json_decref(now);
}

/* Records of `direction` in a session's history that hold the marker; -1 when it cannot be read. */
static long marked(struct arena *a, const char *session, const char *direction, const char *marker)
{
    struct err e = ERR_INIT;
    json_t *answer = NULL, *r;
    char path[160];
    size_t i;
    long n = 0;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/history?limit=1000", session);
    if (api_need(a->plane->api, "GET", path, NULL, &answer, &e) < 0)
        return -1;
    json_array_foreach(json_object_get(answer, "records"), i, r)
    {
        const char *d = json_string_value(json_object_get(r, "direction"));
        const char *text = json_string_value(json_object_get(r, "text"));
        /* The order itself, which the host sent, names the marker too. */
        n += d && text && !strcmp(d, direction) && strstr(text, marker) && strncmp(text, "order ", 6) != 0;
    }
    json_decref(answer);
    return n;
}

static void judge_records(struct arena *a, struct trial *t)
{
    const struct seen *s = t->own;
    long in = marked(a, a->attacker.session, "in", s->marker),
         theirs_in = marked(a, a->victim.session, "in", s->marker),
         theirs_out = marked(a, a->victim.session, "out", s->marker);

    check_append_only(a, t);
    trial_check(t, in == 0, "inbound-from-outside", "%ld inbound records were written from inside", in);
    trial_check(t, theirs_in == 0 && theirs_out == 0, "other-queue-untouched",
                "%ld and %ld records of the attacker's in the sibling's queues", theirs_in, theirs_out);
}

/* Told who it is: the session of the socket, whatever the request said. */
static void judge_other(struct arena *a, struct trial *t)
{
    const struct attempt_step *hello = attempt_step_find(&t->record, "as-other-3");

    trial_check(t, hello && !strstr(hello->detail, a->victim.session), "bound-to-its-session", "%.150s",
                hello ? hello->detail : "not asked");
    judge_records(a, t);
}

/* While a spare session floods its queue the victim is answered. */
static void judge_flood(struct arena *a, struct trial *t)
{
    struct player extra;
    struct err e = ERR_INIT;
    double worst = 0, bound = a->quiet_ms * SIBLING_SLOWER + SIBLING_SLOWER_BY_MS;
    size_t answered = 0;

    check_append_only(a, t);
    if (arena_extra(a, &a->attacker, &extra, &e) < 0 ||
        arena_post(a, &extra, t->attack->id, t->attack->limit_ms, t->params, &e) < 0) {
        trial_check(t, false, "sibling-latency", "the flood could not be run again: %.200s", e.text);
        return;
    }
    for (size_t i = 0; i < SAMPLES; i++) {
        struct attempt record;
        double ms;
        if (arena_order(a, &a->victim, "ping", 0, "", &record, &ms, &e) < 0)
            break;
        attempt_free(&record);
        answered++;
        worst = ms > worst ? ms : worst;
    }
    trial_check(t, answered == SAMPLES && worst <= bound, "sibling-latency",
                "%zu of %d answers during the flood, the slowest after %.1f ms (quiet %.1f, bound %.0f)",
                answered, SAMPLES, worst, a->quiet_ms, bound);
    trial_check(t, arena_extra_remove(a, &extra, &e) == 0, "removed-under-flood", "the session %.200s",
                e.code ? e.text : "is gone");
}

const struct attack queue_attacks[] = {
    {.id = "queue.rewrite",
     .boundary = B2_QUEUES,
     .title = "rewrite or delete what was appended",
     .steps = {"op-0", "op-8", "append-at", "consume-future", "consume-negative"},
     .arm = arm_queues,
     .judge = judge_records,
     .disarm = disarm_queues},
    {.id = "queue.inbound",
     .boundary = B2_QUEUES,
     .title = "write messages to itself as if from outside",
     .steps = {"form-0", "form-1", "form-6"},
     .arm = arm_queues,
     .judge = judge_records,
     .disarm = disarm_queues},
    {.id = "queue.other",
     .boundary = B2_QUEUES,
     .title = "read and write another session's queue",
     .steps = {"as-other-0", "as-other-3", "append-to-other", "inbound-db", "session-key"},
     .arm = arm_queues,
     .judge = judge_other,
     .disarm = disarm_queues},
    {.id = "queue.replay",
     .boundary = B2_QUEUES,
     .title = "be given a consumed message again",
     .steps = {"consume-back", "consume-zero", "again"},
     .arm = arm_queues,
     .judge = judge_records,
     .disarm = disarm_queues},
    {.id = "queue.flood",
     .boundary = B2_QUEUES,
     .title = "flood the queue port",
     .steps = {"connect", "append"},
     .arm = arm_queues,
     .judge = judge_flood,
     .disarm = disarm_queues},
    {.id = NULL},
};
