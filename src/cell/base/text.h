/*
 * text.h - what a freestanding program needs of string.h and stdio.h.
 */
#pragma once
#include <stdarg.h>

#include "cell/base/types.h"

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);

/* Copies at most cap-1 bytes and always ends dst with 0. Returns strlen(src). */
size_t text_copy(char *dst, const char *src, size_t cap);

/* %s %c %d %i %u %x %X %o %p with width, 0, -, precision for %s, and l, ll, z. Returns the length without the
 * final 0 that would have been needed; the result is cut to cap. */
size_t text_format(char *dst, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
size_t text_vformat(char *dst, size_t cap, const char *fmt, va_list ap);

/* Text that is built piece by piece into a buffer of fixed size; what does not fit is dropped. */
struct text {
    char *at;
    size_t cap, len;
};
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
