/*
 * pidfd_open(2). A process and its pidfds know each other through one object with a count of references: the
 * process lets go of it when it is removed, and the descriptors find nobody there from then on.
 */
#include "cell/ipc/pidfd.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/poll.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

enum { PIDFD_NONBLOCK = O_NONBLOCK };

void pidfd_get(struct pidfd *d)
{
    d->refs++;
}

void pidfd_put(struct pidfd *d)
{
    if (--d->refs == 0)
        kfree(d);
}

static unsigned pidfd_poll(struct file *f, struct poll_table *pt)
{
    struct pidfd *d = f->priv;

    poll_add(pt, &d->event);
    if (!d->process)
        return POLLIN | POLLRDNORM | POLLHUP;
    return d->process->state == PROCESS_ALIVE ? 0 : POLLIN | POLLRDNORM;
}

static void pidfd_fdinfo(const struct file *f, struct text *t)
{
    const struct pidfd *d = f->priv;
    int pid = d->process ? d->process->pid : -1;

    text_add(t, "Pid:\t%d\nNSpid:\t%d\n", pid, pid);
}

static void pidfd_release(struct file *f)
{
    pidfd_put(f->priv);
}

static const struct file_ops pidfd_ops = {
    .name = "anon_inode:[pidfd]",
    .poll = pidfd_poll,
    .fdinfo = pidfd_fdinfo,
    .release = pidfd_release,
};

struct pidfd *pidfd_of(const struct file *f)
{
    return f->ops == &pidfd_ops ? f->priv : NULL;
}

long pidfd_install(struct process *p, unsigned flags)
{
    struct pidfd *d = p->pidfd;

    if (!d) {
        if (!(d = kmalloc(sizeof(*d))))
            return -ENOMEM;
        d->refs = 1;
        d->process = p;
        waitq_init(&d->event);
        p->pidfd = d;
    }
    pidfd_get(d);
    return ipc_install(&pidfd_ops, d, O_RDWR | flags, true);
}

void pidfd_process_ended(struct process *p)
{
    if (p->pidfd)
        waitq_wake(&p->pidfd->event);
}

void pidfd_process_removed(struct process *p)
{
    struct pidfd *d = p->pidfd;

    if (!d)
        return;
    p->pidfd = NULL;
    d->process = NULL;
    waitq_wake(&d->event);
    pidfd_put(d);
}

static long sys_pidfd_open(u64 pid, u64 flags, u64 c, u64 d, u64 e, u64 f)
{
    struct process *p;

    (void)c, (void)d, (void)e, (void)f;
    if (((u32)flags & ~(u32)PIDFD_NONBLOCK) || (int)pid <= 0)
        return -EINVAL;
    if (!(p = process_find((int)pid)))
        return thread_find((int)pid) ? -ENOENT : -ESRCH; /* one of several threads is no process */
    return pidfd_install(p, (u32)flags);
}

const struct syscall pidfd_calls[] = {
    {__NR_pidfd_open, SYS_LOCKED, "pidfd_open", sys_pidfd_open},
    {0},
};
