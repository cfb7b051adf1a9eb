/*
 * show.h - what the differential programs have in common: each prints what calls return, in a form that does
 * not depend on numbers of processes, addresses or times. The same binary runs on the host's kernel (in the
 * container wall) and on the cell's; tests/e2e/test_cell_differential.py compares the two outputs line by
 * line.
 */
#pragma once
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A result: the value if it is small enough to be the same everywhere, else only that it was none of the
 * errors. */
static inline void show(const char *what, long rc)
{
    if (rc == -1)
        printf("%s: -1 %s\n", what, strerrorname_np(errno) ? strerrorname_np(errno) : "?");
    else
        printf("%s: %ld\n", what, rc);
    fflush(stdout);
}

static inline void show_ok(const char *what, long rc)
{
    if (rc == -1)
        show(what, rc);
    else
        printf("%s: ok\n", what);
    fflush(stdout);
}

static inline void show_text(const char *what, const char *text)
{
    printf("%s: %s\n", what, text);
    fflush(stdout);
}
