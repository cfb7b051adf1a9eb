/*
 * fork, vfork, clone: a process of the host for a process, a thread of the host for a thread. The child
 * starts in kernel text on its own kernel stack and leaves the kernel with a copy of its parent's registers.
 *
 * vfork is a fork whose parent waits. What the child of a posix_spawn(3) writes for its parent, as both would
 * share memory, is handed back when it ends without having executed anything (struct vfork_window).
 */
#include <asm/errno.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/sched.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/boot/filter.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/ipc/pidfd.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"
#include "cell/proc/table.h"

struct clone_request {
    u64 flags, stack, parent_tid, child_tid, tls;
};

/* The new thread's first steps, on its own stack, with %gs set. */
void cell_child(struct thread *t)
{
    static const u64 none = 0;

    t->host_tid = (int)host_call3(__NR_gettid, 0, 0, 0);
    if (t->process->host_pid == 0)
        t->process->host_pid = t->host_tid;
    t->host_pid = t->process->host_pid;
    traps_thread_init(t);
    if (t->child_tid)
        (void)put_user_u32((void *)t->child_tid, (u32)t->tid);
    if (t->tls)
        __asm__ volatile("wrfsbase %0" : : "r"(t->tls));
    traps_unblock(&none);
    if (t->start)
        t->start();
}

static void inherit(struct process *p, struct thread *child, const struct process *from,
                    const struct thread *parent)
{
    p->pgid = from->pgid;
    p->sid = from->sid;
    p->tty = from->tty;
    p->personality = from->personality;
    p->nice = from->nice;
    text_copy(p->name, from->name, sizeof(p->name));
    text_copy(child->name, parent->name, sizeof(child->name));
    signal_copy_actions(p, from);
    child->blocked = parent->blocked;
    if (parent->restore_blocked)
        child->blocked = parent->saved_blocked;
    child->altstack_base = parent->altstack_base;
    child->altstack_size = parent->altstack_size;
    child->altstack_flags = parent->altstack_flags;
    p->arg_start = from->arg_start;
    p->arg_end = from->arg_end;
    p->env_start = from->env_start;
    p->env_end = from->env_end;
}

/* Everything that fork copies. On failure what was taken is given back by the caller's teardown. */
static int copy_process(struct process *p, const struct process *from)
{
    p->fds = fd_table_copy(from->fds);
    p->mm = mm_copy(from->mm);
    fs_context_copy(&p->fs, &from->fs);
    if (from->cmdline && (p->cmdline = kmalloc(from->cmdline_len))) {
        memcpy(p->cmdline, from->cmdline, from->cmdline_len);
        p->cmdline_len = from->cmdline_len;
    }
    p->exe = from->exe;
    if (p->exe)
        file_get(p->exe);
    return p->fds && p->mm ? 0 : -ENOMEM;
}

/* What the caller is told before the child runs: its number, or a descriptor of it that the child does not
 * get (*pidfd; -1: none). clone(2) has one place for either. */
static int tell_parent(const struct clone_request *r, struct process *p, int *pidfd)
{
    long fd;

    *pidfd = -1;
    if (r->flags & CLONE_PARENT_SETTID)
        return put_user_u32((void *)r->parent_tid, (u32)p->pid);
    if (!(r->flags & CLONE_PIDFD))
        return 0;
    if ((fd = pidfd_install(p, 0)) < 0)
        return (int)fd;
    *pidfd = (int)fd;
    return put_user_u32((void *)r->parent_tid, (u32)fd);
}

static void undo_process(struct process *p, int pidfd)
{
    const struct file *f = pidfd < 0 ? NULL : fd_file(pidfd);

    /* Without the lock another thread may have put something else there. */
    if (f && pidfd_of(f) == p->pidfd)
        (void)fd_close(pidfd);
    if (p->fds)
        fd_table_put(p->fds, p);
    mm_free(p->mm);
    if (p->exe)
        file_put(p->exe);
    if (p->fs.cwd)
        fs_context_put(&p->fs);
    kfree(p->cmdline);
    thread_remove(p->leader);
    process_remove(p);
}

/* The host's part. Kernel lock given up meanwhile: copying an address space takes its time. */
static long start(struct thread *child, unsigned long flags)
{
    u64 mask;
    long rc;

    kernel_unlock();
    traps_block(&mask);
    rc = cell_clone(flags, (void *)child->arch.stack_top, &SHARED->unused, child);
    traps_unblock(&mask);
    kernel_lock();
    return rc;
}

/*
 * What a vfork child that did not execute anything left on its parent's stack: posix_spawn(3) hands its
 * parent the errno of exec that way.
 */
enum { VFORK_WINDOW = 1024, VFORK_LOOK_NS = 100000000 };
struct vfork_window {
    u64 address;
    bool filled;
    u8 bytes[VFORK_WINDOW];
};

void vfork_leave_window(struct process *p)
{
    struct vfork_window *w = p->vfork_window;

    if (w && p->vfork_pending && copy_from_user(w->bytes, (void *)w->address, VFORK_WINDOW) == 0)
        w->filled = true;
}

/* The child may be gone, its struct with it: it is looked up anew each time. */
static struct process *still(int pid, const struct process *p)
{
    struct process *q = process_find(pid);

    return q == p ? q : NULL;
}

/* The child notes its number itself with its first steps, unless the host killed it before these. */
static void note_host_pid(int pid, struct process *p, int host_pid)
{
    if (still(pid, p) && p->host_pid == 0 && p->state == PROCESS_ALIVE)
        p->host_pid = host_pid;
}

static void wait_for_vfork(struct process *p, int pid)
{
    struct waiter w;

    waitq_add(&current_process->child_event, &w);
    while (still(pid, p) && p->vfork_pending) {
        int rc = thread_sleep_killable(monotonic_ns() + VFORK_LOOK_NS);
        if (rc == -ETIMEDOUT) /* did the host kill it? That wakes nobody who sleeps like this. */
            process_check_children(current_process, false);
        else if (rc < 0)
            break;
    }
    waitq_del(&w);
}

static long clone_process(const struct clone_request *r)
{
    struct thread *parent = current(), *child;
    struct process *from = parent->process, *p;
    struct vfork_window *window = NULL;
    long error;
    int pid, pidfd = -1;

    if (!(p = process_create(from, &error)))
        return error;
    child = p->leader;
    inherit(p, child, from, parent);
    p->exit_signal = (int)(r->flags & CSIGNAL);
    if ((error = copy_process(p, from)) < 0 || (error = tell_parent(r, p, &pidfd)) < 0) {
        undo_process(p, pidfd);
        return error;
    }
    child->arch.regs = parent->arch.regs;
    child->arch.regs.rax = 0;
    child->arch.regs.orig_rax = (u64)-1;
    if (r->stack)
        child->arch.regs.rsp = r->stack;
    if (r->flags & CLONE_CHILD_CLEARTID)
        child->clear_tid = r->child_tid;
    if (r->flags & CLONE_CHILD_SETTID)
        child->child_tid = r->child_tid;
    if (r->flags & CLONE_SETTLS)
        child->tls = r->tls;
    if (r->flags & CLONE_VFORK) {
        p->vfork_pending = true;
        if (r->stack && (window = kmalloc(sizeof(*window)))) {
            window->address = parent->arch.regs.rsp;
            p->vfork_window = window;
        }
    }
    pid = p->pid;
    error = start(child, CELL_CLONE_FORK);
    if (error < 0) {
        kfree(window);
        undo_process(p, pidfd);
        return error == -ENOMEM ? error : -EAGAIN;
    }
    note_host_pid(pid, p, (int)error);
    if (r->flags & CLONE_VFORK) {
        wait_for_vfork(p, pid);
        if (window && window->filled)
            (void)copy_to_user((void *)window->address, window->bytes, VFORK_WINDOW);
        if (still(pid, p))
            p->vfork_window = NULL;
        kfree(window);
    }
    return pid;
}

static long clone_thread(const struct clone_request *r)
{
    struct thread *parent = current(), *child;
    long error, rc;
    int tid;

    if (!(r->flags & CLONE_SIGHAND) || !(r->flags & CLONE_VM) || !(r->flags & CLONE_FILES) ||
        !(r->flags & CLONE_FS))
        return -EINVAL; /* half-shared threads: nobody makes them */
    if (!(child = thread_create(parent->process, &error)))
        return error;
    text_copy(child->name, parent->name, sizeof(child->name));
    child->blocked = parent->blocked;
    child->arch.regs = parent->arch.regs;
    child->arch.regs.rax = 0;
    child->arch.regs.orig_rax = (u64)-1;
    child->arch.regs.rsp = r->stack;
    if (r->flags & CLONE_CHILD_CLEARTID)
        child->clear_tid = r->child_tid;
    if (r->flags & CLONE_CHILD_SETTID)
        child->child_tid = r->child_tid;
    if (r->flags & CLONE_SETTLS)
        child->tls = r->tls;
    tid = child->tid;
    if ((r->flags & CLONE_PARENT_SETTID) && put_user_u32((void *)r->parent_tid, (u32)tid) < 0) {
        thread_remove(child);
        return -EFAULT;
    }
    rc = start(child, CELL_CLONE_THREAD);
    if (rc < 0) {
        thread_remove(child);
        return -EAGAIN;
    }
    return tid;
}

enum {
    NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                 CLONE_NEWNET | CLONE_NEWTIME
};

static long sys_clone(u64 flags, u64 stack, u64 parent_tid, u64 child_tid, u64 tls, u64 f)
{
    struct clone_request r = {(u32)flags, stack, parent_tid, child_tid, tls};

    (void)f;
    if (r.flags & (u32)(NAMESPACES & ~CSIGNAL))
        return -EPERM;
    /* A pidfd is of a process, and its number goes where that of the process would. */
    if ((r.flags & CLONE_PIDFD) && (r.flags & (CLONE_THREAD | CLONE_PARENT_SETTID | CLONE_DETACHED)))
        return -EINVAL;
    if (r.flags & CLONE_THREAD)
        return clone_thread(&r);
    if ((r.flags & CLONE_VM) && !(r.flags & CLONE_VFORK))
        return -EINVAL; /* two processes in one memory: nobody makes them */
    if ((r.flags & CSIGNAL) > 64)
        return -EINVAL;
    return clone_process(&r);
}

static long sys_fork(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    const struct clone_request r = {.flags = SIGCHLD};

    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return clone_process(&r);
}

static long sys_vfork(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    const struct clone_request r = {.flags = SIGCHLD | CLONE_VFORK | CLONE_VM};

    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return clone_process(&r);
}

/* Flags of these two lie in memory or do not matter: libc falls back to clone, and nobody gets a namespace.
 */
static long sys_refuse(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return -EPERM;
}

const struct syscall clone_calls[] = {
    {__NR_clone, SYS_LOCKED, "clone", sys_clone},    {__NR_fork, SYS_LOCKED, "fork", sys_fork},
    {__NR_vfork, SYS_LOCKED, "vfork", sys_vfork},    {__NR_unshare, SYS_UNLOCKED, "unshare", sys_refuse},
    {__NR_setns, SYS_UNLOCKED, "setns", sys_refuse}, {0},
};

/* At boot: pid 1 makes the workload's process, which begins with `fn` instead of a program. */
int clone_first(void (*fn)(void))
{
    struct thread *init = current();
    struct process *p;
    long error;
    int pid;

    p = process_create(init->process, &error);
    if (!p)
        return (int)error;
    p->exit_signal = SIGCHLD;
    p->pgid = p->sid = p->pid;
    p->fds = fd_table_create();
    p->mm = mm_create();
    if (!p->fds || !p->mm)
        return -ENOMEM;
    fs_context_copy(&p->fs, &init->process->fs);
    p->leader->start = fn;
    pid = p->pid;
    error = start(p->leader, CELL_CLONE_FORK);
    if (error < 0)
        return (int)error;
    note_host_pid(pid, p, (int)error);
    return 0;
}
