/*
 * Any bytes as a configuration file: it is read or refused with a position, and what is read is read again
 * the same.
 */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/*
 * libfyaml 0.7 forgets 2 KiB of its own on some unclosed quotes. A file is parsed once per process, so that
 * is left to it; what we allocate is still checked.
 */
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = ERR_INIT;
    json_t *conf = config_parse((const char *)data, size, "fuzz", &e), *any, *again;
    char *text;

    if (!conf && strncmp(e.text, "fuzz:", 5) != 0)
        abort(); /* refused without a position */
    if (conf) {
        (void)json_object_del(conf, "host_env");
        text = json_dumps(conf, 0);
        again = text ? config_parse(text, strlen(text), "again", &e) : NULL;
        (void)json_object_del(again, "host_env");
        if (!json_equal(conf, again))
            abort(); /* the canonical form means something else */
        free(text);
        json_decref(again);
        json_decref(conf);
    }
    any = config_yaml_to_json((const char *)data, size, "fuzz", &e);
    text = any ? json_dumps(any, JSON_ENCODE_ANY) : NULL;
    if (any && !text)
        abort(); /* read, but not JSON */
    free(text);
    json_decref(any);
    return 0;
}
