#include "gateway/diff.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

/* The table of longest common subsequences has one cell for each pair of lines between the common ends. */
enum { CELLS_MAX = 1 << 20 };

struct line {
    const char *text;
    size_t len;
};

struct text {
    struct line *lines;
    size_t n;
};

struct out {
    char *buf;
    size_t len, cap;
};

static struct text split(const char *s)
{
    struct text t = {NULL, 0};
    size_t cap = 0;

    while (*s) {
        size_t len = strcspn(s, "\n");
        if (t.n == cap) {
            cap = cap ? cap * 2 : 32;
            t.lines = x_realloc(t.lines, cap * sizeof(*t.lines));
        }
        t.lines[t.n++] = (struct line){s, len};
        s += len + (s[len] == '\n');
    }
    return t;
}

static bool same(const struct line *a, const struct line *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void put(struct out *o, char mark, const struct line *l)
{
    if (!o->buf || o->len + l->len + 3 > o->cap) {
        o->cap = (o->len + l->len + 3) * 2;
        o->buf = x_realloc(o->buf, o->cap);
    }
    o->buf[o->len++] = mark;
    memcpy(o->buf + o->len, l->text, l->len);
    o->len += l->len;
    o->buf[o->len++] = '\n';
    o->buf[o->len] = 0;
}

/* Lines a[0..n) became b[0..m). */
static void put_middle(struct out *o, const struct line *a, size_t n, const struct line *b, size_t m)
{
    size_t i = 0, j = 0, width = m + 1;
    CLEANUP_FREE uint32_t *lcs = NULL;

    if (n > 0 && m > 0 && (n + 1) <= CELLS_MAX / width) {
        lcs = x_calloc((n + 1) * width, sizeof(*lcs));
        for (size_t x = n; x-- > 0;)
            for (size_t y = m; y-- > 0;) {
                uint32_t down = lcs[(x + 1) * width + y], right = lcs[x * width + y + 1];
                lcs[x * width + y] =
                    same(&a[x], &b[y]) ? lcs[(x + 1) * width + y + 1] + 1 : (down > right ? down : right);
            }
        while (i < n && j < m) {
            if (same(&a[i], &b[j])) {
                put(o, ' ', &a[i++]);
                j++;
            } else if (lcs[(i + 1) * width + j] >= lcs[i * width + j + 1]) {
                put(o, '-', &a[i++]);
            } else {
                put(o, '+', &b[j++]);
            }
        }
    }
    while (i < n)
        put(o, '-', &a[i++]);
    while (j < m)
        put(o, '+', &b[j++]);
}

char *diff_lines(const char *before, const char *after)
{
    struct text a = split(before), b = split(after);
    struct out o = {NULL, 0, 0};
    size_t head = 0, tail = 0;

    while (head < a.n && head < b.n && same(&a.lines[head], &b.lines[head]))
        put(&o, ' ', &a.lines[head++]);
    while (tail < a.n - head && tail < b.n - head && same(&a.lines[a.n - 1 - tail], &b.lines[b.n - 1 - tail]))
        tail++;
    put_middle(&o, a.lines + head, a.n - head - tail, b.lines + head, b.n - head - tail);
    for (size_t i = a.n - tail; i < a.n; i++)
        put(&o, ' ', &a.lines[i]);
    free(a.lines);
    free(b.lines);
    return o.buf ? o.buf : x_strdup("");
}
