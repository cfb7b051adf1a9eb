#include "cell/proc/timer.h"

#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/unistd.h>
#include <linux/time.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/signal.h"

enum { NS_PER_US = 1000, TIMERS_MAX = 1024, ITIMER_ID = -1 };
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

/* Clocks of other threads and processes (pthread_getcpuclockid) show the caller's: the host knows no other.
 */
static int host_clock(u64 clock)
{
    if ((int)clock < 0)
        return ((int)clock & 4) ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
    return (int)clock;
}

static long sys_clock_gettime(u64 clock, u64 ts_, u64 c, u64 d, u64 e, u64 f)
{
    struct __kernel_timespec ts;
    long rc;

    (void)c, (void)d, (void)e, (void)f;
    if ((int)clock >= 0 && !is_clock((int)clock))
        return -EINVAL;
    rc = host_clock_gettime(host_clock(clock), &ts);
    return rc < 0 ? rc : put_user((struct __kernel_timespec *)ts_, ts);
}

static long sys_clock_getres(u64 clock, u64 ts_, u64 c, u64 d, u64 e, u64 f)
{
    const struct __kernel_timespec fine = {.tv_nsec = 1}, coarse = {.tv_nsec = 4000000};

    (void)c, (void)d, (void)e, (void)f;
    if ((int)clock >= 0 && !is_clock((int)clock))
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

static long sleep_until(u64 deadline, u64 remaining)
{
    int rc;

    do
        rc = thread_sleep(deadline);
    while (rc == 0);
    if (rc == -ETIMEDOUT)
        return 0;
    if (remaining) {
        u64 now = monotonic_ns();
        struct __kernel_timespec left = from_ns(deadline > now ? deadline - now : 0);
        if (put_user((struct __kernel_timespec *)remaining, left) < 0)
            return -EFAULT;
    }
    return rc;
}

/* A relative sleep that a stop interrupted would begin anew: its end is kept. */
static long sleep_relative(u64 request, u64 remaining)
{
    struct thread *t = current();
    u64 deadline;
    long rc = deadline_from_user(request, &deadline);

    if (rc < 0)
        return rc;
    if (t->sleep_deadline)
        deadline = t->sleep_deadline;
    t->sleep_deadline = 0;
    rc = sleep_until(deadline, remaining);
    if (rc == -ERESTARTSYS) {
        t->sleep_deadline = deadline;
        return -ERESTARTNOHAND;
    }
    return rc;
}

static long sys_nanosleep(u64 request, u64 remaining, u64 c, u64 d, u64 e, u64 f)
{
    (void)c, (void)d, (void)e, (void)f;
    return request ? sleep_relative(request, remaining) : -EFAULT;
}

static long sys_clock_nanosleep(u64 clock, u64 flags, u64 request, u64 remaining, u64 e, u64 f)
{
    struct __kernel_timespec ts;
    u64 ns;
    int rc;

    (void)e, (void)f;
    if (!is_clock((int)clock) || clock == CLOCK_THREAD_CPUTIME_ID)
        return -EINVAL;
    if (!(flags & 1 /* TIMER_ABSTIME */))
        return request ? sleep_relative(request, remaining) : -EFAULT;
    if (get_user(ts, (void *)request) < 0)
        return -EFAULT;
    if ((rc = to_ns(&ts, &ns)) < 0)
        return rc;
    rc = (int)sleep_until(clock_to_monotonic((int)clock, ns), 0);
    return rc == -ERESTARTSYS ? -ERESTARTNOHAND : rc;
}

/* ---- POSIX timers and itimers */

static void fire_signal(struct timer *t, u64 times)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    t->overrun = (int)MIN(times - 1, 0x7fffffffULL);
    if (t->notify == SIGEV_NONE)
        return;
    if (t->id == ITIMER_ID) {
        info.si_code = SI_KERNEL;
        (void)signal_post(t->process, t->sig, &info);
        return;
    }
    info.si_code = SI_TIMER;
    info.si_tid = t->id;
    info.si_overrun = t->overrun;
    info.si_value.sival_ptr = (void *)t->value;
    if (t->notify == SIGEV_THREAD_ID) {
        struct thread *to = thread_find(t->tid);
        if (to && to->process == t->process)
            (void)signal_post_thread(to, t->sig, &info);
    } else {
        (void)signal_post(t->process, t->sig, &info);
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

static struct timer *create(int sig)
{
    struct timer *t = kmalloc(sizeof(*t));

    if (!t)
        return NULL;
    timer_init(t, fire_signal);
    t->process = current_process;
    t->id = ITIMER_ID;
    t->clock = CLOCK_MONOTONIC;
    t->sig = sig;
    list_add_tail(&current_process->timers, &t->owned);
    return t;
}

static void destroy(struct timer *t)
{
    timer_disarm(t);
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
    list_for_each_safe(n, &p->timers) destroy(list_entry(n, struct timer, owned));
}

static void remaining(const struct timer *t, u64 *left, u64 *interval)
{
    u64 now = monotonic_ns();

    *interval = t && t->armed ? t->interval : 0;
    *left = t && t->armed ? (t->expires > now ? t->expires - now : 1) : 0;
}

static long set_itimer(int sig, u64 value, u64 interval)
{
    struct timer *t = find(ITIMER_ID, sig);

    if (value == 0) {
        if (t)
            timer_disarm(t);
        return 0;
    }
    if (!t && !(t = create(sig)))
        return -ENOMEM;
    timer_arm(t, monotonic_ns() + value, interval);
    return 0;
}

static int itimer_signal(u64 which)
{
    /* Virtual time is the host's; these two run by the clock on the wall. */
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

static long sys_setitimer(u64 which, u64 new, u64 old, u64 d, u64 e, u64 f)
{
    int sig = itimer_signal(which);
    s64 in[4] = {0};

    (void)d, (void)e, (void)f;
    if (sig < 0)
        return sig;
    if (new &&copy_from_user(in, (void *)new, sizeof(in)) < 0)
        return -EFAULT;
    for (int i = 0; i < 4; i += 2)
        if (in[i] < 0 || in[i] > 0x200000000 || in[i + 1] < 0 || in[i + 1] >= 1000000)
            return -EINVAL;
    if (old && put_itimer(old, sig) < 0)
        return -EFAULT;
    return set_itimer(sig, (u64)in[2] * NS_PER_S + (u64)in[3] * NS_PER_US,
                      (u64)in[0] * NS_PER_S + (u64)in[1] * NS_PER_US);
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
    struct timer *t;
    int id = 0;

    (void)d, (void)e, (void)f;
    if (!is_clock(host_clock(clock)))
        return -EINVAL;
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
    if (!(t = create(event.sigev_signo)))
        return -EAGAIN;
    t->id = id;
    t->clock = host_clock(clock);
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
        timer_disarm(t);
    else
        timer_arm(t, flags & 1 ? clock_to_monotonic(t->clock, value) : monotonic_ns() + value, interval);
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
