/*
 * The table for people, and the same as JSON.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

void output_progress(const char *fmt, ...)
{
    va_list ap;

    if (!isatty(STDERR_FILENO))
        return;
    (void)fputs("\r\033[K", stderr);
    if (!fmt)
        return;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fflush(stderr);
}

/* What the attacker sent is printable ASCII by its own promise; text of the host may be anything. */
static json_t *text(const char *s)
{
    json_t *v = json_string(s);

    return v ? v : json_string("?");
}

static json_t *checks_json(const struct trial *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < t->nchecks; i++)
        (void)json_array_append_new(list, json_pack("{s:s,s:b,s:o}", "check", t->checks[i].name, "ok",
                                                    (int)t->checks[i].ok, "seen", text(t->checks[i].text)));
    return list;
}

static json_t *steps_json(const struct trial *t)
{
    json_t *list = json_array();

    for (size_t i = 0; t->have_record && i < t->record.nsteps && i < 200; i++) {
        const struct attempt_step *s = &t->record.steps[i];
        (void)json_array_append_new(list, json_pack("{s:s,s:I,s:i,s:o}", "step", s->name, "returned",
                                                    (json_int_t)s->ret, "errno", s->error, "detail",
                                                    text(s->detail)));
    }
    return list;
}

void output_add(struct results *r, const char *wall, const struct trial *t)
{
    json_t *o = json_pack("{s:s,s:i,s:s,s:s,s:s,s:s,s:o,s:s,s:I,s:o,s:o}", "attack", t->attack->id, "family",
                          t->family->number, "title", t->attack->title, "wall", wall, "boundary",
                          boundary_name(t->attack->boundary), "verdict", verdict_name(t->verdict), "why",
                          text(t->why), "event", t->event, "ms", (json_int_t)t->ms, "checks", checks_json(t),
                          "attempts", steps_json(t));

    if (o && t->data)
        (void)json_object_set(o, "figures", t->data);
    if (t->verdict == VERDICT_FAIL || t->verdict == VERDICT_ERROR || !o)
        r->failed = true;
    (void)json_array_append_new(r->list, o ? o : json_null());
}

static const char *string_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static const char *colour(const char *verdict)
{
    if (!isatty(STDOUT_FILENO))
        return "";
    return !strcmp(verdict, "PASS") ? "\033[32m" : !strcmp(verdict, "GAP") ? "\033[33m" : "\033[31m";
}

void output_table(FILE *f, const struct results *r)
{
    size_t i, n[5] = {0};
    json_t *o;
    bool plain = f != stdout || !isatty(STDOUT_FILENO);

    (void)fprintf(f, "%-24s %-10s %-8s %-7s %s\n", "ATTACK", "WALL", "BOUNDARY", "VERDICT", "EVENT");
    json_array_foreach(r->list, i, o)
    {
        const char *verdict = string_of(o, "verdict");
        (void)fprintf(f, "%-24s %-10s %-8s %s%-7s%s %s\n", string_of(o, "attack"), string_of(o, "wall"),
                      string_of(o, "boundary"), plain ? "" : colour(verdict), verdict, plain ? "" : "\033[0m",
                      string_of(o, "event"));
        if (*string_of(o, "why"))
            (void)fprintf(f, "    %s\n", string_of(o, "why"));
        for (size_t v = 0; v < ARRAY_LEN(n); v++)
            n[v] += !strcmp(verdict, verdict_name((enum verdict)v));
    }
    json_array_foreach(r->walls, i, o)
    {
        if (!json_is_true(json_object_get(o, "tested")))
            (void)fprintf(f, "wall %s was not attacked: %s\n", string_of(o, "wall"), string_of(o, "reason"));
    }
    (void)fprintf(f, "%zu passed, %zu known gaps, %zu failed, %zu errors\n", n[VERDICT_PASS], n[VERDICT_GAP],
                  n[VERDICT_FAIL], n[VERDICT_ERROR]);
}
