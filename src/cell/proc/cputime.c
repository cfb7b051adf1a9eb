#include "cell/proc/cputime.h"

#include <asm/errno.h>
#include <asm/signal.h>
#include <linux/time.h>

#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/traps.h"
#include "cell/proc/process.h"
#include "cell/proc/signal.h"

#define LOOK_NS  4000000ULL /* between two looks at a clock */
#define NS_PER_S 1000000000ULL
#define FOR_EVER (UINT64_MAX / 2)

/* ---- clocks */

/* How Linux numbers them (linux/posix-timers.h): ~id << 3, a thread's with 4, and which of three. */
enum { CLOCK_KIND = 3, CLOCK_OF_THREAD = 4, CLOCK_SCHED = 2 };

static int host_clock(int host_id, int of)
{
    return (int)(~(u32)host_id << 3 | (u32)of | CLOCK_SCHED);
}

static int find_thread_clock(int tid, struct cpu_clock *out)
{
    const struct thread *t = tid ? thread_find(tid) : current();

    if (!t || t->process != current_process)
        return -EINVAL;
    *out = (struct cpu_clock){t->process->pid, t->tid};
    return 0;
}

static int find_process_clock(int pid, struct cpu_clock *out)
{
    const struct process *p = pid ? process_find(pid) : current_process;

    if (!p)
        return -EINVAL;
    *out = (struct cpu_clock){p->pid, 0};
    return 0;
}

int cpu_clock_find(int id, struct cpu_clock *out)
{
    int whose = ~(id >> 3);

    if (id == CLOCK_PROCESS_CPUTIME_ID)
        return find_process_clock(0, out);
    if (id == CLOCK_THREAD_CPUTIME_ID)
        return find_thread_clock(0, out);
    if (id >= 0 || (id & CLOCK_KIND) == CLOCK_KIND)
        return -EINVAL;
    return id & CLOCK_OF_THREAD ? find_thread_clock(whose, out) : find_process_clock(whose, out);
}

static int ask_host(int clock, u64 *ns)
{
    struct __kernel_timespec ts = {0};

    if (host_clock_gettime(clock, &ts) < 0)
        return -EINVAL;
    *ns = (u64)ts.tv_sec * NS_PER_S + (u64)ts.tv_nsec;
    return 0;
}

static int process_time(const struct process *p, u64 *ns)
{
    *ns = p->utime_ns + p->stime_ns;
    if (p->state != PROCESS_ALIVE || p->host_pid == 0) /* it has ended, or not begun */
        return 0;
    return ask_host(host_clock(p->host_pid, 0), ns);
}

static int thread_time(const struct thread *t, u64 *ns)
{
    *ns = 0;
    return t->host_tid == 0 ? 0 : ask_host(host_clock(t->host_tid, CLOCK_OF_THREAD), ns);
}

int cpu_clock_read(const struct cpu_clock *c, u64 *ns)
{
    const struct process *p = process_find(c->pid);
    const struct thread *t = c->tid ? thread_find(c->tid) : NULL;

    if (!p || (c->tid && (!t || t->process != p)))
        return -EINVAL;
    return t ? thread_time(t, ns) : process_time(p, ns);
}

/* ---- timers */

/* How long it takes at least until the process, or one of its threads, has had so much more. */
static u64 earliest(const struct cpu_clock *c, const struct process *p, u64 left)
{
    u64 threads = c->tid ? 1 : MAX(p->nthreads, 1U);

    return left ? MAX(left / threads, LOOK_NS) : 0;
}

static void look_in(struct timer *t, u64 ns)
{
    timer_arm(t, monotonic_ns() + ns, 0);
}

/* Sets `gate` and the time of the next look. Nobody there: nothing will be due any more. */
static void schedule(struct timer *t)
{
    const struct process *p = process_find(t->cpu.pid);
    u64 now, process_now, left;

    if (!p || cpu_clock_read(&t->cpu, &now) < 0 || process_time(p, &process_now) < 0)
        return;
    left = t->due > now ? t->due - now : 0;
    t->gate = process_now + left;
    look_in(t, earliest(&t->cpu, p, left));
}

void cpu_timer_arm(struct timer *t, u64 due, u64 interval)
{
    cpu_timer_disarm(t);
    t->due = MAX(due, 1UL);
    t->due_interval = interval;
    schedule(t);
}

void cpu_timer_disarm(struct timer *t)
{
    timer_disarm(t);
    t->due = 0;
}

static void expire(struct timer *t, u64 now)
{
    u64 times = 1;

    if (t->due_interval) {
        times += (now - t->due) / t->due_interval;
        t->due += times * t->due_interval;
        schedule(t);
    } else {
        t->due = 0;
    }
    t->due_fire(t, times);
}

static void call_in(int tid, const struct process *p)
{
    struct thread *t = thread_find(tid);

    if (!t || t->process != p || t->exiting)
        return;
    atomic_fetch_or(&t->arch.pending, PENDING_TIME);
    if (!t->sleeping)
        traps_kick(t);
}

/* The moment has come; in pid 1. */
static void look(struct timer *t, u64 times)
{
    const struct process *p = process_find(t->cpu.pid);
    u64 now;

    (void)times;
    if (!p || p->state != PROCESS_ALIVE || process_time(p, &now) < 0)
        return;
    if (now < t->gate)
        look_in(t, earliest(&t->cpu, p, t->gate - now));
    else if (t->cpu.tid)
        call_in(t->cpu.tid, p);
    else
        expire(t, now);
}

void cpu_timers_look(void)
{
    const struct thread *self = current();
    u64 now = cpu_time_ns(CLOCK_THREAD_CPUTIME_ID);

    list_for_each_safe(n, &self->process->timers)
    {
        struct timer *t = list_entry(n, struct timer, owned);
        if (!t->due || t->cpu.tid != self->tid)
            continue;
        if (now >= t->due)
            expire(t, now);
        else
            schedule(t);
    }
}

void cpu_timer_init(struct timer *t, const struct cpu_clock *c, void (*fire)(struct timer *t, u64 times))
{
    timer_init(t, look);
    t->cpu = *c;
    t->due_fire = fire;
}

/* The sleeper itself looks: it is not in anybody's list. */
int cpu_sleep_until(const struct cpu_clock *c, u64 due)
{
    const struct process *p;
    u64 now;
    int rc = cpu_clock_read(c, &now);

    while (rc == 0 && now < due) {
        p = process_find(c->pid);
        rc = thread_sleep(monotonic_ns() + earliest(c, p, due - now));
        if (rc == 0 || rc == -ETIMEDOUT)
            rc = cpu_clock_read(c, &now);
    }
    return rc;
}

/* ---- RLIMIT_CPU (setrlimit(2)): whole seconds */

static u64 limit_ns(u64 seconds)
{
    return seconds >= FOR_EVER / NS_PER_S ? FOR_EVER : seconds * NS_PER_S;
}

/* SIGXCPU at the soft limit, which is one second later from then on, as on Linux; SIGKILL at the hard one. */
static void limit_reached(struct timer *t, u64 times)
{
    struct process *p = container_of(t, struct process, cpu_limit);
    struct rlimit64 *limit = &p->rlimits[RLIMIT_CPU];
    u64 now;

    (void)times;
    if (process_time(p, &now) < 0)
        return;
    if (now >= limit_ns(limit->rlim_max)) {
        (void)signal_post(p, SIGKILL, NULL);
        return;
    }
    if (now >= limit_ns(limit->rlim_cur)) {
        limit->rlim_cur++;
        (void)signal_post(p, SIGXCPU, NULL);
    }
    cpu_limit_changed(p);
}

void cpu_limit_init(struct process *p)
{
    const struct cpu_clock own = {p->pid, 0};

    cpu_timer_init(&p->cpu_limit, &own, limit_reached);
}

void cpu_limit_changed(struct process *p)
{
    u64 soft = p->rlimits[RLIMIT_CPU].rlim_cur;

    if (soft == RLIM64_INFINITY)
        cpu_timer_disarm(&p->cpu_limit);
    else
        cpu_timer_arm(&p->cpu_limit, limit_ns(soft), 0);
}
