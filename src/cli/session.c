/*
 * session.c - sessions: one conversation of one agent, with one sandbox.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"

static const struct column columns[] = {
    {"ID", "id", COLUMN_TEXT},
    {"AGENT", "agent", COLUMN_TEXT},
    {"STATE", "state", COLUMN_TEXT},
    {"CREATED", "created", COLUMN_TIME},
    {"WALL", "wall", COLUMN_TEXT},
    {"RESTARTS", "restarts", COLUMN_TEXT},
    {"LAST EXIT", "last_exit", COLUMN_TEXT},
    {"REASON", "reason", COLUMN_TEXT},
};
static const struct column stats_columns[] = {
    {"MEMORY", "memory_bytes", COLUMN_BYTES},
    {"CPU (us)", "cpu_us", COLUMN_TEXT},
    {"PROCESSES", "pids", COLUMN_TEXT},
};

/* One call about one session; with `tail` below it. */
static int about(const struct args *a, const char *method, const char *tail, json_t **reply)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/sessions/%s%s", a->pos[0], tail);
    int rc = cli_check_name("a session", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    return c ? client_call(c, method, path, NULL, reply) : rc;
}

int session_create(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *body, *reply = NULL;
    int rc = cli_check_name("an agent", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    if (!c)
        return rc;
    body = json_pack("{s:s}", "agent", a->pos[0]);
    rc = client_call(c, "POST", "/v1/sessions", body, &reply);
    json_decref(body);
    if (rc == 0 && args_has(a, "json"))
        output_json(reply);
    else if (rc == 0)
        (void)printf("%s\n", json_string_value(json_object_get(reply, "id")));
    json_decref(reply);
    return rc;
}

int session_list(const struct args *a)
{
    const char *agent = args_get(a, "agent");
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/sessions%s%s", agent ? "?agent=" : "", agent ? agent : "");
    json_t *reply = NULL;
    int rc = agent ? cli_check_name("an agent", agent) : 0;

    if (rc)
        return rc;
    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", path, NULL, &reply)) == 0)
        output_table(reply, "sessions", columns, 6, args_has(a, "json"));
    json_decref(reply);
    return rc;
}

int session_show(const struct args *a)
{
    json_t *reply = NULL;
    int rc = about(a, "GET", "", &reply);

    if (rc == 0 && args_has(a, "json"))
        output_json(reply);
    else if (rc == 0)
        output_fields(reply, columns, ARRAY_LEN(columns));
    json_decref(reply);
    return rc;
}

int session_stop(const struct args *a)
{
    return about(a, "POST", "/stop", NULL);
}

int session_rm(const struct args *a)
{
    return about(a, "DELETE", "", NULL);
}

int session_logs(const struct args *a)
{
    json_t *reply = NULL;
    int rc = about(a, "GET", "/logs", &reply);
    const char *text = json_string_value(json_object_get(reply, "text"));

    if (rc == 0 && args_has(a, "json"))
        output_json(reply);
    else if (rc == 0 && text)
        output_untrusted(stdout, text);
    json_decref(reply);
    return rc;
}

int session_stats(const struct args *a)
{
    json_t *reply = NULL;
    int rc = about(a, "GET", "/stats", &reply);

    if (rc == 0 && args_has(a, "json"))
        output_json(reply);
    else if (rc == 0)
        output_fields(reply, stats_columns, ARRAY_LEN(stats_columns));
    json_decref(reply);
    return rc;
}

int session_history(const struct args *a)
{
    const char *after = args_get(a, "after"), *limit = args_get(a, "limit");
    CLEANUP_FREE char *tail = NULL;
    json_t *reply = NULL, *row;
    uint64_t n;
    size_t i;
    int rc;

    if ((after && !io_parse_u64(after, INT64_MAX, &n)) || (limit && !io_parse_u64(limit, 1000, &n)))
        return cli_fail(CLI_USAGE, "--after and --limit take whole numbers");
    tail = x_asprintf("/history?after=%s&limit=%s", after ? after : "0", limit ? limit : "1000");
    rc = about(a, "GET", tail, &reply);
    if (rc == 0 && args_has(a, "json")) {
        output_json(reply);
    } else if (rc == 0) {
        json_array_foreach(json_object_get(reply, "records"), i, row)
        {
            const char *text = json_string_value(json_object_get(row, "text"));
            const char *direction = json_string_value(json_object_get(row, "direction"));
            output_bold(stdout, true);
            (void)printf("%s:", direction && !strcmp(direction, "in") ? "you" : "agent");
            output_bold(stdout, false);
            (void)printf(" ");
            output_untrusted(stdout, text ? text : "");
            (void)printf("\n");
        }
    }
    json_decref(reply);
    return rc;
}
