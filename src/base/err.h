/*
 * err.h - one error object, handed up with context added at each level and printed once.
 *
 * A function that can fail takes `struct err *e` last and returns -1 (or NULL / false). The callee that
 * detects the failure calls err_set() with one clear sentence: what was being done, to what, and what the
 * reader can do about it. Callers may prepend context with err_wrap(). The object lives on the caller's
 * stack; nothing needs freeing. `e` may be NULL when the caller does not want the text.
 */
#pragma once
#include <stdarg.h>
#include <stddef.h>

enum { ERR_TEXT_MAX = 768 };

struct err {
    int code;                /* a positive errno value; 0 while nothing failed */
    char text[ERR_TEXT_MAX]; /* NUL-terminated, without trailing newline */
};

#define ERR_INIT                                                                                             \
    {                                                                                                        \
        0,                                                                                                   \
        {                                                                                                    \
            0                                                                                                \
        }                                                                                                    \
    }

/* Records a failure. `code` is a positive errno (0 is stored as EINVAL). Returns -1, so that `return
 * err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), with ": strerror(code)" appended. */
int err_sys(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Prepends "context: " to the text that is there. Returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
