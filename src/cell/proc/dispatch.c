/*
 * The three ways in: a system call (patched site or trap), a fault, and work that is pending on the way out.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/siginfo.h>
#include <asm/signal.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/base/lock.h"
#include "cell/base/panic.h"
#include "cell/base/text.h"
#include "cell/fs/path.h"
#include "cell/ipc/calls.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/cputime.h"
#include "cell/proc/dispatch.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"

static const struct syscall *const tables[] = {
    fs_calls,    mem_calls,     ipc_calls,      net_calls,   clone_calls,  exit_calls,
    wait_calls,  exec_calls,    signal_calls,   futex_calls, timer_calls,  event_calls,
    epoll_calls, timerfd_calls, signalfd_calls, id_calls,    system_calls, poll_calls,
    tty_calls,   inotify_calls, pidfd_calls,    sched_calls};

static struct {
    syscall_fn fn;
    u32 flags;
} calls[SYSCALLS]; /* filled at boot */

/* Those that fill memory of the program: their second argument, as much as the third says. */
static const u16 filling[] = {__NR_read, __NR_pread64, __NR_recvfrom, __NR_getdents64};

void dispatch_init(void)
{
    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const struct syscall *s = tables[i]; s->fn; s++) {
            if (s->nr >= SYSCALLS || calls[s->nr].fn)
                panic("system call %u is there twice", s->nr);
            calls[s->nr].fn = s->fn;
            calls[s->nr].flags = s->flags;
        }
    for (size_t i = 0; i < ARRAY_LEN(filling); i++)
        calls[filling[i]].flags |= SYS_FILLS;
}

static bool is_restart(long rc)
{
    return rc == -ERESTARTSYS || rc == -ERESTARTNOHAND;
}

void cell_syscall(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    u64 nr = r->orig_rax;
    bool trapped = t->arch.in_trap;
    long rc;

    if (unlikely(trapped)) {
        t->arch.in_trap = 0;
        kernel_lock();
        patch_site(t);
        kernel_unlock();
    }
    if (unlikely(nr >= SYSCALLS || !calls[nr].fn)) {
        rc = -ENOSYS;
    } else if (calls[nr].flags & SYS_UNLOCKED) {
        rc = calls[nr].fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
    } else {
        if (calls[nr].flags & SYS_FILLS)
            prepare_to_fill((void *)r->rsi, r->rdx);
        kernel_lock();
        rc = calls[nr].fn(r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9);
        kernel_unlock();
    }
    r->rax = (u64)rc;
    if (unlikely(is_restart(rc)))
        atomic_fetch_or(&t->arch.pending, PENDING_RESTART);
}

/* Is there a mapping of a file at the address, but no page of the file? (mmap(2): SIGBUS.) */
static bool is_behind_file(const struct mm *mm, u64 address)
{
    for (u32 i = 0; mm && i < mm->count; i++) {
        const struct vma *v = &mm->areas[i];
        if (address >= v->start && address < v->end)
            return v->file && v->file->inode && S_ISREG(v->file->inode->mode) && v->prot != PROT_NONE &&
                   v->offset + (address - v->start) >= PAGE_UP(file_size(v->file));
    }
    return false;
}

void cell_fault(struct thread *t)
{
    siginfo_t info;

    t->arch.in_trap = 0;
    kernel_lock();
    if (t->arch.fault_signal != SIGILL || !patch_fix(t)) {
        memset(&info, 0, sizeof(info));
        info.si_signo = t->arch.fault_signal;
        info.si_code = t->arch.fault_si_code;
        info.si_addr = (void *)t->arch.fault_address;
        if (info.si_signo == SIGSEGV && is_behind_file(t->process->mm, t->arch.fault_address)) {
            info.si_signo = SIGBUS;
            info.si_code = BUS_ADRERR;
        }
        signal_force(t, info.si_signo, &info);
    }
    kernel_unlock();
}

void cell_exit_work(struct thread *t)
{
    u32 pending;

    kernel_lock();
    pending = atomic_fetch_and(&t->arch.pending,
                               (u32) ~(PENDING_RESTART | PENDING_CHILD | PENDING_KILLED | PENDING_TIME));
    if (pending & PENDING_CHILD)
        process_check_children(t->process, pending & PENDING_KILLED);
    if (pending & PENDING_TIME)
        cpu_timers_look();
    signal_deliver(t);
    kernel_unlock();
}
