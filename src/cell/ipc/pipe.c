/*
 * A pipe is a ring of pages, allocated when something is written and given back when it was read, save one
 * that stays as long as the pipe is in use: a pipe that carries short messages allocates nothing.
 *
 * Counters `in` and `out` of bytes run freely; the byte with number n is in page n / PAGE % slots.
 */
#include "cell/ipc/pipe.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/inode.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

struct pipe {
    u64 in, out;
    u32 slots; /* pages that it may have: a power of two */
    u32 refs;  /* open files */
    u32 readers, writers;
    u32 reader_opens, writer_opens; /* so far: a FIFO's opener waits for a change */
    u64 number;                     /* st_ino */
    struct fs_time made;
    struct waitq can_read, can_write; /* FIFO openers wait on these as well */
    u8 *spare;
    u8 **pages;
};

static struct pipe *create(void)
{
    struct pipe *p = kmalloc(sizeof(*p));

    if (!p)
        return NULL;
    p->slots = PIPE_CAPACITY / PAGE;
    p->pages = kmalloc(p->slots * sizeof(*p->pages));
    if (!p->pages) {
        kfree(p);
        return NULL;
    }
    waitq_init(&p->can_read);
    waitq_init(&p->can_write);
    return p;
}

static void destroy(struct pipe *p)
{
    for (u32 i = 0; i < p->slots; i++)
        if (p->pages[i])
            page_free(p->pages[i], 1);
    if (p->spare)
        page_free(p->spare, 1);
    kfree(p->pages);
    kfree(p);
}

static size_t used(const struct pipe *p)
{
    return (size_t)(p->in - p->out);
}

/* Whole pages are what counts: the one that is being read from is not free before it is empty. */
static size_t room(const struct pipe *p)
{
    return p->slots * PAGE - (size_t)(p->in - PAGE_DOWN(p->out));
}

static u8 **slot(struct pipe *p, u64 byte)
{
    return &p->pages[byte / PAGE % p->slots];
}

static u8 *take_page(struct pipe *p)
{
    u8 *page = p->spare;

    p->spare = NULL;
    return page ? page : page_alloc_dirty();
}

static void drop_page(struct pipe *p, u64 byte)
{
    u8 **s = slot(p, byte);

    if (!p->spare)
        p->spare = *s;
    else
        page_free(*s, 1);
    *s = NULL;
}

/* What is there, at most len. Bytes, or -EFAULT. */
static long take(struct pipe *p, USER u8 *buf, size_t len)
{
    size_t done = 0;

    len = MIN(len, used(p));
    while (done < len) {
        size_t at = p->out % PAGE, n = MIN(len - done, PAGE - at);
        size_t left = copy_user_partial(buf + done, *slot(p, p->out) + at, n);
        u64 before = p->out;
        p->out += n - left;
        done += n - left;
        if (n > left && (p->out % PAGE == 0 || p->out == p->in)) {
            drop_page(p, before);
            if (p->out == p->in) /* empty: the next message starts a page, not where this one ended */
                p->out = p->in = PAGE_UP(p->in);
        }
        if (left > 0)
            return done > 0 ? (long)done : -EFAULT;
    }
    return (long)done;
}

/* As much as fits. Bytes; -EFAULT, -ENOMEM if there was nothing to be done at all. */
static long put(struct pipe *p, USER const u8 *buf, size_t len)
{
    size_t done = 0;

    len = MIN(len, room(p));
    while (done < len) {
        size_t at = p->in % PAGE, n = MIN(len - done, PAGE - at), left;
        u8 **s = slot(p, p->in);
        bool fresh = !*s;
        if (fresh && !(*s = take_page(p)))
            return done > 0 ? (long)done : -ENOMEM;
        left = copy_user_partial(*s + at, buf + done, n);
        p->in += n - left;
        done += n - left;
        if (left > 0) {
            if (fresh && left == n)
                drop_page(p, p->in);
            return done > 0 ? (long)done : -EFAULT;
        }
    }
    return (long)done;
}

static long pipe_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct pipe *p = f->priv;
    struct waiter w;
    long rc = 0;

    (void)pos;
    if (len == 0)
        return 0;
    if (used(p) == 0) {
        if (p->writers == 0)
            return 0;
        if (f->flags & O_NONBLOCK)
            return -EAGAIN;
        waitq_add(&p->can_read, &w);
        while (used(p) == 0 && p->writers > 0 && rc == 0)
            rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
        if (used(p) == 0)
            return rc;
    }
    rc = take(p, buf, len);
    if (rc > 0)
        waitq_wake(&p->can_write);
    return rc;
}

static long broken(void)
{
    signal_self(SIGPIPE);
    return -EPIPE;
}

/* Up to PIPE_BUF bytes go in as one, so they wait for room for all; more go in piece by piece. */
static long pipe_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct pipe *p = f->priv;
    size_t done = 0, need = len <= PIPE_ATOMIC ? len : 1;
    struct waiter w;
    long rc = 0;

    (void)pos;
    if (len == 0)
        return 0;
    if (p->readers == 0)
        return broken();
    while (done < len) {
        if (room(p) >= need) {
            rc = put(p, (const u8 *)buf + done, len - done);
            if (rc < 0)
                break;
            done += (size_t)rc;
            rc = 0;
            waitq_wake(&p->can_read);
            continue;
        }
        if (f->flags & O_NONBLOCK) {
            rc = -EAGAIN;
            break;
        }
        waitq_add(&p->can_write, &w);
        while (room(p) < need && p->readers > 0 && rc == 0)
            rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
        if (p->readers == 0)
            rc = done > 0 ? -EPIPE : broken();
        if (rc < 0 && room(p) < need)
            break;
        if (rc == -EPIPE)
            break;
        rc = 0;
    }
    return done > 0 ? (long)done : rc;
}

/* A vector that is no more than PIPE_BUF in all must go in as one. */
static long pipe_writev(struct file *f, const struct iovec *iov, unsigned n)
{
    size_t total = 0, done = 0;
    long rc = 0;

    for (unsigned i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (n > 1 && total <= PIPE_ATOMIC) {
        u8 *whole = kmalloc(total);
        if (!whole)
            return -ENOMEM;
        for (unsigned i = 0; i < n && rc == 0; done += iov[i].iov_len, i++)
            rc = copy_from_user(whole + done, iov[i].iov_base, iov[i].iov_len);
        if (rc == 0)
            rc = pipe_write(f, whole, total, NULL);
        kfree(whole);
        return rc;
    }
    for (unsigned i = 0; i < n; i++) {
        rc = pipe_write(f, iov[i].iov_base, iov[i].iov_len, NULL);
        if (rc < 0)
            break;
        done += (size_t)rc;
        if ((size_t)rc < iov[i].iov_len)
            break;
    }
    return done > 0 ? (long)done : rc;
}

/* Both pipes as they are now: 0 to go on, 1 to wait, or -errno. */
static long can_tee(const struct pipe *in, const struct pipe *out)
{
    if (used(in) == 0 && in->writers > 0)
        return 1;
    if (out->readers == 0)
        return broken();
    return used(in) > 0 && room(out) == 0;
}

static long copy_waiting(struct pipe *in, struct pipe *out, size_t len)
{
    size_t done = 0;

    len = MIN(len, used(in));
    while (done < len && room(out) > 0) {
        u64 byte = in->out + done;
        size_t at = byte % PAGE, n = MIN(len - done, PAGE - at);
        long rc = put(out, *slot(in, byte) + at, n);
        if (rc < 0)
            return done > 0 ? (long)done : rc;
        done += (size_t)rc;
    }
    return (long)done;
}

long pipe_tee(struct file *from, struct file *to, size_t len, bool nonblocking)
{
    struct pipe *in = from->priv, *out = to->priv;
    struct waiter data, space;
    long rc;

    file_get(from);
    file_get(to);
    waitq_add(&in->can_read, &data);
    waitq_add(&out->can_write, &space);
    while ((rc = can_tee(in, out)) == 1) {
        rc = nonblocking ? -EAGAIN : thread_sleep(NO_DEADLINE);
        if (rc < 0)
            break;
    }
    waitq_del(&data);
    waitq_del(&space);
    if (rc == 0)
        rc = copy_waiting(in, out, len);
    if (rc > 0)
        waitq_wake(&out->can_read);
    file_put(from);
    file_put(to);
    return rc;
}

static unsigned pipe_poll(struct file *f, struct poll_table *pt)
{
    struct pipe *p = f->priv;
    unsigned mode = f->flags & O_ACCMODE, events = 0;

    if (mode != O_WRONLY) {
        poll_add(pt, &p->can_read);
        if (used(p) > 0)
            events |= POLLIN | POLLRDNORM;
        if (p->writers == 0 && p->writer_opens > 0)
            events |= POLLHUP;
    }
    if (mode != O_RDONLY) {
        poll_add(pt, &p->can_write);
        if (room(p) >= PIPE_ATOMIC)
            events |= POLLOUT | POLLWRNORM;
        if (p->readers == 0)
            events |= POLLERR;
    }
    return events;
}

static long pipe_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    struct pipe *p = f->priv;

    if (cmd == FIONREAD)
        return put_user_u32((void *)arg, (u32)used(p));
    return -ENOTTY;
}

static void count(struct pipe *p, unsigned flags, u32 by)
{
    if ((flags & O_ACCMODE) != O_WRONLY)
        p->readers += by;
    if ((flags & O_ACCMODE) != O_RDONLY)
        p->writers += by;
}

static void attach(struct pipe *p, struct file *f)
{
    p->refs++;
    count(p, f->flags, 1);
    p->reader_opens += (f->flags & O_ACCMODE) != O_WRONLY;
    p->writer_opens += (f->flags & O_ACCMODE) != O_RDONLY;
    f->priv = p;
}

static void pipe_release(struct file *f)
{
    struct pipe *p = f->priv;

    count(p, f->flags, (u32)-1);
    waitq_wake(&p->can_read);
    waitq_wake(&p->can_write);
    if (--p->refs > 0)
        return;
    if (f->inode)
        f->inode->pipe = NULL;
    destroy(p);
}

static int pipe_reopen(struct file *f, unsigned flags, struct file **out);

static const struct file_ops pipe_ops = {
    .name = "pipe",
    .read = pipe_read,
    .write = pipe_write,
    .writev = pipe_writev,
    .poll = pipe_poll,
    .ioctl = pipe_ioctl,
    .release = pipe_release,
    .reopen = pipe_reopen,
};

static struct file *open_end(struct pipe *p, unsigned flags)
{
    struct file *f = file_create_anon(&pipe_ops, p, flags & (O_ACCMODE | O_NONBLOCK), S_IFIFO | 0600);

    if (f) {
        if (p->number == 0)
            p->number = f->anon_ino;
        f->anon_ino = p->number; /* both ends are one file */
        attach(p, f);
    }
    return f;
}

static int pipe_reopen(struct file *f, unsigned flags, struct file **out)
{
    *out = open_end(f->priv, flags);
    return *out ? 0 : -ENFILE;
}

int pipe_create(unsigned flags, struct file **reader, struct file **writer)
{
    struct pipe *p = create();

    if (!p)
        return -ENFILE;
    p->refs = 1; /* ours, until both ends stand */
    *reader = open_end(p, O_RDONLY | (flags & O_NONBLOCK));
    *writer = open_end(p, O_WRONLY | (flags & O_NONBLOCK));
    p->refs--;
    if (*reader && *writer)
        return 0;
    if (*reader)
        file_put(*reader);
    else if (*writer)
        file_put(*writer);
    else
        destroy(p);
    return -ENFILE;
}

/* Waits until the other side has been opened, however briefly: its number of opens changes. */
static int wait_for_other(struct pipe *p, const u32 *opens, const u32 *there, struct waitq *q)
{
    u32 seen = *opens;
    struct waiter w;
    int rc = 0;

    waitq_add(q, &w);
    while (*there == 0 && *opens == seen && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    (void)p;
    return *there > 0 || *opens != seen ? 0 : rc;
}

int fifo_open(struct inode *i, struct file *f)
{
    unsigned mode = f->flags & O_ACCMODE;
    struct pipe *p = i->pipe;
    int rc = 0;

    if (mode == O_WRONLY && (f->flags & O_NONBLOCK) && (!p || p->readers == 0))
        return -ENXIO;
    if (!p) {
        p = create();
        if (!p)
            return -ENOMEM;
        i->pipe = p;
    }
    attach(p, f);
    waitq_wake(&p->can_read);
    waitq_wake(&p->can_write);
    if (!(f->flags & O_NONBLOCK) && mode == O_RDONLY)
        rc = wait_for_other(p, &p->writer_opens, &p->writers, &p->can_read);
    else if (!(f->flags & O_NONBLOCK) && mode == O_WRONLY)
        rc = wait_for_other(p, &p->reader_opens, &p->readers, &p->can_write);
    if (rc < 0) {
        pipe_release(f);
        return rc;
    }
    f->ops = &pipe_ops;
    return 0;
}

bool file_is_pipe(const struct file *f)
{
    return f->ops == &pipe_ops;
}

long pipe_get_size(struct file *f)
{
    const struct pipe *p = f->priv;

    return file_is_pipe(f) ? (long)(p->slots * PAGE) : -EBADF;
}

long pipe_set_size(struct file *f, unsigned long size)
{
    struct pipe *p = f->priv;
    u32 slots = 1;
    u8 **pages;

    if (!file_is_pipe(f))
        return -EBADF;
    if (size > PIPE_MAX)
        return -EPERM;
    while (slots * PAGE < size)
        slots *= 2;
    if (PAGE_UP(p->in) - PAGE_DOWN(p->out) > slots * PAGE)
        return -EBUSY;
    pages = kmalloc(slots * sizeof(*pages));
    if (!pages)
        return -ENOMEM;
    for (u64 byte = PAGE_DOWN(p->out); byte < p->in; byte += PAGE)
        pages[byte / PAGE % slots] = *slot(p, byte);
    kfree(p->pages);
    p->pages = pages;
    p->slots = slots;
    waitq_wake(&p->can_write);
    return (long)(slots * PAGE);
}
