/*
 * types.h - the words that every file of the cell kernel uses. The kernel is freestanding: no C library, the
 * kernel's own user-space headers (asm/, linux/) for structures that programs see.
 *
 * Errors are negative errno values, returned as long or int (as in Linux).
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One static program: nothing is found through a table of addresses, also what other files define. */
#ifndef CELL_HOSTED
#pragma GCC visibility push(hidden)
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Each side is evaluated once: it may be a counter that the other end of a ring moves. Not for constants. */
#define MIN(a, b)            CHOOSE_(<, a, b, __COUNTER__)
#define MAX(a, b)            CHOOSE_(>, a, b, __COUNTER__)
#define CHOOSE_(op, a, b, n) CHOOSE_ONCE_(op, a, b, n)
#define CHOOSE_ONCE_(op, a, b, n)                                                                            \
    ({                                                                                                       \
        __typeof__(1 ? (a) : (b)) a_##n = (a), b_##n = (b);                                                  \
        a_##n op b_##n ? a_##n : b_##n;                                                                      \
    })
#define PAGE                          4096UL
#define PAGE_UP(n)                    (((n) + PAGE - 1) & ~(PAGE - 1))
#define PAGE_DOWN(n)                  ((n) & ~(PAGE - 1))
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))
#define likely(x)                     __builtin_expect(!!(x), 1)
#define unlikely(x)                   __builtin_expect(!!(x), 0)

/* An address given by a program. Reached through mem/uaccess.h only: it may be wrong. */
#define USER

/* Results that never reach a program (as in Linux): do the call again after a signal without a handler, or
 * with one that has SA_RESTART; always after a stop, but EINTR after a handler. */
#define ERESTARTSYS    512
#define ERESTARTNOHAND 514
