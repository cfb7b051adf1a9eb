#include "gateway/verify.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"

/* Returns 0, or -1 with the reason in e. */
typedef int (*verifier_fn)(const json_t *after, const json_t *config, struct err *e);

static const char *text_of(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(o, key));

    return t ? t : "";
}

/* Weakest first. A cell is one boundary, narrower than a container's; the others put two in a row. */
static const struct {
    const char *name;
    int rank;
} walls[] = {{"container", 1}, {"cell", 2}, {"gvisor", 3}, {"microvm", 4}};

static int wall_rank(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(walls); i++)
        if (strcmp(walls[i].name, name) == 0)
            return walls[i].rank;
    return 0;
}

static int verify_tenant(const json_t *after, const json_t *config, struct err *e)
{
    const char *tenant = text_of(after, "tenant");

    if (strcmp(tenant, "default") == 0 || json_object_get(json_object_get(config, "tenants"), tenant))
        return 0;
    return err_set(e, 0, "tenant \"%s\" is not in the configuration", tenant);
}

static int verify_wall(const json_t *after, const json_t *config, struct err *e)
{
    const char *wall = text_of(after, "wall");
    const json_t *tenant = json_object_get(json_object_get(config, "tenants"), text_of(after, "tenant"));
    const char *minimum[] = {text_of(config, "wall_minimum"), text_of(tenant, "wall_minimum")};

    if (wall_rank(wall) == 0)
        return err_set(e, 0, "wall \"%s\" is not one of container, cell, gvisor, microvm", wall);
    for (size_t i = 0; i < ARRAY_LEN(minimum); i++)
        if (wall_rank(wall) < wall_rank(minimum[i]))
            return err_set(e, 0, "wall \"%s\" is weaker than the %s minimum \"%s\"", wall,
                           i ? "tenant's" : "configured", minimum[i]);
    return 0;
}

static int verify_limits(const json_t *after, const json_t *config, struct err *e)
{
    static const char *const keys[] = {"memory", "cpus", "pids"};
    const json_t *limits = json_object_get(after, "limits"), *max = json_object_get(config, "limits_max");

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const json_t *have = json_object_get(limits, keys[i]), *cap = json_object_get(max, keys[i]);
        if (!have)
            return err_set(e, 0, "limits.%s is missing and has no default", keys[i]);
        if (cap && json_number_value(have) > json_number_value(cap))
            return err_set(e, 0, "limits.%s %g is above the configured maximum %g", keys[i],
                           json_number_value(have), json_number_value(cap));
    }
    return 0;
}

bool verify_path_is_normal(const char *path)
{
    if (path[0] != '/' || strchr(path, '\n'))
        return false;
    if (!path[1])
        return true;
    for (const char *at = path; *at;) {
        const char *name = at + 1;
        size_t len = strcspn(name, "/");
        if (len == 0 || (len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0))
            return false;
        at = name + len;
    }
    return true;
}

/* `path` is `dir` or lies below it; both normal. */
static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    if (strcmp(dir, "/") == 0)
        return true;
    return strncmp(path, dir, len) == 0 && (path[len] == 0 || path[len] == '/');
}

static bool source_allowed(const char *source, const json_t *allowed)
{
    json_t *dir;
    size_t i;

    json_array_foreach(allowed, i, dir) if (json_is_string(dir) &&
                                            verify_path_is_normal(json_string_value(dir)) &&
                                            is_below(source, json_string_value(dir))) return true;
    return false;
}

static int verify_mounts(const json_t *after, const json_t *config, struct err *e)
{
    static const char *const kept[] = {"/proc", "/sys", "/dev", "/run", "/workspace"};
    const json_t *mounts = json_object_get(after, "mounts");
    json_t *m;
    size_t i;

    json_array_foreach(mounts, i, m)
    {
        const char *source = text_of(m, "source"), *target = text_of(m, "target");
        if (!verify_path_is_normal(source) || !verify_path_is_normal(target))
            return err_set(e, 0,
                           "mounts[%zu]: source and target must be absolute and free of \".\", \"..\" and "
                           "double or trailing slashes",
                           i);
        if (!source_allowed(source, json_object_get(config, "mounts_allowed")))
            return err_set(e, 0, "mounts[%zu]: source \"%s\" is not below any directory of mounts_allowed", i,
                           source);
        if (strcmp(target, "/") == 0)
            return err_set(e, 0, "mounts[%zu]: target \"/\" would cover the image", i);
        for (size_t k = 0; k < ARRAY_LEN(kept); k++)
            if (is_below(target, kept[k]))
                return err_set(e, 0, "mounts[%zu]: target \"%s\" is in %s, which belongs to the sandbox", i,
                               target, kept[k]);
    }
    return 0;
}

static int verify_tools(const json_t *after, const json_t *config, struct err *e)
{
    static const char *const known[] = {"shell",        "read_file", "write_file",    "list_files",
                                        "send_message", "ask_human", "request_change"};
    json_t *t;
    size_t i, k;

    (void)config;
    json_array_foreach(json_object_get(after, "tools"), i, t)
    {
        for (k = 0; k < ARRAY_LEN(known); k++)
            if (strcmp(known[k], json_string_value(t)) == 0)
                break;
        if (k == ARRAY_LEN(known))
            return err_set(e, 0, "tool \"%.64s\" is not known", json_string_value(t));
    }
    return 0;
}

static bool env_name_ok(const char *entry, size_t len)
{
    if (len == 0 || len > 128 || (entry[0] >= '0' && entry[0] <= '9'))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = entry[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

static bool env_allowed(const char *name, const json_t *config)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(config, "env_allowed"), i,
                       a) if (json_is_string(a) && strcmp(json_string_value(a), name) == 0) return true;
    return false;
}

static int verify_env(const json_t *after, const json_t *config, struct err *e)
{
    /* Preset by the sandbox, or able to change what a program loads before it starts. */
    static const char *const refused[] = {"IRONCLAW_", "LD_",         "ANTHROPIC_",
                                          "OPENAI_",   "HTTPS_PROXY", "HTTP_PROXY"};
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(after, "env"), i, v)
    {
        const char *entry = json_string_value(v);
        size_t len = strcspn(entry, "=");
        if (!env_name_ok(entry, len))
            return err_set(e, 0, "env[%zu]: the name must be letters, digits and _", i);
        if (entry[len] == 0 && !env_allowed(entry, config))
            return err_set(e, 0, "env \"%s\" is not in env_allowed", entry);
        for (size_t k = 0; k < ARRAY_LEN(refused); k++)
            if (strncmp(entry, refused[k], strlen(refused[k])) == 0)
                return err_set(e, 0, "env \"%.*s\" is set by the sandbox itself", (int)len, entry);
    }
    return 0;
}

static int verify_provider(const json_t *after, const json_t *config, struct err *e)
{
    const char *provider = text_of(after, "provider");

    if (strcmp(provider, "mock") == 0 || json_object_get(json_object_get(config, "providers"), provider))
        return 0;
    return err_set(e, 0, "provider \"%s\" is neither in the configuration nor \"mock\"", provider);
}

static int verify_command(const json_t *after, const json_t *config, struct err *e)
{
    const json_t *command = json_object_get(after, "command");
    const char *program = json_string_value(json_array_get(command, 0));

    (void)config;
    if (!program)
        return err_set(e, 0, "command must not be empty");
    if (!verify_path_is_normal(program))
        return err_set(e, 0, "command[0] must be the absolute path of a program, without \".\" or \"..\"");
    return 0;
}

static int verify_peers(const json_t *after, const json_t *config, struct err *e)
{
    json_t *p;
    size_t i;

    (void)config;
    json_array_foreach(json_object_get(after, "peers"), i,
                       p) if (!io_valid_name(json_string_value(p)) ||
                              strcmp(json_string_value(p), text_of(after, "name")) ==
                                  0) return err_set(e, 0, "peers[%zu] must be the name of another agent", i);
    return 0;
}

static const struct {
    const char *name;
    verifier_fn run;
} verifiers[] = {
    {"tenant", verify_tenant},     {"wall", verify_wall},       {"limits", verify_limits},
    {"mounts", verify_mounts},     {"tools", verify_tools},     {"env", verify_env},
    {"provider", verify_provider}, {"command", verify_command}, {"peers", verify_peers},
};

json_t *verify_agent(const json_t *after, const json_t *config, bool *ok)
{
    json_t *list = json_array();

    *ok = true;
    for (size_t i = 0; i < ARRAY_LEN(verifiers); i++) {
        struct err e = ERR_INIT;
        bool good = verifiers[i].run(after, config, &e) == 0;
        *ok = *ok && good;
        json_t *reason = json_string(good ? "" : e.text);
        if (!reason) /* a quoted name was cut inside a character */
            reason = json_string("the value is refused");
        (void)json_array_append_new(list, json_pack("{s:s,s:b,s:o}", "verifier", verifiers[i].name, "ok",
                                                    (int)good, "reason", reason));
    }
    return list;
}
