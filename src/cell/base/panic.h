/*
 * panic.h - the end of a cell that cannot go on. The sentence goes to the warden, which prints it and ends
 * everything in the cell's pid namespace.
 */
#pragma once
#include "cell/base/types.h"

void panic(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* The host killed one of us where that leaves the rest nothing to go on with: out of memory, mostly. To the
 * caller it is as if the cell had been killed. */
void panic_killed(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define ASSERT(x)                                                                                            \
    do {                                                                                                     \
        if (unlikely(!(x)))                                                                                  \
            panic("%s:%d: %s does not hold", __FILE_NAME__, __LINE__, #x);                                   \
    } while (0)
