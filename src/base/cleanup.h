/*
 * cleanup.h - scope-bound release of resources, instead of goto ladders.
 *
 *     CLEANUP_FREE char *path = NULL;
 *     CLEANUP_CLOSE int fd = -1;
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close_(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void cleanup_fclose_(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

#define CLEANUP_FREE   __attribute__((cleanup(cleanup_free_)))
#define CLEANUP_CLOSE  __attribute__((cleanup(cleanup_close_)))
#define CLEANUP_FCLOSE __attribute__((cleanup(cleanup_fclose_)))

/* Hands the resource on: the variable no longer owns it. */
#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int taken_ = (fd);                                                                                   \
        (fd) = -1;                                                                                           \
        taken_;                                                                                              \
    })
#define TAKE_PTR(p)                                                                                          \
    ({                                                                                                       \
        __typeof__(p) taken_ = (p);                                                                          \
        (p) = NULL;                                                                                          \
        taken_;                                                                                              \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
