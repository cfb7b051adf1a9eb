/*
 * change.c - changes: what somebody asks for, what the verifiers said, what was decided.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/document.h"
#include "cli/output.h"

static const struct column columns[] = {
    {"ID", "id", COLUMN_TEXT},
    {"KIND", "kind", COLUMN_TEXT},
    {"AGENT", "agent", COLUMN_TEXT},
    {"STATE", "state", COLUMN_TEXT},
    {"BY", "submitted_by", COLUMN_TEXT},
    {"AT", "submitted_at", COLUMN_TIME},
    {"REASON", "reason", COLUMN_TEXT},
    {"DECIDED BY", "decided_by", COLUMN_TEXT},
    {"DECIDED AT", "decided_at", COLUMN_TIME},
    {"COMMENT", "comment", COLUMN_TEXT},
    {"ERROR", "error", COLUMN_TEXT},
};

static const char *text_of(const json_t *change, const char *key)
{
    const char *s = json_string_value(json_object_get(change, key));

    return s ? s : "";
}

static void print_verdicts(FILE *f, const json_t *change, bool all)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(change, "verdicts"), i, v)
    {
        bool ok = json_is_true(json_object_get(v, "ok"));
        if (ok && !all)
            continue;
        (void)fprintf(f, "%s %s: ", ok ? "  ok     " : "  refused", text_of(v, "verifier"));
        output_untrusted(f, text_of(v, "reason"));
        (void)fputc('\n', f);
    }
}

static int decide(const struct args *a, const char *id, const char *what, json_t **out)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/changes/%s/%s", id, what);
    json_t *body = json_object();
    int rc;

    if (args_has(a, "comment"))
        (void)json_object_set_new(body, "comment", json_string(args_get(a, "comment")));
    c = client_open(a, &rc);
    if (c)
        rc = client_call(c, "POST", path, body, out);
    json_decref(body);
    return rc;
}

int change_outcome(const struct args *a, json_t *change)
{
    CLEANUP_FREE char *id = x_strdup(text_of(change, "id"));
    json_t *decided = NULL;
    int rc = CLI_OK;

    if (args_has(a, "approve") && !strcmp(text_of(change, "state"), "pending") && io_valid_name(id)) {
        rc = decide(a, id, "approve", &decided);
        if (rc) {
            json_decref(change);
            (void)cli_fail(rc, "the change %s still waits: ironclaw change approve %s", id, id);
            return rc;
        }
        json_decref(change);
        change = decided;
    }
    if (args_has(a, "json"))
        output_json(change);
    else
        (void)printf("%s %s\n", id, text_of(change, "state"));
    if (!strcmp(text_of(change, "state"), "refused")) {
        print_verdicts(stderr, change, false);
        rc = cli_fail(CLI_REFUSED,
                      "the change was refused; correct what the verifiers name and submit it again");
    } else if (!strcmp(text_of(change, "state"), "failed")) {
        rc = cli_fail(CLI_FAILED, "the change could not be applied; see 'ironclaw change show %s'", id);
    } else if (!strcmp(text_of(change, "state"), "pending") && !args_has(a, "json")) {
        (void)printf("It waits for approval: ironclaw change approve %s\n", id);
    }
    json_decref(change);
    return rc;
}

static int list(const struct args *a, const char *path)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *whole = NULL;
    json_int_t next = 0;
    int rc;

    c = client_open(a, &rc);
    do { /* page by page: large changes must not hide those before them */
        CLEANUP_FREE char *page = x_asprintf("%s?limit=1000&after=%" JSON_INTEGER_FORMAT, path, next);
        json_t *reply = NULL;
        if (!c || (rc = client_call(c, "GET", page, NULL, &reply)) != 0)
            break;
        next = json_integer_value(json_object_get(reply, "next"));
        if (whole)
            (void)json_array_extend(json_object_get(whole, "changes"), json_object_get(reply, "changes"));
        else
            whole = json_incref(reply);
        json_decref(reply);
    } while (next > 0);
    if (json_object_del(whole, "next") == 0)
        (void)json_object_set_new(whole, "truncated", json_false());
    if (rc == 0)
        output_table(whole, "changes", columns, 7, args_has(a, "json"));
    json_decref(whole);
    return rc;
}

int change_pending(const struct args *a)
{
    return list(a, "/v1/changes/pending");
}

int change_list(const struct args *a)
{
    return list(a, "/v1/changes");
}

int change_show(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/changes/%s", a->pos[0]);
    json_t *reply = NULL;
    int rc = cli_check_name("a change", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    if (c)
        rc = client_call(c, "GET", path, NULL, &reply);
    if (rc == 0 && args_has(a, "json")) {
        output_json(reply);
    } else if (rc == 0) {
        output_fields(reply, columns, ARRAY_LEN(columns));
        if (json_array_size(json_object_get(reply, "verdicts")) > 0)
            (void)printf("VERDICTS\n");
        print_verdicts(stdout, reply, true);
        (void)printf("\n");
        output_untrusted(stdout, text_of(reply, "diff"));
    }
    json_decref(reply);
    return rc;
}

static int decision(const struct args *a, const char *what)
{
    json_t *change = NULL;
    int rc = cli_check_name("a change", a->pos[0]);

    if (rc == 0)
        rc = decide(a, a->pos[0], what, &change);
    return rc ? rc : change_outcome(a, change);
}

int change_approve(const struct args *a)
{
    return decision(a, "approve");
}

int change_reject(const struct args *a)
{
    return decision(a, "reject");
}

int change_submit(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *body, *doc, *change = NULL;
    int rc = cli_check_name("an agent", a->pos[1]);

    if (rc)
        return rc;
    if (!args_has(a, "file"))
        return cli_fail(CLI_USAGE, "say what to change: --file FILE with the part of the document, such as "
                                   "{\"tools\": [\"shell\"]}");
    doc = document_from_file(args_get(a, "file"));
    if (!doc)
        return CLI_FAILED;
    body = json_pack("{s:s,s:s,s:o,s:s}", "kind", a->pos[0], "agent", a->pos[1], "document", doc, "reason",
                     args_has(a, "reason") ? args_get(a, "reason") : "");
    if (!body)
        return cli_fail(CLI_USAGE, "the kind and the reason must be UTF-8 text");
    c = client_open(a, &rc);
    if (c)
        rc = client_call(c, "POST", "/v1/changes", body, &change);
    json_decref(body);
    return rc ? rc : change_outcome(a, change);
}
