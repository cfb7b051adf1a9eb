/*
 * events.c - the event stream: what is kept, then what happens.
 *
 * Following goes on where it stopped when a part of the control plane restarts: numbers only grow, and each
 * request says what the last one was.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"

enum { PAGE = 500, QUIET_MS = 24 * 3600 * 1000, RECONNECT_MS = 200, RECONNECTS = 150 };

struct follow {
    uint64_t after, left; /* left: events still to print; UINT64_MAX: no limit */
    bool json, arrived;
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(o, key));

    return t ? t : "";
}

/* "12:00:00.123 syscall.denied s-.. coder x3 nr=165 name=mount": values may come from a sandbox. */
static void print_event(const struct follow *f, const json_t *e)
{
    json_int_t ms = json_integer_value(json_object_get(e, "time_ms")),
               count = json_integer_value(json_object_get(e, "count"));
    time_t s = (time_t)(ms / 1000);
    const char *key;
    json_t *value;
    char when[32];
    struct tm t;

    if (f->json) {
        CLEANUP_FREE char *line = json_dumps(e, JSON_COMPACT | JSON_ENSURE_ASCII);
        (void)printf("%s\n", line ? line : "{}");
        return;
    }
    if (!localtime_r(&s, &t) || strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &t) == 0)
        when[0] = 0;
    (void)printf("%s.%03d %-16s", when, (int)(ms % 1000), text_of(e, "type"));
    for (const char *const *k = (const char *const[]){"session", "agent", NULL}; *k; k++)
        if (*text_of(e, *k)) {
            (void)printf(" ");
            output_untrusted(stdout, text_of(e, *k));
        }
    if (count > 1)
        (void)printf(" x%lld", (long long)count);
    json_object_foreach(json_object_get(e, "detail"), key, value)
    {
        CLEANUP_FREE char *text =
            json_is_string(value) ? x_strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
        if (!text || !*text)
            continue;
        (void)printf(" %s=", key);
        output_untrusted(stdout, text);
    }
    (void)printf("\n");
}

static void take(struct follow *f, const json_t *e)
{
    f->after = (uint64_t)json_integer_value(json_object_get(e, "seq"));
    print_event(f, e);
    if (f->left != UINT64_MAX)
        f->left--;
}

static int print_kept(struct client *c, struct follow *f, const char *session)
{
    bool more = true;

    while (more && f->left > 0) {
        uint64_t page = f->left < PAGE ? f->left : PAGE, from = f->after;
        CLEANUP_FREE char *path =
            x_asprintf("/v1/events?after=%llu&limit=%llu%s%s", (unsigned long long)f->after,
                       (unsigned long long)page, session ? "&session=" : "", session ? session : "");
        json_t *reply = NULL, *e;
        size_t i;
        int rc = client_call(c, "GET", path, NULL, &reply);
        if (rc)
            return rc;
        json_array_foreach(json_object_get(reply, "events"), i, e) take(f, e);
        f->after = (uint64_t)json_integer_value(json_object_get(reply, "last"));
        more = json_array_size(json_object_get(reply, "events")) > 0 && f->after != from;
        json_decref(reply);
    }
    return 0;
}

static bool on_event(void *arg, const char *event, const json_t *data)
{
    struct follow *f = arg;

    f->arrived = true;
    if (!strcmp(event, "event"))
        take(f, data);
    if (fflush(stdout) != 0)
        f->left = 0; /* nobody reads any more */
    return f->left > 0;
}

static int follow(struct client *c, struct follow *f, const char *session)
{
    int tries = 0;

    while (f->left > 0) {
        static const struct timespec pause = {0, (long)RECONNECT_MS * 1000000};
        CLEANUP_FREE char *path = x_asprintf("/v1/events?after=%llu%s%s", (unsigned long long)f->after,
                                             session ? "&session=" : "", session ? session : "");
        int status = 0, rc = client_stream_quiet(c, path, QUIET_MS, on_event, f, &status);
        if (rc == 0)
            return 0;
        tries = f->arrived ? 0 : tries + 1;
        f->arrived = false;
        /* It answered with a refusal, or has been away for half a minute. */
        if (rc < 0 && (status != CLI_UNREACHABLE || tries >= RECONNECTS))
            return client_stream(c, path, RECONNECT_MS, NULL, on_event, f, &status) < 0 ? status
                                                                                        : CLI_UNREACHABLE;
        if (rc != 2)
            (void)nanosleep(&pause, NULL);
    }
    return 0;
}

int events_show(const struct args *a)
{
    const char *after = args_get(a, "after"), *limit = args_get(a, "limit"),
               *session = args_get(a, "session");
    struct follow f = {.left = UINT64_MAX, .json = args_has(a, "json")};
    CLEANUP_CLIENT struct client *c = NULL;
    int rc = session ? cli_check_name("a session", session) : 0;

    if (rc)
        return rc;
    if ((after && !io_parse_u64(after, INT64_MAX, &f.after)) ||
        (limit && !io_parse_u64(limit, INT64_MAX, &f.left)))
        return cli_fail(CLI_USAGE, "--after and --limit take whole numbers");
    c = client_open(a, &rc);
    if (!c)
        return rc;
    rc = print_kept(c, &f, session);
    (void)fflush(stdout);
    return rc == 0 && args_has(a, "follow") ? follow(c, &f, session) : rc;
}
