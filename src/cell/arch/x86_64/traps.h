/*
 * traps.h - the host's signals. None of them reaches a program directly: handlers run on a stack of their own
 * for a moment, note what happened, and send the thread into the kernel (or let the kernel go on, if it was
 * there). A program's signals are proc/signal.c's.
 *
 *   SIGSYS              a system call instruction outside the kernel that was not patched
 *   SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP   a fault: of a program, of uaccess (mem/uaccess.h), or a panic
 *   CELL_SIGRTMIN_WAKE  come into the kernel: arch.pending has something for you
 *   SIGCHLD             a child process of the host's ended
 */
#pragma once
#include "cell/base/types.h"

struct thread;

enum { ALT_STACK_SIZE = 16384, KERNEL_STACK_SIZE = 16384, THREAD_STACK_PAGES = 8 };

/* Once, before the first program. */
void traps_init(void);
/* For the calling thread: its signal stack. */
void traps_thread_init(struct thread *t);
/* Brings a thread of another program into the kernel, wherever it is. */
void traps_kick(struct thread *t);
/* sigframe.c: the most that the host puts on a stack for one signal. */
size_t sigframe_host_bytes(void);
/* No host signal until the mask is put back. */
void traps_block(u64 *old);
void traps_unblock(const u64 *old);
