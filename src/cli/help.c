/*
 * help.c - help in the terminal and as Markdown, both printed from the table of verbs.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"

/* Served by the `ironclaw` program itself. */
static const struct {
    const char *name, *summary;
} native[] = {
    {"run", "Run one command in a sealed sandbox; no control plane is needed."},
    {"up", "Start the control plane."},
    {"doctor", "Say what this host can do and what is missing."},
    {"redteam", "Attack live sandboxes from inside and judge from outside."},
};

static void name_of(const struct verb *v, char *dst, size_t cap)
{
    (void)snprintf(dst, cap, "%s%s%s", v->group, v->sub ? " " : "", v->sub ? v->sub : "");
}

void help_overview(void)
{
    char name[64];

    (void)printf(
        "Usage: ironclaw VERB [ARGUMENTS] [OPTIONS]\n\nSealed sandboxes for untrusted AI agents.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(native); i++)
        (void)printf("  %-18s %s\n", native[i].name, native[i].summary);
    for (size_t i = 0; i < cli_nverbs; i++) {
        name_of(&cli_verbs[i], name, sizeof(name));
        (void)printf("  %-18s %s\n", name, cli_verbs[i].summary);
    }
    (void)printf("\n'ironclaw VERB --help' shows a verb's options and an example.\n");
}

void help_group(const char *group)
{
    char name[64];

    (void)printf("Usage: ironclaw %s VERB [ARGUMENTS] [OPTIONS]\n\n", group);
    for (size_t i = 0; i < cli_nverbs; i++) {
        if (strcmp(cli_verbs[i].group, group) != 0)
            continue;
        name_of(&cli_verbs[i], name, sizeof(name));
        (void)printf("  %-18s %s\n", name, cli_verbs[i].summary);
    }
}

static void print_options(const struct cli_option *o)
{
    char left[64];

    for (; o && o->name; o++) {
        (void)snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "",
                       o->value ? o->value : "");
        (void)printf("  %-24s %s\n", left, o->help);
    }
}

void help_verb(const struct verb *v)
{
    char name[64];

    name_of(v, name, sizeof(name));
    (void)printf("Usage: ironclaw %s%s%s [OPTIONS]\n\n%s\n", name, *v->usage ? " " : "", v->usage,
                 v->summary);
    if (v->options) {
        (void)printf("\nOptions:\n");
        print_options(v->options);
    }
    (void)printf("\nCommon options:\n");
    print_options(cli_global_options);
    (void)printf("\nExample:\n  %s\n", v->example);
}

static void markdown_options(const struct cli_option *o)
{
    for (; o && o->name; o++)
        (void)printf("- `--%s%s%s`: %s\n", o->name, o->value ? " " : "", o->value ? o->value : "", o->help);
    (void)printf("\n");
}

void help_markdown(void)
{
    char name[64];

    for (size_t i = 0; i < cli_nverbs; i++) {
        const struct verb *v = &cli_verbs[i];
        name_of(v, name, sizeof(name));
        (void)printf("### ironclaw %s%s%s\n\n%s\n\n", name, *v->usage ? " " : "", v->usage, v->summary);
        if (v->options)
            markdown_options(v->options);
        (void)printf("Example: `%s`\n\n", v->example);
    }
    (void)printf("### Options of every verb\n\n");
    markdown_options(cli_global_options);
}

/* Levenshtein distance of short words. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    unsigned row[MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX || lb > MAX)
        return UINT32_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *help_nearest(const char *word, const char *group)
{
    const char *best = NULL;
    unsigned least = 3; /* two typing errors */

    for (size_t i = 0; i < cli_nverbs; i++) {
        const char *known = group ? cli_verbs[i].sub : cli_verbs[i].group;
        if (!known || (group && strcmp(cli_verbs[i].group, group) != 0))
            continue;
        if (distance(word, known) < least) {
            least = distance(word, known);
            best = known;
        }
    }
    for (size_t i = 0; !group && i < ARRAY_LEN(native); i++) {
        if (distance(word, native[i].name) < least) {
            least = distance(word, native[i].name);
            best = native[i].name;
        }
    }
    return best;
}
