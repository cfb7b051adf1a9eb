/*
 * musl.h - what the differential programs use of glibc and musl does not have, put in front of them when they
 * are built with musl-gcc. ERRNO_NAMES is made by the test: CASE(EPERM) CASE(ENOENT) ...
 */
#pragma once
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define __rlimit_resource_t          int
#define RENAME_NOREPLACE             1
#define RENAME_EXCHANGE              2
#define STATX_BASIC_STATS            0x7ff
#define statx                        statx_of_linux
#define close_range(a, b, flags)     syscall(SYS_close_range, (a), (b), (flags))
#define closefrom(first)             close_range((first), ~0U, 0)
#define brk(end)                     brk_of_linux(end)
#define renameat2(a, b, c, d, flags) syscall(SYS_renameat2, (a), (b), (c), (d), (flags))

struct statx_of_linux {
    uint32_t stx_mask, stx_blksize;
    uint64_t stx_attributes;
    uint32_t stx_nlink, stx_uid, stx_gid;
    uint16_t stx_mode, spare;
    uint64_t stx_ino, stx_size, rest[26];
};

static inline int statx_of_linux(int dir, const char *path, int flags, unsigned mask,
                                 struct statx_of_linux *x)
{
    return (int)syscall(SYS_statx, dir, path, flags, mask, x);
}

/* musl's own refuses always. */
static inline int brk_of_linux(void *end)
{
    if (syscall(SYS_brk, end) == (long)end)
        return 0;
    errno = ENOMEM;
    return -1;
}

static inline const char *strerrorname_np(int error)
{
    switch (error) {
#define CASE(name)                                                                                           \
    case name:                                                                                               \
        return #name;
        ERRNO_NAMES
#undef CASE
    default:
        return NULL;
    }
}
