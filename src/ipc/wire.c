#include "ipc/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/le.h"

static uint8_t *reserve(struct wire_out *o, size_t n)
{
    uint8_t *at;

    if (o->failed || n > WIRE_MAX - o->len) {
        o->failed = true;
        return NULL;
    }
    if (o->len + n > o->cap) {
        size_t cap = o->cap ? o->cap : 256;
        uint8_t *grown;
        while (cap < o->len + n)
            cap *= 2;
        grown = x_malloc(cap);
        if (o->len > 0)
            memcpy(grown, o->buf, o->len);
        if (o->buf)
            explicit_bzero(o->buf, o->cap);
        free(o->buf);
        o->buf = grown;
        o->cap = cap;
    }
    at = o->buf + o->len;
    o->len += n;
    return at;
}

static void put_le(struct wire_out *o, uint64_t v, size_t n)
{
    uint8_t *at = reserve(o, n);

    if (at)
        le_put(at, v, n);
}

void wire_put_u8(struct wire_out *o, uint8_t v)
{
    put_le(o, v, 1);
}

void wire_put_u32(struct wire_out *o, uint32_t v)
{
    put_le(o, v, 4);
}

void wire_put_u64(struct wire_out *o, uint64_t v)
{
    put_le(o, v, 8);
}

void wire_put_bytes(struct wire_out *o, const void *p, size_t len)
{
    uint8_t *at;

    if (len > WIRE_MAX) {
        o->failed = true;
        return;
    }
    wire_put_u32(o, (uint32_t)len);
    at = reserve(o, len);
    if (at && len > 0)
        memcpy(at, p, len);
}

void wire_put_str(struct wire_out *o, const char *s)
{
    wire_put_bytes(o, s ? s : "", s ? strlen(s) : 0);
}

void wire_out_free(struct wire_out *o)
{
    if (o->buf)
        explicit_bzero(o->buf, o->cap);
    free(o->buf);
    *o = (struct wire_out)WIRE_OUT_INIT;
}

struct wire_in wire_in_init(const void *p, size_t len)
{
    return (struct wire_in){.p = p, .left = len, .failed = false};
}

static const uint8_t *take(struct wire_in *i, size_t n)
{
    const uint8_t *at = i->p;

    if (i->failed || n > i->left) {
        i->failed = true;
        return NULL;
    }
    i->p += n;
    i->left -= n;
    return at;
}

static uint64_t get_le(struct wire_in *i, size_t n)
{
    const uint8_t *at = take(i, n);

    return at ? le_get(at, n) : 0;
}

uint8_t wire_get_u8(struct wire_in *i)
{
    return (uint8_t)get_le(i, 1);
}

uint32_t wire_get_u32(struct wire_in *i)
{
    return (uint32_t)get_le(i, 4);
}

uint64_t wire_get_u64(struct wire_in *i)
{
    return get_le(i, 8);
}

const uint8_t *wire_get_bytes(struct wire_in *i, size_t max, size_t *len)
{
    size_t n = wire_get_u32(i);
    const uint8_t *at;

    *len = 0;
    if (n > max)
        i->failed = true;
    at = take(i, n);
    if (at)
        *len = n;
    return at;
}

void wire_get_str(struct wire_in *i, char *dst, size_t cap)
{
    size_t len;
    const uint8_t *at = wire_get_bytes(i, cap - 1, &len);

    if (at && memchr(at, 0, len))
        i->failed = true;
    if (!at || i->failed) {
        dst[0] = 0;
        return;
    }
    memcpy(dst, at, len);
    dst[len] = 0;
}

char *wire_get_strdup(struct wire_in *i, size_t max)
{
    size_t len;
    const uint8_t *at = wire_get_bytes(i, max, &len);

    if (at && memchr(at, 0, len))
        i->failed = true;
    return at && !i->failed ? x_strndup((const char *)at, len) : NULL;
}

bool wire_in_done(const struct wire_in *i)
{
    return !i->failed && i->left == 0;
}
