/*
 * redact.h - keeps provider keys out of answers, while they stream. Pure (no I/O).
 *
 * A secret is turned once into patterns: the key as it is and every spelling in which software commonly
 * repeats it: base64 (both alphabets, at each of the three alignments inside a longer text), hexadecimal,
 * JSON escapes, percent encoding. Wherever a pattern occurs in the stream, REDACTED stands instead.
 *
 * The stream may be cut anywhere. The invariant: what is held back is always a proper prefix of some pattern,
 * so at most (longest pattern - 1) bytes, and nothing at all in ordinary text. The output does not depend on
 * the cuts. At each position the longest pattern wins.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDACTED "[redacted]"

enum {
    SECRET_MIN = 8, /* a shorter key (or spelling of one) would match ordinary text; it is not looked for */
    SECRET_PATTERNS_MAX = 24,
    REDACT_SECRETS_MAX = 16,
};

/* One key with its patterns, in locked memory; counted references. */
struct secret {
    unsigned refs;
    uint8_t *bytes; /* sodium_malloc'ed: the key (NUL-terminated), then the patterns */
    size_t key_len, used, cap;
    struct {
        size_t at, len;
    } patterns[SECRET_PATTERNS_MAX];
    size_t npatterns;
};

/* Returns NULL when no memory can be had. The caller wipes its own copy of the key. */
struct secret *secret_new(const void *key, size_t len);
struct secret *secret_ref(struct secret *s);
/* Wipes and frees with the last reference. */
void secret_unref(struct secret *s);

typedef void (*redact_out)(void *arg, const void *data, size_t len);

struct redactor {
    struct secret *secrets[REDACT_SECRETS_MAX]; /* references */
    size_t nsecrets;
    bool first[256]; /* bytes that begin a pattern */
    uint8_t *held;
    size_t held_len, held_cap;
};

void redactor_init(struct redactor *r);
/* Takes its own reference. Before the first byte only. Returns false when there is no room. */
bool redactor_add(struct redactor *r, struct secret *s);
void redactor_feed(struct redactor *r, const void *data, size_t len, redact_out out, void *arg);
/* The stream ended: gives out what was held back. */
void redactor_flush(struct redactor *r, redact_out out, void *arg);
void redactor_free(struct redactor *r);
