#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/output.h"

static bool quiet;

void cli_quiet(bool on)
{
    quiet = on;
}

int cli_fail(int status, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    if (quiet)
        return status;
    (void)fflush(stdout);
    (void)fputs("ironclaw: ", stderr);
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    output_untrusted(stderr, text); /* a sentence of the control plane's may quote an agent */
    free(text);
    (void)fputc('\n', stderr);
    return status;
}

int cli_check_name(const char *what, const char *text)
{
    if (io_valid_name(text))
        return 0;
    return cli_fail(CLI_USAGE, "'%.64s' is not the name of %s; names have 1 to 63 of a-z 0-9 - _ .", text,
                    what);
}

static const struct cli_option *find_in(const struct cli_option *o, const char *name, size_t len)
{
    for (; o && o->name; o++)
        if (strlen(o->name) == len && !strncmp(o->name, name, len))
            return o;
    return NULL;
}

static const struct cli_option *find(const struct verb *v, const char *name, size_t len)
{
    const struct cli_option *o = find_in(v->options, name, len);

    return o ? o : find_in(cli_global_options, name, len);
}

static int verb_usage(const struct verb *v, const char *what, const char *arg)
{
    return cli_fail(CLI_USAGE, "%s%s%s; see 'ironclaw %s%s%s --help'", what, *arg ? " " : "", arg, v->group,
                    v->sub ? " " : "", v->sub ? v->sub : "");
}

/* Takes argv[*i] as an option, and argv[*i + 1] as its value where it has one. */
static int take_option(struct args *a, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    const struct cli_option *o = find(a->verb, name, equals ? (size_t)(equals - name) : strlen(name));
    const char *value = "";

    if (!o)
        return verb_usage(a->verb, "there is no option", argv[*i]);
    if (a->ngiven == CLI_OPTIONS_MAX)
        return verb_usage(a->verb, "too many options are given", "");
    if (!o->value && equals)
        return verb_usage(a->verb, "this option takes no value:", argv[*i]);
    if (o->value && strstr(o->value, "...") && !equals) {
        a->rest = (const char **)(void *)&argv[*i + 1];
        a->nrest = argc - *i - 1;
        *i = argc;
        if (a->nrest == 0)
            return verb_usage(a->verb, "this option needs a value: --", o->name);
    } else if (o->value && equals) {
        value = equals + 1;
    } else if (o->value) {
        if (*i + 1 >= argc)
            return verb_usage(a->verb, "this option needs a value:", argv[*i]);
        value = argv[++*i];
    }
    a->given[a->ngiven].name = o->name;
    a->given[a->ngiven++].value = value;
    return 0;
}

int args_parse(struct args *a, const struct verb *v, int argc, char **argv)
{
    bool options = true;

    memset(a, 0, sizeof(*a));
    a->verb = v;
    a->pos = x_calloc((size_t)argc + 1, sizeof(*a->pos));
    for (int i = 0; i < argc; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && !strcmp(argv[i], "-h")) {
            a->given[0].name = "help";
            a->given[0].value = "";
            a->ngiven = 1;
            return 0;
        } else if (options && !strncmp(argv[i], "--", 2)) {
            int rc = take_option(a, argc, argv, &i);
            if (rc)
                return rc;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            return verb_usage(v, "there is no option", argv[i]);
        } else {
            a->pos[a->npos++] = argv[i];
        }
    }
    if (args_has(a, "help"))
        return 0;
    if (a->npos < v->min)
        return verb_usage(v, "something is missing: this command takes", v->usage);
    if (a->npos > v->max)
        return verb_usage(v, "this is too much:", a->pos[v->max]);
    return 0;
}

void args_free(struct args *a)
{
    free(a->pos);
}

const char *args_nth(const struct args *a, const char *name, int n)
{
    for (int i = 0; i < a->ngiven; i++)
        if (!strcmp(a->given[i].name, name) && n-- == 0)
            return a->given[i].value;
    return NULL;
}

const char *args_get(const struct args *a, const char *name)
{
    const char *last = NULL;

    for (int i = 0; i < a->ngiven; i++)
        if (!strcmp(a->given[i].name, name))
            last = a->given[i].value;
    return last;
}

bool args_has(const struct args *a, const char *name)
{
    return args_get(a, name) != NULL;
}
