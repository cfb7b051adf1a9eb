/*
 * Pseudo-terminals (pty(7)): a master, opened through /dev/ptmx, and a terminal /dev/pts/N.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <linux/poll.h>
#include <linux/stat.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/tty/tty.h"

enum { PTYS = 256, CONSOLE_NUMBER = 0 };

static struct tty **ptys; /* set once at boot; [i] holds a reference while the master is open */

void pty_init(void)
{
    ptys = kmalloc(PTYS * sizeof(struct tty *)); // NOLINT(bugprone-sizeof-expression)
}

struct tty *pty_find(int number)
{
    return number >= 0 && number < PTYS ? ptys[number] : NULL;
}

static long master_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct tty *t = f->priv;
    struct waiter w;
    size_t done = 0;
    int rc = 0;

    (void)pos;
    if (len == 0)
        return 0;
    waitq_add(&t->master_event, &w);
    /* Nobody has the terminal open any more: EIO, as Linux says it. refs: ours, and the table's. */
    while (t->out_head == t->out_tail && rc == 0 && !(f->flags & O_NONBLOCK) &&
           (t->refs > 2 || t->locked || !t->hung_up))
        rc = t->was_opened && t->refs <= 2 ? -EIO : thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    if (t->out_head == t->out_tail)
        return t->was_opened && t->refs <= 2 ? -EIO : f->flags & O_NONBLOCK ? -EAGAIN : rc;
    if (t->packet) {
        u8 zero = 0;
        if (copy_to_user(buf, &zero, 1) < 0)
            return -EFAULT;
        done = 1;
    }
    while (done < len && t->out_head != t->out_tail) {
        u32 at = t->out_head % TTY_OUTPUT;
        size_t n = MIN(MIN(len - done, (size_t)(TTY_OUTPUT - at)), (size_t)(t->out_tail - t->out_head));
        if (copy_to_user((u8 *)buf + done, t->output + at, n) < 0)
            return -EFAULT;
        t->out_head += (u32)n;
        done += n;
    }
    waitq_wake(&t->event);
    return (long)done;
}

static long master_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct tty *t = f->priv;
    u8 bytes[256];
    size_t done = 0;
    struct waiter w;
    int rc = 0;

    (void)pos;
    while (done < len && rc == 0) {
        size_t n = MIN(len - done, sizeof(bytes)), taken;
        if (copy_from_user(bytes, (const u8 *)buf + done, n) < 0)
            return done ? (long)done : -EFAULT;
        taken = tty_type(t, bytes, n);
        done += taken;
        if (taken == n)
            continue;
        if (f->flags & O_NONBLOCK) {
            rc = -EAGAIN;
            break;
        }
        waitq_add(&t->master_event, &w);
        rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
    }
    return done || len == 0 ? (long)done : rc;
}

static unsigned master_poll(struct file *f, struct poll_table *pt)
{
    struct tty *t = f->priv;
    unsigned mask = POLLOUT | POLLWRNORM;

    poll_add(pt, &t->master_event);
    if (t->out_head != t->out_tail)
        mask |= POLLIN | POLLRDNORM;
    if (t->was_opened && t->refs <= 2)
        mask |= POLLHUP;
    return mask;
}

static void master_release(struct file *f)
{
    struct tty *t = f->priv;

    t->master_open = false;
    tty_hang_up(t);
    ptys[t->number] = NULL;
    tty_put(t); /* the table's */
    tty_put(t);
}

static long master_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    struct tty *t = f->priv;
    struct file *slave;
    char path[24];
    u32 value;
    int fd;

    switch (cmd) {
    case TIOCGPTN:
        return put_user_u32((void *)arg, (u32)t->number);
    case TIOCSPTLCK:
        if (get_user_u32(&value, (void *)arg) < 0)
            return -EFAULT;
        t->locked = value != 0;
        return 0;
    case TIOCGPTLCK:
        return put_user_u32((void *)arg, t->locked);
    case TIOCGPTPEER:
        slave = tty_open(t, (unsigned)arg);
        if (!slave)
            return -ENOMEM;
        t->was_opened = true;
        (void)text_format(path, sizeof(path), "/dev/pts/%d", t->number);
        file_set_path(slave, path);
        fd = fd_install(slave, 0, arg & O_CLOEXEC);
        if (fd < 0)
            file_put(slave);
        return fd;
    case TIOCPKT:
        if (get_user_u32(&value, (void *)arg) < 0)
            return -EFAULT;
        t->packet = value != 0;
        return 0;
    case FIONREAD:
        return put_user_u32((void *)arg, t->out_tail - t->out_head);
    default:
        return tty_ioctl(t, f, cmd, arg, true);
    }
}

static const struct file_ops master_ops = {
    .read = master_read,
    .write = master_write,
    .poll = master_poll,
    .ioctl = master_ioctl,
    .release = master_release,
};

int pty_open_master(unsigned flags, struct file **out)
{
    struct tty *t;
    int number = CONSOLE_NUMBER + 1; /* 0 is the console's */

    while (number < PTYS && ptys[number])
        number++;
    if (number == PTYS)
        return -ENOSPC;
    if (!(t = tty_create()))
        return -ENOMEM;
    t->output = kmalloc(TTY_OUTPUT);
    *out = t->output ? file_create_anon(&master_ops, t, flags & ~(unsigned)O_NOCTTY, S_IFCHR | 0666) : NULL;
    if (!*out) {
        tty_put(t);
        return -ENOMEM;
    }
    t->number = number;
    t->locked = t->master_open = true;
    tty_get(t);
    ptys[number] = t;
    return 0;
}
