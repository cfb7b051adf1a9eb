/*
 * token.c - tokens: the exchange of the one-time bootstrap token, and the tokens made after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"

static const struct column token_columns[] = {
    {"ID", "id", COLUMN_TEXT},           {"NAME", "name", COLUMN_TEXT},
    {"SCOPE", "scope", COLUMN_TEXT},     {"CREATED", "created", COLUMN_TIME},
    {"EXPIRES", "expires", COLUMN_TIME}, {"REVOKED", "revoked", COLUMN_TEXT},
};

/* Keeps the token where the other verbs look for it, readable by its owner only. */
static int keep(const char *token)
{
    CLEANUP_FREE char *path = client_token_file();
    CLEANUP_FREE char *dir = path ? x_strdup(path) : NULL;
    char *slash = dir ? strrchr(dir, '/') : NULL;
    struct err e = ERR_INIT;

    if (!path)
        return cli_fail(CLI_FAILED, "HOME is not set, so the token cannot be kept; set IRONCLAW_TOKEN_FILE "
                                    "and ask for a new bootstrap token");
    if (slash && slash != dir) {
        *slash = 0;
        if (io_mkdirs(AT_FDCWD, dir, 0700, &e) < 0)
            return cli_fail(CLI_FAILED, "%s", e.text);
    }
    if (io_replace_file(AT_FDCWD, path, token, strlen(token), 0600, &e) < 0)
        return cli_fail(CLI_FAILED, "%s", e.text);
    (void)printf("The admin token is kept in %s.\n", path);
    return CLI_OK;
}

int token_bootstrap(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = client_token_file();
    json_t *body, *reply = NULL;
    const char *token;
    int rc;

    if (!path)
        return cli_fail(CLI_USAGE, "HOME is not set; say where to keep the token with IRONCLAW_TOKEN_FILE");
    c = client_open(a, &rc);
    if (!c)
        return rc;
    client_forget_token(c);
    body = json_pack("{s:s,s:s}", "token", a->pos[0], "name",
                     args_has(a, "name") ? args_get(a, "name") : "admin");
    if (!body)
        return cli_fail(CLI_USAGE, "the token and its name must be UTF-8 text");
    rc = client_call(c, "POST", "/v1/bootstrap", body, &reply);
    json_decref(body);
    if (rc)
        return rc;
    token = json_string_value(json_object_get(reply, "token"));
    if (!token)
        rc = cli_fail(CLI_FAILED, "the answer holds no token");
    else if (args_has(a, "json"))
        output_json(reply);
    if (rc == 0 && !args_has(a, "json"))
        rc = keep(token);
    json_decref(reply);
    return rc;
}

int token_create(const struct args *a)
{
    const char *scope = args_get(a, "scope"), *name = args_get(a, "name"), *expires = args_get(a, "expires");
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *body, *reply = NULL;
    uint64_t seconds = 0;
    int rc;

    if (!scope || !name)
        return cli_fail(
            CLI_USAGE,
            "say what the token may do and what it is for: --scope admin|operator|read --name NAME");
    if (expires && !io_parse_u64(expires, UINT32_MAX, &seconds))
        return cli_fail(CLI_USAGE, "--expires takes a number of seconds");
    c = client_open(a, &rc);
    if (!c)
        return rc;
    body = json_pack("{s:s,s:s}", "scope", scope, "name", name);
    if (expires)
        (void)json_object_set_new(body, "expires_s", json_integer((json_int_t)seconds));
    rc = client_call(c, "POST", "/v1/tokens", body, &reply);
    json_decref(body);
    if (rc)
        return rc;
    if (args_has(a, "json"))
        output_json(reply);
    else /* alone on its line, so that TOKEN=$(ironclaw token create ...) works */
        (void)printf("%s\n", json_string_value(json_object_get(reply, "token")));
    json_decref(reply);
    return CLI_OK;
}

int token_list(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *reply = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", "/v1/tokens", NULL, &reply)) == 0)
        output_table(reply, "tokens", token_columns, ARRAY_LEN(token_columns), args_has(a, "json"));
    json_decref(reply);
    return rc;
}

int token_revoke(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/tokens/%s", a->pos[0]);
    int rc = cli_check_name("a token", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    return c ? client_call(c, "DELETE", path, NULL, NULL) : rc;
}

int token_whoami(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *reply = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", "/v1/whoami", NULL, &reply)) == 0) {
        if (args_has(a, "json"))
            output_json(reply);
        else
            output_fields(reply, token_columns, 3);
    }
    json_decref(reply);
    return rc;
}
