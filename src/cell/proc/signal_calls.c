#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/unistd.h>
#include <linux/signal.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/procfs.h"
#include "cell/ipc/pidfd.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/signal.h"

enum { SIGSET = 8 };

struct user_sigaction {
    u64 handler, flags, restorer, mask;
};

static long sys_rt_sigaction(u64 sig, u64 new, u64 old, u64 size, u64 e, u64 f)
{
    struct process *p = current_process;
    struct k_sigaction *a, before;
    struct user_sigaction u;

    (void)e, (void)f;
    if (size != SIGSET || sig < 1 || sig > 64 || (new && (sig == SIGKILL || sig == SIGSTOP)))
        return -EINVAL;
    a = &p->actions[sig - 1];
    before = *a;
    if (new) {
        if (get_user(u, (void *)new) < 0)
            return -EFAULT;
        *a = (struct k_sigaction){u.handler, u.flags, u.restorer, u.mask & ~UNBLOCKABLE};
        if (a->handler == (unsigned long)SIG_IGN ||
            (a->handler == (unsigned long)SIG_DFL &&
             (sig == SIGCHLD || sig == SIGCONT || sig == SIGURG || sig == SIGWINCH)))
            signal_discard(p, (int)sig);
    }
    if (old) {
        u = (struct user_sigaction){before.handler, before.flags, before.restorer, before.mask};
        if (copy_to_user((void *)old, &u, sizeof(u)) < 0)
            return -EFAULT;
    }
    return 0;
}

static long sys_rt_sigprocmask(u64 how, u64 new, u64 old, u64 size, u64 e, u64 f)
{
    struct thread *t = current();
    u64 before = t->blocked, set;

    (void)e, (void)f;
    if (size != SIGSET)
        return -EINVAL;
    if (new) {
        if (get_user_u64(&set, (void *)new) < 0)
            return -EFAULT;
        if (how > SIG_SETMASK)
            return -EINVAL;
        signal_set_mask(how == SIG_BLOCK ? before | set : how == SIG_UNBLOCK ? before & ~set : set);
    }
    return old && put_user_u64((void *)old, before) < 0 ? -EFAULT : 0;
}

static long sys_rt_sigpending(u64 set, u64 size, u64 c, u64 d, u64 e, u64 f)
{
    struct thread *t = current();

    (void)c, (void)d, (void)e, (void)f;
    if (size > SIGSET)
        return -EINVAL;
    return put_user_u64((void *)set, signal_pending_set(t) & t->blocked);
}

static long sys_rt_sigsuspend(u64 set, u64 size, u64 c, u64 d, u64 e, u64 f)
{
    u64 mask;

    (void)c, (void)d, (void)e, (void)f;
    if (size != SIGSET)
        return -EINVAL;
    if (get_user_u64(&mask, (void *)set) < 0)
        return -EFAULT;
    signal_mask_push(mask);
    while (thread_sleep(NO_DEADLINE) == 0)
        ;
    return -ERESTARTNOHAND;
}

static long sys_pause(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    while (thread_sleep(NO_DEADLINE) == 0)
        ;
    return -ERESTARTNOHAND;
}

static long sys_rt_sigreturn(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return sigframe_pop(current());
}

static long sys_rt_sigtimedwait(u64 set_, u64 info_, u64 timeout, u64 size, u64 e, u64 f)
{
    struct process *p = current_process;
    struct thread *t = current();
    struct __kernel_timespec ts;
    u64 set, deadline = NO_DEADLINE, blocked = t->blocked;
    struct waiter w;
    siginfo_t info;
    int sig, rc = 0;

    (void)e, (void)f;
    if (size != SIGSET)
        return -EINVAL;
    if (get_user_u64(&set, (void *)set_) < 0 || (timeout && get_user(ts, (void *)timeout) < 0))
        return -EFAULT;
    if (timeout) {
        if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
            return -EINVAL;
        deadline = monotonic_ns() + (u64)ts.tv_sec * 1000000000U + (u64)ts.tv_nsec;
    }
    set &= ~UNBLOCKABLE;
    waitq_add(&p->signal_event, &w);
    /* They are not to be delivered meanwhile. */
    signal_set_mask(blocked | set);
    while ((sig = signal_take(set, &info)) == 0 && rc == 0)
        rc = thread_sleep(deadline);
    if (sig == 0)
        sig = signal_take(set, &info);
    signal_set_mask(blocked);
    waitq_del(&w);
    if (sig == 0)
        return rc == -ETIMEDOUT ? -EAGAIN : -EINTR;
    return info_ && copy_to_user((void *)info_, &info, sizeof(info)) < 0 ? -EFAULT : sig;
}

static siginfo_t from_self(int code)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_code = code;
    info.si_pid = current_process->pid;
    info.si_uid = CELL_UID;
    return info;
}

/* Pid 1 is the kernel's own: it can be named, but nothing reaches it. */
static int post(struct process *p, int sig, const siginfo_t *info)
{
    if (sig == 0)
        return 0;
    return p->pid == 1 ? -EPERM : signal_post(p, sig, info);
}

static long kill_many(int pgid, bool all, int sig)
{
    siginfo_t info = from_self(SI_USER);
    long rc = -ESRCH;

    list_for_each_safe(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pid == 1 || (all ? p == current_process : p->pgid != pgid))
            continue;
        rc = 0;
        (void)post(p, sig, &info);
    }
    return rc;
}

static long sys_kill(u64 pid_, u64 sig, u64 c, u64 d, u64 e, u64 f)
{
    int pid = (int)pid_;
    siginfo_t info = from_self(SI_USER);
    struct process *p;

    (void)c, (void)d, (void)e, (void)f;
    if (sig > 64)
        return -EINVAL;
    if (pid == 0 || pid < -1)
        return kill_many(pid == 0 ? current_process->pgid : -pid, false, (int)sig);
    if (pid == -1)
        return kill_many(0, true, (int)sig);
    p = process_find(pid);
    if (!p) {
        struct thread *t = thread_find(pid);
        p = t ? t->process : NULL;
    }
    return p ? post(p, (int)sig, &info) : -ESRCH;
}

static long kill_thread(int tgid, int tid, u64 sig, const siginfo_t *info)
{
    struct thread *t;

    if (sig > 64 || tid <= 0)
        return -EINVAL;
    t = thread_find(tid);
    if (!t || (tgid >= 0 && t->process->pid != tgid))
        return -ESRCH;
    if (sig == 0)
        return 0;
    return t->process->pid == 1 ? -EPERM : signal_post_thread(t, (int)sig, info);
}

static long sys_tkill(u64 tid, u64 sig, u64 c, u64 d, u64 e, u64 f)
{
    siginfo_t info = from_self(SI_TKILL);

    (void)c, (void)d, (void)e, (void)f;
    return kill_thread(-1, (int)tid, sig, &info);
}

static long sys_tgkill(u64 tgid, u64 tid, u64 sig, u64 d, u64 e, u64 f)
{
    siginfo_t info = from_self(SI_TKILL);

    (void)d, (void)e, (void)f;
    return (int)tgid <= 0 ? -EINVAL : kill_thread((int)tgid, (int)tid, sig, &info);
}

/* sigqueue(3): a program may say what it likes about itself, but not that the kernel said it. */
static int take_info(siginfo_t *info, u64 from, bool to_self)
{
    if (copy_from_user(info, (void *)from, sizeof(*info)) < 0)
        return -EFAULT;
    return !to_self && (info->si_code >= 0 || info->si_code == SI_TKILL) ? -EPERM : 0;
}

static long sys_rt_sigqueueinfo(u64 pid, u64 sig, u64 info_, u64 d, u64 e, u64 f)
{
    struct process *p = process_find((int)pid);
    siginfo_t info;
    int rc;

    (void)d, (void)e, (void)f;
    if (sig > 64)
        return -EINVAL;
    if ((rc = take_info(&info, info_, (int)pid == current_process->pid)) < 0)
        return rc;
    return p ? post(p, (int)sig, &info) : -ESRCH;
}

/* Whom a descriptor stands for: a pidfd, or a directory /proc/PID. *p is NULL if that process is gone. */
static int target_of(int fd, struct process **p)
{
    const struct file *f = fd_file(fd);
    const struct pidfd *d;
    int pid;

    if (!f)
        return -EBADF;
    if ((d = pidfd_of(f)))
        *p = d->process;
    else if ((pid = proc_directory_pid(f)) > 0)
        *p = process_find(pid);
    else
        return -EBADF;
    return 0;
}

static long sys_pidfd_send_signal(u64 fd, u64 sig, u64 info_, u64 flags, u64 e, u64 f)
{
    siginfo_t info = from_self(SI_USER);
    struct process *p;
    bool to_self;
    int rc;

    (void)e, (void)f;
    if ((u32)flags)
        return -EINVAL;
    if ((rc = target_of((int)fd, &p)) < 0)
        return rc;
    to_self = p && p->pid == current()->tid;
    if (info_) {
        rc = take_info(&info, info_, to_self);
        if (rc != -EFAULT && info.si_signo != (int)sig)
            return -EINVAL;
        if (rc < 0)
            return rc;
    }
    if (!p)
        return -ESRCH;
    return (u32)sig > 64 ? -EINVAL : post(p, (int)sig, &info);
}

static long sys_rt_tgsigqueueinfo(u64 tgid, u64 tid, u64 sig, u64 info_, u64 e, u64 f)
{
    siginfo_t info;
    int rc;

    (void)e, (void)f;
    if ((rc = take_info(&info, info_, (int)tgid == current_process->pid)) < 0)
        return rc;
    return kill_thread((int)tgid, (int)tid, sig, &info);
}

static long sys_sigaltstack(u64 new, u64 old, u64 c, u64 d, u64 e, u64 f)
{
    struct thread *t = current();
    u64 sp = t->arch.regs.rsp;
    bool on = t->altstack_size && sp > t->altstack_base && sp - t->altstack_base <= t->altstack_size;
    stack_t before = {.ss_sp = (void *)t->altstack_base,
                      .ss_flags = (!t->altstack_size ? SS_DISABLE
                                   : on              ? SS_ONSTACK
                                                     : 0) |
                                  t->altstack_flags,
                      .ss_size = t->altstack_size};
    stack_t s;

    (void)c, (void)d, (void)e, (void)f;
    if (new) {
        if (get_user(s, (void *)new) < 0)
            return -EFAULT;
        if (on)
            return -EPERM;
        if ((s.ss_flags & ~(int)SS_AUTODISARM) & ~(SS_DISABLE | SS_ONSTACK))
            return -EINVAL;
        if (s.ss_flags & SS_DISABLE) {
            t->altstack_base = t->altstack_size = 0;
            t->altstack_flags = 0;
        } else {
            if (s.ss_size < 2048 /* MINSIGSTKSZ */)
                return -ENOMEM;
            t->altstack_base = (unsigned long)s.ss_sp;
            t->altstack_size = s.ss_size;
            t->altstack_flags = s.ss_flags & (int)SS_AUTODISARM;
        }
    }
    return old && copy_to_user((void *)old, &before, sizeof(before)) < 0 ? -EFAULT : 0;
}

const struct syscall signal_calls[] = {
    {__NR_rt_sigaction, SYS_LOCKED, "rt_sigaction", sys_rt_sigaction},
    {__NR_rt_sigprocmask, SYS_LOCKED, "rt_sigprocmask", sys_rt_sigprocmask},
    {__NR_rt_sigpending, SYS_LOCKED, "rt_sigpending", sys_rt_sigpending},
    {__NR_rt_sigsuspend, SYS_LOCKED, "rt_sigsuspend", sys_rt_sigsuspend},
    {__NR_rt_sigtimedwait, SYS_LOCKED, "rt_sigtimedwait", sys_rt_sigtimedwait},
    {__NR_rt_sigreturn, SYS_LOCKED, "rt_sigreturn", sys_rt_sigreturn},
    {__NR_rt_sigqueueinfo, SYS_LOCKED, "rt_sigqueueinfo", sys_rt_sigqueueinfo},
    {__NR_rt_tgsigqueueinfo, SYS_LOCKED, "rt_tgsigqueueinfo", sys_rt_tgsigqueueinfo},
    {__NR_pidfd_send_signal, SYS_LOCKED, "pidfd_send_signal", sys_pidfd_send_signal},
    {__NR_pause, SYS_LOCKED, "pause", sys_pause},
    {__NR_kill, SYS_LOCKED, "kill", sys_kill},
    {__NR_tkill, SYS_LOCKED, "tkill", sys_tkill},
    {__NR_tgkill, SYS_LOCKED, "tgkill", sys_tgkill},
    {__NR_sigaltstack, SYS_LOCKED, "sigaltstack", sys_sigaltstack},
    {0},
};
