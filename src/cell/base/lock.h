/*
 * lock.h - the one lock of the cell kernel. Every system call that touches shared state holds it; sleeping
 * (wait.h) gives it up. It is short work under it, mostly: what takes long (copying a page, a page fault of
 * the host) takes the same time without it.
 *
 * Woken threads are not told before the lock is free: kernel_unlock() does the host calls that
 * waitq_wake() put down, so a woken thread finds the lock open.
 *
 * A holder that was killed by the host (out of memory) would block everybody: whoever waits longer than
 * LOCK_PATIENCE asks the host whether the holder lives, and panics if not.
 */
#pragma once
#include "cell/base/types.h"

void kernel_lock(void);
void kernel_unlock(void);
/* For assertions: does the calling thread hold it? */
bool kernel_locked(void);
