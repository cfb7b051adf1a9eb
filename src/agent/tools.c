#include "agent/tools.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

const struct tool *tool_find(const char *name)
{
    const struct {
        const struct tool *tools;
        size_t n;
    } groups[] = {{tools_shell, tools_shell_n}, {tools_files, tools_files_n}, {tools_human, tools_human_n}};

    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            if (!strcmp(groups[g].tools[i].name, name))
                return &groups[g].tools[i];
    return NULL;
}

json_t *tool_definitions(const json_t *names)
{
    json_t *list = json_array(), *name;
    size_t i;

    json_array_foreach(names, i, name)
    {
        const struct tool *t = json_is_string(name) ? tool_find(json_string_value(name)) : NULL;
        json_t *schema = t ? json_loads(t->schema, 0, NULL) : NULL;
        if (schema)
            (void)json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", t->name, "description",
                                                        t->description, "input_schema", schema));
    }
    return list;
}

void tool_fail(struct tool_result *r, const char *fmt, ...)
{
    CLEANUP_FREE char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    free(r->text);
    r->text = text_clean(text, strlen(text), TOOL_OUTPUT_MAX);
    r->is_error = true;
}

const char *tool_string(const json_t *input, const char *key, struct tool_result *r)
{
    const json_t *v = json_object_get(input, key);
    const char *s = json_string_value(v);

    if (!s || strlen(s) != json_string_length(v)) {
        tool_fail(r, "the argument \"%s\" must be a string without NUL", key);
        return NULL;
    }
    return s;
}
