/*
 * host.h - the host's system calls, as the filter lets them through (boot/filter.c). Results as the host
 * gives them: negative errno on failure.
 */
#pragma once
#include <asm/unistd.h>
#include <linux/time_types.h>

#include "cell/base/types.h"

static inline long host_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long rc;

    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return rc;
}

static inline long host_call3(long nr, long a, long b, long c)
{
    long rc;

    __asm__ volatile("syscall" : "=a"(rc) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return rc;
}

static inline long host_call4(long nr, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long rc;

    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return rc;
}

static inline long host_mmap(void *addr, size_t len, int prot, int flags, int fd, u64 offset)
{
    return host_call6(__NR_mmap, (long)addr, (long)len, prot, flags, fd, (long)offset);
}

static inline long host_munmap(void *addr, size_t len)
{
    return host_call3(__NR_munmap, (long)addr, (long)len, 0);
}

static inline long host_mprotect(void *addr, size_t len, int prot)
{
    return host_call3(__NR_mprotect, (long)addr, (long)len, prot);
}

static inline long host_madvise(void *addr, size_t len, int advice)
{
    return host_call3(__NR_madvise, (long)addr, (long)len, advice);
}

static inline long host_futex(_Atomic u32 *word, int op, u32 value, const struct __kernel_timespec *timeout,
                              u32 value3)
{
    return host_call6(__NR_futex, (long)word, op, value, (long)timeout, 0, value3);
}

static inline long host_clock_gettime(int clock, struct __kernel_timespec *ts)
{
    return host_call3(__NR_clock_gettime, clock, (long)ts, 0);
}

static inline long host_getrandom(void *buf, size_t len, unsigned flags)
{
    return host_call3(__NR_getrandom, (long)buf, (long)len, flags);
}

static inline long host_tgkill(int pid, int tid, int sig)
{
    return host_call3(__NR_tgkill, pid, tid, sig);
}

static inline long host_sigprocmask(int how, const u64 *set, u64 *old)
{
    return host_call4(__NR_rt_sigprocmask, how, (long)set, (long)old, 8);
}

static inline void host_exit_group(int status)
{
    for (;;)
        (void)host_call3(__NR_exit_group, status, 0, 0);
}
