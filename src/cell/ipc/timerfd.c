/*
 * timerfd_create(2): a timer of proc/timer.h whose expirations can be read.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/poll.h>
#include <linux/time.h>
#include <linux/timerfd.h>

#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"
#include "cell/proc/timer.h"

#define NS_PER_S 1000000000ULL

struct timerfd {
    struct timer timer;
    u64 ticks;
    struct waitq event;
};

static void tick(struct timer *timer, u64 times)
{
    struct timerfd *t = container_of(timer, struct timerfd, timer);

    t->ticks += times;
    waitq_wake(&t->event);
}

static long timer_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct timerfd *t = f->priv;
    struct waiter w;
    int rc = 0;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    if (t->ticks == 0 && (f->flags & O_NONBLOCK))
        return -EAGAIN;
    waitq_add(&t->event, &w);
    while (t->ticks == 0 && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    if (t->ticks == 0)
        return rc;
    if (put_user_u64(buf, t->ticks) < 0)
        return -EFAULT;
    t->ticks = 0;
    return 8;
}

static unsigned timer_poll(struct file *f, struct poll_table *pt)
{
    struct timerfd *t = f->priv;

    poll_add(pt, &t->event);
    return t->ticks ? POLLIN | POLLRDNORM : 0;
}

static void timer_release(struct file *f)
{
    struct timerfd *t = f->priv;

    timer_disarm(&t->timer);
    kfree(t);
}

static const struct file_ops timer_ops = {
    .name = "anon_inode:[timerfd]",
    .read = timer_read,
    .poll = timer_poll,
    .release = timer_release,
};

static long sys_timerfd_create(u64 clock, u64 flags, u64 c, u64 d, u64 e, u64 f)
{
    struct timerfd *t;

    (void)c, (void)d, (void)e, (void)f;
    if ((clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
         clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM) ||
        (flags & ~(u64)(TFD_CLOEXEC | TFD_NONBLOCK)))
        return -EINVAL;
    if (clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM)
        return -EPERM;
    if (!(t = kmalloc(sizeof(*t))))
        return -ENOMEM;
    timer_init(&t->timer, tick);
    t->timer.clock = (int)clock;
    waitq_init(&t->event);
    return ipc_install(&timer_ops, t, O_RDWR | (unsigned)(flags & O_NONBLOCK), flags & TFD_CLOEXEC);
}

static struct timerfd *get(u64 fd, long *error)
{
    struct file *f = fd_file((int)fd);

    *error = f ? -EINVAL : -EBADF;
    return f && f->ops == &timer_ops ? f->priv : NULL;
}

static int put_remaining(u64 to, const struct timer *t)
{
    u64 now = monotonic_ns(), left = t->armed ? t->expires > now ? t->expires - now : 1 : 0;
    struct __kernel_itimerspec out = {
        .it_interval = {(s64)(t->interval / NS_PER_S), (s64)(t->interval % NS_PER_S)},
        .it_value = {(s64)(left / NS_PER_S), (s64)(left % NS_PER_S)},
    };

    return put_user((struct __kernel_itimerspec *)to, out);
}

static bool is_time(const struct __kernel_timespec *t)
{
    return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < (s64)NS_PER_S && t->tv_sec < 0x1fffffffff;
}

static long sys_timerfd_settime(u64 fd, u64 flags, u64 new, u64 old, u64 e, u64 f)
{
    struct __kernel_itimerspec in;
    long error;
    struct timerfd *t = get(fd, &error);
    u64 value, interval;

    (void)e, (void)f;
    if (!t)
        return error;
    if (flags & ~(u64)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
        return -EINVAL;
    if (get_user(in, (void *)new) < 0)
        return -EFAULT;
    if (!is_time(&in.it_value) || !is_time(&in.it_interval))
        return -EINVAL;
    if (old && put_remaining(old, &t->timer) < 0)
        return -EFAULT;
    value = (u64)in.it_value.tv_sec * NS_PER_S + (u64)in.it_value.tv_nsec;
    interval = (u64)in.it_interval.tv_sec * NS_PER_S + (u64)in.it_interval.tv_nsec;
    t->ticks = 0;
    if (value == 0)
        timer_disarm(&t->timer);
    else
        timer_arm(&t->timer,
                  flags & TFD_TIMER_ABSTIME ? clock_to_monotonic(t->timer.clock, value)
                                            : monotonic_ns() + value,
                  interval);
    return 0;
}

static long sys_timerfd_gettime(u64 fd, u64 to, u64 c, u64 d, u64 e, u64 f)
{
    long error;
    struct timerfd *t = get(fd, &error);

    (void)c, (void)d, (void)e, (void)f;
    return t ? put_remaining(to, &t->timer) : error;
}

const struct syscall timerfd_calls[] = {
    {__NR_timerfd_create, SYS_LOCKED, "timerfd_create", sys_timerfd_create},
    {__NR_timerfd_settime, SYS_LOCKED, "timerfd_settime", sys_timerfd_settime},
    {__NR_timerfd_gettime, SYS_LOCKED, "timerfd_gettime", sys_timerfd_gettime},
    {0},
};
