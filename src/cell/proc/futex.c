#include "cell/proc/futex.h"

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/futex.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"

/* FUTEX_WAIT's timeout is relative: after a signal without a handler it would start again, so it becomes
 * absolute here (FUTEX_WAIT_BITSET). */
static long wait_on(_Atomic u32 *word, int op, u32 value, u64 timeout, u32 bitset)
{
    int command = op & FUTEX_CMD_MASK, flags = op & (FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    struct __kernel_timespec ts, *deadline = NULL;
    long rc;

    if (bitset == 0)
        return -EINVAL;
    if (timeout) {
        if (get_user(ts, (void *)timeout) < 0)
            return -EFAULT;
        if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
            return -EINVAL;
        deadline = &ts;
        if (command == FUTEX_WAIT) {
            u64 at = monotonic_ns() + (u64)ts.tv_nsec;
            ts.tv_sec += (s64)(at / 1000000000);
            ts.tv_nsec = (s64)(at % 1000000000);
            flags &= ~FUTEX_CLOCK_REALTIME;
            if (ts.tv_sec < 0)
                deadline = NULL;
        }
    }
    do {
        rc = cell_futex_wait(word, FUTEX_WAIT_BITSET | flags, value, deadline, bitset);
        if (rc == -EINTR && thread_interrupted())
            return deadline && command == FUTEX_WAIT ? -ERESTARTNOHAND : -ERESTARTSYS;
    } while (rc == -EINTR);
    return rc;
}

static long sys_futex(u64 addr, u64 op, u64 value, u64 timeout, u64 addr2, u64 value3)
{
    _Atomic u32 *word = (_Atomic u32 *)addr;

    if (addr % 4)
        return -EINVAL;
    switch ((int)op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
        return wait_on(word, (int)op, (u32)value, timeout, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAIT_BITSET:
        return wait_on(word, (int)op, (u32)value, timeout, (u32)value3);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
        return host_call6(__NR_futex, (long)addr, (long)op, (long)value, 0, 0, (long)value3);
    case FUTEX_CMP_REQUEUE:
        if (addr2 % 4)
            return -EINVAL;
        return host_call6(__NR_futex, (long)addr, (long)op, (long)value, (long)timeout, (long)addr2,
                          (long)value3);
    case FUTEX_REQUEUE: {
        u32 now;
        if (get_user_u32(&now, (void *)addr) < 0)
            return -EFAULT;
        return host_call6(__NR_futex, (long)addr, FUTEX_CMP_REQUEUE | ((long)op & FUTEX_PRIVATE_FLAG),
                          (long)value, (long)timeout, (long)addr2, (long)now);
    }
    case FUTEX_WAKE_OP: {
        /* Wakes more than it has to: both queues, whatever the comparison says. The operation itself is done.
         */
        u32 encoded = (u32)value3, operation = encoded >> 28 & 7, old, new;
        s32 arg = (s32)(encoded << 8) >> 20;
        long woken, more;
        if (encoded >> 31 & 1)
            arg = (s32)(1U << (arg & 31));
        do {
            u32 seen;
            if (get_user_u32(&old, (void *)addr2) < 0)
                return -EFAULT;
            new = operation == FUTEX_OP_SET    ? (u32)arg
                  : operation == FUTEX_OP_ADD  ? old + (u32)arg
                  : operation == FUTEX_OP_OR   ? old | (u32)arg
                  : operation == FUTEX_OP_ANDN ? old & ~(u32)arg
                                               : old ^ (u32)arg;
            if (cmpxchg_user_u32((void *)addr2, old, new, &seen) < 0)
                return -EFAULT;
            if (seen == old)
                break;
        } while (true);
        woken = host_call6(__NR_futex, (long)addr, FUTEX_WAKE | ((long)op & FUTEX_PRIVATE_FLAG), (long)value,
                           0, 0, 0);
        more = host_call6(__NR_futex, (long)addr2, FUTEX_WAKE | ((long)op & FUTEX_PRIVATE_FLAG),
                          (long)timeout, 0, 0, 0);
        return woken < 0 ? woken : woken + (more > 0 ? more : 0);
    }
    default:
        return -ENOSYS;
    }
}

/* One lock of a thread that ended: marked, and a waiter told. */
static void let_go(unsigned long address, u32 tid)
{
    u32 word, seen;

    if (address % 4 || get_user_u32(&word, (void *)address) < 0)
        return;
    while ((word & FUTEX_TID_MASK) == tid) {
        if (cmpxchg_user_u32((void *)address, word, (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED, &seen) < 0)
            return;
        if (seen == word) {
            if (word & FUTEX_WAITERS)
                (void)host_futex((_Atomic u32 *)address, FUTEX_WAKE, 1, NULL, 0);
            return;
        }
        word = seen;
    }
}

void futex_exit_robust_list(unsigned long head)
{
    u32 tid = (u32)current()->tid;
    u64 entry, offset, pending;

    if (get_user_u64(&entry, (void *)head) < 0 || get_user_u64(&offset, (void *)(head + 8)) < 0 ||
        get_user_u64(&pending, (void *)(head + 16)) < 0)
        return;
    for (int i = 0; i < ROBUST_LIST_LIMIT && entry != head; i++) {
        if (entry != pending)
            let_go((entry & ~1UL) + offset, tid);
        if (get_user_u64(&entry, (void *)(entry & ~1UL)) < 0)
            return;
    }
    if (pending)
        let_go((pending & ~1UL) + offset, tid);
}

static long sys_set_robust_list(u64 head, u64 size, u64 c, u64 d, u64 e, u64 f)
{
    (void)c, (void)d, (void)e, (void)f;
    if (size != sizeof(struct robust_list_head))
        return -EINVAL;
    current()->robust_list = head;
    return 0;
}

static long sys_get_robust_list(u64 pid, u64 head, u64 size, u64 d, u64 e, u64 f)
{
    struct thread *t = pid ? thread_find((int)pid) : current();

    (void)d, (void)e, (void)f;
    if (!t)
        return -ESRCH;
    return put_user_u64((void *)head, t->robust_list) < 0 ||
                   put_user_u64((void *)size, sizeof(struct robust_list_head)) < 0
               ? -EFAULT
               : 0;
}

const struct syscall futex_calls[] = {
    {__NR_futex, SYS_UNLOCKED, "futex", sys_futex},
    {__NR_set_robust_list, SYS_UNLOCKED, "set_robust_list", sys_set_robust_list},
    {__NR_get_robust_list, SYS_LOCKED, "get_robust_list", sys_get_robust_list},
    {0},
};
