#include "cell/proc/table.h"

#include <asm/errno.h>
#include <linux/resource.h>

#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/ipc/pidfd.h"
#include "cell/mem/heap.h"
#include "cell/proc/cputime.h"
#include "cell/proc/sched.h"

struct list *process_list(void)
{
    return &SHARED->processes;
}

struct process *process_find(int pid)
{
    list_for_each(n, &SHARED->processes)
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

struct thread *thread_find(int tid)
{
    list_for_each(n, &SHARED->processes)
    {
        struct process *p = list_entry(n, struct process, all);
        list_for_each(m, &p->threads)
        {
            struct thread *t = list_entry(m, struct thread, in_process);
            if (t->tid == tid)
                return t;
        }
    }
    return NULL;
}

/* A number that names no process, thread, group or session. */
static bool is_free(int id)
{
    list_for_each(n, &SHARED->processes)
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pid == id || p->pgid == id || p->sid == id)
            return false;
        if (p->nthreads <= 1)
            continue;
        list_for_each(m, &p->threads) if (list_entry(m, struct thread, in_process)->tid == id) return false;
    }
    return true;
}

static int next_id(void)
{
    struct shared *s = SHARED;

    for (int i = 0; i < PIDS; i++) {
        s->last_pid = s->last_pid + 1 >= PIDS ? 2 : s->last_pid + 1;
        if (is_free(s->last_pid))
            return s->last_pid;
    }
    return -1;
}

void stacks_collect(void)
{
    struct shared *s = SHARED;

    for (u32 i = 1; i < CELL_WAKES && s->ndead > 0; i++) {
        struct thread *t = s->dead[i];
        void *stack;
        if (!t || atomic_load(&s->ending[i]) != 0)
            continue;
        stack = t->arch.alt_stack;
        kfree(t);
        s->dead[i] = NULL;
        s->ndead--;
        s->slots[i / 64] &= ~(1ULL << (i % 64));
        if (s->nspare < ARRAY_LEN(s->spare_stacks))
            s->spare_stacks[s->nspare++] = stack;
        else
            page_free(stack, THREAD_STACK_PAGES);
    }
}

static void *take_stack(void)
{
    struct shared *s = SHARED;

    return s->nspare > 0 ? s->spare_stacks[--s->nspare] : page_alloc(THREAD_STACK_PAGES);
}

static int take_slot(void)
{
    struct shared *s = SHARED;

    for (u32 i = 0; i < CELL_WAKES / 64; i++) {
        if (~s->slots[i]) {
            u32 bit = (u32)__builtin_ctzll(~s->slots[i]);
            s->slots[i] |= 1ULL << bit;
            return (int)(i * 64 + bit);
        }
    }
    return -1;
}

struct thread *thread_create(struct process *p, long *error)
{
    struct shared *s = SHARED;
    struct thread *t;
    u8 *stack;
    int slot;

    *error = -EAGAIN;
    if (s->nthreads >= s->max_threads)
        return NULL;
    /* Everybody in a cell is one user; pid 1 is nobody's. */
    if (p->pid > 1 && s->nthreads > p->rlimits[RLIMIT_NPROC].rlim_cur)
        return NULL;
    stacks_collect();
    slot = take_slot();
    if (slot < 0)
        return NULL;
    *error = -ENOMEM;
    t = kmalloc(sizeof(*t));
    stack = take_stack();
    if (!t || !stack) {
        s->slots[slot / 64] &= ~(1ULL << (slot % 64));
        kfree(t);
        if (stack)
            page_free(stack, THREAD_STACK_PAGES);
        return NULL;
    }
    t->arch.self = t;
    t->arch.alt_stack = stack;
    t->arch.stack_top = (u64)(uintptr_t)(stack + THREAD_STACK_PAGES * PAGE);
    (void)host_getrandom(&t->arch.guard, sizeof(t->arch.guard), 0);
    t->arch.regs.orig_rax = (u64)-1;
    t->process = p;
    t->slot = (unsigned)slot;
    t->word = WAKE_WORD(slot);
    t->tid = p->nthreads == 0 ? p->pid : next_id();
    list_init(&t->pending);
    list_init(&t->waiters);
    text_copy(t->name, p->name, sizeof(t->name));
    t->start_ns = monotonic_ns();
    if (p->pid != 1)
        sched_inherit(t, current());
    list_add_tail(&p->threads, &t->in_process);
    p->nthreads++;
    s->nthreads++;
    s->threads[slot] = t;
    return t;
}

void thread_remove(struct thread *t)
{
    struct shared *s = SHARED;
    struct process *p = t->process;

    list_del(&t->in_process);
    p->nthreads--;
    s->nthreads--;
    if (p->leader == t)
        p->leader = NULL;
    s->threads[t->slot] = NULL;
    s->dead[t->slot] = t;
    s->ndead++;
}

static void set_limits(struct process *p)
{
    for (u32 i = 0; i < RLIMITS; i++)
        p->rlimits[i] = (struct rlimit64){RLIM64_INFINITY, RLIM64_INFINITY};
    p->rlimits[RLIMIT_NOFILE] = (struct rlimit64){1024, 65536};
    p->rlimits[RLIMIT_STACK] = (struct rlimit64){8 << 20, RLIM64_INFINITY};
    p->rlimits[RLIMIT_CORE] = (struct rlimit64){0, 0};
    p->rlimits[RLIMIT_NPROC] = (struct rlimit64){SHARED->max_threads, SHARED->max_threads};
    p->rlimits[RLIMIT_MEMLOCK] = (struct rlimit64){64 << 10, 64 << 10};
    p->rlimits[RLIMIT_MSGQUEUE] = (struct rlimit64){819200, 819200};
    p->rlimits[RLIMIT_SIGPENDING] = (struct rlimit64){1024, 1024};
    p->rlimits[RLIMIT_NICE] = p->rlimits[RLIMIT_RTPRIO] = (struct rlimit64){0, 0};
}

struct process *process_create(struct process *parent, long *error)
{
    struct process *p = kmalloc(sizeof(*p));

    *error = -ENOMEM;
    if (!p)
        return NULL;
    list_init(&p->children);
    list_init(&p->threads);
    list_init(&p->siblings);
    list_init(&p->pending);
    list_init(&p->timers);
    list_init(&p->records);
    waitq_init(&p->child_event);
    waitq_init(&p->signal_event);
    *error = -EAGAIN;
    p->pid = parent ? next_id() : 1;
    if (p->pid < 0) {
        kfree(p);
        return NULL;
    }
    if (parent)
        memcpy(p->rlimits, parent->rlimits, sizeof(p->rlimits));
    else
        set_limits(p);
    cpu_limit_init(p);
    p->parent = parent;
    p->start_ns = monotonic_ns();
    p->leader = thread_create(p, error);
    if (!p->leader) {
        kfree(p);
        return NULL;
    }
    list_add_tail(&SHARED->processes, &p->all);
    if (parent)
        list_add_tail(&parent->children, &p->siblings);
    cpu_limit_changed(p);
    return p;
}

void process_remove(struct process *p)
{
    cpu_timer_disarm(&p->cpu_limit);
    list_del(&p->all);
    list_del(&p->siblings);
    pidfd_process_removed(p);
    kfree(p);
}

struct thread *table_init(void)
{
    struct shared *s = SHARED;
    struct process *p;
    long error;

    list_init(&s->processes);
    list_init(&s->timers);
    s->max_threads = HEADER->pids && HEADER->pids < CELL_WAKES - 8 ? HEADER->pids : CELL_WAKES - 8;
    s->last_pid = 1;
    p = process_create(NULL, &error);
    if (!p)
        panic("out of memory at boot");
    s->init = p;
    p->is_reaper = true;
    p->pgid = p->sid = 1;
    text_copy(p->name, "init", sizeof(p->name));
    text_copy(p->leader->name, "init", sizeof(p->name));
    return p->leader;
}
