#include "cell/proc/wait.h"

#include <asm/errno.h>
#include <linux/futex.h>
#include <linux/time.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/proc/cputime.h"
#include "cell/proc/exit.h"
#include "cell/proc/process.h"

void waitq_add(struct waitq *q, struct waiter *w)
{
    w->thread = current();
    w->wake = NULL;
    w->context = NULL;
    list_add_tail(&q->waiters, &w->node);
    list_add_tail(&w->thread->waiters, &w->mine);
}

void waitq_add_callback(struct waitq *q, struct waiter *w, void (*wake)(struct waiter *w), void *context)
{
    w->thread = NULL;
    w->wake = wake;
    w->context = context;
    list_init(&w->mine);
    list_add_tail(&q->waiters, &w->node);
}

void waitq_del(struct waiter *w)
{
    list_del(&w->node);
    list_del(&w->mine);
}

void waitq_release(struct waitq *q)
{
    list_for_each_safe(n, &q->waiters) list_del(n);
}

void waitq_forget(struct thread *t)
{
    list_for_each_safe(n, &t->waiters) waitq_del(list_entry(n, struct waiter, mine));
}

static void wake_waiter(struct waiter *w)
{
    if (w->wake)
        w->wake(w);
    else
        thread_wake(w->thread);
}

void waitq_wake(struct waitq *q)
{
    list_for_each_safe(n, &q->waiters) wake_waiter(list_entry(n, struct waiter, node));
}

void waitq_wake_one(struct waitq *q)
{
    if (!list_empty(&q->waiters)) {
        struct waiter *w = list_entry(q->waiters.next, struct waiter, node);
        /* To the end: the next one woken is somebody else. */
        list_del(&w->node);
        list_add_tail(&q->waiters, &w->node);
        wake_waiter(w);
    }
}

void thread_wake(struct thread *t)
{
    struct thread *self = current();

    atomic_fetch_add(t->word, 1);
    if (!t->sleeping)
        return;
    t->sleeping = false; /* one host call is enough */
    if (self->nwakes < ARRAY_LEN(self->wakes))
        self->wakes[self->nwakes++] = (u16)t->slot;
    else
        (void)host_futex(t->word, FUTEX_WAKE, 1, NULL, 0);
}

static struct __kernel_timespec to_timespec(u64 ns)
{
    return (struct __kernel_timespec){.tv_sec = (s64)(ns / 1000000000),
                                      .tv_nsec = (long long)(ns % 1000000000)};
}

/* ---- before it sleeps a thread may look for a while whether it is woken */

static u64 cycles(void)
{
    return __builtin_ia32_rdtsc();
}

void patience_learn(struct patience *p, u64 blocked)
{
    if (blocked <= PATIENCE_MAX && p->window < PATIENCE_MAX) {
        if (p->skip > 0)
            p->skip--;
        else
            p->window = p->window ? MIN(2 * p->window, (u32)PATIENCE_MAX) : PATIENCE_START;
        return;
    }
    if (p->window > 0) { /* it was in vain: the next time is further away each time */
        p->penalty = (u16)MIN(2 * p->penalty + 1, PATIENCE_PENALTY_MAX);
        p->skip = p->penalty;
    }
    p->window = 0;
}

/* True if it was woken, or something is pending. The lock is free meanwhile. */
static bool look(struct thread *t, u32 seen, u64 begin)
{
    bool woken = false;

    kernel_unlock();
    do {
        __builtin_ia32_pause();
        woken = atomic_load(t->word) != seen || atomic_load(&t->arch.pending);
    } while (!woken && cycles() - begin < t->patience.window);
    kernel_lock();
    return woken || atomic_load(t->word) != seen || atomic_load(&t->arch.pending);
}

/* Since the thread last came back from here, not since this moment: the warden wakes without the kernel lock,
 * so between a look at a ring and the way to sleep. For nothing, at times: the caller looks again. */
static bool was_woken(struct thread *t)
{
    u32 now = atomic_load(t->word);
    bool woken = now != t->seen;

    t->seen = now;
    return woken;
}

/* What the host told meanwhile and no program needs to know of is dealt with here. */
static bool interrupted(struct thread *t)
{
    u32 pending = atomic_load(&t->arch.pending), ours = PENDING_CHILD | PENDING_KILLED | PENDING_TIME;

    if (pending & ~ours)
        return true;
    if (pending) {
        pending = atomic_fetch_and(&t->arch.pending, ~ours);
        if (pending & PENDING_CHILD)
            process_check_children(t->process, pending & PENDING_KILLED);
        if (pending & PENDING_TIME)
            cpu_timers_look();
    }
    return atomic_load(&t->arch.pending) & ~ours;
}

bool thread_interrupted(void)
{
    bool ends;

    kernel_lock();
    ends = interrupted(current());
    kernel_unlock();
    return ends;
}

int thread_sleep(u64 deadline)
{
    struct thread *t = current();
    struct __kernel_timespec ts = to_timespec(deadline);
    u64 begin = cycles();
    long rc;

    if (interrupted(t))
        return -ERESTARTSYS;
    if (was_woken(t))
        return 0;
    if (t->patience.window > 0 && HEADER->cpus > 1 && look(t, t->seen, begin)) {
        t->patience.penalty = 0;
        (void)was_woken(t);
        return interrupted(t) ? -ERESTARTSYS : 0;
    }
    t->sleeping = true;
    kernel_unlock();
    rc = cell_futex_wait(t->word, FUTEX_WAIT_BITSET, t->seen, deadline == NO_DEADLINE ? NULL : &ts,
                         FUTEX_BITSET_MATCH_ANY);
    kernel_lock();
    t->sleeping = false;
    patience_learn(&t->patience, cycles() - begin);
    if (was_woken(t))
        return 0;
    if (rc == -ETIMEDOUT)
        return -ETIMEDOUT;
    return interrupted(t) ? -ERESTARTSYS : 0;
}

int thread_sleep_killable(u64 deadline)
{
    struct thread *t = current();
    struct __kernel_timespec ts = to_timespec(deadline);
    long rc;

    if (t->process->exiting || t->exiting)
        return -ERESTARTSYS;
    if (was_woken(t))
        return 0;
    t->sleeping = true;
    kernel_unlock();
    rc = host_futex(t->word, FUTEX_WAIT_BITSET, t->seen, deadline == NO_DEADLINE ? NULL : &ts,
                    FUTEX_BITSET_MATCH_ANY);
    kernel_lock();
    t->sleeping = false;
    if (!was_woken(t) && rc == -ETIMEDOUT)
        return -ETIMEDOUT;
    return t->process->exiting || t->exiting ? -ERESTARTSYS : 0;
}

static u64 clock_ns(int clock)
{
    struct __kernel_timespec ts = {0};

    (void)host_clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * 1000000000U + (u64)ts.tv_nsec;
}

u64 monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

u64 realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
