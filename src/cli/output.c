#include "cli/output.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

void output_bold(FILE *f, bool on)
{
    const char *term = getenv("TERM");

    if (isatty(fileno(f)) && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0)
        (void)fputs(on ? "\033[1m" : "\033[0m", f);
}

void output_untrusted(FILE *f, const char *text)
{
    bool tty = isatty(fileno(f));

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f;
        if (tty && (c1 || *p == 0x7f || (*p < 0x20 && *p != '\n' && *p != '\t'))) {
            (void)fputc('?', f);
            p += c1;
        } else {
            (void)fputc(*p, f);
        }
    }
}

void output_json(const json_t *doc)
{
    CLEANUP_FREE char *text = json_dumps(doc, JSON_INDENT(2) | JSON_ENCODE_ANY);

    if (text)
        (void)printf("%s\n", text);
}

static char *format_time(const json_t *v)
{
    time_t t = (time_t)(json_integer_value(v) / 1000);
    struct tm tm;
    char text[32];

    if (!json_is_integer(v) || json_integer_value(v) == 0 || !localtime_r(&t, &tm) ||
        strftime(text, sizeof(text), "%F %T", &tm) == 0)
        return x_strdup("-");
    return x_strdup(text);
}

static char *format_bytes(const json_t *v)
{
    double n = json_number_value(v);

    if (n >= 1048576)
        return x_asprintf("%.1f MiB", n / 1048576);
    return n >= 1024 ? x_asprintf("%.1f KiB", n / 1024) : x_asprintf("%.0f B", n);
}

static char *format_list(const json_t *v)
{
    char *out = x_strdup("");
    const json_t *item;
    size_t i;

    json_array_foreach(v, i, item)
    {
        char *next =
            x_asprintf("%s%s%s", out, i > 0 ? "," : "", json_is_string(item) ? json_string_value(item) : "?");
        free(out);
        out = next;
    }
    return out;
}

/* One cell on one line, without control characters; malloc'ed. */
static char *cell(const json_t *v, enum column_kind kind)
{
    char *out;

    if (!v || json_is_null(v))
        return x_strdup("-");
    if (kind == COLUMN_TIME)
        return format_time(v);
    if (kind == COLUMN_BYTES)
        return format_bytes(v);
    if (kind == COLUMN_LIST)
        return format_list(v);
    if (json_is_string(v))
        out = x_strdup(json_string_value(v));
    else
        out = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    for (unsigned char *p = (unsigned char *)out; p && *p; p++)
        if (*p < 0x20 || *p == 0x7f || (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f))
            *p = *p == 0xc2 ? '?' : ' ';
    return out ? out : x_strdup("?");
}

/* Columns on a terminal, not bytes: UTF-8 continuation bytes take no room. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void output_table(const json_t *reply, const char *list_key, const struct column *cols, size_t ncols,
                  bool as_json)
{
    const json_t *rows = json_object_get(reply, list_key), *row;
    size_t widths[16] = {0}, i;

    if (as_json) {
        output_json(reply);
        return;
    }
    if (ncols > ARRAY_LEN(widths))
        abort();
    for (size_t c = 0; c < ncols; c++)
        widths[c] = width(cols[c].title);
    json_array_foreach(rows, i, row)
    {
        for (size_t c = 0; c < ncols; c++) {
            CLEANUP_FREE char *text = cell(json_object_get(row, cols[c].key), cols[c].kind);
            if (width(text) > widths[c])
                widths[c] = width(text);
        }
    }
    output_bold(stdout, true);
    for (size_t c = 0; c < ncols; c++)
        (void)printf("%s%*s", cols[c].title, c + 1 < ncols ? (int)(widths[c] + 2 - width(cols[c].title)) : 0,
                     "");
    output_bold(stdout, false);
    (void)printf("\n");
    json_array_foreach(rows, i, row)
    {
        for (size_t c = 0; c < ncols; c++) {
            CLEANUP_FREE char *text = cell(json_object_get(row, cols[c].key), cols[c].kind);
            (void)printf("%s%*s", text, c + 1 < ncols ? (int)(widths[c] + 2 - width(text)) : 0, "");
        }
        (void)printf("\n");
    }
}

void output_fields(const json_t *doc, const struct column *cols, size_t ncols)
{
    for (size_t c = 0; c < ncols; c++) {
        const json_t *v = json_object_get(doc, cols[c].key);
        CLEANUP_FREE char *text = v ? cell(v, cols[c].kind) : NULL;
        if (text)
            (void)printf("%-14s %s\n", cols[c].title, text);
    }
}
