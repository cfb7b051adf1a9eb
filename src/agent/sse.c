#include "agent/sse.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"

void sse_init(struct sse *s, size_t max, sse_cb cb, void *arg)
{
    *s = (struct sse){.cb = cb, .arg = arg, .max = max};
}

void sse_free(struct sse *s)
{
    free(s->line);
    free(s->data);
    s->line = s->data = NULL;
    s->line_len = s->line_cap = s->data_len = s->data_cap = 0;
}

/* Appends with room for a NUL; false when the limit would be passed. */
static bool append(char **buf, size_t *used, size_t *cap, size_t max, const char *p, size_t len)
{
    if (len > max - *used)
        return false;
    if (*used + len + 1 > *cap) {
        size_t grown = *cap ? *cap : 256;
        while (grown < *used + len + 1)
            grown *= 2;
        *buf = x_realloc(*buf, grown);
        *cap = grown;
    }
    if (len > 0)
        memcpy(*buf + *used, p, len);
    *used += len;
    (*buf)[*used] = 0;
    return true;
}

static void drop(struct sse *s)
{
    if (!s->dropping)
        s->dropped++;
    s->dropping = true;
    sse_free(s);
}

static void dispatch(struct sse *s)
{
    if (s->has_data && !s->dropping) {
        size_t len = s->data_len > 0 ? s->data_len - 1 : 0; /* without the last line's newline */
        s->data[len] = 0;
        s->cb(s->arg, s->event, s->data, len);
    }
    s->data_len = 0;
    s->has_data = s->dropping = false;
    s->event[0] = 0;
}

static bool field_is(const char *line, size_t len, const char *name)
{
    return strlen(name) == len && !memcmp(line, name, len);
}

static void end_line(struct sse *s)
{
    const char *line = s->line ? s->line : "", *colon, *value;
    size_t len = s->line_len, name_len, value_len;

    s->line_len = 0;
    if (!s->started) {
        s->started = true;
        if (len >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
            line += 3;
            len -= 3;
        }
    }
    if (len == 0) {
        dispatch(s);
        return;
    }
    colon = memchr(line, ':', len);
    name_len = colon ? (size_t)(colon - line) : len;
    value = colon ? colon + 1 : line + len;
    value_len = len - name_len - (colon ? 1 : 0);
    if (value_len > 0 && value[0] == ' ') {
        value++;
        value_len--;
    }
    if (s->dropping)
        return;
    if (field_is(line, name_len, "data")) {
        s->has_data = true;
        if (!append(&s->data, &s->data_len, &s->data_cap, s->max, value, value_len) ||
            !append(&s->data, &s->data_len, &s->data_cap, s->max, "\n", 1))
            drop(s);
    } else if (field_is(line, name_len, "event")) {
        if (!memchr(value, 0, value_len))
            (void)io_format(s->event, sizeof(s->event), "%.*s", (int)(value_len < 4096 ? value_len : 4096),
                            value);
    }
}

bool sse_feed(struct sse *s, const void *bytes, size_t len)
{
    const char *p = bytes, *end = p + len;
    unsigned long before = s->dropped;

    while (p < end) {
        const char *stop = p;
        if (s->after_cr && *p == '\n') {
            s->after_cr = false;
            p++;
            continue;
        }
        s->after_cr = false;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        if (stop > p && !append(&s->line, &s->line_len, &s->line_cap, s->max, p, (size_t)(stop - p))) {
            drop(s);
            /* The rest of this line is of no interest, but it is not blank: it must not end the event. */
            (void)append(&s->line, &s->line_len, &s->line_cap, s->max, ":", 1);
        }
        if (stop < end) {
            s->after_cr = *stop == '\r';
            end_line(s);
            stop++;
        }
        p = stop;
    }
    return s->dropped == before;
}
