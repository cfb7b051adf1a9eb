#include "cell/proc/timer.h"

#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/unistd.h>
#include <linux/time.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/cputime.h"
#include "cell/proc/signal.h"

enum { NS_PER_US = 1000, TIMERS_MAX = 1024, ITIMER_ID = -1, INT_MAX_ = 0x7fffffff };
#define NS_PER_S 1000000000ULL

void timer_init(struct timer *t, void (*fire)(struct timer *t, u64 times))
{
    memset(t, 0, sizeof(*t));
    list_init(&t->node);
    list_init(&t->owned);
    t->fire = fire;
}

static void insert(struct timer *t)
{
    struct list *at = SHARED->timers.prev;

    while (at != &SHARED->timers && list_entry(at, struct timer, node)->expires > t->expires)
        at = at->prev;
    list_add(at, &t->node);
    t->armed = true;
}

void timer_disarm(struct timer *t)
{
    list_del(&t->node);
    t->armed = false;
}

void timer_arm(struct timer *t, u64 expires, u64 interval)
{
    timer_disarm(t);
    t->expires = expires;
    t->interval = interval;
    insert(t);
    if (SHARED->timers.next == &t->node && SHARED->init->leader != current())
        thread_wake(SHARED->init->leader);
}

u64 timers_run(void)
{
    u64 now = monotonic_ns();

    while (!list_empty(&SHARED->timers)) {
        struct timer *t = list_entry(SHARED->timers.next, struct timer, node);
        u64 times = 1;
        if (t->expires > now)
            return t->expires;
        timer_disarm(t);
        if (t->interval) {
            times += (now - t->expires) / t->interval;
            t->expires += times * t->interval;
            insert(t);
        }
        t->fire(t, times);
    }
    return NO_DEADLINE;
}

/* ---- clocks */

static u64 clock_now(int clock)
{
    struct __kernel_timespec ts = {0};

    (void)host_clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * NS_PER_S + (u64)ts.tv_nsec;
}

u64 clock_to_monotonic(int clock, u64 ns)
{
    u64 now;

    if (clock == CLOCK_MONOTONIC)
        return ns;
    now = clock_now(clock);
    return ns <= now ? monotonic_ns() : monotonic_ns() + (ns - now);
}

static int to_ns(const struct __kernel_timespec *ts, u64 *ns)
{
    if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= (s64)NS_PER_S)
        return -EINVAL;
    /* Three hundred years are for ever. */
    *ns = (u64)ts->tv_sec >= 0x7fffffffffffffffULL / NS_PER_S ? 0x7fffffffffffffffULL
                                                              : (u64)ts->tv_sec * NS_PER_S + (u64)ts->tv_nsec;
    return 0;
}

static struct __kernel_timespec from_ns(u64 ns)
{
    return (struct __kernel_timespec){.tv_sec = (s64)(ns / NS_PER_S), .tv_nsec = (s64)(ns % NS_PER_S)};
}

int deadline_from_user(u64 address, u64 *deadline)
{
    struct __kernel_timespec ts;
    u64 ns;
    int rc;

    *deadline = NO_DEADLINE;
    if (!address)
        return 0;
    if (get_user(ts, (void *)address) < 0)
        return -EFAULT;
    if ((rc = to_ns(&ts, &ns)) < 0)
        return rc;
    *deadline = monotonic_ns() + ns;
    return 0;
}

static bool is_clock(int clock)
{
    return (clock >= 0 && clock <= CLOCK_TAI) && clock != 10;
}

/* A clock to wait by: 0 and, if it shows processor time, whose; -EOPNOTSUPP: one to read only. */
static int clock_to_wait_by(int clock, struct cpu_clock *cpu)
{
    *cpu = (struct cpu_clock){0};
    if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
        return cpu_clock_find(clock, cpu);
    if (!is_clock(clock))
        return -EINVAL;
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
                   clock == CLOCK_TAI
               ? 0
               : -EOPNOTSUPP;
}

/* The clock of a process or thread that is named by number (clock_getcpuclockid(3)). */
static int read_clock_of(int clock, struct __kernel_timespec *out)
{
    struct cpu_clock cpu;
    u64 ns = 0;
    int rc;

    kernel_lock();
    rc = cpu_clock_find(clock, &cpu);
    if (rc == 0)
        rc = cpu_clock_read(&cpu, &ns);
    kernel_unlock();
    if (rc == 0)
        *out = from_ns(ns);
    return rc;
}

static long sys_clock_gettime(u64 clock, u64 ts_, u64 c, u64 d, u64 e, u64 f)
{
    struct __kernel_timespec ts;
    long rc;

    (void)c, (void)d, (void)e, (void)f;
    if ((int)clock >= 0 && !is_clock((int)clock))
        return -EINVAL;
    rc = (int)clock < 0 ? read_clock_of((int)clock, &ts) : host_clock_gettime((int)clock, &ts);
    return rc < 0 ? rc : put_user((struct __kernel_timespec *)ts_, ts);
}

static long sys_clock_getres(u64 clock, u64 ts_, u64 c, u64 d, u64 e, u64 f)
{
    const struct __kernel_timespec fine = {.tv_nsec = 1}, coarse = {.tv_nsec = 4000000};
    struct __kernel_timespec now;

    (void)c, (void)d, (void)e, (void)f;
    if ((int)clock < 0 ? read_clock_of((int)clock, &now) < 0 : !is_clock((int)clock))
        return -EINVAL;
    if (!ts_)
        return 0;
    return put_user((struct __kernel_timespec *)ts_,
                    clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ? coarse : fine);
}

static long sys_clock_settime(u64 clock, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return is_clock((int)clock) ? -EPERM : -EINVAL;
}

static long sys_gettimeofday(u64 tv_, u64 tz, u64 c, u64 d, u64 e, u64 f)
{
    u64 now = realtime_ns(), zone = 0;
    s64 tv[2] = {(s64)(now / NS_PER_S), (s64)(now % NS_PER_S / NS_PER_US)};

    (void)c, (void)d, (void)e, (void)f;
    if (tv_ && copy_to_user((void *)tv_, tv, sizeof(tv)) < 0)
        return -EFAULT;
    return tz ? put_user_u64((void *)tz, zone) : 0;
}

static long sys_time(u64 t, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    u64 now = realtime_ns() / NS_PER_S;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    return t && put_user_u64((void *)t, now) < 0 ? -EFAULT : (long)now;
}

/* `cpu`: whose processor time, or pid 0: the monotonic clock. */
static u64 now_by(const struct cpu_clock *cpu)
{
    u64 ns = 0;

    if (cpu->pid == 0)
        return monotonic_ns();
    (void)cpu_clock_read(cpu, &ns);
    return ns;
}

static int sleep_until(const struct cpu_clock *cpu, u64 deadline)
{
    int rc;

    if (cpu->pid)
        return cpu_sleep_until(cpu, deadline);
    do
        rc = thread_sleep(deadline);
    while (rc == 0);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* A relative sleep that a stop interrupted would begin anew: its end is kept. */
static long sleep_relative(const struct cpu_clock *cpu, u64 length, u64 remaining)
{
    struct thread *t = current();
    u64 deadline = t->sleep_deadline ? t->sleep_deadline : now_by(cpu) + length, now;
    int rc;

    t->sleep_deadline = 0;
    rc = sleep_until(cpu, deadline);
    if (rc != -ERESTARTSYS)
        return rc;
    now = now_by(cpu);
    if (remaining &&
        put_user((struct __kernel_timespec *)remaining, from_ns(deadline > now ? deadline - now : 0)) < 0)
        return -EFAULT;
    t->sleep_deadline = deadline;
    return -ERESTARTNOHAND;
}

static int length_from_user(u64 request, u64 *ns)
{
    struct __kernel_timespec ts;

    *ns = 0;
    return get_user(ts, (void *)request) < 0 ? -EFAULT : to_ns(&ts, ns);
}

static long sys_nanosleep(u64 request, u64 remaining, u64 c, u64 d, u64 e, u64 f)
{
    const struct cpu_clock wall = {0};
    u64 ns;
    int rc = length_from_user(request, &ns);

    (void)c, (void)d, (void)e, (void)f;
    return rc < 0 ? rc : sleep_relative(&wall, ns, remaining);
}

static long sys_clock_nanosleep(u64 clock, u64 flags, u64 request, u64 remaining, u64 e, u64 f)
{
    struct cpu_clock cpu;
    u64 ns = 0;
    int rc = clock == CLOCK_THREAD_CPUTIME_ID ? -EOPNOTSUPP : clock_to_wait_by((int)clock, &cpu);

    (void)e, (void)f;
    if (rc == 0)
        rc = length_from_user(request, &ns);
    if (rc < 0)
        return rc;
    if (cpu.tid == current()->tid)
        return -EINVAL; /* it would never end */
    if (!(flags & 1 /* TIMER_ABSTIME */))
        return sleep_relative(&cpu, ns, remaining);
    rc = sleep_until(&cpu, cpu.pid ? ns : clock_to_monotonic((int)clock, ns));
    return rc == -ERESTARTSYS ? -ERESTARTNOHAND : rc;
}

/* ---- POSIX timers and itimers */

static int add_overrun(int before, u64 more)
{
    u64 sum = (u64)before + MIN(more, (u64)INT_MAX_);

    return (int)MIN(sum, (u64)INT_MAX_);
}

static void fire_signal(struct timer *t, u64 times)
{
    siginfo_t info, *waiting = t->id == ITIMER_ID ? NULL : signal_of_timer(t->process, t->sig, t->id);

    if (waiting) { /* one signal stands for all until it is taken */
        waiting->si_overrun = add_overrun(waiting->si_overrun, times);
        return;
    }
    memset(&info, 0, sizeof(info));
    if (t->notify == SIGEV_NONE)
        return;
    if (t->id == ITIMER_ID) {
        info.si_code = SI_KERNEL;
        (void)signal_post(t->process, t->sig, &info);
        return;
    }
    info.si_code = SI_TIMER;
    info.si_tid = t->id;
    info.si_overrun = add_overrun(0, times - 1);
    info.si_value.sival_ptr = (void *)t->value;
    if (t->notify == SIGEV_THREAD_ID) {
        struct thread *to = thread_find(t->tid);
        if (to && to->process == t->process)
            (void)signal_post_thread(to, t->sig, &info);
    } else {
        (void)signal_post(t->process, t->sig, &info);
    }
}

void timer_signal_taken(struct process *p, const siginfo_t *info)
{
    list_for_each(n, &p->timers)
    {
        struct timer *t = list_entry(n, struct timer, owned);
        if (t->id == info->si_tid && t->sig == info->si_signo)
            t->overrun = info->si_overrun;
    }
}

static struct timer *find(int id, int sig)
{
    list_for_each(n, &current_process->timers)
    {
        struct timer *t = list_entry(n, struct timer, owned);
        if (t->id == id && (id != ITIMER_ID || t->sig == sig))
            return t;
    }
    return NULL;
}

static struct timer *create(int sig, const struct cpu_clock *cpu)
{
    struct timer *t = kmalloc(sizeof(*t));

    if (!t)
        return NULL;
    if (cpu->pid)
        cpu_timer_init(t, cpu, fire_signal);
    else
        timer_init(t, fire_signal);
    t->process = current_process;
    t->id = ITIMER_ID;
    t->clock = CLOCK_MONOTONIC;
    t->sig = sig;
    list_add_tail(&current_process->timers, &t->owned);
    return t;
}

/* `value` in ns from now, or, if `absolute`, on the timer's clock. */
static void arm(struct timer *t, u64 value, u64 interval, bool absolute)
{
    if (t->cpu.pid)
        cpu_timer_arm(t, absolute ? value : now_by(&t->cpu) + value, interval);
    else
        timer_arm(t, absolute ? clock_to_monotonic(t->clock, value) : monotonic_ns() + value, interval);
}

static void disarm(struct timer *t)
{
    if (t->cpu.pid)
        cpu_timer_disarm(t);
    else
        timer_disarm(t);
}

static void destroy(struct timer *t)
{
    disarm(t);
    list_del(&t->owned);
    kfree(t);
}

void timers_exec(struct process *p)
{
    list_for_each_safe(n, &p->timers) if (list_entry(n, struct timer, owned)->id != ITIMER_ID)
        destroy(list_entry(n, struct timer, owned));
}

void timers_free(struct process *p)
{
    cpu_timer_disarm(&p->cpu_limit);
    list_for_each_safe(n, &p->timers) destroy(list_entry(n, struct timer, owned));
}

static void remaining(const struct timer *t, u64 *left, u64 *interval)
{
    u64 now, due;

    *left = *interval = 0;
    if (!t || !(t->cpu.pid ? t->due != 0 : t->armed))
        return;
    now = now_by(&t->cpu);
    due = t->cpu.pid ? t->due : t->expires;
    *interval = t->cpu.pid ? t->due_interval : t->interval;
    /* Due, but it has not fired yet. Of one that does not tell anybody nobody could know. */
    *left = due > now ? due - now : t->notify != SIGEV_NONE || *interval;
}

/* The host does not tell user from system time: ITIMER_VIRTUAL and ITIMER_PROF count both. */
static long set_itimer(int sig, u64 value, u64 interval)
{
    const struct cpu_clock wall = {0}, own = {current_process->pid, 0};
    struct timer *t = find(ITIMER_ID, sig);

    if (value == 0) {
        if (t)
            disarm(t);
        return 0;
    }
    if (!t && !(t = create(sig, sig == SIGALRM ? &wall : &own)))
        return -ENOMEM;
    arm(t, value, interval, false);
    return 0;
}

static int itimer_signal(u64 which)
{
    return which == ITIMER_REAL      ? SIGALRM
           : which == ITIMER_VIRTUAL ? SIGVTALRM
           : which == ITIMER_PROF    ? SIGPROF
                                     : -EINVAL;
}

static int put_itimer(u64 to, int sig)
{
    u64 left, interval;
    s64 out[4];

    remaining(find(ITIMER_ID, sig), &left, &interval);
    out[0] = (s64)(interval / NS_PER_S);
    out[1] = (s64)(interval % NS_PER_S / NS_PER_US);
    out[2] = (s64)(left / NS_PER_S);
    out[3] = (s64)(left % NS_PER_S / NS_PER_US);
    if (left && out[2] == 0 && out[3] == 0)
        out[3] = 1;
    return copy_to_user((void *)to, out, sizeof(out));
}

static long sys_getitimer(u64 which, u64 to, u64 c, u64 d, u64 e, u64 f)
{
    int sig = itimer_signal(which);

    (void)c, (void)d, (void)e, (void)f;
    return sig < 0 ? sig : put_itimer(to, sig);
}

static int from_timeval(const s64 *tv, u64 *ns)
{
    const struct __kernel_timespec ts = {.tv_sec = tv[0], .tv_nsec = (s64)((u64)tv[1] * NS_PER_US)};

    return tv[1] < 0 || tv[1] >= 1000000 ? -EINVAL : to_ns(&ts, ns);
}

static long sys_setitimer(u64 which, u64 new, u64 old, u64 d, u64 e, u64 f)
{
    int sig = itimer_signal(which);
    s64 in[4] = {0};
    u64 value, interval;

    (void)d, (void)e, (void)f;
    if (sig < 0)
        return sig;
    if (new &&copy_from_user(in, (void *)new, sizeof(in)) < 0)
        return -EFAULT;
    if (from_timeval(in, &interval) < 0 || from_timeval(in + 2, &value) < 0)
        return -EINVAL;
    if (old && put_itimer(old, sig) < 0)
        return -EFAULT;
    return set_itimer(sig, value, interval);
}

static long sys_alarm(u64 seconds, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    u64 left, interval;
    long rc;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    remaining(find(ITIMER_ID, SIGALRM), &left, &interval);
    rc = set_itimer(SIGALRM, (u64)(u32)seconds * NS_PER_S, 0);
    return rc < 0 ? rc : (long)((left + NS_PER_S - 1) / NS_PER_S);
}

static long sys_timer_create(u64 clock, u64 event_, u64 id_, u64 d, u64 e, u64 f)
{
    struct sigevent event;
    struct cpu_clock cpu;
    struct timer *t;
    int id = 0, rc = clock_to_wait_by((int)clock, &cpu);

    (void)d, (void)e, (void)f;
    if (rc < 0)
        return rc;
    memset(&event, 0, sizeof(event));
    event.sigev_signo = SIGALRM;
    if (event_ && get_user(event, (void *)event_) < 0)
        return -EFAULT;
    if ((event.sigev_notify & ~SIGEV_THREAD_ID) > SIGEV_THREAD ||
        (event.sigev_notify != SIGEV_NONE && (event.sigev_signo < 1 || event.sigev_signo > 64)))
        return -EINVAL;
    while (find(id, 0))
        if (++id == TIMERS_MAX)
            return -EAGAIN;
    if (!(t = create(event.sigev_signo, &cpu)))
        return -EAGAIN;
    t->id = id;
    t->clock = (int)clock;
    t->notify = event.sigev_notify;
    t->tid = event._sigev_un._tid;
    t->value = event_ ? (u64)event.sigev_value.sival_ptr : (u64)id;
    if (put_user_u32((void *)id_, (u32)id) < 0) {
        destroy(t);
        return -EFAULT;
    }
    return 0;
}

static int put_itimerspec(u64 to, const struct timer *t)
{
    u64 left, interval;
    struct __kernel_itimerspec out;

    remaining(t, &left, &interval);
    out.it_interval = from_ns(interval);
    out.it_value = from_ns(left);
    return put_user((struct __kernel_itimerspec *)to, out);
}

static long sys_timer_settime(u64 id, u64 flags, u64 new, u64 old, u64 e, u64 f)
{
    struct timer *t = find((int)id, 0);
    struct __kernel_itimerspec in;
    u64 value, interval;

    (void)e, (void)f;
    if (!t || (int)id < 0)
        return -EINVAL;
    if (get_user(in, (void *)new) < 0)
        return -EFAULT;
    if (to_ns(&in.it_value, &value) < 0 || to_ns(&in.it_interval, &interval) < 0)
        return -EINVAL;
    if (old && put_itimerspec(old, t) < 0)
        return -EFAULT;
    if (value == 0)
        disarm(t);
    else
        arm(t, value, interval, flags & 1 /* TIMER_ABSTIME */);
    return 0;
}

static long sys_timer_gettime(u64 id, u64 to, u64 c, u64 d, u64 e, u64 f)
{
    struct timer *t = find((int)id, 0);

    (void)c, (void)d, (void)e, (void)f;
    return t && (int)id >= 0 ? put_itimerspec(to, t) : -EINVAL;
}

static long sys_timer_getoverrun(u64 id, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    struct timer *t = find((int)id, 0);

    (void)b, (void)c, (void)d, (void)e, (void)f;
    return t && (int)id >= 0 ? t->overrun : -EINVAL;
}

static long sys_timer_delete(u64 id, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    struct timer *t = find((int)id, 0);

    (void)b, (void)c, (void)d, (void)e, (void)f;
    if (!t || (int)id < 0)
        return -EINVAL;
    destroy(t);
    return 0;
}

const struct syscall timer_calls[] = {
    {__NR_clock_gettime, SYS_UNLOCKED, "clock_gettime", sys_clock_gettime},
    {__NR_clock_getres, SYS_UNLOCKED, "clock_getres", sys_clock_getres},
    {__NR_clock_settime, SYS_UNLOCKED, "clock_settime", sys_clock_settime},
    {__NR_gettimeofday, SYS_UNLOCKED, "gettimeofday", sys_gettimeofday},
    {__NR_time, SYS_UNLOCKED, "time", sys_time},
    {__NR_nanosleep, SYS_LOCKED, "nanosleep", sys_nanosleep},
    {__NR_clock_nanosleep, SYS_LOCKED, "clock_nanosleep", sys_clock_nanosleep},
    {__NR_getitimer, SYS_LOCKED, "getitimer", sys_getitimer},
    {__NR_setitimer, SYS_LOCKED, "setitimer", sys_setitimer},
    {__NR_alarm, SYS_LOCKED, "alarm", sys_alarm},
    {__NR_timer_create, SYS_LOCKED, "timer_create", sys_timer_create},
    {__NR_timer_settime, SYS_LOCKED, "timer_settime", sys_timer_settime},
    {__NR_timer_gettime, SYS_LOCKED, "timer_gettime", sys_timer_gettime},
    {__NR_timer_getoverrun, SYS_LOCKED, "timer_getoverrun", sys_timer_getoverrun},
    {__NR_timer_delete, SYS_LOCKED, "timer_delete", sys_timer_delete},
    {0},
};
