/*
 * epoll(7). An item is one watched file. It hangs on the file's wait queues with a callback; when one of them
 * is woken, the item joins the set's ready list. epoll_wait asks the ready items what really holds:
 * level-triggered ones go back to the end of the list while it does.
 *
 * The item holds no reference to its file: a file that goes takes its items with it (epoll_file_released), as
 * epoll(7) has it.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/eventpoll.h>
#include <linux/poll.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/ipc/epoll.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/signal.h"
#include "cell/proc/timer.h"

enum { ITEM_QUEUES = 4, NESTING = 4 };

struct epoll {
    struct list items, ready;
    struct waitq event;
};

struct item {
    struct list in_set, in_ready, of_file;
    struct epoll *set;
    struct file *file;
    int fd;
    u32 events;
    u64 data;
    bool queued, disabled; /* disabled: EPOLLONESHOT has fired */
    struct waiter waiters[ITEM_QUEUES];
    unsigned nwaiters;
};

static void make_ready(struct item *i)
{
    if (!i->queued) {
        i->queued = true;
        list_add_tail(&i->set->ready, &i->in_ready);
    }
    waitq_wake(&i->set->event);
}

static void on_wake(struct waiter *w)
{
    struct item *i = w->context;

    if (!i->disabled)
        make_ready(i);
}

struct item_table {
    struct poll_table table;
    struct item *item;
};

static void add_queue(struct poll_table *pt, struct waitq *q)
{
    struct item *i = container_of(pt, struct item_table, table)->item;

    if (i->nwaiters < ITEM_QUEUES)
        waitq_add_callback(q, &i->waiters[i->nwaiters++], on_wake, i);
}

static unsigned ask(const struct item *i, struct poll_table *pt)
{
    unsigned mask =
        i->file->ops->poll ? i->file->ops->poll(i->file, pt) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

    return mask & (i->events | EPOLLERR | EPOLLHUP) & 0xffff;
}

static void destroy(struct item *i)
{
    for (unsigned k = 0; k < i->nwaiters; k++)
        waitq_del(&i->waiters[k]);
    if (i->queued)
        list_del(&i->in_ready);
    list_del(&i->in_set);
    list_del(&i->of_file);
    kfree(i);
}

void epoll_file_released(struct file *f)
{
    list_for_each_safe(n, &f->epolls) destroy(list_entry(n, struct item, of_file));
}

static unsigned epoll_poll(struct file *f, struct poll_table *pt)
{
    struct epoll *e = f->priv;

    poll_add(pt, &e->event);
    list_for_each(n, &e->ready) if (ask(list_entry(n, struct item, in_ready), NULL)) return POLLIN |
        POLLRDNORM;
    return 0;
}

static void epoll_release(struct file *f)
{
    struct epoll *e = f->priv;

    list_for_each_safe(n, &e->items) destroy(list_entry(n, struct item, in_set));
    kfree(e);
}

static const struct file_ops epoll_ops = {
    .name = "anon_inode:[eventpoll]",
    .poll = epoll_poll,
    .release = epoll_release,
};

static long create(u32 flags)
{
    struct epoll *e;

    if (flags & ~(u32)EPOLL_CLOEXEC)
        return -EINVAL;
    if (!(e = kmalloc(sizeof(*e))))
        return -ENOMEM;
    list_init(&e->items);
    list_init(&e->ready);
    waitq_init(&e->event);
    return ipc_install(&epoll_ops, e, O_RDWR, flags & EPOLL_CLOEXEC);
}

static struct item *find(const struct epoll *e, const struct file *f, int fd)
{
    list_for_each(n, &e->items)
    {
        struct item *i = list_entry(n, struct item, in_set);
        if (i->file == f && i->fd == fd)
            return i;
    }
    return NULL;
}

/* Would watching `f` make a ring of sets, or too deep a nest? */
static int check_nesting(const struct epoll *e, const struct file *f, int depth)
{
    const struct epoll *inner;

    if (f->ops != &epoll_ops)
        return 0;
    inner = f->priv;
    if (inner == e)
        return -ELOOP;
    if (depth == NESTING)
        return -EINVAL;
    list_for_each(n, &inner->items)
    {
        int rc = check_nesting(e, list_entry(n, struct item, in_set)->file, depth + 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static long add(struct epoll *e, struct file *f, int fd, const struct epoll_event *event)
{
    struct item_table pt = {{add_queue}, NULL};
    struct item *i;
    int rc;

    if (!f->ops->poll)
        return -EPERM; /* regular files and directories */
    if ((rc = check_nesting(e, f, 0)) < 0)
        return rc;
    if (!(i = kmalloc(sizeof(*i))))
        return -ENOMEM;
    list_init(&i->in_ready);
    i->set = e;
    i->file = f;
    i->fd = fd;
    i->events = event->events;
    i->data = event->data;
    list_add_tail(&e->items, &i->in_set);
    list_add_tail(&f->epolls, &i->of_file);
    pt.item = i;
    if (ask(i, &pt.table))
        make_ready(i);
    return 0;
}

static long sys_epoll_ctl(u64 epfd, u64 op, u64 fd, u64 event_, u64 e, u64 f)
{
    struct file *set = fd_file((int)epfd), *target = fd_file((int)fd);
    struct epoll_event event = {0};
    struct item *i;

    (void)e, (void)f;
    if (!set || !target)
        return -EBADF;
    if (set->ops != &epoll_ops || set == target)
        return -EINVAL;
    if (op != EPOLL_CTL_DEL && copy_from_user(&event, (void *)event_, sizeof(event)) < 0)
        return -EFAULT;
    i = find(set->priv, target, (int)fd);
    switch (op) {
    case EPOLL_CTL_ADD:
        return i ? -EEXIST : add(set->priv, target, (int)fd, &event);
    case EPOLL_CTL_MOD:
        if (!i)
            return -ENOENT;
        i->events = event.events;
        i->data = event.data;
        i->disabled = false;
        if (ask(i, NULL))
            make_ready(i);
        return 0;
    case EPOLL_CTL_DEL:
        if (!i)
            return -ENOENT;
        destroy(i);
        return 0;
    default:
        return -EINVAL;
    }
}

/* Up to `max` events from the ready list. Items that are level-triggered and hold stay on it, behind the
 * others. */
static long collect(struct epoll *e, u64 events, int max)
{
    struct list again;
    long n = 0;
    int rc = 0;

    list_init(&again);
    while (n < max && !list_empty(&e->ready)) {
        struct item *i = list_entry(e->ready.next, struct item, in_ready);
        struct epoll_event out = {.data = i->data};
        list_del(&i->in_ready);
        i->queued = false;
        if (i->disabled || !(out.events = ask(i, NULL)))
            continue;
        if (copy_to_user((void *)(events + (u64)n * sizeof(out)), &out, sizeof(out)) < 0) {
            make_ready(i);
            rc = -EFAULT;
            break;
        }
        n++;
        if (i->events & EPOLLONESHOT) {
            i->disabled = true;
        } else if (!(i->events & EPOLLET)) {
            i->queued = true;
            list_add_tail(&again, &i->in_ready);
        }
    }
    while (!list_empty(&again)) {
        struct list *node = again.next;
        list_del(node);
        list_add_tail(&e->ready, node);
    }
    return n ? n : rc;
}

static long wait_for(u64 epfd, u64 events, int max, u64 deadline, bool poll_only)
{
    struct file *f = fd_file((int)epfd);
    struct waiter w;
    struct epoll *e;
    long n;
    int rc = 0;

    if (!f)
        return -EBADF;
    if (f->ops != &epoll_ops || max <= 0 || max > 0x7fffffff / 12)
        return -EINVAL;
    e = f->priv;
    n = collect(e, events, max);
    if (n != 0 || poll_only)
        return n;
    file_get(f);
    waitq_add(&e->event, &w);
    while ((n = collect(e, events, max)) == 0 && rc == 0)
        rc = thread_sleep(deadline);
    waitq_del(&w);
    file_put(f);
    if (n != 0)
        return n;
    /* -EINTR for the program's signals only: the host says things to a thread, too (that a child ended). */
    return rc == -ETIMEDOUT ? 0 : rc == -ERESTARTSYS ? -ERESTARTNOHAND : rc;
}

static long wait_ms(u64 epfd, u64 events, u64 max, u64 timeout)
{
    int ms = (int)timeout;
    u64 deadline = ms < 0 ? NO_DEADLINE : monotonic_ns() + (u64)ms * 1000000;

    return wait_for(epfd, events, (int)max, deadline, ms == 0);
}

static long sys_epoll_wait(u64 epfd, u64 events, u64 max, u64 timeout, u64 e, u64 f)
{
    (void)e, (void)f;
    return wait_ms(epfd, events, max, timeout);
}

static int push_mask(u64 mask_, u64 size)
{
    u64 mask;

    if (!mask_)
        return 0;
    if (size != 8)
        return -EINVAL;
    if (get_user_u64(&mask, (void *)mask_) < 0)
        return -EFAULT;
    signal_mask_push(mask);
    return 0;
}

/* The mask stays until the handler ran if a signal ended the wait. */
static long pop_mask(long rc)
{
    if (rc != -ERESTARTNOHAND)
        signal_mask_pop();
    return rc;
}

static long sys_epoll_pwait(u64 epfd, u64 events, u64 max, u64 timeout, u64 mask, u64 size)
{
    int rc = push_mask(mask, size);

    return rc < 0 ? rc : pop_mask(wait_ms(epfd, events, max, timeout));
}

static long sys_epoll_pwait2(u64 epfd, u64 events, u64 max, u64 timeout, u64 mask, u64 size)
{
    u64 deadline;
    int rc = deadline_from_user(timeout, &deadline);

    if (rc < 0 || (rc = push_mask(mask, size)) < 0)
        return rc;
    return pop_mask(wait_for(epfd, events, (int)max, deadline, false));
}

static long sys_epoll_create(u64 size, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return (int)size <= 0 ? -EINVAL : create(0);
}

static long sys_epoll_create1(u64 flags, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return create((u32)flags);
}

const struct syscall epoll_calls[] = {
    {__NR_epoll_create, SYS_LOCKED, "epoll_create", sys_epoll_create},
    {__NR_epoll_create1, SYS_LOCKED, "epoll_create1", sys_epoll_create1},
    {__NR_epoll_ctl, SYS_LOCKED, "epoll_ctl", sys_epoll_ctl},
    {__NR_epoll_wait, SYS_LOCKED, "epoll_wait", sys_epoll_wait},
    {__NR_epoll_pwait, SYS_LOCKED, "epoll_pwait", sys_epoll_pwait},
    {__NR_epoll_pwait2, SYS_LOCKED, "epoll_pwait2", sys_epoll_pwait2},
    {0},
};
