/*
 * Messages: how long one takes to be answered while 1, 10, 100, 1,000 sessions run, what a thousand of them
 * leave behind in the control plane, and how many durable records a second an agent can append.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

enum { SETTLE_MS = 7000, WARM = 3, GROWTH_MESSAGES = 1000, AGENTS_AT_ONCE = 8 };

struct chat {
    char (*ids)[64];
    json_int_t *last;
    unsigned n;
};

static int add_session(struct plane *p, struct chat *c, struct err *e)
{
    c->ids = x_realloc(c->ids, (c->n + 1) * sizeof(*c->ids));
    c->last = x_realloc(c->last, (c->n + 1) * sizeof(*c->last));
    c->last[c->n] = 0;
    if (plane_session(p, c->ids[c->n], sizeof(c->ids[0]), e) < 0)
        return -1;
    c->n++;
    return 0;
}

static double talk(struct plane *p, struct chat *c, unsigned session, unsigned serial, struct err *e)
{
    char text[32];

    (void)io_format(text, sizeof(text), "ping %u", 100000 + serial);
    return plane_round_trip(p, c->ids[session], text, &c->last[session], e);
}

/* What `messages` more round trips of the first session leave in memory and descriptors. */
static int growth(struct bench *b, struct plane *p, struct chat *c, struct err *e)
{
    long kib0, kib1, fds0, fds1;
    size_t count;
    unsigned messages = GROWTH_MESSAGES;
    char what[96];

    plane_weigh(p, SETTLE_MS, &kib0, &fds0, &count);
    for (unsigned i = 0; i < messages; i++)
        if (talk(p, c, 0, i, e) < 0)
            return -1;
    plane_weigh(p, SETTLE_MS, &kib1, &fds1, &count);
    (void)io_format(what, sizeof(what), "memory growth over %u messages, all processes", messages);
    (void)row_figure(b, "control plane", what, "", "KiB", (double)(kib1 - kib0));
    (void)io_format(what, sizeof(what), "descriptor growth over %u messages", messages);
    (void)row_figure(b, "control plane", what, "", "", (double)(fds1 - fds0));
    return 0;
}

static int at_level(struct bench *b, struct plane *p, struct chat *c, unsigned level, struct err *e)
{
    unsigned messages = b->quick ? 60 : 300;
    CLEANUP_FREE double *ms = x_calloc(messages, sizeof(*ms));
    char what[96], text[96];
    double p99;
    json_t *r;

    for (unsigned i = 0; i < level && i < messages; i++) /* each sandbox is up before it is timed */
        for (unsigned k = 0; k < WARM; k++)
            if (talk(p, c, i, k, e) < 0)
                return -1;
    (void)io_format(text, sizeof(text), "control plane: chat, %u sessions", level);
    bench_progress(text);
    for (unsigned i = 0; i < messages; i++)
        if ((ms[i] = talk(p, c, i % level, 1000 + i, e)) < 0)
            return -1;
    p99 = stats_percentile(ms, messages, 99);
    (void)io_format(what, sizeof(what), "chat round trip, %u sessions running", level);
    r = row_add(b, "control plane", what, "", "ms", ms, messages);
    (void)json_object_set_new(r, "p99", json_real(p99));
    (void)io_format(what, sizeof(what), "chat round trip, %u sessions running, p99", level);
    (void)row_figure(b, "control plane", what, "", "ms", p99);
    return 0;
}

int bench_chat(struct bench *b, struct plane *p, struct err *e)
{
    struct chat c = {0};
    int rc = plane_agent(
        p, json_pack("{s:s,s:{s:i},s:[]}", "name", "chat", "model_limits", "requests_per_minute", 0, "tools"),
        e);
    char text[96];

    for (unsigned level = 1; rc == 0 && level <= b->sessions; level *= 10) {
        while (rc == 0 && c.n < level) {
            (void)io_format(text, sizeof(text), "control plane: session %u of %u starts", c.n + 1, level);
            bench_progress(text);
            rc = add_session(p, &c, e);
        }
        if (rc == 0)
            rc = at_level(b, p, &c, level, e);
        if (rc == 0 && level == 1 && !b->quick)
            rc = growth(b, p, &c, e);
    }
    free(c.ids);
    free(c.last);
    return rc;
}

/* Orders `records` appends from every agent at once and adds up what they say. */
static int append_from(struct bench *b, struct plane *p, struct chat *c, unsigned agents, unsigned records,
                       struct err *e)
{
    char path[160], text[32], what[96];
    json_t *body;
    uint64_t slowest = 0;

    (void)io_format(text, sizeof(text), "append %u", records);
    (void)io_format(what, sizeof(what), "control plane: %u agents append", agents);
    bench_progress(what);
    for (unsigned i = 0; i < agents; i++) {
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages", c->ids[i]);
        body = json_pack("{s:s}", "text", text);
        if (api_call(p->api, "POST", path, body, NULL, e) != 201) {
            json_decref(body);
            return -1;
        }
        json_decref(body);
    }
    for (unsigned i = 0; i < agents; i++) {
        json_int_t want = c->last[i] + records + 1;
        const char *said = NULL;
        json_t *answer = NULL;
        unsigned long long n = 0, ns = 0;
        do { /* the last of them says how long it took */
            json_decref(answer);
            answer = NULL;
            (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&wait=60", c->ids[i],
                            (long long)want - 1);
            if (api_call(p->api, "GET", path, NULL, &answer, e) != 200)
                return -1;
            said = json_string_value(
                json_object_get(json_array_get(json_object_get(answer, "messages"), 0), "text"));
        } while (!said);
        if (!strncmp(said, "appended ", 9)) {
            char *rest;
            n = strtoull(said + 9, &rest, 10);
            ns = strtoull(rest, NULL, 10);
        }
        json_decref(answer);
        if (n != records || ns == 0)
            return err_set(e, EIO, "an agent did not append its %u records", records);
        c->last[i] = want;
        slowest = ns > slowest ? ns : slowest;
    }
    (void)io_format(what, sizeof(what),
                    agents == 1 ? "durable appends, 1 agent" : "durable appends, %u agents at once", agents);
    (void)row_figure(b, "control plane", what, "", "records/s",
                     (double)records * agents * 1e9 / (double)slowest);
    return 0;
}

int bench_appends(struct bench *b, struct plane *p, struct err *e)
{
    struct chat c = {0};
    unsigned records = b->quick ? 300 : 2000;
    int rc = plane_agent(p,
                         json_pack("{s:s,s:s,s:[s,s]}", "name", "append", "image", "bench", "command",
                                   "/usr/bin/ironclaw-bench-inside", "agent"),
                         e);

    while (rc == 0 && c.n < AGENTS_AT_ONCE)
        rc = add_session(p, &c, e);
    for (unsigned i = 0; rc == 0 && i < c.n; i++)
        rc = talk(p, &c, i, 0, e) < 0 ? -1 : 0;
    if (rc == 0)
        rc = append_from(b, p, &c, 1, records, e);
    if (rc == 0)
        rc = append_from(b, p, &c, AGENTS_AT_ONCE, records / 2, e);
    free(c.ids);
    free(c.last);
    return rc;
}
