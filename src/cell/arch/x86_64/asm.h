/*
 * asm.h - what entry.S offers to C.
 */
#pragma once
#include <linux/time_types.h>

#include "cell/base/types.h"

struct thread;

extern const char cell_entry[], cell_exit_start[], cell_exit_end[], cell_full_start[], cell_full_end[];
extern const char cell_trap_entry[], cell_fault_entry[], cell_wake_entry[], cell_exit_full[];
extern const char cell_wait_start[], cell_wait_end[], cell_wait_interrupted[];
extern const char uaccess_start[], uaccess_end[], uaccess_fault[];
extern const char cell_sigreturn[];

long cell_clone(unsigned long flags, void *stack, void *clear_tid, struct thread *child);
void cell_trap_leave(const void *fpstate, u64 xfeatures) __attribute__((noreturn));
void cell_thread_end(_Atomic u32 *slot) __attribute__((noreturn));
void cell_process_end(_Atomic u32 *slot) __attribute__((noreturn));
void cell_switch_stack(void *top, void (*fn)(void)) __attribute__((noreturn));
long cell_futex_wait(_Atomic u32 *word, int op, u32 value, const struct __kernel_timespec *timeout,
                     u32 bitset);

size_t uaccess_copy(void *dst, const void *src, size_t n);
size_t uaccess_zero(void *dst, size_t n);
size_t uaccess_load32(u32 *value, const void *src);
size_t uaccess_store32(void *dst, u32 value);
size_t uaccess_load64(u64 *value, const void *src);
size_t uaccess_store64(void *dst, u64 value);
size_t uaccess_touch(void *p);
size_t uaccess_cmpxchg32(void *p, u32 expected, u32 desired, u32 *seen);
long uaccess_string(char *dst, const char *src, size_t n);
size_t uaccess_xsave(void *area, u64 mask);
size_t uaccess_xrstor(const void *area, u64 mask);

/* ---- and what it calls */
void cell_syscall(struct thread *t);
void cell_fault(struct thread *t);
void cell_wake(struct thread *t);
void cell_exit_work(struct thread *t);
void cell_child(struct thread *t);
void cell_boot(unsigned long *stack) __attribute__((noreturn));
