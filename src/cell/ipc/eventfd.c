/*
 * eventfd(2).
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/poll.h>

#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

struct eventfd {
    u64 count;
    bool semaphore;
    struct waitq event;
};

#define COUNT_MAX (UINT64_MAX - 1)
/* eventfd(2): there is no header of the kernel's for them. */
enum { EFD_SEMAPHORE = 1, EFD_CLOEXEC = O_CLOEXEC, EFD_NONBLOCK = O_NONBLOCK };

static long event_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct eventfd *e = f->priv;
    struct waiter w;
    u64 value;
    int rc = 0;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    if (e->count == 0 && (f->flags & O_NONBLOCK))
        return -EAGAIN;
    waitq_add(&e->event, &w);
    while (e->count == 0 && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    if (e->count == 0)
        return rc;
    value = e->semaphore ? 1 : e->count;
    if (put_user_u64(buf, value) < 0)
        return -EFAULT;
    e->count -= value;
    waitq_wake(&e->event);
    return 8;
}

static long event_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct eventfd *e = f->priv;
    struct waiter w;
    u64 value;
    int rc = 0;

    (void)pos;
    if (len < 8)
        return -EINVAL;
    if (get_user_u64(&value, buf) < 0)
        return -EFAULT;
    if (value == UINT64_MAX)
        return -EINVAL;
    if (value > COUNT_MAX - e->count && (f->flags & O_NONBLOCK))
        return -EAGAIN;
    waitq_add(&e->event, &w);
    while (value > COUNT_MAX - e->count && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    if (value > COUNT_MAX - e->count)
        return rc;
    e->count += value;
    waitq_wake(&e->event);
    return 8;
}

static unsigned event_poll(struct file *f, struct poll_table *pt)
{
    struct eventfd *e = f->priv;

    poll_add(pt, &e->event);
    return (e->count > 0 ? POLLIN | POLLRDNORM : 0U) | (e->count < COUNT_MAX ? POLLOUT | POLLWRNORM : 0U);
}

static void event_release(struct file *f)
{
    kfree(f->priv);
}

static const struct file_ops event_ops = {
    .name = "anon_inode:[eventfd]",
    .read = event_read,
    .write = event_write,
    .poll = event_poll,
    .release = event_release,
};

static long create(u32 count, u32 flags)
{
    struct eventfd *e;

    if (flags & ~(u32)(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK))
        return -EINVAL;
    if (!(e = kmalloc(sizeof(*e))))
        return -ENOMEM;
    e->count = count;
    e->semaphore = flags & EFD_SEMAPHORE;
    waitq_init(&e->event);
    return ipc_install(&event_ops, e, O_RDWR | (flags & O_NONBLOCK), flags & EFD_CLOEXEC);
}

static long sys_eventfd(u64 count, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return create((u32)count, 0);
}

static long sys_eventfd2(u64 count, u64 flags, u64 c, u64 d, u64 e, u64 f)
{
    (void)c, (void)d, (void)e, (void)f;
    return create((u32)count, (u32)flags);
}

const struct syscall event_calls[] = {
    {__NR_eventfd, SYS_LOCKED, "eventfd", sys_eventfd},
    {__NR_eventfd2, SYS_LOCKED, "eventfd2", sys_eventfd2},
    {0},
};
