#include "cell/base/lock.h"

#include <asm/errno.h>
#include <linux/futex.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/proc/process.h"

#define LOCK_WAITERS 0x80000000U
enum { SPINS = 300, LOCK_PATIENCE_NS = 400000000 };

/* Threads whose number at the host is `tid`, living and ended ones: one that is still there, if any is. */
static struct thread *find_thread(int tid, bool *alive)
{
    struct thread *found = NULL;

    *alive = false;
    for (u32 i = 0; i < 2 * CELL_WAKES && !*alive; i++) {
        struct thread **from = i < CELL_WAKES ? SHARED->threads : SHARED->dead;
        struct thread *t = __atomic_load_n(&from[i % CELL_WAKES], __ATOMIC_RELAXED);
        if (!t || t->host_tid != tid)
            continue;
        found = t;
        *alive = host_tgkill(t->host_pid, tid, 0) == 0;
    }
    return found;
}

/* Waited too long: is there anybody who could unlock it? A number that no thread of ours has was written by a
 * program, and stays. */
static void check_holder(u32 word)
{
    bool alive;
    const struct thread *t = find_thread((int)(word & ~LOCK_WAITERS), &alive);

    if (t && !alive && (atomic_load(&SHARED->lock) & ~LOCK_WAITERS) == (word & ~LOCK_WAITERS))
        panic_killed("thread %d was killed by the host while it held the kernel lock", t->tid);
}

static void lock_slowly(u32 mine)
{
    const struct __kernel_timespec patience = {.tv_nsec = LOCK_PATIENCE_NS};
    u32 word;

    for (int i = 0; i < SPINS; i++) {
        word = 0;
        if (atomic_compare_exchange_weak(&SHARED->lock, &word, mine))
            return;
        __builtin_ia32_pause();
    }
    for (;;) {
        word = atomic_load(&SHARED->lock);
        if (word == 0) {
            /* Others may sleep as well: take it as if they did. */
            if (atomic_compare_exchange_strong(&SHARED->lock, &word, mine | LOCK_WAITERS))
                return;
            continue;
        }
        if (!(word & LOCK_WAITERS) &&
            !atomic_compare_exchange_strong(&SHARED->lock, &word, word | LOCK_WAITERS))
            continue;
        word |= LOCK_WAITERS;
        if (host_futex(&SHARED->lock, FUTEX_WAIT, word, &patience, 0) == -ETIMEDOUT)
            check_holder(word);
    }
}

void kernel_lock(void)
{
    u32 mine = (u32)current()->host_tid, word = 0;

    if (unlikely(!atomic_compare_exchange_strong_explicit(&SHARED->lock, &word, mine, memory_order_acquire,
                                                          memory_order_relaxed)))
        lock_slowly(mine);
}

void kernel_unlock(void)
{
    struct thread *t = current();
    u16 wakes[ARRAY_LEN(t->wakes)], n = t->nwakes;

    for (u16 i = 0; i < n; i++)
        wakes[i] = t->wakes[i];
    t->nwakes = 0;
    if (unlikely(atomic_exchange_explicit(&SHARED->lock, 0, memory_order_release) & LOCK_WAITERS))
        (void)host_futex(&SHARED->lock, FUTEX_WAKE, 1, NULL, 0);
    for (u16 i = 0; i < n; i++)
        (void)host_futex(WAKE_WORD(wakes[i]), FUTEX_WAKE, 1, NULL, 0);
}

bool kernel_locked(void)
{
    return (atomic_load(&SHARED->lock) & ~LOCK_WAITERS) == (u32)current()->host_tid;
}
