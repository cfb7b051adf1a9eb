#include "upstream/redact.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

/* ---- patterns ---- */

/* Bytes that all patterns of one key need at most; see the loops below: 1 + 8 + 4 + 12 + 12 + 6 + 6 times the
 * key. */
static size_t arena_size(size_t len)
{
    return 49 * len + 256;
}

static void put(struct secret *s, uint8_t byte)
{
    if (s->used < s->cap)
        s->bytes[s->used++] = byte;
}

/* Closes the pattern that began at `from`; drops it when it is too short or already there. */
static void end_pattern(struct secret *s, size_t from)
{
    size_t len = s->used - from;

    for (size_t i = 0; len >= SECRET_MIN && i < s->npatterns; i++)
        if (s->patterns[i].len == len && !memcmp(s->bytes + s->patterns[i].at, s->bytes + from, len))
            len = 0;
    if (len < SECRET_MIN || s->npatterns == SECRET_PATTERNS_MAX) {
        sodium_memzero(s->bytes + from, s->used - from);
        s->used = from;
        return;
    }
    s->patterns[s->npatterns].at = from;
    s->patterns[s->npatterns].len = len;
    s->npatterns++;
}

/*
 * What base64 makes of the key when `shift` (0-2) bytes come before it in its group: the characters that
 * depend on the key alone.
 */
static void base64_pattern(struct secret *s, const uint8_t *key, size_t len, size_t shift,
                           const char *alphabet)
{
    size_t from = s->used, bits = len * 8, at = shift == 0 ? 0 : shift == 1 ? 4 : 2;

    for (; at + 6 <= bits; at += 6) {
        unsigned v = 0;
        for (size_t b = at; b < at + 6; b++)
            v = v << 1 | ((unsigned)key[b / 8] >> (7 - b % 8) & 1);
        put(s, (uint8_t)alphabet[v]);
    }
    end_pattern(s, from);
}

static void hex_pattern(struct secret *s, const uint8_t *key, size_t len, const char *prefix,
                        const char *digits)
{
    size_t from = s->used;

    for (size_t i = 0; i < len; i++) {
        for (const char *p = prefix; *p; p++)
            put(s, (uint8_t)*p);
        put(s, (uint8_t)digits[key[i] >> 4]);
        put(s, (uint8_t)digits[key[i] & 15]);
    }
    end_pattern(s, from);
}

static void json_pattern(struct secret *s, const uint8_t *key, size_t len, bool slash)
{
    size_t from = s->used;

    for (size_t i = 0; i < len; i++) {
        if (key[i] == '"' || key[i] == '\\' || (slash && key[i] == '/'))
            put(s, '\\');
        put(s, key[i]);
    }
    end_pattern(s, from);
}

static void url_pattern(struct secret *s, const uint8_t *key, size_t len, const char *digits)
{
    size_t from = s->used;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = key[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~'; /* RFC 3986, 2.3 */
        if (plain) {
            put(s, c);
        } else {
            put(s, '%');
            put(s, (uint8_t)digits[c >> 4]);
            put(s, (uint8_t)digits[c & 15]);
        }
    }
    end_pattern(s, from);
}

struct secret *secret_new(const void *key, size_t len)
{
    static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char urlsafe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    struct secret *s = x_calloc(1, sizeof(*s));
    const uint8_t *k;

    s->cap = arena_size(len);
    s->bytes = len > SIZE_MAX / 64 ? NULL : sodium_malloc(s->cap);
    if (!s->bytes) {
        free(s);
        return NULL;
    }
    s->refs = 1;
    memcpy(s->bytes, key, len);
    s->bytes[len] = 0;
    s->key_len = len;
    s->used = len + 1;
    k = s->bytes;
    json_pattern(s, k, len, false);
    json_pattern(s, k, len, true);
    if (len >= SECRET_MIN) { /* as it is: the first pattern unless it holds quotes or backslashes */
        size_t from = s->used;
        for (size_t i = 0; i < len; i++)
            put(s, k[i]);
        end_pattern(s, from);
    }
    for (size_t shift = 0; shift < 3; shift++) {
        base64_pattern(s, k, len, shift, standard);
        base64_pattern(s, k, len, shift, urlsafe);
    }
    hex_pattern(s, k, len, "", lower);
    hex_pattern(s, k, len, "", upper);
    hex_pattern(s, k, len, "\\u00", lower);
    hex_pattern(s, k, len, "\\u00", upper);
    hex_pattern(s, k, len, "%", lower);
    hex_pattern(s, k, len, "%", upper);
    url_pattern(s, k, len, lower);
    url_pattern(s, k, len, upper);
    return s;
}

struct secret *secret_ref(struct secret *s)
{
    s->refs++;
    return s;
}

void secret_unref(struct secret *s)
{
    if (!s || --s->refs > 0)
        return;
    sodium_free(s->bytes); /* wipes */
    free(s);
}

/* ---- the stream ---- */

void redactor_init(struct redactor *r)
{
    memset(r, 0, sizeof(*r));
}

bool redactor_add(struct redactor *r, struct secret *s)
{
    if (r->nsecrets == REDACT_SECRETS_MAX)
        return false;
    r->secrets[r->nsecrets++] = secret_ref(s);
    for (size_t i = 0; i < s->npatterns; i++)
        r->first[s->bytes[s->patterns[i].at]] = true;
    return true;
}

void redactor_free(struct redactor *r)
{
    for (size_t i = 0; i < r->nsecrets; i++)
        secret_unref(r->secrets[i]);
    if (r->held)
        sodium_memzero(r->held, r->held_cap);
    free(r->held);
    memset(r, 0, sizeof(*r));
}

/* Length of the longest pattern at p; *partial: the bytes up to the end may be the beginning of a longer one.
 */
static size_t match(const struct redactor *r, const uint8_t *p, size_t left, bool *partial)
{
    size_t best = 0;

    *partial = false;
    for (size_t i = 0; i < r->nsecrets; i++) {
        const struct secret *s = r->secrets[i];
        for (size_t j = 0; j < s->npatterns; j++) {
            const uint8_t *pattern = s->bytes + s->patterns[j].at;
            size_t len = s->patterns[j].len;
            if (len <= left) {
                if (len > best && !memcmp(p, pattern, len))
                    best = len;
            } else if (!memcmp(p, pattern, left)) {
                *partial = true;
            }
        }
    }
    return best;
}

/* Gives out all of p[len] except a tail that may be the beginning of a pattern; returns how much it dealt
 * with. */
static size_t scan(const struct redactor *r, const uint8_t *p, size_t len, bool last, redact_out out,
                   void *arg)
{
    size_t start = 0, i = 0;

    while (i < len) {
        bool partial;
        size_t n;
        if (!r->first[p[i]]) {
            i++;
            continue;
        }
        n = match(r, p + i, len - i, &partial);
        if (partial && !last)
            break;
        if (n == 0) {
            i++;
            continue;
        }
        if (i > start)
            out(arg, p + start, i - start);
        out(arg, REDACTED, strlen(REDACTED));
        i += n;
        start = i;
    }
    if (i > start)
        out(arg, p + start, i - start);
    return i;
}

static void hold(struct redactor *r, const uint8_t *p, size_t len)
{
    if (len > r->held_cap) {
        uint8_t *grown = x_malloc(len);
        if (r->held)
            sodium_memzero(r->held, r->held_cap);
        memcpy(grown, p, len);
        free(r->held);
        r->held = grown;
        r->held_cap = len;
    } else {
        memmove(r->held, p, len);
    }
    r->held_len = len;
}

void redactor_feed(struct redactor *r, const void *data, size_t len, redact_out out, void *arg)
{
    const uint8_t *p = data;
    uint8_t *joined = NULL;
    size_t done;

    if (len == 0)
        return;
    if (r->held_len > 0) {
        joined = x_malloc(r->held_len + len);
        memcpy(joined, r->held, r->held_len);
        memcpy(joined + r->held_len, data, len);
        p = joined;
        len += r->held_len;
        r->held_len = 0;
    }
    done = scan(r, p, len, false, out, arg);
    if (done < len)
        hold(r, p + done, len - done);
    if (joined)
        sodium_memzero(joined, len);
    free(joined);
}

void redactor_flush(struct redactor *r, redact_out out, void *arg)
{
    size_t len = r->held_len;

    r->held_len = 0;
    if (len > 0)
        (void)scan(r, r->held, len, true, out, arg);
}
