/*
 * config.c - checks a positioned YAML tree against the schema and writes the canonical JSON.
 *
 * One walk does it: every key must have a row in the schema, every value must fit its row, and every row
 * whose key is missing adds its default. Rules that span several keys come last, on the finished JSON, and
 * point at the line that broke them.
 */
#include "config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "config/schema.h"
#include "config/syslog_target.h"
#include "config/url.h"
#include "config/yaml.h"

struct check {
    const char *name; /* of the file, for errors */
    struct err *e;
};

static json_t *check_value(struct check *c, const struct ynode *n, const char *path, const char *shown);

__attribute__((format(printf, 3, 4))) static json_t *refuse(const struct check *c, const struct ynode *n,
                                                            const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(what, sizeof(what), fmt, ap) < 0)
        what[0] = 0;
    va_end(ap);
    (void)err_set(c->e, EINVAL, "%s:%d:%d: %s", c->name, n->line, n->column, what);
    return NULL;
}

/* Letters in common from the start: enough to tell the key that was probably meant. */
static const char *nearest_key(const char *prefix, const char *key)
{
    const char *best = NULL;
    size_t best_len = 2, plen = strlen(prefix);

    for (size_t i = 0; i < config_nkeys; i++) {
        const char *p = config_keys[i].path, *name;
        size_t same = 0;
        if (strncmp(p, prefix, plen) != 0 || (plen > 0 && p[plen] != '.'))
            continue;
        name = plen > 0 ? p + plen + 1 : p;
        if (!*name || strpbrk(name, ".[*"))
            continue;
        while (key[same] && key[same] == name[same])
            same++;
        if (same > best_len) {
            best = name;
            best_len = same;
        }
    }
    return best;
}

static json_t *unknown_key(const struct check *c, const struct ynode *child, const char *path)
{
    const char *meant = nearest_key(path, child->key);

    (void)err_set(c->e, EINVAL, "%s:%d:%d: unknown key '%.64s'%s%s%s%s%s", c->name, child->key_line,
                  child->key_column, child->key, *path ? " in '" : "", path, *path ? "'" : "",
                  meant ? "; did you mean " : "", meant ? meant : "");
    return NULL;
}

/* Adds the default of every key of the section `path` that `out` does not have. */
static int add_defaults(struct check *c, json_t *out, const struct ynode *n, const char *path)
{
    size_t plen = strlen(path);

    for (size_t i = 0; i < config_nkeys; i++) {
        const struct config_key *k = &config_keys[i];
        const char *name;
        json_t *v;
        if (strncmp(k->path, path, plen) != 0 || !k->path[plen] || (plen > 0 && k->path[plen] != '.'))
            continue;
        name = k->path + (plen > 0 ? plen + 1 : 0);
        if (strpbrk(name, ".[*") || json_object_get(out, name))
            continue;
        if (!k->def) {
            (void)refuse(c, n, "the key '%s' is missing here", name);
            return -1;
        }
        v = json_loads(k->def, JSON_DECODE_ANY, NULL);
        if (k->type == CONFIG_SECTION && add_defaults(c, v, n, k->path) < 0) {
            json_decref(v);
            return -1;
        }
        (void)json_object_set_new(out, name, v);
    }
    return 0;
}

static json_t *check_map(struct check *c, const struct ynode *n, const struct config_key *k,
                         const char *shown)
{
    json_t *out, *v;
    size_t count = 0;

    if (n->kind == YNODE_SCALAR && json_is_null(n->scalar) && k->type == CONFIG_NAMED)
        return json_loads(k->def, 0, NULL);
    if (n->kind != YNODE_MAP && !(n->kind == YNODE_SCALAR && json_is_null(n->scalar)))
        return refuse(c, n, "'%s' must be a map of keys", *shown ? shown : "the configuration");
    out = k->type == CONFIG_NAMED ? json_loads(k->def, 0, NULL) : json_object();
    for (const struct ynode *child = n->first; child; child = child->next) {
        CLEANUP_FREE char *path = NULL;
        CLEANUP_FREE char *name = x_asprintf("%s%s%s", shown, *shown ? "." : "", child->key);
        if (k->type == CONFIG_NAMED) {
            path = x_asprintf("%s.*", k->path);
            if (!io_valid_name(child->key)) {
                (void)refuse(
                    c, child,
                    "'%.64s' is not a name; use 1-63 of a-z 0-9 - _ . starting with a letter or digit",
                    child->key);
                goto failed;
            }
            if (++count > (size_t)k->max) {
                (void)refuse(c, child, "'%s' has more than the %.0f entries allowed", shown, k->max);
                goto failed;
            }
        } else {
            path = x_asprintf("%s%s%s", k->path, *k->path ? "." : "", child->key);
            if (!config_key_find(path) || strpbrk(child->key, ".[*") || !*child->key) {
                (void)unknown_key(c, child, k->path);
                goto failed;
            }
        }
        v = check_value(c, child, path, name);
        if (!v)
            goto failed;
        (void)json_object_set_new_nocheck(out, child->key, v);
    }
    if (k->type == CONFIG_SECTION && add_defaults(c, out, n, k->path) < 0)
        goto failed;
    return out;
failed:
    json_decref(out);
    return NULL;
}

static json_t *check_list(struct check *c, const struct ynode *n, const struct config_key *k,
                          const char *shown)
{
    CLEANUP_FREE char *path = x_asprintf("%s[]", k->path);
    json_t *out, *v;

    if (n->kind != YNODE_LIST)
        return refuse(c, n, "'%s' must be a list", shown);
    out = json_array();
    for (const struct ynode *child = n->first; child; child = child->next) {
        CLEANUP_FREE char *name = x_asprintf("%s[%zu]", shown, json_array_size(out));
        if ((double)json_array_size(out) >= k->max) {
            (void)refuse(c, child, "'%s' has more than the %.0f entries allowed", shown, k->max);
            goto failed;
        }
        v = check_value(c, child, path, name);
        if (!v)
            goto failed;
        (void)json_array_append_new(out, v);
    }
    return out;
failed:
    json_decref(out);
    return NULL;
}

static json_t *check_number(struct check *c, const struct ynode *n, const struct config_key *k,
                            const char *shown)
{
    json_t *v = n->scalar;
    uint64_t bytes = 0;
    double x;

    if (k->type == CONFIG_SIZE && json_is_string(v)) {
        if (!io_parse_size(json_string_value(v), &bytes))
            return refuse(c, n, "'%s' must be a size such as 268435456 or 256M", shown);
        x = (double)bytes;
    } else if (json_is_integer(v)) {
        x = (double)json_integer_value(v);
        bytes = x > 0 ? (uint64_t)json_integer_value(v) : 0;
    } else if (json_is_real(v) && k->type == CONFIG_NUMBER) {
        x = json_real_value(v);
    } else {
        return refuse(c, n, "'%s' must be %s", shown,
                      k->type == CONFIG_INT    ? "an integer"
                      : k->type == CONFIG_SIZE ? "a size such as 268435456 or 256M"
                                               : "a number");
    }
    if (!(x >= k->min && x <= k->max))
        return refuse(c, n, "'%s' must be between %.15g and %.15g", shown, k->min, k->max);
    if (k->type == CONFIG_NUMBER)
        return json_real(x);
    return json_integer((json_int_t)(k->type == CONFIG_SIZE ? bytes : (uint64_t)json_integer_value(v)));
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);

    if (strchr(text, '|'))
        return false;
    for (const char *p = choices; p && len > 0; p = strchr(p, '|')) {
        p += *p == '|';
        if (!strncmp(p, text, len) && (p[len] == '|' || !p[len]))
            return true;
    }
    return false;
}

static bool is_env_name(const char *s)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

    return *s && !(*s >= '0' && *s <= '9') && strlen(s) <= 128 && strspn(s, letters) == strlen(s);
}

/* Absolute, without "." or ".." components and control characters. */
static bool is_path(const char *s)
{
    if (*s != '/' || strlen(s) > 1024)
        return false;
    for (const char *p = s; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
        if (*p != '/' || p[1] != '.')
            continue;
        if (p[2] == '/' || !p[2] || (p[2] == '.' && (p[3] == '/' || !p[3])))
            return false;
    }
    return true;
}

static json_t *check_text(struct check *c, const struct ynode *n, const struct config_key *k,
                          const char *shown)
{
    const char *s = json_string_value(n->scalar);
    struct syslog_target target;
    unsigned char addr[16];
    const char *why;

    if (!s)
        return refuse(c, n, "'%s' must be text%s", shown,
                      k->type == CONFIG_CHOICE ? " (one of its choices)" : "");
    switch (k->type) {
    case CONFIG_PATH:
        if (!is_path(s) && !(k->def && !*s))
            return refuse(c, n, "'%s' must be an absolute path without '.' or '..'", shown);
        break;
    case CONFIG_CHOICE:
        if (!is_choice(k->choices, s))
            return refuse(c, n, "'%s' must be one of %s, not '%.64s'", shown, k->choices, s);
        break;
    case CONFIG_ENV:
        if (!is_env_name(s))
            return refuse(c, n, "'%s' must be the name of an environment variable, not '%.64s'", shown, s);
        break;
    case CONFIG_IP:
        if (inet_pton(AF_INET, s, addr) != 1 && inet_pton(AF_INET6, s, addr) != 1)
            return refuse(c, n, "'%s' must be a numeric IP address, not '%.64s'", shown, s);
        break;
    case CONFIG_URL:
        if ((why = url_check(s)))
            return refuse(c, n, "'%s' %s", shown, why);
        break;
    case CONFIG_SYSLOG:
        if (*s && !syslog_target_parse(s, &target))
            return refuse(c, n, "'%s' must be unix:/PATH or udp:ADDRESS:PORT with a numeric address", shown);
        break;
    default:
        if ((double)strlen(s) < k->min || (double)strlen(s) > k->max)
            return refuse(c, n, "'%s' must have %.0f to %.0f bytes", shown, k->min, k->max);
    }
    return json_incref(n->scalar);
}

static json_t *check_value(struct check *c, const struct ynode *n, const char *path, const char *shown)
{
    const struct config_key *k = config_key_find(path);

    if (k->type == CONFIG_SECTION || k->type == CONFIG_NAMED)
        return check_map(c, n, k, shown);
    if (k->type == CONFIG_LIST)
        return check_list(c, n, k, shown);
    if (n->kind != YNODE_SCALAR)
        return refuse(c, n, "'%s' must be a single value, not a %s", shown,
                      n->kind == YNODE_LIST ? "list" : "map");
    if (k->type == CONFIG_INT || k->type == CONFIG_NUMBER || k->type == CONFIG_SIZE)
        return check_number(c, n, k, shown);
    if (k->type == CONFIG_BOOL)
        return json_is_boolean(n->scalar) ? json_incref(n->scalar)
                                          : refuse(c, n, "'%s' must be true or false", shown);
    return check_text(c, n, k, shown);
}

/* The node to blame for section.key: the key if it was written, else its section, else the document. */
static const struct ynode *blame(const struct ynode *root, const char *section, const char *key)
{
    const struct ynode *s = ynode_get(root, section);
    const struct ynode *k = s ? ynode_get(s, key) : NULL;

    return k ? k : s ? s : root;
}

static int check_whole(struct check *c, const struct ynode *root, const json_t *conf)
{
    static const char *const limits[] = {"memory", "cpus", "pids"};
    const struct ynode *providers = ynode_get(root, "providers");

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        double def = json_number_value(json_object_get(json_object_get(conf, "limits_default"), limits[i]));
        double max = json_number_value(json_object_get(json_object_get(conf, "limits_max"), limits[i]));
        if (def <= max)
            continue;
        const struct ynode *at = blame(root, "limits_default", limits[i]);
        if (at == root)
            at = blame(root, "limits_max", limits[i]);
        (void)refuse(c, at, "limits_default.%s (%.15g) is above limits_max.%s (%.15g)", limits[i], def,
                     limits[i], max);
        return -1;
    }
    if (providers && ynode_get(providers, "mock")) {
        (void)refuse(c, ynode_get(providers, "mock"),
                     "the provider 'mock' is built in and cannot be redefined");
        return -1;
    }
    return 0;
}

json_t *config_parse(const char *text, size_t len, const char *name, struct err *e)
{
    struct check c = {.name = name, .e = e};
    struct ynode *root = ynode_parse(text, len, name, e);
    json_t *conf;

    if (!root)
        return NULL;
    conf = check_value(&c, root, "", "");
    if (conf && check_whole(&c, root, conf) < 0) {
        json_decref(conf);
        conf = NULL;
    }
    ynode_free(root);
    if (conf)
        (void)json_object_set_new(conf, "host_env", json_object());
    return conf;
}

static char *default_state_dir(struct err *e)
{
    const char *set = getenv("IRONCLAW_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (set && *set) { /* the same variable the client goes by: both must mean one directory */
        if (is_path(set))
            return x_strdup(set);
        (void)err_set(e, EINVAL, "IRONCLAW_STATE_DIR must be an absolute path without '.' or '..'");
        return NULL;
    }
    if (geteuid() == 0)
        return x_strdup("/var/lib/ironclaw");
    if (xdg && is_path(xdg))
        return x_asprintf("%s/ironclaw", xdg);
    if (home && is_path(home))
        return x_asprintf("%s/.local/state/ironclaw", home);
    (void)err_set(
        e, ENOENT,
        "there is no default state directory because HOME is not set; set state_dir or --state-dir");
    return NULL;
}

json_t *config_load(const char *path, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    size_t len = 0, i;
    json_t *conf, *name, *env;

    if (path && io_read_file(AT_FDCWD, path, YAML_SIZE_MAX, &text, &len, e) < 0)
        return NULL;
    conf = config_parse(text ? text : "", len, path ? path : "defaults", e);
    if (!conf)
        return NULL;
    if (!*json_string_value(json_object_get(conf, "state_dir"))) {
        CLEANUP_FREE char *dir = default_state_dir(e);
        if (!dir) {
            json_decref(conf);
            return NULL;
        }
        (void)json_object_set_new(conf, "state_dir", json_string(dir));
    }
    env = json_object_get(conf, "host_env");
    json_array_foreach(json_object_get(conf, "env_allowed"), i, name)
    {
        const char *value = getenv(json_string_value(name));
        if (value)
            (void)json_object_set_new(env, json_string_value(name), json_string(value));
    }
    return conf;
}

json_t *config_yaml_to_json(const char *text, size_t len, const char *name, struct err *e)
{
    struct ynode *root = ynode_parse(text, len, name, e);
    json_t *out = root ? ynode_to_json(root) : NULL;

    ynode_free(root);
    return out;
}
