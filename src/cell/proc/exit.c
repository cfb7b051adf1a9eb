#include "cell/proc/exit.h"

#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/futex.h>
#include <linux/time.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/ipc/pidfd.h"
#include "cell/ipc/stream.h"
#include "cell/proc/futex.h"
#include "cell/proc/signal.h"
#include "cell/proc/table.h"
#include "cell/proc/timer.h"
#include "cell/tty/tty.h"

enum { VANISHING_NS = 1000000000 }; /* no end is that far from its news, however busy the host is */

void process_notify_parent(struct process *p)
{
    struct process *parent = p->parent;
    siginfo_t info = {.si_signo = SIGCHLD};
    int status = p->exit_status;

    if (!parent)
        return;
    info.si_pid = p->pid;
    info.si_uid = CELL_UID;
    if (p->state == PROCESS_ZOMBIE) {
        info.si_code = (status & 0x7f) == 0 ? CLD_EXITED : CLD_KILLED;
        info.si_status = (status & 0x7f) == 0 ? status >> 8 & 0xff : status & 0x7f;
    } else {
        info.si_code = p->stopped ? CLD_STOPPED : CLD_CONTINUED;
        info.si_status = p->stopped ? p->stop_signal : SIGCONT;
    }
    waitq_wake(&parent->child_event);
    if (p->state == PROCESS_ZOMBIE ? p->exit_signal != 0
                                   : !(parent->actions[SIGCHLD - 1].flags & SA_NOCLDSTOP))
        (void)signal_post(parent, p->state == PROCESS_ZOMBIE ? p->exit_signal : SIGCHLD, &info);
}

/* Who takes over the children: the nearest reaper above, or pid 1. */
static struct process *find_reaper(const struct process *p)
{
    for (struct process *q = p->parent; q; q = q->parent)
        if (q->is_reaper && q->state == PROCESS_ALIVE && !q->exiting)
            return q;
    return SHARED->init;
}

/* A zombie that nobody has to ask for: its parent ignores SIGCHLD, or is the kernel's own. */
static bool is_unwanted(const struct process *p)
{
    const struct k_sigaction *a = &p->parent->actions[SIGCHLD - 1];

    return p->parent == SHARED->init ||
           (p->exit_signal == SIGCHLD && (a->handler == (unsigned long)SIG_IGN || (a->flags & SA_NOCLDWAIT)));
}

static void leave_children(struct process *p)
{
    struct process *reaper = find_reaper(p);

    list_for_each_safe(n, &p->children)
    {
        struct process *child = list_entry(n, struct process, siblings);
        list_del(n);
        child->parent = reaper;
        list_add_tail(&reaper->children, &child->siblings);
        if (child->death_signal && child->state == PROCESS_ALIVE)
            signal_process(child, child->death_signal);
        if (child->state == PROCESS_ZOMBIE) {
            if (is_unwanted(child))
                process_remove(child);
            else
                process_notify_parent(child);
        }
    }
}

/* A stopped group whose last link to the session goes: nobody could continue it (setpgid(2), _exit(2)). */
static bool group_is_stopped(int pgid)
{
    list_for_each(n, process_list())
    {
        struct process *q = list_entry(n, struct process, all);
        if (q->pgid == pgid && q->state == PROCESS_ALIVE && q->stopped)
            return true;
    }
    return false;
}

/* The workload itself: the cell ends with it. */
static bool is_main(const struct process *p)
{
    return p->pid == 2;
}

/* What is left of a process becomes something to wait for. */
static void become_zombie(struct process *p, int status)
{
    p->state = PROCESS_ZOMBIE;
    p->exit_status = status;
    pidfd_process_ended(p);
    signal_drop_all(&p->pending, &p->pending_set);
    timers_free(p);
    if (p->tty && p->sid == p->pid)
        tty_session_ends(p);
    leave_children(p);
    process_vfork_done(p);
    list_for_each(n, process_list())
    {
        struct process *q = list_entry(n, struct process, all);
        if (q->parent == p->parent && q->pgid != p->pgid && q->stopped && group_is_stopped(q->pgid) &&
            p->parent == SHARED->init) {
            signal_group(q->pgid, SIGHUP);
            signal_group(q->pgid, SIGCONT);
        }
    }
    if (is_main(p)) {
        atomic_store(&HEADER->status, (u32)status);
        SHARED->main_ended = true;
        if (HEADER->flags & CELL_BOOT_FILES) {
            thread_wake(SHARED->init->leader); /* it sees to it that all is on its way to the host */
        } else {
            atomic_store(&HEADER->state, CELL_EXITED);
            stream_ring_doorbell();
        }
    }
    if (is_unwanted(p)) {
        waitq_wake(&p->parent->child_event);
        process_remove(p);
    } else {
        process_notify_parent(p);
    }
}

/* What a process has; the memory itself goes with the host's process. */
static void give_back(struct process *p)
{
    struct fd_table *fds = p->fds;
    struct mm *mm = p->mm;
    struct file *exe = p->exe;

    p->fds = NULL;
    p->mm = NULL;
    p->exe = NULL;
    if (fds)
        fd_table_put(fds, p);
    mm_free(mm);
    if (exe)
        file_put(exe);
    fs_context_put(&p->fs);
    kfree(p->cmdline);
    p->cmdline = NULL;
    p->cmdline_len = 0;
}

/* The cell ends in a moment, and all of it at once. To tear this process down first would keep the processor
 * from whoever waits for the end. */
__attribute__((noreturn)) static void await_end(_Atomic u32 *ending)
{
    for (;;)
        (void)host_futex(ending, FUTEX_WAIT, 1, NULL, 0);
}

void thread_exit(void)
{
    struct thread *t = current();
    struct process *p = t->process;
    _Atomic u32 *ending = &SHARED->ending[t->slot];
    u64 mask;
    bool last, ends_cell;

    t->exiting = true;
    if (t->robust_list && !p->exiting) {
        kernel_unlock();
        futex_exit_robust_list(t->robust_list);
        kernel_lock();
    }
    if (t->clear_tid && p->nthreads > 1 && put_user_u32((void *)t->clear_tid, 0) == 0)
        (void)host_futex((_Atomic u32 *)t->clear_tid, FUTEX_WAKE, 1, NULL, 0);
    signal_drop_all(&t->pending, &t->pending_set);
    last = p->nthreads == 1;
    ends_cell = last && is_main(p) && !(HEADER->flags & CELL_BOOT_FILES);
    if (last) {
        vfork_leave_window(p);
        give_back(p);
        p->utime_ns = cpu_time_ns(CLOCK_PROCESS_CPUTIME_ID);
    }
    traps_block(&mask);
    atomic_store(ending, 1);
    thread_remove(t);
    if (last)
        become_zombie(p, p->exit_status);
    else
        waitq_wake(&p->child_event); /* exec may wait for us */
    kernel_unlock();
    if (ends_cell)
        await_end(ending);
    /* Nobody knows us any more; stack and t are collected once the host has put `ending` back to 0. */
    if (last)
        cell_process_end(ending);
    cell_thread_end(ending);
}

static void end_threads(struct process *p, const struct thread *but)
{
    list_for_each(n, &p->threads)
    {
        struct thread *t = list_entry(n, struct thread, in_process);
        if (t == but)
            continue;
        t->exiting = true;
        atomic_fetch_or(&t->arch.pending, PENDING_EXIT);
        if (t->sleeping)
            thread_wake(t);
        else
            traps_kick(t);
    }
}

void process_exit(int status)
{
    struct process *p = current_process;

    if (!p->exiting) {
        p->exiting = true;
        p->exit_status = status;
        p->stopped = false;
        end_threads(p, current());
    }
    thread_exit();
}

void process_end_other_threads(void)
{
    struct process *p = current_process;
    struct waiter w;

    end_threads(p, current());
    waitq_add(&p->child_event, &w);
    while (p->nthreads > 1)
        if (thread_sleep_killable(monotonic_ns() + 100000000) == -ETIMEDOUT)
            end_threads(p, current());
    waitq_del(&w);
}

void process_vfork_done(struct process *p)
{
    if (p->vfork_pending) {
        p->vfork_pending = false;
        waitq_wake(&p->parent->child_event);
    }
}

/* The host may have killed several at once: whoever gets the children of one of them looks after these, as
 * the news of their end may have gone to the one that is no more. */
static void let_look(struct process *reaper)
{
    struct thread *t = list_entry(reaper->threads.next, struct thread, in_process);

    atomic_fetch_or(&t->arch.pending, PENDING_CHILD);
    thread_wake(t);
}

static void find_killed(struct process *p)
{
    u64 killed = atomic_load(&current()->arch.killed); /* of several at once, the others count as SIGKILL */

    list_for_each_safe(n, &p->children)
    {
        struct process *child = list_entry(n, struct process, siblings);
        if (child->state != PROCESS_ALIVE || child->host_pid == 0 ||
            host_tgkill(child->host_pid, child->host_pid, 0) == 0)
            continue;
        /* Killed by the host (out of memory, the filter). Its threads are gone; nothing of it runs any more.
         */
        list_for_each_safe(m, &child->threads)
        {
            struct thread *t = list_entry(m, struct thread, in_process);
            signal_drop_all(&t->pending, &t->pending_set);
            waitq_forget(t);
            thread_remove(t);
        }
        give_back(child);
        if (!list_empty(&child->children))
            let_look(find_reaper(child));
        become_zombie(child, killed >> 32 == (u32)child->host_pid ? (int)(killed & 0x7f) : SIGKILL);
    }
}

/* Is the child of which the host told still taken for alive? Perhaps it is one whose number at the host is
 * not known yet: another thread is just making it. */
static bool is_missed(const struct process *p)
{
    int gone = (int)(atomic_load(&current()->arch.killed) >> 32);

    list_for_each(n, &p->children)
    {
        const struct process *child = list_entry(n, struct process, siblings);
        if (child->state == PROCESS_ALIVE && (child->host_pid == gone || child->host_pid == 0))
            return true;
    }
    return false;
}

void process_check_children(struct process *p, bool killed)
{
    u64 start;

    find_killed(p);
    if (!killed || !is_missed(p))
        return;
    /* The host tells of a death a moment before the task is gone. */
    start = monotonic_ns();
    do {
        kernel_unlock();
        (void)host_call3(__NR_sched_yield, 0, 0, 0);
        kernel_lock();
        find_killed(p);
    } while (is_missed(p) && monotonic_ns() - start < VANISHING_NS);
}

/* ---- system calls */

static long sys_exit(u64 status, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    struct process *p = current_process;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    if (p->nthreads == 1 && !p->exiting)
        p->exit_status = (int)(status & 0xff) << 8;
    thread_exit();
}

static long sys_exit_group(u64 status, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    process_exit((int)(status & 0xff) << 8);
}

const struct syscall exit_calls[] = {
    {__NR_exit, SYS_LOCKED, "exit", sys_exit},
    {__NR_exit_group, SYS_LOCKED, "exit_group", sys_exit_group},
    {0},
};
