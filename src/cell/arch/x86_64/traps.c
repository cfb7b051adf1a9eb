#include "cell/arch/x86_64/traps.h"

#include <asm/errno.h>
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/base/panic.h"
#include "cell/base/text.h"
#include "cell/proc/process.h"

enum {
    FLAGS_CLEARED = 0x100 | 0x400 | 0x40000, /* trap, direction, alignment check */
    HANDLER_STACK = 4096                     /* what handlers need besides the host's frames */
};

struct host_ucontext {
    unsigned long flags;
    struct host_ucontext *link;
    stack_t stack;
    struct sigcontext regs;
    u64 mask;
};

static bool is_kernel_text(u64 rip)
{
    return rip >= CELL_TEXT && rip < CELL_TEXT + CELL_TEXT_MAX;
}

static bool is_in(u64 rip, const char *start, const char *end)
{
    return rip >= (u64)(uintptr_t)start && rip < (u64)(uintptr_t)end;
}

static void save(struct thread *t, const struct sigcontext *c)
{
    t->arch.regs = (struct regs){.r15 = c->r15,
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
                                 .rflags = c->eflags,
                                 .rsp = c->rsp};
}

/* When the handler returns, the thread is in the kernel on its own stack. */
static void enter(struct thread *t, struct sigcontext *c, const char *entry)
{
    save(t, c);
    t->arch.in_trap = 1;
    c->rip = (u64)(uintptr_t)entry;
    c->rsp = t->arch.stack_top;
    c->eflags &= ~(u64)FLAGS_CLEARED;
}

/* The commonest way in. Where two signal frames fit on the host's signal stack, SIGSYS blocks no signal while
 * it is handled: then there is nothing that only rt_sigreturn(2) could undo, and it can be spared, which is a
 * third of what the way in costs. A signal that comes meanwhile finds the thread in the kernel. */
static bool can_leave; /* set at boot */

static void leave(const struct sigcontext *c)
{
    const struct _fpstate_64 *fp;
    u64 at;

    memcpy(&at, &c->fpstate, sizeof(at)); /* the header has another type for each */
    fp = (const struct _fpstate_64 *)at;
    if (can_leave && fp && fp->sw_reserved.magic1 == FP_XSTATE_MAGIC1)
        cell_trap_leave(fp, fp->sw_reserved.xfeatures);
}

static void on_syscall(struct thread *t, struct sigcontext *c)
{
    if (is_kernel_text(c->rip))
        panic("the host refused a system call of the kernel: number %ld at %lx", (long)c->rax, (u64)c->rip);
    enter(t, c, cell_trap_entry);
    t->arch.regs.orig_rax = c->rax;
    leave(c);
}

static void on_fault(struct thread *t, int sig, const siginfo_t *info, struct sigcontext *c)
{
    if (is_in(c->rip, uaccess_start, uaccess_end)) {
        c->rip = (u64)(uintptr_t)uaccess_fault;
        return;
    }
    if (is_kernel_text(c->rip))
        panic("fault %d in the kernel at %lx, address %lx, called from %lx %lx, rax %lx rdi %lx rsi %lx", sig,
              (u64)c->rip, (u64)(uintptr_t)info->si_addr,
              c->rsp >= CELL_MEMORY && c->rsp < CELL_KERNEL_END ? *(u64 *)c->rsp : 0,
              c->rbp >= CELL_MEMORY && c->rbp < CELL_KERNEL_END ? *(u64 *)(c->rbp + 8) : 0, (u64)c->rax,
              (u64)c->rdi, (u64)c->rsi);
    t->arch.fault_signal = sig;
    t->arch.fault_si_code = info->si_code;
    t->arch.fault_address = (u64)(uintptr_t)info->si_addr;
    t->arch.fault_code = c->err;
    t->arch.fault_trap = c->trapno;
    enter(t, c, cell_fault_entry);
}

/* Something is pending. A program comes in; a thread that is on its way out or about to sleep looks again;
 * the rest of the kernel will look when it leaves. */
static void on_wake(struct thread *t, struct sigcontext *c)
{
    if (!is_kernel_text(c->rip))
        enter(t, c, cell_wake_entry);
    else if (is_in(c->rip, cell_exit_start, cell_exit_end))
        c->rip = (u64)(uintptr_t)cell_exit_start;
    else if (is_in(c->rip, cell_full_start, cell_full_end))
        c->rip = (u64)(uintptr_t)cell_full_start;
    else if (is_in(c->rip, cell_wait_start, cell_wait_end))
        c->rip = (u64)(uintptr_t)cell_wait_interrupted;
}

/* Called in by on_wake(), out of program code. */
void cell_wake(struct thread *t)
{
    t->arch.in_trap = 0;
    patch_rewind(t);
}

static void handler(int sig, siginfo_t *info, void *context)
{
    struct host_ucontext *u = context;
    struct thread *t = current();

    switch (sig) {
    case SIGSYS:
        on_syscall(t, &u->regs);
        break;
    case SIGCHLD:
        if (info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED) {
            atomic_store(&t->arch.killed, (u64)(u32)info->si_pid << 32 | (u32)info->si_status);
            atomic_fetch_or(&t->arch.pending, PENDING_KILLED);
        }
        atomic_fetch_or(&t->arch.pending, PENDING_CHILD);
        on_wake(t, &u->regs);
        break;
    case CELL_SIGRTMIN_WAKE:
        on_wake(t, &u->regs);
        break;
    default:
        on_fault(t, sig, info, &u->regs);
    }
}

struct host_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    const char *restorer;
    u64 mask;
};

void traps_init(void)
{
    static const int signals[] = {SIGSYS, SIGSEGV, SIGBUS,  SIGFPE,
                                  SIGILL, SIGTRAP, SIGCHLD, CELL_SIGRTMIN_WAKE};
    struct host_sigaction a = {.handler = handler, .restorer = cell_sigreturn};

    can_leave = 2 * sigframe_host_bytes() + HANDLER_STACK <= ALT_STACK_SIZE;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        bool leaves = signals[i] == SIGSYS && can_leave;
        a.mask = leaves ? 0 : ~0ULL;
        /* SA_NOCLDWAIT: the host reaps its children by itself. */
        a.flags = SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */ |
                  (signals[i] == SIGCHLD ? SA_NOCLDWAIT : 0) | (leaves ? SA_NODEFER : 0);
        if (host_call4(__NR_rt_sigaction, signals[i], (long)&a, 0, 8) < 0)
            panic("cannot set the handler of host signal %d", signals[i]);
    }
}

void traps_thread_init(struct thread *t)
{
    stack_t stack = {.ss_sp = t->arch.alt_stack, .ss_size = ALT_STACK_SIZE};

    if (host_call3(__NR_sigaltstack, (long)&stack, 0, 0) < 0)
        panic("cannot set the signal stack (does the processor need more than %d bytes?)", ALT_STACK_SIZE);
}

void traps_kick(struct thread *t)
{
    if (t->host_tid > 0)
        (void)host_tgkill(t->process->host_pid, t->host_tid, CELL_SIGRTMIN_WAKE);
}

void traps_block(u64 *old)
{
    static const u64 all = ~0ULL;

    (void)host_sigprocmask(SIG_SETMASK, &all, old);
}

void traps_unblock(const u64 *old)
{
    (void)host_sigprocmask(SIG_SETMASK, old, NULL);
}
