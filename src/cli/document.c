#include "cli/document.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "config/config.h"

json_t *document_from_file(const char *path)
{
    bool std = !strcmp(path, "-");
    CLEANUP_FREE char *text = NULL;
    struct err e = ERR_INIT;
    size_t len = 0;
    json_t *doc;
    int rc = std ? io_read_fd(STDIN_FILENO, "stdin", CLI_FILE_MAX, &text, &len, &e)
                 : io_read_file(AT_FDCWD, path, CLI_FILE_MAX, &text, &len, &e);

    doc = rc == 0 ? config_yaml_to_json(text, len, std ? "stdin" : path, &e) : NULL;
    if (!doc) {
        (void)cli_fail(CLI_FAILED, "%s", e.text);
        return NULL;
    }
    if (!json_is_object(doc)) {
        json_decref(doc);
        (void)cli_fail(CLI_FAILED, "%s must hold a map of keys, as in docs/cli.md", path);
        return NULL;
    }
    return doc;
}

/* "a,b" as a list; "" is the empty list. */
static json_t *split(const char *text)
{
    json_t *out = json_array();

    while (*text) {
        size_t len = strcspn(text, ",");
        if (len > 0)
            (void)json_array_append_new(out, json_stringn(text, len));
        text += len + (text[len] == ',');
    }
    return out;
}

/* SRC:DST or SRC:DST:rw. Returns NULL after saying what is wrong. */
static json_t *mount(const char *text)
{
    CLEANUP_FREE char *copy = x_strdup(text);
    char *dst = strchr(copy, ':'), *mode = dst ? strchr(dst + 1, ':') : NULL;

    if (dst)
        *dst++ = 0;
    if (mode)
        *mode++ = 0;
    if (!dst || *copy != '/' || *dst != '/' || (mode && strcmp(mode, "rw") != 0 && strcmp(mode, "ro") != 0)) {
        (void)cli_fail(CLI_USAGE, "--mount takes SRC:DST or SRC:DST:rw with absolute paths, not '%.128s'",
                       text);
        return NULL;
    }
    return json_pack("{s:s,s:s,s:s}", "source", copy, "target", dst, "mode", mode ? mode : "ro");
}

static int take_limits(const struct args *a, json_t *doc)
{
    const char *memory = args_get(a, "memory"), *cpus = args_get(a, "cpus"), *pids = args_get(a, "pids");
    json_t *limits = json_object_get(doc, "limits");
    uint64_t n;
    char *end;

    if (!memory && !cpus && !pids)
        return 0;
    if (!json_is_object(limits)) {
        limits = json_object();
        (void)json_object_set_new(doc, "limits", limits);
    }
    if (memory) {
        if (!io_parse_size(memory, &n))
            return cli_fail(CLI_USAGE, "--memory takes a size such as 256M, not '%.32s'", memory);
        (void)json_object_set_new(limits, "memory", json_integer((json_int_t)n));
    }
    if (cpus) {
        double v = strtod(cpus, &end);
        if (!*cpus || *end || !(v > 0 && v <= 1024))
            return cli_fail(CLI_USAGE, "--cpus takes a number such as 0.5, not '%.32s'", cpus);
        (void)json_object_set_new(limits, "cpus", json_real(v));
    }
    if (pids) {
        if (!io_parse_u64(pids, INT32_MAX, &n))
            return cli_fail(CLI_USAGE, "--pids takes a whole number, not '%.32s'", pids);
        (void)json_object_set_new(limits, "pids", json_integer((json_int_t)n));
    }
    return 0;
}

static int take_lists(const struct args *a, json_t *doc)
{
    static const char *const lists[] = {"tools", "peers"};
    json_t *list;

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (args_has(a, lists[i]))
            (void)json_object_set_new(doc, lists[i], split(args_get(a, lists[i])));
    if (args_has(a, "env")) {
        list = json_array();
        for (int i = 0; args_nth(a, "env", i); i++)
            (void)json_array_append_new(list, json_string(args_nth(a, "env", i)));
        (void)json_object_set_new(doc, "env", list);
    }
    if (args_has(a, "mount")) {
        list = json_array();
        for (int i = 0; args_nth(a, "mount", i); i++) {
            json_t *m = mount(args_nth(a, "mount", i));
            if (!m) {
                json_decref(list);
                return CLI_USAGE;
            }
            (void)json_array_append_new(list, m);
        }
        (void)json_object_set_new(doc, "mounts", list);
    }
    if (a->nrest > 0) {
        list = json_array();
        for (int i = 0; i < a->nrest; i++)
            (void)json_array_append_new(list, json_string(a->rest[i]));
        (void)json_object_set_new(doc, "command", list);
    }
    return 0;
}

json_t *document_from_options(const struct args *a)
{
    static const char *const texts[] = {"instructions", "image", "wall", "provider", "model", "tenant"};
    json_t *doc = args_has(a, "file") ? document_from_file(args_get(a, "file")) : json_object();

    if (!doc)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (args_has(a, texts[i]))
            (void)json_object_set_new(doc, texts[i], json_string(args_get(a, texts[i])));
    if (take_limits(a, doc) != 0 || take_lists(a, doc) != 0) {
        json_decref(doc);
        return NULL;
    }
    return doc;
}
