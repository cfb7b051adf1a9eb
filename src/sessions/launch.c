/*
 * launch.c - turns an agent's document into the sandbox spec that the launcher gets: nothing is left to look
 * up.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "sessions/session_impl.h"

/* What every program in a sandbox finds (docs/ports.md): where its ports are. The keys are placeholders that
 * clients insist on. */
static const char *const presets[] = {
    "ANTHROPIC_BASE_URL=http://127.0.0.1:8471",
    "OPENAI_BASE_URL=http://127.0.0.1:8471/v1",
    "ANTHROPIC_API_KEY=ironclaw",
    "OPENAI_API_KEY=ironclaw",
    "IRONCLAW_QUEUE=/run/ironclaw/queue.sock",
    "IRONCLAW_MODEL=/run/ironclaw/model.sock",
};

/* "NAME=VALUE" as it stands; "NAME" takes the host's value, if the host has one. */
static json_t *resolve_env(const json_t *env, const json_t *host)
{
    json_t *out = json_array(), *entry;
    size_t i;

    json_array_foreach(env, i, entry)
    {
        const char *text = json_string_value(entry), *value;
        if (strchr(text, '=')) {
            (void)json_array_append(out, entry);
            continue;
        }
        value = json_string_value(json_object_get(host, text));
        if (value) {
            CLEANUP_FREE char *pair = x_asprintf("%s=%s", text, value);
            (void)json_array_append_new(out, json_string(pair));
        }
    }
    return out;
}

char *launch_spec(const struct session *s, const json_t *agent)
{
    const json_t *limits = json_object_get(agent, "limits");
    json_t *spec = json_object(), *env;
    CLEANUP_FREE char *session = x_asprintf("IRONCLAW_SESSION=%s", s->id);
    char *text;

    (void)json_object_set_new(spec, "agent", json_string(s->agent));
    (void)json_object_set(spec, "wall", json_object_get(agent, "wall"));
    (void)json_object_set(spec, "image", json_object_get(agent, "image"));
    (void)json_object_set(spec, "command", json_object_get(agent, "command"));
    (void)json_object_set(spec, "mounts", json_object_get(agent, "mounts"));
    (void)json_object_set(spec, "memory", json_object_get(limits, "memory"));
    (void)json_object_set(spec, "cpus", json_object_get(limits, "cpus"));
    (void)json_object_set(spec, "pids", json_object_get(limits, "pids"));
    env = resolve_env(json_object_get(agent, "env"), json_object_get(s->h->config, "host_env"));
    for (size_t i = 0; i < ARRAY_LEN(presets); i++)
        (void)json_array_append_new(env, json_string(presets[i]));
    (void)json_array_append_new(env, json_string(session));
    (void)json_object_set_new(spec, "env", env);
    text = json_dumps(spec, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(spec);
    return text ? text : x_strdup("{}");
}
