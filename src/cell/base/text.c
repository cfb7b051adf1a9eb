/*
 * Bytes and text without a C library.
 */
#include "cell/base/text.h"

#ifndef CELL_HOSTED /* where a C library is linked, it has these */
/*
 * Most copies here are short: structures and names. "rep movsb" takes some thirty cycles before the first
 * byte, so below REP it is eight bytes at a time, the last eight overlapping. The empty asm keeps the
 * compiler from seeing a memcpy in its own loop.
 */
enum { REP = 256 };
typedef u64 __attribute__((may_alias, aligned(1))) word;

void *memcpy(void *dst, const void *src, size_t n)
{
    u8 *d = dst;
    const u8 *s = src;

    if (n >= REP) {
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        return dst;
    }
    if (n >= 8) {
        word last = *(const word *)(s + n - 8);
        for (size_t i = 0; i + 8 < n; i += 8) {
            *(word *)(d + i) = *(const word *)(s + i);
            __asm__ volatile("" : : : "memory");
        }
        *(word *)(d + n - 8) = last;
        return dst;
    }
    for (size_t i = 0; i < n; i++) {
        d[i] = s[i];
        __asm__ volatile("" : : : "memory");
    }
    return dst;
}

/* Downwards where the end of src would be overwritten before it is read. */
void *memmove(void *dst, const void *src, size_t n)
{
    u8 *d = dst;
    const u8 *s = src;

    if (d >= s + n || s >= d + n)
        return memcpy(dst, src, n);
    if (d <= s) {
        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
        return dst;
    }
    for (; n >= 8; n -= 8) {
        word w = *(const word *)(s + n - 8);
        *(word *)(d + n - 8) = w;
        __asm__ volatile("" : : : "memory");
    }
    while (n--) {
        d[n] = s[n];
        __asm__ volatile("" : : : "memory");
    }
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    u8 *d = dst;
    word w = (u64)(u8)c * 0x0101010101010101ULL;

    if (n >= REP) {
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
        return dst;
    }
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8) {
            *(word *)(d + i) = w;
            __asm__ volatile("" : : : "memory");
        }
        *(word *)(d + n - 8) = w;
        return dst;
    }
    for (size_t i = 0; i < n; i++) {
        d[i] = (u8)c;
        __asm__ volatile("" : : : "memory");
    }
    return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;
    size_t i = 0;

    while (i + 8 <= n && *(const word *)(x + i) == *(const word *)(y + i))
        i += 8;
    for (; i < n; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

void *memchr(const void *s, int c, size_t n)
{
    const u8 *p = s;

    for (size_t i = 0; i < n; i++)
        if (p[i] == (u8)c)
            return (void *)(uintptr_t)(p + i);
    return NULL;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n])
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] || !a[i])
            return (u8)a[i] - (u8)b[i];
    return 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)(uintptr_t)s;
        if (!*s)
            return NULL;
    }
}
#endif

size_t text_copy(char *dst, const char *src, size_t cap)
{
    size_t n = strlen(src);

    if (cap > 0) {
        size_t m = MIN(n, cap - 1);
        memcpy(dst, src, m);
        dst[m] = 0;
    }
    return n;
}

struct out {
    char *dst;
    size_t cap, len;
};

static void put(struct out *o, char c)
{
    if (o->len + 1 < o->cap)
        o->dst[o->len] = c;
    o->len++;
}

static void put_padded(struct out *o, const char *s, size_t n, size_t width, bool left, char pad)
{
    for (size_t i = n; !left && i < width; i++)
        put(o, pad);
    for (size_t i = 0; i < n; i++)
        put(o, s[i]);
    for (size_t i = n; left && i < width; i++)
        put(o, ' ');
}

struct spec {
    size_t width, precision;
    bool left, zero, has_precision;
    int longs;
};

static void put_number(struct out *o, const struct spec *s, u64 v, unsigned base, bool negative, bool upper)
{
    char digits[72];
    size_t n = sizeof(digits);
    const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";

    do {
        digits[--n] = set[v % base];
        v /= base;
    } while (v);
    if (negative && s->zero && !s->left) {
        put(o, '-');
        put_padded(o, digits + n, sizeof(digits) - n, s->width ? s->width - 1 : 0, false, '0');
        return;
    }
    if (negative)
        digits[--n] = '-';
    put_padded(o, digits + n, sizeof(digits) - n, s->width, s->left, s->zero ? '0' : ' ');
}

static const char *parse(const char *f, struct spec *s, va_list *ap)
{
    *s = (struct spec){0};
    for (;; f++) {
        if (*f == '-')
            s->left = true;
        else if (*f == '0')
            s->zero = true;
        else
            break;
    }
    for (; *f >= '0' && *f <= '9'; f++)
        s->width = s->width * 10 + (size_t)(*f - '0');
    if (*f == '*') {
        s->width = (size_t)va_arg(*ap, int);
        f++;
    }
    if (*f == '.') {
        s->has_precision = true;
        f++;
        if (*f == '*') {
            s->precision = (size_t)va_arg(*ap, int);
            f++;
        }
        for (; *f >= '0' && *f <= '9'; f++)
            s->precision = s->precision * 10 + (size_t)(*f - '0');
    }
    for (; *f == 'l' || *f == 'z' || *f == 'h'; f++)
        s->longs += *f != 'h';
    return f;
}

size_t text_vformat(char *dst, size_t cap, const char *fmt, va_list args)
{
    struct out o = {dst, cap, 0};
    struct spec s;
    va_list ap;

    va_copy(ap, args);
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(&o, *fmt);
            continue;
        }
        fmt = parse(fmt + 1, &s, &ap);
        switch (*fmt) {
        case 'd':
        case 'i': {
            s64 v = s.longs ? va_arg(ap, s64) : va_arg(ap, int);
            put_number(&o, &s, v < 0 ? 0 - (u64)v : (u64)v, 10, v < 0, false);
            break;
        }
        case 'u':
        case 'x':
        case 'X':
        case 'o': {
            u64 v = s.longs ? va_arg(ap, u64) : va_arg(ap, unsigned);
            put_number(&o, &s, v, *fmt == 'u' ? 10 : *fmt == 'o' ? 8 : 16, false, *fmt == 'X');
            break;
        }
        case 'p':
            put(&o, '0');
            put(&o, 'x');
            put_number(&o, &s, (u64)(uintptr_t)va_arg(ap, void *), 16, false, false);
            break;
        case 's': {
            const char *t = va_arg(ap, const char *);
            t = t ? t : "(null)";
            put_padded(&o, t, s.has_precision ? strnlen(t, s.precision) : strlen(t), s.width, s.left, ' ');
            break;
        }
        case 'c':
            put(&o, (char)va_arg(ap, int));
            break;
        case 0:
            fmt--;
            break;
        default:
            put(&o, *fmt);
        }
    }
    va_end(ap);
    if (cap > 0)
        dst[MIN(o.len, cap - 1)] = 0;
    return o.len;
}

size_t text_format(char *dst, size_t cap, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    n = text_vformat(dst, cap, fmt, ap);
    va_end(ap);
    return n;
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    n = text_vformat(t->at + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    t->len = MIN(t->len + n, t->cap ? t->cap - 1 : 0);
}
