/*
 * problem.h - why an operation was refused, as its caller will read it: an HTTP status, a stable code, one
 * sentence.
 */
#pragma once
#include <jansson.h>

#include "base/err.h"

struct problem {
    unsigned status; /* 0 while nothing is wrong */
    char code[40];   /* snake_case */
    char text[ERR_TEXT_MAX];
};

/* Fills p; returns -1. */
int problem_set(struct problem *p, unsigned status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* An internal failure (disk full, I/O, damage): 507, 503 or 500 with the error's own sentence. Returns -1. */
int problem_from_err(struct problem *p, const struct err *e);

/* {"error":{"code","message"}} as a new reference. */
json_t *problem_json(const struct problem *p);
