/*
 * agent.c - agents. Nothing here changes one: each verb submits a change, which a human approves.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/document.h"
#include "cli/output.h"

static const struct column columns[] = {
    {"NAME", "name", COLUMN_TEXT},         {"WALL", "wall", COLUMN_TEXT},
    {"IMAGE", "image", COLUMN_TEXT},       {"TOOLS", "tools", COLUMN_LIST},
    {"PROVIDER", "provider", COLUMN_TEXT}, {"REVISION", "revision", COLUMN_TEXT},
};

/* Sends the document, says what became of the change. Takes the reference of body. */
static int submit(const struct args *a, const char *method, const char *path, json_t *body)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *change = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c)
        rc = client_call(c, method, path, body, &change);
    json_decref(body);
    return rc ? rc : change_outcome(a, change);
}

int agent_create(const struct args *a)
{
    const char *name = a->pos[0];
    int rc = cli_check_name("an agent", name);
    json_t *doc = rc == 0 ? document_from_options(a) : NULL;
    const char *in_file;

    if (!doc)
        return CLI_USAGE;
    in_file = json_string_value(json_object_get(doc, "name"));
    if (in_file && strcmp(in_file, name) != 0) {
        rc = cli_fail(CLI_USAGE,
                      "the file is about the agent '%.64s', the command line about '%s'; make them agree",
                      in_file, name);
        json_decref(doc);
        return rc;
    }
    (void)json_object_set_new(doc, "name", json_string(name));
    return submit(a, "POST", "/v1/agents", doc);
}

int agent_update(const struct args *a)
{
    CLEANUP_FREE char *path = x_asprintf("/v1/agents/%s", a->pos[0]);
    int rc = cli_check_name("an agent", a->pos[0]);
    json_t *doc = rc == 0 ? document_from_options(a) : NULL;

    if (!doc)
        return CLI_USAGE;
    (void)json_object_del(doc, "name"); /* it never changes */
    if (json_object_size(doc) == 0) {
        json_decref(doc);
        return cli_fail(CLI_USAGE, "nothing to change is given; see 'ironclaw agent update --help'");
    }
    return submit(a, "PATCH", path, doc);
}

int agent_rm(const struct args *a)
{
    CLEANUP_FREE char *path = x_asprintf("/v1/agents/%s", a->pos[0]);
    int rc = cli_check_name("an agent", a->pos[0]);

    return rc ? rc : submit(a, "DELETE", path, NULL);
}

int agent_list(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *reply = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", "/v1/agents", NULL, &reply)) == 0)
        output_table(reply, "agents", columns, ARRAY_LEN(columns), args_has(a, "json"));
    json_decref(reply);
    return rc;
}

int agent_show(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/agents/%s", a->pos[0]);
    json_t *reply = NULL;
    int rc = cli_check_name("an agent", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", path, NULL, &reply)) == 0)
        output_json(reply);
    json_decref(reply);
    return rc;
}
