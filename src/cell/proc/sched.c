/*
 * The scheduler is the host's: which processor a thread is to run on and how it is scheduled is kept and
 * told, checked as the host's kernel does for a thread without privileges, and comes to nothing.
 */
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/sched.h>
#include <linux/time_types.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/process.h"
#include "cell/proc/sched.h"

#define ARGS   u64 a, u64 b, u64 c, u64 d, u64 e, u64 f
#define UNUSED (void)a, (void)b, (void)c, (void)d, (void)e, (void)f

enum {
    PRIORITY_MIN = 1,
    PRIORITY_MAX = 99,
    NICE_LIMIT = 20
}; /* sched(7); setrlimit(2): nice 0 is 20 there */

void sched_inherit(struct thread *child, const struct thread *parent)
{
    memcpy(child->affinity, parent->affinity, sizeof(child->affinity));
    child->policy = parent->policy & ~SCHED_RESET_ON_FORK; /* it would reset realtime alone */
}

static struct thread *target(u64 tid)
{
    return (int)tid ? thread_find((int)tid) : current();
}

static long sys_sched_yield(ARGS)
{
    UNUSED;
    return host_call3(__NR_sched_yield, 0, 0, 0);
}

static u32 cpus(void)
{
    return HEADER->cpus ? MIN(HEADER->cpus, (u32)CPUS_MAX) : 1;
}

/* The processors [64 * word, 64 * word + 64) that there are. */
static u64 present(u32 word)
{
    u32 n = cpus();

    if (n <= word * 64)
        return 0;
    return n - word * 64 >= 64 ? ~0ULL : (1ULL << (n - word * 64)) - 1;
}

static bool is_bound(const struct thread *t)
{
    for (size_t i = 0; i < ARRAY_LEN(t->affinity); i++)
        if (t->affinity[i])
            return true;
    return false;
}

static long sys_sched_getaffinity(ARGS)
{
    const struct thread *t = target(a);
    u32 words = (cpus() + 63) / 64;

    (void)d, (void)e, (void)f;
    if ((u32)b < words * 8 || (u32)b % 8)
        return -EINVAL;
    if (!t)
        return -ESRCH;
    for (u32 i = 0; i < words; i++)
        if (put_user_u64((void *)(c + (u64)i * 8), is_bound(t) ? t->affinity[i] : present(i)) < 0)
            return -EFAULT;
    return (long)words * 8;
}

/* What is asked for is kept; where threads run is the host's business. */
static long sys_sched_setaffinity(ARGS)
{
    struct thread *t = target(a);
    u64 wanted[CPUS_MAX / 64] = {0}, any = 0;

    (void)d, (void)e, (void)f;
    if (copy_from_user(wanted, (void *)c, MIN((u32)b, (u32)sizeof(wanted))) < 0)
        return -EFAULT;
    if (!t)
        return -ESRCH;
    if (t->process == SHARED->init)
        return -EPERM;
    for (u32 i = 0; i < ARRAY_LEN(wanted); i++)
        any |= wanted[i] &= present(i);
    if (!any)
        return -EINVAL;
    memcpy(t->affinity, wanted, sizeof(wanted));
    return 0;
}

static bool is_realtime(int policy)
{
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

/* 0: an unprivileged thread `t` may be scheduled like this. */
static long check_policy(const struct thread *t, int wanted, int priority)
{
    int policy = wanted & ~SCHED_RESET_ON_FORK, now = t->policy & ~SCHED_RESET_ON_FORK;

    if (policy != SCHED_NORMAL && policy != SCHED_BATCH && policy != SCHED_IDLE && !is_realtime(policy))
        return -EINVAL;
    if (priority < 0 || priority > PRIORITY_MAX || is_realtime(policy) != (priority != 0))
        return -EINVAL;
    if (is_realtime(policy)) /* there is no limit by which one could */
        return -EPERM;
    /* Who is idle stays so, unless it may raise itself to its nice value. */
    if (now == SCHED_IDLE && policy != SCHED_IDLE &&
        t->process->rlimits[RLIMIT_NICE].rlim_cur < (u64)(NICE_LIMIT - t->process->nice))
        return -EPERM;
    if ((t->policy & ~wanted & SCHED_RESET_ON_FORK) || t->process == SHARED->init)
        return -EPERM;
    return 0;
}

static long set_policy(u64 tid, bool keep, int policy, u64 param)
{
    struct thread *t = target(tid);
    u32 priority;
    long rc;

    if ((int)tid < 0 || !param)
        return -EINVAL;
    if (copy_from_user(&priority, (void *)param, sizeof(priority)) < 0)
        return -EFAULT;
    if (!t)
        return -ESRCH;
    if (keep)
        policy = t->policy;
    rc = check_policy(t, policy, (int)priority);
    if (rc == 0)
        t->policy = policy;
    return rc;
}

static long sys_sched_setscheduler(ARGS)
{
    (void)d, (void)e, (void)f;
    return (int)b < 0 ? -EINVAL : set_policy(a, false, (int)b, c);
}

static long sys_sched_setparam(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    return set_policy(a, true, 0, b);
}

static long sys_sched_getscheduler(ARGS)
{
    const struct thread *t = target(a);

    (void)b, (void)c, (void)d, (void)e, (void)f;
    return (int)a < 0 ? -EINVAL : t ? t->policy : -ESRCH;
}

static long sys_sched_getparam(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    if ((int)a < 0 || !b)
        return -EINVAL;
    return target(a) ? put_user_u32((void *)b, 0) : -ESRCH; /* none has a priority */
}

static long priority_of(int policy, int realtime)
{
    if (is_realtime(policy))
        return realtime;
    return policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE || policy == SCHED_DEADLINE
               ? 0
               : -EINVAL;
}

static long sys_sched_get_priority_min(ARGS)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return priority_of((int)a, PRIORITY_MIN);
}

static long sys_sched_get_priority_max(ARGS)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return priority_of((int)a, PRIORITY_MAX);
}

/* What the host gives a thread at a time is not to be seen; this is its usual order
 * (sched_rr_get_interval(2)). */
static long sys_sched_rr_get_interval(ARGS)
{
    const struct __kernel_timespec slice = {.tv_nsec = 4000000};

    (void)c, (void)d, (void)e, (void)f;
    if ((int)a < 0)
        return -EINVAL;
    if (!target(a))
        return -ESRCH;
    return put_user((struct __kernel_timespec *)b, slice);
}

const struct syscall sched_calls[] = {
    {__NR_sched_yield, SYS_UNLOCKED, "sched_yield", sys_sched_yield},
    {__NR_sched_getaffinity, SYS_LOCKED, "sched_getaffinity", sys_sched_getaffinity},
    {__NR_sched_setaffinity, SYS_LOCKED, "sched_setaffinity", sys_sched_setaffinity},
    {__NR_sched_getscheduler, SYS_LOCKED, "sched_getscheduler", sys_sched_getscheduler},
    {__NR_sched_setscheduler, SYS_LOCKED, "sched_setscheduler", sys_sched_setscheduler},
    {__NR_sched_getparam, SYS_LOCKED, "sched_getparam", sys_sched_getparam},
    {__NR_sched_setparam, SYS_LOCKED, "sched_setparam", sys_sched_setparam},
    {__NR_sched_rr_get_interval, SYS_LOCKED, "sched_rr_get_interval", sys_sched_rr_get_interval},
    {__NR_sched_get_priority_min, SYS_UNLOCKED, "sched_get_priority_min", sys_sched_get_priority_min},
    {__NR_sched_get_priority_max, SYS_UNLOCKED, "sched_get_priority_max", sys_sched_get_priority_max},
    {0},
};
