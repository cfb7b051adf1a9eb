/*
 * A table of members, each with its own small check; unknown members are errors. What is checked here is
 * shape: types, names, ranges, defaults. What an agent may have (limits, walls, mounts) is for the verifiers
 * (verify.c) to say.
 */
#include "gateway/agent_document.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "walls/wall.h"

enum {
    INSTRUCTIONS_MAX = 16 * 1024,
    COMMAND_WORDS_MAX = 64,
    COMMAND_WORD_MAX = 4096,
    ENV_MAX = 64,
    ENV_ENTRY_MAX = 4096,
    MOUNTS_MAX = 16,
    PEERS_MAX = 64,
    TOOLS_MAX = 32,
    MODEL_NAME_MAX = 128,
    PATH_TEXT_MAX = 1024,
};

static json_t *take_name(const char *key, const json_t *v, struct err *e)
{
    if (!json_is_string(v) || !io_valid_name(json_string_value(v))) {
        (void)err_set(e, EINVAL, "\"%s\" must be 1 to 63 of a-z 0-9 - _ . and start with a letter or digit",
                      key);
        return NULL;
    }
    return json_string(json_string_value(v));
}

static json_t *take_text(const char *key, const json_t *v, size_t max, struct err *e)
{
    if (!json_is_string(v) || json_string_length(v) > max ||
        strlen(json_string_value(v)) != json_string_length(v)) {
        (void)err_set(e, EINVAL, "\"%s\" must be text of at most %zu bytes, without NUL", key, max);
        return NULL;
    }
    return json_string(json_string_value(v));
}

static json_t *take_instructions(const char *key, const json_t *v, struct err *e)
{
    return take_text(key, v, INSTRUCTIONS_MAX, e);
}

static json_t *take_model(const char *key, const json_t *v, struct err *e)
{
    return take_text(key, v, MODEL_NAME_MAX, e);
}

/* An array of texts; the shape of each entry is the verifiers' business. */
static json_t *take_list(const char *key, const json_t *v, size_t max_items, size_t max_len, struct err *e)
{
    json_t *out = json_array(), *item;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > max_items) {
        (void)err_set(e, EINVAL, "\"%s\" must be a list of at most %zu texts", key, max_items);
        goto failed;
    }
    json_array_foreach(v, i, item)
    {
        json_t *copy = json_string_length(item) > 0 ? take_text(key, item, max_len, e) : NULL;
        if (!copy) {
            (void)err_set(e, EINVAL, "\"%s\"[%zu] must be a text of 1 to %zu bytes, without NUL", key, i,
                          max_len);
            goto failed;
        }
        (void)json_array_append_new(out, copy);
    }
    return out;
failed:
    json_decref(out);
    return NULL;
}

static json_t *take_command(const char *key, const json_t *v, struct err *e)
{
    return take_list(key, v, COMMAND_WORDS_MAX, COMMAND_WORD_MAX, e);
}

static json_t *take_tools(const char *key, const json_t *v, struct err *e)
{
    return take_list(key, v, TOOLS_MAX, 63, e);
}

static json_t *take_env(const char *key, const json_t *v, struct err *e)
{
    return take_list(key, v, ENV_MAX, ENV_ENTRY_MAX, e);
}

static json_t *take_peers(const char *key, const json_t *v, struct err *e)
{
    return take_list(key, v, PEERS_MAX, 63, e);
}

/* Members of `v` that are not in the NULL-terminated list `known` are errors. */
static int refuse_unknown(const char *key, const json_t *v, const char *const *known, struct err *e)
{
    const char *name;
    json_t *value;

    if (!json_is_object(v))
        return err_set(e, EINVAL, "\"%s\" must be an object", key);
    json_object_foreach((json_t *)(uintptr_t)v, name, value)
    {
        const char *const *k = known;
        while (*k && strcmp(*k, name) != 0)
            k++;
        if (!*k)
            return err_set(e, EINVAL, "\"%s.%s\" is not a known setting", key, name);
    }
    return 0;
}

static int take_count(json_t *out, const char *group, const char *key, const json_t *v, json_int_t min,
                      json_int_t max, struct err *e)
{
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return err_set(e, EINVAL, "\"%s.%s\" must be a whole number from %lld to %lld", group, key,
                       (long long)min, (long long)max);
    return json_object_set_new(out, key, json_integer(json_integer_value(v)));
}

static json_t *take_limits(const char *key, const json_t *v, struct err *e)
{
    static const char *const known[] = {"memory", "cpus", "pids", NULL};
    json_t *out = json_object();
    const json_t *memory = json_object_get(v, "memory"), *cpus = json_object_get(v, "cpus");
    uint64_t bytes = 0;

    if (refuse_unknown(key, v, known, e) < 0)
        goto failed;
    if (memory) {
        if (json_is_integer(memory) && json_integer_value(memory) > 0)
            bytes = (uint64_t)json_integer_value(memory);
        else if (!json_is_string(memory) || !io_parse_size(json_string_value(memory), &bytes))
            bytes = 0;
        if (bytes < 1 << 20) {
            (void)err_set(e, EINVAL,
                          "\"limits.memory\" must be bytes or a size such as \"256M\", at least 1M");
            goto failed;
        }
        (void)json_object_set_new(out, "memory", json_integer((json_int_t)bytes));
    }
    if (cpus) {
        double n = json_number_value(cpus);
        if (!json_is_number(cpus) || !isfinite(n) || n < 0.01 || n > 4096) {
            (void)err_set(e, EINVAL, "\"limits.cpus\" must be a number from 0.01 to 4096");
            goto failed;
        }
        (void)json_object_set_new(out, "cpus", json_real(n));
    }
    if (take_count(out, key, "pids", json_object_get(v, "pids"), 1, 1 << 22, e) < 0)
        goto failed;
    return out;
failed:
    json_decref(out);
    return NULL;
}

static json_t *take_model_limits(const char *key, const json_t *v, struct err *e)
{
    static const char *const known[] = {"requests_per_minute", "concurrency", "token_budget", NULL};
    json_t *out = json_object();

    if (refuse_unknown(key, v, known, e) < 0 ||
        take_count(out, key, known[0], json_object_get(v, known[0]), 0, 1000000, e) < 0 ||
        take_count(out, key, known[1], json_object_get(v, known[1]), 1, 1024, e) < 0 ||
        take_count(out, key, known[2], json_object_get(v, known[2]), 0, 1LL << 53, e) < 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *take_mount(size_t i, const json_t *m, struct err *e)
{
    static const char *const known[] = {"source", "target", "mode", NULL};
    const char *source = json_string_value(json_object_get(m, "source"));
    const char *target = json_string_value(json_object_get(m, "target"));
    const json_t *given = json_object_get(m, "mode");
    const char *mode = given ? json_string_value(given) : "ro";

    if (refuse_unknown("mounts[]", m, known, e) < 0)
        return NULL;
    if (!source || !target || strlen(source) > PATH_TEXT_MAX || strlen(target) > PATH_TEXT_MAX || !mode ||
        (strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0)) {
        (void)err_set(
            e, EINVAL,
            "\"mounts\"[%zu] must have \"source\" and \"target\" (paths) and \"mode\" \"ro\" or \"rw\"", i);
        return NULL;
    }
    return json_pack("{s:s,s:s,s:s}", "source", source, "target", target, "mode", mode);
}

static json_t *take_mounts(const char *key, const json_t *v, struct err *e)
{
    json_t *out = json_array(), *item;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > MOUNTS_MAX) {
        (void)err_set(e, EINVAL, "\"%s\" must be a list of at most %d mounts", key, MOUNTS_MAX);
        goto failed;
    }
    json_array_foreach(v, i, item)
    {
        json_t *m = take_mount(i, item, e);
        if (!m)
            goto failed;
        (void)json_array_append_new(out, m);
    }
    return out;
failed:
    json_decref(out);
    return NULL;
}

static const struct member {
    const char *key;
    json_t *(*take)(const char *key, const json_t *value, struct err *e);
    const char *fallback; /* JSON of the default; NULL: the member is required */
} members[] = {
    {"name", take_name, NULL},
    {"tenant", take_name, "\"default\""},
    {"image", take_name, "\"base\""},
    {"wall", take_name, "\"" WALL_DEFAULT "\""},
    {"command", take_command, "[\"/usr/bin/ironclaw-agent\"]"},
    {"instructions", take_instructions, "\"\""},
    {"tools", take_tools, "[]"},
    {"env", take_env, "[]"},
    {"limits", take_limits, "{}"},
    {"provider", take_name, "\"mock\""},
    {"model", take_model, "\"\""},
    {"model_limits", take_model_limits, "{}"},
    {"mounts", take_mounts, "[]"},
    {"peers", take_peers, "[]"},
};

static bool is_member(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (strcmp(members[i].key, key) == 0)
            return true;
    return false;
}

json_t *agent_document_normalise(const json_t *input, const json_t *config, struct err *e)
{
    json_t *out = json_object(), *value;
    const char *key;

    if (!json_is_object(input)) {
        (void)err_set(e, EINVAL, "an agent must be a JSON object");
        goto failed;
    }
    json_object_foreach((json_t *)(uintptr_t)input, key, value)
    {
        if (!is_member(key)) {
            (void)err_set(e, EINVAL, "\"%s\" is not a known setting of an agent", key);
            goto failed;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const struct member *m = &members[i];
        const json_t *given = json_object_get(input, m->key);
        json_t *fallback = NULL, *taken;
        if (!given && !m->fallback) {
            (void)err_set(e, EINVAL, "\"%s\" is missing", m->key);
            goto failed;
        }
        if (!given)
            fallback = json_loads(m->fallback, JSON_DECODE_ANY, NULL);
        taken = m->take(m->key, given ? given : fallback, e);
        json_decref(fallback);
        if (!taken)
            goto failed;
        (void)json_object_set_new(out, m->key, taken);
    }
    (void)json_object_update_missing(json_object_get(out, "limits"),
                                     json_object_get(config, "limits_default"));
    (void)json_object_update_missing(json_object_get(out, "model_limits"),
                                     json_object_get(config, "model_defaults"));
    return out;
failed:
    json_decref(out);
    return NULL;
}
