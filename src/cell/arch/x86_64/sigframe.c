/*
 * The frame of a signal handler on a program's stack, as libc, unwinders and language runtimes expect it:
 * struct rt_sigframe of the x86-64 ABI of Linux. Vector registers are the program's all the time (the kernel
 * uses none), so they are saved from and restored to the processor directly.
 */
#include <asm/errno.h>
#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/signal.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/text.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"

enum {
    RED_ZONE = 128,
    XSAVE_LEGACY = 512,
    XSAVE_HEADER = 64,
    SW_RESERVED = 464,
    CS_USER = 0x33,
    SS_USER = 0x2b
};
/* Flags that a handler's frame may change: arithmetic, direction, resume. */
#define FLAGS_CHANGEABLE 0x40dd5UL
#define FLAGS_FIXED      0x202UL

struct frame_ucontext {
    unsigned long flags;
    unsigned long link;
    stack_t stack;
    struct sigcontext regs;
    u64 mask;
};

struct frame {
    u64 restorer;
    struct frame_ucontext uc;
    siginfo_t info;
};

static u64 xfeatures;   /* set at boot, as all below */
static u32 xsave_bytes; /* of an area with all of them */

void sigframe_init(void)
{
    u32 eax = 0xd, ebx, ecx = 0, edx, low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    xfeatures = (u64)high << 32 | low;
    xsave_bytes = ebx;
}

size_t sigframe_host_bytes(void)
{
    return RED_ZONE + 64 /* alignment */ + sizeof(struct frame) + xsave_bytes + FP_XSTATE_MAGIC2_SIZE;
}

static bool on_altstack(const struct thread *t, u64 sp)
{
    return t->altstack_size && sp > t->altstack_base && sp - t->altstack_base <= t->altstack_size;
}

static int push_fpstate(u64 at)
{
    struct _fpx_sw_bytes sw = {.magic1 = FP_XSTATE_MAGIC1,
                               .extended_size = xsave_bytes + FP_XSTATE_MAGIC2_SIZE,
                               .xfeatures = xfeatures,
                               .xstate_size = xsave_bytes};

    /* The header must not hold what lay on the stack: xsave keeps bits that it does not write. */
    if (clear_user((void *)(at + XSAVE_LEGACY), XSAVE_HEADER) < 0 ||
        uaccess_xsave((void *)at, xfeatures) != 0 ||
        copy_to_user((void *)(at + SW_RESERVED), &sw, sizeof(sw)) < 0 ||
        put_user_u32((void *)(at + xsave_bytes), FP_XSTATE_MAGIC2) < 0)
        return -EFAULT;
    return 0;
}

static void fill(struct sigcontext *c, const struct thread *t, u64 mask, u64 fpstate)
{
    const struct regs *r = &t->arch.regs;

    *c = (struct sigcontext){.r8 = r->r8,
                             .r9 = r->r9,
                             .r10 = r->r10,
                             .r11 = r->r11,
                             .r12 = r->r12,
                             .r13 = r->r13,
                             .r14 = r->r14,
                             .r15 = r->r15,
                             .rdi = r->rdi,
                             .rsi = r->rsi,
                             .rbp = r->rbp,
                             .rbx = r->rbx,
                             .rdx = r->rdx,
                             .rax = r->rax,
                             .rcx = r->rcx,
                             .rsp = r->rsp,
                             .rip = r->rip,
                             .eflags = r->rflags,
                             .cs = CS_USER,
                             .ss = SS_USER,
                             .err = t->arch.fault_code,
                             .trapno = t->arch.fault_trap,
                             .cr2 = t->arch.fault_address,
                             .oldmask = mask};
    memcpy(&c->fpstate, &fpstate, sizeof(fpstate));
}

int sigframe_push(struct thread *t, int sig, const siginfo_t *info, const struct k_sigaction *action,
                  u64 mask)
{
    struct regs *r = &t->arch.regs;
    struct frame frame = {.restorer = action->restorer, .info = *info};
    u64 sp = r->rsp - RED_ZONE, fpstate;

    if (!(action->flags & 0x04000000 /* SA_RESTORER */))
        return -EFAULT;
    /* A call that is done again: the handler sees the address that it would see on the host. */
    if (r->rip == (u64)(uintptr_t)cell_entry)
        r->rip = patch_call_of(t, r->rcx);
    if ((action->flags & SA_ONSTACK) && t->altstack_size && !on_altstack(t, r->rsp))
        sp = t->altstack_base + t->altstack_size;
    fpstate = (sp - xsave_bytes - FP_XSTATE_MAGIC2_SIZE) & ~63UL;
    sp = ((fpstate - sizeof(frame)) & ~15UL) - 8; /* as behind a call */
    if (push_fpstate(fpstate) < 0)
        return -EFAULT;
    frame.uc.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    frame.uc.stack = (stack_t){.ss_sp = (void *)t->altstack_base,
                               .ss_flags = !t->altstack_size        ? SS_DISABLE
                                           : on_altstack(t, r->rsp) ? SS_ONSTACK
                                                                    : 0,
                               .ss_size = t->altstack_size};
    frame.uc.mask = mask;
    fill(&frame.uc.regs, t, mask, fpstate);
    if (copy_to_user((void *)sp, &frame, sizeof(frame)) < 0)
        return -EFAULT;
    if (t->altstack_flags & (int)SS_AUTODISARM)
        t->altstack_size = 0;
    r->rdi = (u64)sig;
    r->rsi = sp + offsetof(struct frame, info);
    r->rdx = sp + offsetof(struct frame, uc);
    r->rax = 0;
    r->rip = action->handler;
    r->rsp = sp;
    r->rflags = FLAGS_FIXED;
    r->orig_rax = (u64)-1;
    return 0;
}

static int pop_fpstate(u64 at)
{
    struct _fpx_sw_bytes sw;

    if (at == 0)
        return 0;
    if (at % 64 || copy_from_user(&sw, (void *)(at + SW_RESERVED), sizeof(sw)) < 0 ||
        sw.magic1 != FP_XSTATE_MAGIC1)
        return -EFAULT;
    return uaccess_xrstor((void *)at, xfeatures) == 0 ? 0 : -EFAULT;
}

long sigframe_pop(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    struct frame_ucontext uc;
    const struct sigcontext *c = &uc.regs;
    u64 fpstate;

    /* The handler returned through frame.restorer, which the return took off the stack. */
    if (copy_from_user(&uc, (void *)(r->rsp - 8 + offsetof(struct frame, uc)), sizeof(uc)) < 0)
        process_exit(SIGSEGV);
    memcpy(&fpstate, &c->fpstate, sizeof(fpstate));
    if (pop_fpstate(fpstate) < 0)
        process_exit(SIGSEGV);
    *r = (struct regs){.r15 = c->r15,
                       .r14 = c->r14,
                       .r13 = c->r13,
                       .r12 = c->r12,
                       .rbp = c->rbp,
                       .rbx = c->rbx,
                       .r11 = c->r11,
                       .r10 = c->r10,
                       .r9 = c->r9,
                       .r8 = c->r8,
                       .rax = c->rax,
                       .rcx = c->rcx,
                       .rdx = c->rdx,
                       .rsi = c->rsi,
                       .rdi = c->rdi,
                       .orig_rax = (u64)-1,
                       .rip = c->rip,
                       .rflags = (c->eflags & FLAGS_CHANGEABLE) | FLAGS_FIXED,
                       .rsp = c->rsp};
    if (!(uc.stack.ss_flags & SS_DISABLE) && !on_altstack(t, r->rsp)) {
        t->altstack_base = (unsigned long)uc.stack.ss_sp;
        t->altstack_size = uc.stack.ss_size;
    }
    signal_set_mask(uc.mask);
    /* The short way out of a patched site keeps neither flags nor r11. */
    atomic_fetch_or(&t->arch.pending, PENDING_SIGNAL);
    return (long)r->rax;
}
