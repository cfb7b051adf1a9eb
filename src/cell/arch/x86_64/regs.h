/*
 * regs.h - the registers of a program while its thread is in the kernel, and what the assembly finds at %gs.
 * Offsets are in entry.S as well; the assertions hold the two together.
 */
#pragma once
#include "cell/base/types.h"

struct regs {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    u64 orig_rax; /* number of the system call; -1: not in one */
    u64 rip, rflags, rsp;
};

struct arch_thread {
    void *self;          /* %gs:0 */
    u64 stack_top;       /* %gs:8: of the kernel stack */
    _Atomic u32 pending; /* %gs:16: something to do before program code goes on (PENDING_*) */
    u32 in_trap;         /* entered by a trap: all registers have to be restored */
    _Atomic u64 killed;  /* the last child that the host killed: its host pid << 32 | signal */
    u64 spare;
    u64 guard;        /* %gs:0x28: stack protector */
    struct regs regs; /* %gs:0x30 */
    u64 fs_base;      /* kept for fork and signal delivery only: the register is live */
    /* A fault of program code, for proc/signal.c */
    u64 fault_address, fault_code, fault_trap;
    int fault_signal, fault_si_code;
    void *alt_stack; /* lowest address of the host's signal stack of this thread */
};

/* Bits of `pending`: a signal may have to be delivered or the thread to stop; a call has to be done again;
 * the thread has to end; the host says that a child process ended; it is to look how much time it has had. */
enum {
    PENDING_SIGNAL = 1,
    PENDING_RESTART = 2,
    PENDING_EXIT = 4,
    PENDING_CHILD = 8,
    PENDING_KILLED = 16,
    PENDING_TIME = 32
};

_Static_assert(offsetof(struct arch_thread, stack_top) == 8, "entry.S");
_Static_assert(offsetof(struct arch_thread, pending) == 16, "entry.S");
_Static_assert(offsetof(struct arch_thread, guard) == 0x28, "gcc's place for x86-64");
_Static_assert(offsetof(struct arch_thread, regs) == 0x30, "entry.S");
