/*
 * The model port against a direct connection: how much later each streamed chunk is read, and how many chunks
 * a second get through. Sandbox -> model port -> modelproxy -> upstream -> server, and this process ->
 * server, in turn.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

enum { CHUNKS = 100, GAP_US = 3000, FLOOD = 2000, LATE_MAX = 16384 };

struct late {
    double us[LATE_MAX];
    size_t n;
};

static void late_add(struct late *l, uint64_t ns)
{
    if (l->n < LATE_MAX)
        l->us[l->n++] = (double)ns / 1e3;
}

/* One streamed call without anything in between. Returns the time from the first to the last chunk in ns, or
 * 0. */
static uint64_t direct(uint16_t port, unsigned chunks, struct late *l)
{
    static const char request[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: model\r\nContent-Length: 2\r\n\r\n{}";
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *in;
    char line[512];
    uint64_t first = 0, last = 0;
    unsigned seen = 0;

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        io_write_all(fd, request, sizeof(request) - 1) < 0) {
        if (fd >= 0)
            (void)close(fd);
        return 0;
    }
    in = fdopen(fd, "r");
    while (in && fgets(line, sizeof(line), in)) {
        const char *at = strstr(line, "\"t");
        uint64_t sent = at ? strtoull(at + 2, NULL, 10) : 0;
        if (!sent)
            continue;
        last = io_monotonic_ns();
        first = first ? first : last;
        late_add(l, last - sent);
        seen++;
    }
    if (in)
        (void)fclose(in);
    return seen == chunks ? last - first : 0;
}

/* The same from inside the session; the agent answers "chunks N TOTAL late late ...". */
static uint64_t through(struct plane *p, const char *session, json_int_t *last, unsigned chunks,
                        struct late *l, struct err *e)
{
    char path[160];
    json_t *body = json_pack("{s:s}", "text", "stream"), *answer = NULL;
    const char *said = NULL;
    char *rest;
    uint64_t total = 0;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages", session);
    if (api_call(p->api, "POST", path, body, NULL, e) == 201) {
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&wait=60", session,
                        (long long)*last);
        if (api_call(p->api, "GET", path, NULL, &answer, e) == 200) {
            said = json_string_value(
                json_object_get(json_array_get(json_object_get(answer, "messages"), 0), "text"));
            *last = json_integer_value(json_object_get(answer, "last"));
        }
    }
    if (said && !strncmp(said, "chunks ", 7) && strtoul(said + 7, &rest, 10) == chunks) {
        total = strtoull(rest, &rest, 10);
        while (*rest == ' ')
            late_add(l, strtoull(rest, &rest, 10));
    } else if (!e->code) {
        (void)err_set(e, EIO, "the call through the model port gave '%.60s' instead of %u chunks",
                      said ? said : "nothing", chunks);
    }
    json_decref(body);
    json_decref(answer);
    return total;
}

static int measure(struct bench *b, struct plane *p, struct stream_server *s, struct late *near,
                   struct late *far, struct err *e)
{
    char session[64];
    json_int_t last = 0;
    double rates[2][64];
    unsigned rounds = b->quick ? 3 : 10;

    if (plane_session(p, session, sizeof(session), e) < 0 ||
        plane_round_trip(p, session, "ping", &last, e) < 0)
        return -1;
    s->chunks = 8;
    if (!through(p, session, &last, 8, far, e)) /* upstream is started by the first call */
        return -1;
    far->n = 0;
    for (unsigned i = 0; i < rounds; i++) {
        bench_progress("control plane: streamed model calls");
        s->chunks = CHUNKS;
        s->gap_us = GAP_US;
        if (!direct(s->port, CHUNKS, near) || !through(p, session, &last, CHUNKS, far, e))
            return e->code ? -1 : err_set(e, EIO, "the direct stream was cut");
    }
    for (unsigned i = 0; i < rounds; i++) {
        struct late *ignored = x_calloc(1, sizeof(*ignored));
        uint64_t straight, crossing;
        s->chunks = FLOOD;
        s->gap_us = 0;
        straight = direct(s->port, FLOOD, ignored);
        crossing = through(p, session, &last, FLOOD, ignored, e);
        free(ignored);
        if (!straight || !crossing)
            return e->code ? -1 : err_set(e, EIO, "the direct stream was cut");
        rates[0][i] = FLOOD * 1e9 / (double)straight;
        rates[1][i] = FLOOD * 1e9 / (double)crossing;
    }
    (void)row_add(b, "model port", "lateness of a streamed chunk", "through the port", "us", far->us, far->n);
    (void)row_add(b, "model port", "lateness of a streamed chunk", "direct", "us", near->us, near->n);
    (void)row_figure(b, "model port", "added by the port (medians)", "through the port", "us",
                     stats_percentile(far->us, far->n, 50) - stats_percentile(near->us, near->n, 50));
    (void)row_add(b, "model port", "chunks without a pause", "through the port", "chunks/s", rates[1],
                  rounds);
    (void)row_add(b, "model port", "chunks without a pause", "direct", "chunks/s", rates[0], rounds);
    return 0;
}

int bench_model(struct bench *b, struct err *e)
{
    struct stream_server s;
    struct plane p;
    struct late *near = x_calloc(1, sizeof(*near)), *far = x_calloc(1, sizeof(*far));
    char config[512];
    int rc = stream_start(&s, e);

    if (rc == 0) {
        (void)io_format(config, sizeof(config),
                        "providers:\n  bench: {kind: openai, url: "
                        "\"http://127.0.0.1:%u\"}\nmodel_defaults:\n  requests_per_minute: 0\n",
                        s.port);
        rc = plane_start(b, config, &p, e);
        if (rc == 0)
            rc = plane_agent(&p,
                             json_pack("{s:s,s:s,s:s,s:s,s:{s:i},s:[s,s]}", "name", "model", "image", "bench",
                                       "provider", "bench", "model", "bench", "model_limits",
                                       "requests_per_minute", 0, "command", "/usr/bin/ironclaw-bench-inside",
                                       "agent"),
                             e);
        if (rc == 0)
            rc = measure(b, &p, &s, near, far, e);
        plane_stop(&p);
        stream_stop(&s);
    }
    free(near);
    free(far);
    return rc;
}
