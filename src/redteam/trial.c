/*
 * One attack: arm, order, judge. The verdict is FAIL as soon as one check failed that no documented gap of
 * this wall names; an attack that was not tried to its end is an ERROR, never a PASS.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

const char *boundary_name(enum boundary b)
{
    static const char *const names[] = {"B1", "B2", "B3", "B4", "B5"};

    return names[b];
}

const char *verdict_name(enum verdict v)
{
    static const char *const names[] = {"PASS", "GAP", "FAIL", "ERROR", "SKIP"};

    return names[v];
}

void trial_param(struct trial *t, const char *key, const char *fmt, ...)
{
    size_t used = strlen(t->params), room = sizeof(t->params) - used;
    int head = snprintf(t->params + used, room, "%s ", key), n = -1;
    va_list ap;

    if (head > 0 && (size_t)head < room) {
        va_start(ap, fmt);
        n = vsnprintf(t->params + used + head, room - (size_t)head, fmt, ap);
        va_end(ap);
    }
    if (n < 0 || (size_t)(head + n) + 2 > room || strchr(t->params + used, '\n')) {
        t->params[used] = 0; /* an attack without it does not do its steps, and is an error */
        return;
    }
    (void)snprintf(t->params + used + head + n, room - (size_t)(head + n), "\n");
}

void trial_check(struct trial *t, bool ok, const char *name, const char *fmt, ...)
{
    struct check *c;
    va_list ap;

    if (t->nchecks == CHECKS_MAX) { /* a failure must not get lost for want of room */
        if (ok)
            return;
        t->nchecks--;
    }
    c = &t->checks[t->nchecks++];
    c->ok = ok;
    (void)io_format(c->name, sizeof(c->name), "%s", name);
    va_start(ap, fmt);
    (void)vsnprintf(c->text, sizeof(c->text), fmt, ap);
    va_end(ap);
}

void trial_figure(struct trial *t, const char *key, json_int_t value)
{
    if (!t->data)
        t->data = json_object();
    (void)json_object_set_new(t->data, key, json_integer(value));
}

/* Was everything tried that belongs to this attack? */
static bool tried(struct trial *t)
{
    const char *const *s = t->attack->steps;

    if (!t->record.complete) {
        (void)io_format(t->why, sizeof(t->why), "the attack was not tried to its end: %.200s", t->record.end);
        return false;
    }
    for (size_t i = 0; i < STEPS_MAX && s[i]; i++) {
        if (attempt_step_find(&t->record, s[i]))
            continue;
        (void)io_format(t->why, sizeof(t->why), "the step '%s' was not tried", s[i]);
        return false;
    }
    return true;
}

static const struct gap *gap_of(const struct trial *t, const char *wall, const char *check)
{
    for (size_t i = 0; i < GAPS_MAX; i++) {
        const struct gap *g = &t->attack->gaps[i];
        if (g->wall && (!strcmp(g->wall, wall) || !strcmp(g->wall, GAP_ANY_WALL)) &&
            !strcmp(g->check, check) && (!g->without || !host_has_cgroup(g->without)))
            return g;
    }
    return NULL;
}

static void decide(struct trial *t, const char *wall, bool complete)
{
    char why[sizeof(t->why)] = "";

    t->verdict = VERDICT_PASS;
    for (size_t i = 0; i < t->nchecks; i++) {
        const struct check *c = &t->checks[i];
        const struct gap *g = c->ok ? NULL : gap_of(t, wall, c->name);
        if (c->ok)
            continue;
        if (g && t->verdict == VERDICT_PASS) {
            t->verdict = VERDICT_GAP;
            (void)io_format(why, sizeof(why), "%s", g->reason);
        } else if (!g && t->verdict != VERDICT_FAIL) {
            t->verdict = VERDICT_FAIL;
            (void)io_format(why, sizeof(why), "%s: %s", c->name, c->text);
        }
    }
    /* A failure counts also when the attack was cut short; a success does not. */
    if (!complete && t->verdict != VERDICT_FAIL)
        t->verdict = VERDICT_ERROR;
    else
        (void)io_format(t->why, sizeof(t->why), "%s", why);
}

static void check_claims(struct trial *t)
{
    if (t->record.nclaims == 0)
        trial_check(t, true, "no-claim", "the attacker does not claim to have got anywhere");
    for (size_t i = 0; i < t->record.nclaims && i < 8; i++)
        trial_check(t, false, "no-claim", "the attacker claims: %.200s", t->record.claims[i].value);
}

int trial_run(struct arena *a, struct trial *t, struct err *e)
{
    uint64_t begin = io_monotonic_ns();
    struct err why = ERR_INIT;
    bool complete = false;
    int rc = standing_before(a, e);

    if (rc < 0)
        return -1;
    a->attacker.may_end = t->attack->may_end;
    if (t->attack->arm && t->attack->arm(a, t, &why) < 0) {
        (void)io_format(t->why, sizeof(t->why), "cannot be armed: %.400s", why.text);
    } else if (arena_order(a, &a->attacker, t->attack->id, t->attack->limit_ms, t->params, &t->record, NULL,
                           &why) < 0) {
        (void)io_format(t->why, sizeof(t->why), "%.500s", why.text);
        t->ended = complete =
            t->attack->may_end && arena_restarted(a) && arena_ready(a, &a->attacker, &why) == 0;
        trial_check(t, true, "own-end", "%s",
                    t->ended ? "the attack ended its own sandbox, and no other" : "no record came");
        if (t->ended && t->attack->judge)
            t->attack->judge(a, t);
    } else {
        t->have_record = true;
        complete = tried(t);
        check_claims(t);
        if (t->attack->judge)
            t->attack->judge(a, t);
    }
    a->attacker.may_end = false;
    if (t->attack->disarm)
        t->attack->disarm(a, t);
    rc = standing_after(a, t, e);
    decide(t, a->wall, complete);
    if (!t->event[0])
        (void)io_format(t->event, sizeof(t->event), "none");
    t->ms = (io_monotonic_ns() - begin) / 1000000;
    if (rc == 0 && !t->have_record)
        rc = arena_ready(a, &a->attacker, e);
    return rc;
}

void trial_free(struct trial *t)
{
    if (t->have_record)
        attempt_free(&t->record);
    json_decref(t->data);
    memset(t, 0, sizeof(*t));
}
