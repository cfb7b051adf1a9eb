/*
 * api_tokens.c - operations on tokens.
 *
 * token: {"id","name","scope","created","expires","revoked"}; times in ms since the epoch, null = never. The
 * reply to bootstrap and create has "token" as well: the only time it is shown.
 */
#include "gateway/api.h"

enum { EXPIRES_MAX_S = 10 * 366 * 86400 };

static unsigned bootstrap(struct api_call *c, json_t **reply, struct problem *p)
{
    const char *token = api_text(c, "token", NULL, p);
    const char *name = token ? api_text(c, "name", "admin", p) : NULL;

    if (!name)
        return 0;
    *reply = tokens_bootstrap(c->h, token, name, p);
    return 201;
}

static unsigned whoami(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)p;
    *reply =
        json_pack("{s:s,s:s,s:s}", "id", c->who.id, "name", c->who.name, "scope", scope_name(c->who.scope));
    return 200;
}

static unsigned list(struct api_call *c, json_t **reply, struct problem *p)
{
    json_t *tokens = tokens_list(c->h, p);

    *reply = tokens ? json_pack("{s:o}", "tokens", tokens) : NULL;
    return 200;
}

static unsigned create(struct api_call *c, json_t **reply, struct problem *p)
{
    const json_t *expires = json_object_get(c->body, "expires_s");
    const char *name = api_text(c, "name", NULL, p);
    const char *scope = name ? api_text(c, "scope", NULL, p) : NULL;

    if (!scope)
        return 0;
    if (expires && !json_is_null(expires) &&
        (!json_is_integer(expires) || json_integer_value(expires) < 1 ||
         json_integer_value(expires) > EXPIRES_MAX_S)) {
        (void)problem_set(
            p, 400, "invalid",
            "\"expires_s\" must be a whole number of seconds, at least 1 and at most ten years");
        return 0;
    }
    *reply = tokens_create(c->h, &c->who, name, scope, (uint64_t)json_integer_value(expires), p);
    return 201;
}

static unsigned revoke(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)reply;
    return tokens_revoke(c->h, &c->who, c->subject, p) < 0 ? 0 : 204;
}

const struct api_operation api_token_operations[] = {
    {API_BOOTSTRAP, "bootstrap", SCOPE_NONE, bootstrap},
    {API_WHOAMI, "whoami", SCOPE_READ, whoami},
    {API_TOKEN_LIST, "token list", SCOPE_ADMIN, list},
    {API_TOKEN_CREATE, "token create", SCOPE_ADMIN, create},
    {API_TOKEN_REVOKE, "token revoke", SCOPE_ADMIN, revoke},
    {0, NULL, SCOPE_NONE, NULL},
};
