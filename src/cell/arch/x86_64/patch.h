/*
 * patch.h - system call sites of programs become jumps into the kernel. A site is patched when it trapped
 * for the second time: so it is code, not data, and more than what most programs do once, at their start; a
 * patch costs about as much as ten calls that trap (it copies a page of the program).
 *
 *   b8 NR 0f 05              mov $NR,%eax; syscall          -> ff 24 25 SLOT    jmp *SLOT
 *   48 c7 c0 NR 0f 05        mov $NR,%rax; syscall          -> the same, and two bytes of nop
 *   0f 05 48 3d 0? f0 ff ff  syscall; cmp $-409?,%rax       -> jmp *SLOT; nop   (the cmp moves)
 *   0f 05                    syscall, anywhere else         -> eb xx            jmp to a pad with jmp *SLOT
 *
 * SLOT is the address of a pointer to a trampoline. Slots lie at 0x0606xxxx, so the last two bytes of the
 * jump, where the old `syscall` of the first form was, are an invalid instruction: a thread that stood
 * between the two old instructions faults there and is sent back to the start.
 *
 * The last form is what musl's and others' inlined calls look like. Nothing around the `syscall` changes, so
 * whatever jumps there, and where the program goes on, stays right. The pad is a gap between two pieces of
 * code (pad.h), one for each site. Which call is made is known only when it is: the number that the site was
 * patched for says nothing about the next one.
 *
 * Trampolines and slots are private memory of the process, made at exec, copied by fork like the code itself.
 */
#pragma once
#include "cell/base/types.h"

struct thread;

#define PATCH_SLOTS 0x06060000UL
enum { PATCH_SLOTS_SIZE = 0x10000, PATCH_TRAMPOLINES_SIZE = 0x40000, PATCH_MISSES_SIZE = 0x1000 };
/* Programs map nothing here: PATCH_SLOTS .. PATCH_END. */
#define PATCH_END (PATCH_SLOTS + PATCH_SLOTS_SIZE + PATCH_TRAMPOLINES_SIZE + PATCH_MISSES_SIZE)

/* At exec, after the old program is gone and the new one is mapped. If its place is taken, nothing is ever
 * patched. */
void patch_init(void);
/* The thread is in a trap, regs.rip behind the `syscall`: patches the site if it can, and moves regs.rip
 * where the program has to go on. Kernel lock held. */
void patch_site(struct thread *t);
/* A thread that stood inside a patched site (SIGILL): moved to its start. */
bool patch_fix(struct thread *t);
/* A thread that was called in on its way from a site of the last form to the kernel: moved back to the site,
 * where it would stand without us. Programs look (pthread_cancel of musl). */
void patch_rewind(struct thread *t);
/* What does the call again that returns to `back`: the site if that is a single instruction, else the
 * kernel's entry. */
u64 patch_call_of(const struct thread *t, u64 back);
