/*
 * An instance has watches and a queue of events; a watch belongs to one instance and one inode. An inode
 * links its watches, so who tells something finds whom to tell.
 *
 * A watch does not keep its inode: the file goes when its last name and its last open file have gone, and
 * that is an event (inotify_inode_gone). Where inodes are only a cache of what lies elsewhere, in the image
 * and in /proc, nothing is ever removed but the cache would forget who watches: there the watch keeps the
 * dentry.
 *
 * What a program can make the kernel keep has limits: instances, watches, events of an instance, and of all
 * instances together. What does not fit into a queue is replaced by one IN_Q_OVERFLOW.
 */
#include "cell/fs/inotify.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <linux/fcntl.h>
#include <linux/poll.h>

#include "cell/base/text.h"
#include "cell/fs/path.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

/* The first three are shown in /proc/sys/fs/inotify (proc_sys.c). */
enum { INSTANCES_MAX = 128, WATCHES_MAX = 65536, QUEUE_MAX = 16384, EVENTS_MAX = 65536 };
enum {
    FLAGS = IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ONESHOT,
    KEPT = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT,
    TOLD = IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR, /* no use in asking for them, but allowed */
};
#define KNOWN ((u32)(IN_ALL_EVENTS | TOLD) | (u32)FLAGS)

struct event {
    struct list node;
    s32 wd;
    u32 mask, cookie;
    u16 length; /* of the name; 0: none */
    char name[];
};

struct instance {
    struct list watches, queue;
    u32 queued, bytes; /* events, and what read(2) would give */
    s32 last_wd;
    struct waitq event;
    struct event overflow; /* in the queue if it was too short, once */
};

struct inotify_watch {
    struct list of_instance;
    struct inotify_watch *next; /* of the same inode */
    struct instance *instance;
    struct inode *inode;
    struct dentry *keep; /* a reference; NULL: the inode lives without */
    s32 wd;
    u32 mask; /* KEPT */
};

static struct hub {
    u32 watches, instances, events, cookie;
} * hub; /* set once at boot */

static const u32 no_watches;
const u32 *inotify_watches = &no_watches;

int inotify_boot(void)
{
    hub = kmalloc(sizeof(*hub));
    if (!hub)
        return -ENOMEM;
    inotify_watches = &hub->watches;
    return 0;
}

/* ---- the queue */

/* The name as read(2) gives it: ended by 0, up to a multiple of the event's size. */
static u32 size_of_name(const struct event *e)
{
    u32 unit = sizeof(struct inotify_event);

    return e->length == 0 ? 0 : (e->length + unit) / unit * unit;
}

static u32 size_of(const struct event *e)
{
    return (u32)sizeof(struct inotify_event) + size_of_name(e);
}

static void enqueue(struct instance *in, struct event *e)
{
    list_add_tail(&in->queue, &e->node);
    in->queued++;
    in->bytes += size_of(e);
    hub->events++;
    waitq_wake(&in->event);
}

static void dequeue(struct instance *in, struct event *e)
{
    list_del(&e->node);
    in->queued--;
    in->bytes -= size_of(e);
    hub->events--;
    if (e != &in->overflow)
        kfree(e);
}

static bool is_last(const struct instance *in, s32 wd, u32 mask, const char *name, size_t length)
{
    const struct event *e = list_entry(in->queue.prev, struct event, node);

    return !list_empty(&in->queue) && e->wd == wd && e->mask == mask && e->length == length &&
           memcmp(e->name, name, length) == 0;
}

/* What is the same as the last that waits is not told twice. */
static void queue(struct instance *in, s32 wd, u32 mask, u32 cookie, const char *name, size_t length)
{
    struct event *e = NULL;

    if (in->queued < QUEUE_MAX && is_last(in, wd, mask, name, length))
        return;
    if (in->queued < QUEUE_MAX && hub->events < EVENTS_MAX)
        e = kmalloc(sizeof(*e) + length);
    if (!e) {
        if (list_empty(&in->overflow.node))
            enqueue(in, &in->overflow);
        return;
    }
    e->wd = wd;
    e->mask = mask;
    e->cookie = cookie;
    e->length = (u16)length;
    memcpy(e->name, name, length);
    enqueue(in, e);
}

/* ---- watches */

static void remove_watch(struct inotify_watch *w)
{
    struct inotify_watch **at = &w->inode->watches;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    list_del(&w->of_instance);
    hub->watches--;
    if (w->keep)
        dentry_put(w->keep);
    kfree(w);
}

/* The same, told to the instance. */
static void end_watch(struct inotify_watch *w)
{
    queue(w->instance, w->wd, IN_IGNORED, 0, "", 0);
    remove_watch(w);
}

static struct inotify_watch *find_watch(const struct instance *in, const struct inode *i)
{
    struct inotify_watch *w = i->watches;

    while (w && w->instance != in)
        w = w->next;
    return w;
}

static struct inotify_watch *watch_by_number(const struct instance *in, s32 wd)
{
    list_for_each(n, &in->watches)
    {
        struct inotify_watch *w = list_entry(n, struct inotify_watch, of_instance);
        if (w->wd == wd)
            return w;
    }
    return NULL;
}

/* A new one. Its number, or -ENOSPC, -ENOMEM. Numbers are not used again. */
static long create_watch(struct instance *in, struct dentry *d, u32 mask)
{
    struct inotify_watch *w;

    if (hub->watches >= WATCHES_MAX || in->last_wd == INT32_MAX)
        return -ENOSPC;
    if (!(w = kmalloc(sizeof(*w))))
        return -ENOMEM;
    if (d->inode->super->flags & (SUPER_READONLY | SUPER_UNCACHED)) {
        w->keep = d;
        dentry_get(d);
    }
    w->instance = in;
    w->inode = d->inode;
    w->wd = ++in->last_wd;
    w->mask = mask & KEPT;
    w->next = d->inode->watches;
    d->inode->watches = w;
    list_add_tail(&in->watches, &w->of_instance);
    hub->watches++;
    return w->wd;
}

static long set_watch(struct instance *in, struct dentry *d, u32 mask)
{
    struct inotify_watch *w = find_watch(in, d->inode);

    if (!w)
        return create_watch(in, d, mask);
    if (mask & IN_MASK_CREATE)
        return -EEXIST;
    w->mask = (mask & IN_MASK_ADD ? w->mask : 0) | (mask & KEPT);
    return w->wd;
}

/* ---- telling */

/* To all who watch i. `name`: in the directory i; `unlinked`: by an open file that has lost its name. */
static void tell(struct inode *i, u32 mask, u32 cookie, const char *name, size_t length, bool unlinked)
{
    struct inotify_watch *next;

    for (struct inotify_watch *w = i->watches; w; w = next) {
        next = w->next;
        if (!(w->mask & mask & IN_ALL_EVENTS) || (unlinked && (w->mask & IN_EXCL_UNLINK)))
            continue;
        queue(w->instance, w->wd, mask, cookie, name, length);
        if (w->mask & IN_ONESHOT)
            end_watch(w);
    }
}

void inotify_tell_dentry(struct dentry *d, u32 mask, bool of_open_file)
{
    bool unlinked = of_open_file && (d->flags & DENTRY_DELETED);

    if (S_ISFIFO(d->inode->mode) && (mask & (IN_ACCESS | IN_MODIFY)))
        return; /* as Linux 6.18 has it */
    if (inode_is_dir(d->inode))
        mask |= IN_ISDIR;
    if (d->parent != d)
        tell(d->parent->inode, mask, 0, d->name, d->length, unlinked);
    tell(d->inode, mask, 0, "", 0, unlinked);
}

void inotify_tell_inode(struct inode *i, u32 mask)
{
    if (inode_is_dir(i) && !(mask & (IN_MOVE_SELF | IN_DELETE_SELF)))
        mask |= IN_ISDIR;
    tell(i, mask, 0, "", 0, false);
}

void inotify_tell_name(struct inode *dir, const char *name, size_t length, u32 mask, u32 cookie)
{
    tell(dir, mask, cookie, name, length, false);
}

u32 inotify_cookie(void)
{
    if (++hub->cookie == 0) /* which means that there is none */
        hub->cookie = 1;
    return hub->cookie;
}

void inotify_inode_gone(struct inode *i)
{
    if (i->nlink == 0)
        tell(i, IN_DELETE_SELF, 0, "", 0, false);
    while (i->watches)
        end_watch(i->watches);
}

/* ---- the file */

/* One event. -EINVAL: there is not room enough. */
static long give(struct instance *in, struct event *e, USER u8 *buf, size_t room)
{
    struct {
        struct inotify_event head;
        char name[NAME_MAX_ + 1];
    } out = {.head = {.wd = e->wd, .mask = e->mask, .cookie = e->cookie, .len = size_of_name(e)}};
    size_t size = size_of(e);

    if (size > room)
        return -EINVAL;
    memcpy(out.name, e->name, e->length);
    dequeue(in, e); /* also when it goes nowhere */
    return copy_to_user(buf, &out, size) < 0 ? -EFAULT : (long)size;
}

static int wait_for_event(struct instance *in)
{
    struct waiter w;
    int rc = 0;

    waitq_add(&in->event, &w);
    while (list_empty(&in->queue) && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    return list_empty(&in->queue) ? rc : 0;
}

static long inotify_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct instance *in = f->priv;
    size_t done = 0;
    long n;

    (void)pos;
    if (list_empty(&in->queue)) {
        n = f->flags & O_NONBLOCK ? -EAGAIN : wait_for_event(in);
        if (n < 0)
            return n;
    }
    list_for_each_safe(node, &in->queue)
    {
        n = give(in, list_entry(node, struct event, node), (u8 *)buf + done, len - done);
        if (n < 0)
            return n == -EINVAL && done > 0 ? (long)done : n;
        done += (size_t)n;
    }
    return (long)done;
}

static unsigned inotify_poll(struct file *f, struct poll_table *pt)
{
    struct instance *in = f->priv;

    poll_add(pt, &in->event);
    return list_empty(&in->queue) ? 0 : POLLIN | POLLRDNORM;
}

static long inotify_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    const struct instance *in = f->priv;

    return cmd == FIONREAD ? put_user_u32((void *)arg, in->bytes) : -ENOTTY;
}

static void inotify_release(struct file *f)
{
    struct instance *in = f->priv;

    list_for_each_safe(n, &in->watches) remove_watch(list_entry(n, struct inotify_watch, of_instance));
    list_for_each_safe(n, &in->queue) dequeue(in, list_entry(n, struct event, node));
    hub->instances--;
    kfree(in);
}

static const struct file_ops inotify_ops = {
    .name = "anon_inode:inotify",
    .read = inotify_read,
    .poll = inotify_poll,
    .ioctl = inotify_ioctl,
    .release = inotify_release,
};

/* ---- calls */

static long create(u32 flags)
{
    struct instance *in;

    if (flags & ~(u32)(IN_CLOEXEC | IN_NONBLOCK))
        return -EINVAL;
    if (hub->instances >= INSTANCES_MAX)
        return -EMFILE;
    if (!(in = kmalloc(sizeof(*in))))
        return -ENOMEM;
    list_init(&in->watches);
    list_init(&in->queue);
    waitq_init(&in->event);
    list_init(&in->overflow.node);
    in->overflow.wd = -1;
    in->overflow.mask = IN_Q_OVERFLOW;
    hub->instances++;
    return ipc_install(&inotify_ops, in, O_RDONLY | (flags & O_NONBLOCK), (flags & IN_CLOEXEC) != 0);
}

static long sys_inotify_init(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return create(0);
}

static long sys_inotify_init1(u64 flags, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return create((u32)flags);
}

static long sys_inotify_add_watch(u64 fd, u64 path, u64 mask_, u64 d, u64 e, u64 f)
{
    u32 mask = (u32)mask_;
    struct link_target t;
    struct file *file;
    long rc;

    (void)d, (void)e, (void)f;
    if ((mask & ~KNOWN) || mask == 0)
        return -EINVAL;
    if (!(file = fd_file((int)fd)))
        return -EBADF;
    if ((mask & IN_MASK_ADD && mask & IN_MASK_CREATE) || file->ops != &inotify_ops)
        return -EINVAL;
    rc = path_find_user(
        AT_FDCWD, (const char *)path,
        (mask & IN_DONT_FOLLOW ? 0U : WALK_FOLLOW) | (mask & IN_ONLYDIR ? WALK_DIRECTORY : 0U), &t);
    if (rc == 0 && !t.dentry)
        rc = -EOPNOTSUPP; /* a pipe or socket by /proc/PID/fd */
    if (rc == 0)
        rc = inode_permission(t.dentry->inode, MAY_READ);
    if (rc == 0)
        rc = set_watch(file->priv, t.dentry, mask);
    link_target_put(&t);
    return rc;
}

static long sys_inotify_rm_watch(u64 fd, u64 wd, u64 c, u64 d, u64 e, u64 f)
{
    struct file *file = fd_file((int)fd);
    struct inotify_watch *w;

    (void)c, (void)d, (void)e, (void)f;
    if (!file)
        return -EBADF;
    if (file->ops != &inotify_ops || !(w = watch_by_number(file->priv, (s32)wd)))
        return -EINVAL;
    end_watch(w);
    return 0;
}

const struct syscall inotify_calls[] = {
    {__NR_inotify_init, SYS_LOCKED, "inotify_init", sys_inotify_init},
    {__NR_inotify_init1, SYS_LOCKED, "inotify_init1", sys_inotify_init1},
    {__NR_inotify_add_watch, SYS_LOCKED, "inotify_add_watch", sys_inotify_add_watch},
    {__NR_inotify_rm_watch, SYS_LOCKED, "inotify_rm_watch", sys_inotify_rm_watch},
    {0},
};
