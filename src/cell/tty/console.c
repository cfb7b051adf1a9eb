/*
 * The console without a terminal: descriptors 0, 1 and 2 are the host's standard streams, and look like
 * pipes.
 */
#include "cell/tty/console.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/signal.h>
#include <linux/poll.h>
#include <linux/stat.h>

#include "cell/abi/layout.h"
#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

static long console_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct stream *s = f->priv;
    struct waiter w;
    long n;
    int rc = 0;

    (void)pos;
    n = stream_read(s, buf, len);
    if (n != -EAGAIN || (f->flags & O_NONBLOCK))
        return n;
    stream_wait(s, &w);
    while ((n = stream_read(s, buf, len)) == -EAGAIN && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    return n == -EAGAIN ? rc : n;
}

static long console_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct stream *s = f->priv;
    size_t done = 0;
    struct waiter w;
    int rc = 0;
    long n;

    (void)pos;
    for (;;) {
        n = stream_write(s, (const u8 *)buf + done, len - done);
        if (n > 0)
            done += (size_t)n;
        if (done == len || (n < 0 && n != -EAGAIN) || rc < 0)
            break;
        if (f->flags & O_NONBLOCK) {
            rc = -EAGAIN;
            break;
        }
        stream_wait(s, &w);
        if (!stream_writable(s))
            rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
    }
    if (done > 0 || len == 0)
        return (long)done;
    if (n == -EPIPE)
        signal_self(SIGPIPE);
    return n < 0 && n != -EAGAIN ? n : rc;
}

static unsigned console_poll(struct file *f, struct poll_table *pt)
{
    unsigned events = stream_poll(f->priv, pt);

    return (f->flags & O_ACCMODE) == O_RDONLY ? events & ~(unsigned)(POLLOUT | POLLWRNORM)
                                              : events & ~(unsigned)(POLLIN | POLLRDNORM | POLLRDHUP);
}

static long console_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    if (cmd == FIONREAD && (f->flags & O_ACCMODE) == O_RDONLY)
        return put_user_u32((void *)arg, (u32)stream_available(f->priv));
    return -ENOTTY;
}

static const struct file_ops console_ops = {
    .name = "pipe",
    .read = console_read,
    .write = console_write,
    .poll = console_poll,
    .ioctl = console_ioctl,
};

struct file *console_open(u32 stream, unsigned flags)
{
    struct stream *s = stream_fixed(stream);

    return file_create_anon(&console_ops, s, flags, S_IFIFO | 0600);
}
