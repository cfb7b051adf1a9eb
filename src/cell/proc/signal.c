/*
 * Posting and delivery. A signal is pending for a thread or for its process; whoever may take it is told
 * through arch.pending and brought into the kernel. Delivery is always done by the receiving thread itself,
 * on its way back to program code.
 */
#include "cell/proc/signal.h"

#include <asm/errno.h>
#include <asm/unistd.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/proc/exit.h"

enum { QUEUE_MAX = 1024 };
#define STOP_SIGNALS   (SIGBIT(SIGSTOP) | SIGBIT(SIGTSTP) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))
#define IGNORE_SIGNALS (SIGBIT(SIGCHLD) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGCONT))

static unsigned long handler_of(const struct process *p, int sig)
{
    return p->actions[sig - 1].handler;
}

static bool is_ignored(const struct process *p, int sig)
{
    unsigned long h = handler_of(p, sig);

    if (p->pid == 1)
        return true; /* the kernel's own */
    return h == (unsigned long)SIG_IGN || (h == (unsigned long)SIG_DFL && (IGNORE_SIGNALS & SIGBIT(sig)));
}

u64 signal_pending_set(const struct thread *t)
{
    return t->pending_set | t->process->pending_set;
}

void signal_recalculate(struct thread *t)
{
    if ((signal_pending_set(t) & ~t->blocked) || t->process->stopped)
        atomic_fetch_or(&t->arch.pending, PENDING_SIGNAL);
    else
        atomic_fetch_and(&t->arch.pending, (u32)~PENDING_SIGNAL);
}

/* Makes a thread look: out of its sleep, out of program code, out of a host call. */
static void attract(struct thread *t)
{
    if (t == current())
        return;
    if (t->sleeping)
        thread_wake(t);
    else
        traps_kick(t);
}

void signal_recalculate_all(struct process *p)
{
    list_for_each(n, &p->threads)
    {
        struct thread *t = list_entry(n, struct thread, in_process);
        signal_recalculate(t);
        if (atomic_load(&t->arch.pending))
            attract(t);
    }
}

bool signal_pending(void)
{
    return atomic_load(&current()->arch.pending) != 0;
}

static size_t queue_length(const struct list *queue)
{
    size_t n = 0;

    list_for_each(i, queue) n++;
    return n;
}

static int enqueue(struct list *queue, u64 *set, int sig, const siginfo_t *info)
{
    struct signal_item *item;

    if (sig < 32 && (*set & SIGBIT(sig)))
        return 0;
    if (sig >= 32 && queue_length(queue) >= QUEUE_MAX)
        return -EAGAIN;
    item = kmalloc(sizeof(*item));
    if (!item)
        return -EAGAIN;
    item->sig = sig;
    if (info) {
        item->info = *info;
    } else {
        item->info.si_code = SI_KERNEL;
    }
    item->info.si_signo = sig;
    list_add_tail(queue, &item->node);
    *set |= SIGBIT(sig);
    return 0;
}

static void remove_from(struct list *queue, u64 *set, u64 which)
{
    list_for_each_safe(n, queue)
    {
        struct signal_item *item = list_entry(n, struct signal_item, node);
        if (SIGBIT(item->sig) & which) {
            list_del(n);
            kfree(item);
        }
    }
    *set &= ~which;
}

void signal_drop_all(struct list *queue, u64 *set)
{
    remove_from(queue, set, ~0ULL);
}

static void remove_everywhere(struct process *p, u64 which)
{
    remove_from(&p->pending, &p->pending_set, which);
    list_for_each(n, &p->threads)
    {
        struct thread *t = list_entry(n, struct thread, in_process);
        remove_from(&t->pending, &t->pending_set, which);
    }
}

void signal_discard(struct process *p, int sig)
{
    remove_everywhere(p, SIGBIT(sig));
}

/* SIGCONT and stops cancel each other when they are posted, whatever else happens to them (signal(7)). */
static void before_post(struct process *p, int sig)
{
    if (sig == SIGCONT || sig == SIGKILL) {
        remove_everywhere(p, STOP_SIGNALS);
        if (p->stopped) {
            p->stopped = false;
            p->continued = sig == SIGCONT;
            p->stop_reported = false;
            if (p->parent && p->continued)
                process_notify_parent(p);
            list_for_each(n, &p->threads)
            {
                struct thread *t = list_entry(n, struct thread, in_process);
                signal_recalculate(t);
                thread_wake(t);
            }
        }
    } else if (STOP_SIGNALS & SIGBIT(sig)) {
        remove_everywhere(p, SIGBIT(SIGCONT));
    }
}

int signal_post(struct process *p, int sig, const siginfo_t *info)
{
    struct thread *best = NULL;
    bool wanted = !list_empty(&p->signal_event.waiters);
    int rc;

    if (p->state != PROCESS_ALIVE || sig < 1 || sig > 64)
        return 0;
    before_post(p, sig);
    list_for_each(n, &p->threads)
    {
        struct thread *t = list_entry(n, struct thread, in_process);
        if (t->blocked & SIGBIT(sig))
            wanted = true;
        else if (!best || t == p->leader)
            best = t;
    }
    if (is_ignored(p, sig) && !(wanted && !best) && !wanted)
        return 0;
    rc = enqueue(&p->pending, &p->pending_set, sig, info);
    if (rc < 0)
        return rc;
    waitq_wake(&p->signal_event);
    if (sig == SIGKILL) {
        signal_recalculate_all(p);
        return 0;
    }
    list_for_each(n, &p->threads) signal_recalculate(list_entry(n, struct thread, in_process));
    if (best)
        attract(best);
    return 0;
}

int signal_post_thread(struct thread *t, int sig, const siginfo_t *info)
{
    struct process *p = t->process;
    int rc;

    if (sig < 1 || sig > 64)
        return 0;
    before_post(p, sig);
    if (is_ignored(p, sig) && !(t->blocked & SIGBIT(sig)) && list_empty(&p->signal_event.waiters))
        return 0;
    rc = enqueue(&t->pending, &t->pending_set, sig, info);
    if (rc < 0)
        return rc;
    waitq_wake(&p->signal_event);
    signal_recalculate(t);
    if (atomic_load(&t->arch.pending))
        attract(t);
    return 0;
}

void signal_force(struct thread *t, int sig, const siginfo_t *info)
{
    struct k_sigaction *a = &t->process->actions[sig - 1];

    if ((t->blocked & SIGBIT(sig)) || a->handler == (unsigned long)SIG_IGN)
        a->handler = (unsigned long)SIG_DFL;
    t->blocked &= ~SIGBIT(sig);
    (void)enqueue(&t->pending, &t->pending_set, sig, info);
    signal_recalculate(t);
}

void signal_process(struct process *p, int sig)
{
    (void)signal_post(p, sig, NULL);
}

void signal_group(int pgid, int sig)
{
    list_for_each(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pgid == pgid && p->pid != 1)
            (void)signal_post(p, sig, NULL);
    }
}

void signal_self(int sig)
{
    siginfo_t info = {.si_code = SI_USER};

    info.si_pid = current_process->pid;
    info.si_uid = CELL_UID;
    (void)signal_post_thread(current(), sig, &info);
}

void signal_set_mask(u64 mask)
{
    struct thread *t = current();

    t->blocked = mask & ~UNBLOCKABLE;
    signal_recalculate(t);
}

void signal_mask_push(u64 mask)
{
    struct thread *t = current();

    t->saved_blocked = t->blocked;
    t->restore_blocked = true;
    signal_set_mask(mask);
}

void signal_mask_pop(void)
{
    struct thread *t = current();

    if (!t->restore_blocked)
        return;
    t->restore_blocked = false;
    signal_set_mask(t->saved_blocked);
}

/* Synchronous signals first, then the lowest number (signal(7)). */
static int choose(u64 set)
{
    u64 faults = set & (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS) | SIGBIT(SIGILL) | SIGBIT(SIGTRAP) | SIGBIT(SIGFPE) |
                        SIGBIT(SIGSYS));

    if (set & SIGBIT(SIGKILL))
        return SIGKILL;
    set = faults ? faults : set;
    return set ? __builtin_ctzll(set) + 1 : 0;
}

static bool take_from(struct list *queue, u64 *set, int sig, siginfo_t *info)
{
    bool found = false, more = false;

    list_for_each_safe(n, queue)
    {
        struct signal_item *item = list_entry(n, struct signal_item, node);
        if (item->sig != sig)
            continue;
        if (found) {
            more = true;
            break;
        }
        found = true;
        *info = item->info;
        list_del(n);
        kfree(item);
    }
    if (!more)
        *set &= ~SIGBIT(sig);
    return found;
}

int signal_take(u64 set, siginfo_t *info)
{
    struct thread *t = current();
    struct process *p = t->process;
    int sig = choose(signal_pending_set(t) & set);

    if (sig == 0)
        return 0;
    if (!take_from(&t->pending, &t->pending_set, sig, info) &&
        !take_from(&p->pending, &p->pending_set, sig, info)) {
        memset(info, 0, sizeof(*info));
        info->si_signo = sig;
    }
    if (info->si_code == SI_TIMER)
        timer_signal_taken(p, info);
    list_for_each(n, &p->threads) signal_recalculate(list_entry(n, struct thread, in_process));
    return sig;
}

static siginfo_t *find_of_timer(struct list *queue, int sig, int id)
{
    list_for_each(n, queue)
    {
        struct signal_item *item = list_entry(n, struct signal_item, node);
        if (item->sig == sig && item->info.si_code == SI_TIMER && item->info.si_tid == id)
            return &item->info;
    }
    return NULL;
}

siginfo_t *signal_of_timer(struct process *p, int sig, int id)
{
    siginfo_t *found = find_of_timer(&p->pending, sig, id);

    list_for_each(n, &p->threads)
    {
        if (!found)
            found = find_of_timer(&list_entry(n, struct thread, in_process)->pending, sig, id);
    }
    return found;
}

/* The process stops; its threads come to rest as each of them comes by. */
static void stop(struct process *p, int sig)
{
    p->stopped = true;
    p->stop_signal = sig;
    p->stop_reported = false;
    p->continued = false;
    signal_recalculate_all(p);
    process_notify_parent(p);
}

static bool is_orphaned(const struct process *p)
{
    list_for_each(n, process_list())
    {
        struct process *q = list_entry(n, struct process, all);
        if (q->pgid == p->pgid && q->state == PROCESS_ALIVE && q->parent && q->parent->pgid != p->pgid &&
            q->parent->sid == p->sid && q->parent->pid != 1)
            return false;
    }
    return true;
}

static bool in_call(const struct regs *r)
{
    return r->orig_rax != (u64)-1;
}

/* The call is done again when the program goes on: it starts at the entry, as a patched site would have. */
static void rewind_call(struct regs *r)
{
    r->rcx = r->rip;
    r->rip = (u64)(uintptr_t)cell_entry;
    r->rax = r->orig_rax;
    r->orig_rax = (u64)-1;
}

static void settle_call(struct regs *r, bool handler, unsigned long flags)
{
    s64 rc = (s64)r->rax;

    if (!in_call(r))
        return;
    if (rc == -ERESTARTSYS && (!handler || (flags & SA_RESTART)))
        rewind_call(r);
    else if (rc == -ERESTARTNOHAND && !handler)
        rewind_call(r);
    else if (rc == -ERESTARTSYS || rc == -ERESTARTNOHAND)
        r->rax = (u64)-EINTR;
    r->orig_rax = (u64)-1;
}

static void run_handler(struct thread *t, int sig, const siginfo_t *info)
{
    struct k_sigaction *a = &t->process->actions[sig - 1], copy = *a;
    u64 mask = t->restore_blocked ? t->saved_blocked : t->blocked;

    t->restore_blocked = false;
    t->sleep_deadline = 0; /* of a call that is not done again */
    settle_call(&t->arch.regs, true, copy.flags);
    if (copy.flags & SA_RESETHAND)
        a->handler = (unsigned long)SIG_DFL;
    t->blocked |= (copy.mask | (copy.flags & SA_NODEFER ? 0 : SIGBIT(sig))) & ~UNBLOCKABLE;
    if (sigframe_push(t, sig, info, &copy, mask) < 0)
        process_exit(SIGSEGV); /* nowhere to tell it */
    signal_recalculate(t);
}

void signal_deliver(struct thread *t)
{
    struct process *p = t->process;
    siginfo_t info;
    int sig;

    for (;;) {
        if (p->exiting || t->exiting)
            thread_exit();
        if (p->stopped && !(p->pending_set & SIGBIT(SIGKILL))) {
            (void)thread_sleep_killable(NO_DEADLINE);
            signal_recalculate(t);
            continue;
        }
        sig = signal_take(~t->blocked, &info);
        if (sig == 0)
            break;
        if (sig != SIGKILL && sig != SIGSTOP && handler_of(p, sig) > 1) {
            run_handler(t, sig, &info);
            continue; /* another one may go on top */
        }
        if (is_ignored(p, sig))
            continue;
        if (STOP_SIGNALS & SIGBIT(sig)) {
            if (sig == SIGSTOP || !is_orphaned(p))
                stop(p, sig);
            continue;
        }
        process_exit(sig);
    }
    signal_mask_pop();
    settle_call(&t->arch.regs, false, 0);
    signal_recalculate(t);
}

void signal_copy_actions(struct process *to, const struct process *from)
{
    memcpy(to->actions, from->actions, sizeof(to->actions));
}

void signal_reset_on_exec(struct process *p)
{
    for (size_t i = 0; i < ARRAY_LEN(p->actions); i++) {
        bool ignored = p->actions[i].handler == (unsigned long)SIG_IGN;
        p->actions[i] =
            (struct k_sigaction){.handler = ignored ? (unsigned long)SIG_IGN : (unsigned long)SIG_DFL};
    }
}
