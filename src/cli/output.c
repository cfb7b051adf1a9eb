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

size_t output_unsafe(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    if (*p == 0x7f || (*p < 0x20 && *p != '\n' && *p != '\t'))
        return 1;
    if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
        return 2; /* U+0080 to U+009F */
    if (p[0] == 0xd8 && p[1] == 0x9c)
        return 2; /* U+061C */
    if (p[0] == 0xe2 && p[1] == 0x80 &&
        (p[2] == 0x8b || p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae)))
        return 3; /* U+200B, U+200E, U+200F, U+2028 to U+202E; the joiners between them spell words */
    if (p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa0 && p[2] <= 0xaf)
        return 3; /* U+2060 to U+206F */
    if (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf)
        return 3; /* U+FEFF */
    if (p[0] == 0xf3 && p[1] == 0xa0 && (p[2] == 0x80 || p[2] == 0x81) && p[3])
        return 4; /* U+E0000 to U+E007F: letters that are not seen */
    return 0;
}

void output_untrusted(FILE *f, const char *text)
{
    bool tty = isatty(fileno(f));

    for (const char *p = text; *p; p++) {
        size_t unsafe = tty ? output_unsafe(p) : 0;
        (void)fputc(unsafe > 0 ? '?' : *p, f);
        p += unsafe > 1 ? unsafe - 1 : 0;
    }
}

void output_json(const json_t *doc)
{
    CLEANUP_FREE char *text = json_dumps(doc, JSON_INDENT(2) | JSON_ENCODE_ANY);

    if (text) {
        output_untrusted(stdout, text);
        (void)printf("\n");
    }
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
        out = format_list(v);
    else if (json_is_string(v))
        out = x_strdup(json_string_value(v));
    else
        out = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!out)
        return x_strdup("?");
    for (char *from = out, *to = out;; from++, to++) {
        size_t unsafe = output_unsafe(from);
        *to = unsafe > 0 && *from ? (char)'?' : *from;
        if (!*from)
            break;
        if (*to == '\n' || *to == '\t' || *to == '\r')
            *to = ' ';
        from += unsafe > 1 ? unsafe - 1 : 0;
    }
    return out;
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
    if (json_is_true(json_object_get(reply, "truncated")))
        (void)fprintf(stderr, "ironclaw: there are more %s than one answer holds; the list is not whole\n",
                      list_key);
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
