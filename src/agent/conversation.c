#include "agent/conversation.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

void conversation_init(struct conversation *c)
{
    c->messages = json_array();
    c->awaiting = NULL;
}

void conversation_free(struct conversation *c)
{
    json_decref(c->messages);
    json_decref(c->awaiting);
    c->messages = c->awaiting = NULL;
}

static json_t *last(const struct conversation *c, const char *role)
{
    size_t n = json_array_size(c->messages);
    json_t *m = n ? json_array_get(c->messages, n - 1) : NULL;
    const char *has = json_string_value(json_object_get(m, "role"));

    return has && !strcmp(has, role) ? m : NULL;
}

static void add(struct conversation *c, const char *role, json_t *content)
{
    (void)json_array_append_new(c->messages, json_pack("{s:s, s:o}", "role", role, "content", content));
}

/* Adds text to the last message of this role or starts a new one. */
static void add_text(struct conversation *c, const char *role, const char *text)
{
    json_t *m = last(c, role), *block, *content = json_object_get(m, "content");

    if (!*text)
        text = "(empty message)"; /* the API refuses empty text blocks */
    block = json_pack("{s:s, s:s}", "type", "text", "text", text);
    if (content)
        (void)json_array_append_new(content, block);
    else
        add(c, role, json_pack("[o]", block));
}

void conversation_user(struct conversation *c, const char *text)
{
    json_t *results, *r;
    size_t i;

    if (!c->awaiting) {
        add_text(c, "user", text);
        return;
    }
    results = c->awaiting;
    c->awaiting = NULL;
    json_array_foreach(results, i, r)
    {
        if (!json_object_get(r, "content"))
            (void)json_object_set_new(r, "content", json_string(text));
    }
    add(c, "user", results);
}

void conversation_assistant(struct conversation *c, const char *text)
{
    if (json_array_size(c->messages) == 0)
        add_text(c, "user", "(the conversation so far was cut here)");
    add_text(c, "assistant", text);
}

void conversation_blocks(struct conversation *c, json_t *blocks)
{
    if (json_array_size(blocks) == 0)
        (void)json_array_append_new(blocks, json_pack("{s:s, s:s}", "type", "text", "text", "(no answer)"));
    add(c, "assistant", blocks);
}

void conversation_results(struct conversation *c, json_t *results)
{
    json_t *r;
    size_t i;

    json_array_foreach(results, i, r)
    {
        if (!json_object_get(r, "content")) {
            json_decref(c->awaiting);
            c->awaiting = results;
            return;
        }
    }
    add(c, "user", results);
}

static size_t size_of(const json_t *v)
{
    return json_dumpb(v, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
}

static bool starts_turn(const json_t *m)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    const char *type =
        json_string_value(json_object_get(json_array_get(json_object_get(m, "content"), 0), "type"));

    return role && type && !strcmp(role, "user") && !strcmp(type, "text");
}

void conversation_trim(struct conversation *c)
{
    size_t size = size_of(c->messages), n = json_array_size(c->messages), cut = 0, gone = 0, seen = 0;

    /* Turns are dropped whole: a cut is made only where a turn starts. */
    for (size_t i = 0; i + 1 < n; i++) {
        if (size - gone <= CONVERSATION_MAX && n - cut <= CONVERSATION_MESSAGES_MAX)
            break;
        seen += size_of(json_array_get(c->messages, i)) + 1;
        if (starts_turn(json_array_get(c->messages, i + 1))) {
            cut = i + 1;
            gone = seen;
        }
    }
    for (; cut > 0; cut--)
        (void)json_array_remove(c->messages, 0);
}
