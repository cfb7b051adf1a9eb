/*
 * Terminals as files: reading, writing, job control, ioctls.
 */
#include "cell/tty/tty.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <asm/signal.h>
#include <linux/poll.h>
#include <linux/stat.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/signal.h"

/* What a terminal starts with: stty sane. */
static const struct ktermios_ sane = {
    .iflag = ICRNL | IXON | IUTF8,
    .oflag = OPOST | ONLCR,
    .cflag = B38400 | CS8 | CREAD | HUPCL,
    .lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    .cc = {[VINTR] = 3,
           [VQUIT] = 28,
           [VERASE] = 127,
           [VKILL] = 21,
           [VEOF] = 4,
           [VMIN] = 1,
           [VSTART] = 17,
           [VSTOP] = 19,
           [VSUSP] = 26,
           [VREPRINT] = 18,
           [VDISCARD] = 15,
           [VWERASE] = 23,
           [VLNEXT] = 22},
};

struct tty *tty_create(void)
{
    struct tty *t = kmalloc(sizeof(*t));

    if (!t)
        return NULL;
    t->input = kmalloc(TTY_INPUT);
    t->marks = kmalloc(TTY_INPUT / 8);
    if (!t->input || !t->marks) {
        kfree(t->input);
        kfree(t->marks);
        kfree(t);
        return NULL;
    }
    t->refs = 1;
    t->number = -1;
    t->termios = sane;
    waitq_init(&t->event);
    waitq_init(&t->master_event);
    return t;
}

void tty_get(struct tty *t)
{
    t->refs++;
}

void tty_put(struct tty *t)
{
    if (--t->refs > 0)
        return;
    kfree(t->input);
    kfree(t->marks);
    kfree(t->output);
    kfree(t);
}

void tty_maybe_take(struct tty *t, unsigned flags)
{
    struct process *p = current_process;

    if ((flags & O_NOCTTY) || p->sid != p->pid || p->tty || t->session)
        return;
    t->session = p->sid;
    t->foreground = p->pgid;
    p->tty = t;
}

static void leave_session(struct tty *t)
{
    list_for_each(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->tty == t)
            p->tty = NULL;
    }
    t->session = t->foreground = 0;
}

void tty_session_ends(struct process *p)
{
    struct tty *t = p->tty;

    if (!t || t->session != p->sid)
        return;
    if (t->foreground) {
        signal_group(t->foreground, SIGHUP);
        signal_group(t->foreground, SIGCONT);
    }
    leave_session(t);
}

void tty_hang_up(struct tty *t)
{
    if (t->hung_up)
        return;
    t->hung_up = true;
    if (t->session) {
        struct process *leader = process_find(t->session);
        if (leader) {
            signal_process(leader, SIGHUP);
            signal_process(leader, SIGCONT);
        }
        if (t->foreground && t->foreground != t->session)
            signal_group(t->foreground, SIGHUP);
        leave_session(t);
    }
    waitq_wake(&t->event);
}

void tty_resize(struct tty *t, const struct winsize *size)
{
    if (memcmp(&t->size, size, sizeof(*size)) == 0)
        return;
    t->size = *size;
    if (t->foreground)
        signal_group(t->foreground, SIGWINCH);
}

static bool is_orphaned(int pgid)
{
    list_for_each(n, process_list())
    {
        struct process *q = list_entry(n, struct process, all);
        if (q->pgid == pgid && q->state == PROCESS_ALIVE && q->parent && q->parent->pgid != pgid &&
            q->parent->sid == q->sid && q->parent->pid != 1)
            return false;
    }
    return true;
}

/* A background process must not read, nor change the terminal, nor (with TOSTOP) write. */
static int check_foreground(const struct tty *t, int sig)
{
    struct process *p = current_process;
    bool ignored =
        p->actions[sig - 1].handler == (unsigned long)SIG_IGN || (current()->blocked & SIGBIT(sig));

    if (p->tty != t || !t->foreground || p->pgid == t->foreground)
        return 0;
    if (ignored)
        return sig == SIGTTIN ? -EIO : 0;
    if (is_orphaned(p->pgid))
        return -EIO;
    signal_group(p->pgid, sig);
    return -ERESTARTSYS;
}

static int sleep_on_tty(struct tty *t, u64 deadline)
{
    struct waiter w;
    int rc;

    waitq_add(&t->event, &w);
    rc = thread_sleep(deadline);
    waitq_del(&w);
    return rc;
}

static long tty_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct tty *t = f->priv;
    u64 deadline = NO_DEADLINE;
    bool end;
    int rc;

    (void)pos;
    if (len == 0)
        return 0;
    for (;;) {
        size_t n = tty_ready(t, &end), wanted = 1;
        if ((rc = check_foreground(t, SIGTTIN)) < 0)
            return rc;
        if (!(t->termios.lflag & ICANON)) {
            wanted = MIN((size_t)t->termios.cc[VMIN], len);
            if (t->termios.cc[VTIME] && deadline == NO_DEADLINE && (t->termios.cc[VMIN] == 0 || n > 0))
                deadline = monotonic_ns() + (u64)t->termios.cc[VTIME] * 100000000;
            if (n >= wanted && (n > 0 || !t->termios.cc[VTIME]))
                goto ready;
            if (deadline != NO_DEADLINE && monotonic_ns() >= deadline)
                goto ready;
        } else if (n > 0 || end) {
            goto ready;
        }
        if (t->hung_up)
            return 0;
        if (f->flags & O_NONBLOCK)
            return n && !(t->termios.lflag & ICANON) ? 0 : -EAGAIN;
        rc = sleep_on_tty(t, deadline);
        if (rc < 0 && rc != -ETIMEDOUT)
            return rc;
        continue;
    ready:
        n = MIN(n, len);
        if (copy_to_user(buf, t->input, n) < 0)
            return -EFAULT;
        /* The mark of an end of file goes with the bytes before it, or alone as the end. */
        tty_consume(t, n + (end && n < len ? 1 : 0));
        waitq_wake(&t->master_event);
        if (t->stream)
            waitq_wake(&t->stream->event);
        return (long)n;
    }
}

static long tty_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct tty *t = f->priv;
    u8 bytes[256];
    size_t done = 0;
    struct waiter w;
    int rc = 0;

    (void)pos;
    if ((t->termios.lflag & TOSTOP) && (rc = check_foreground(t, SIGTTOU)) < 0)
        return rc;
    while (done < len) {
        size_t n = MIN(len - done, sizeof(bytes)), taken = 0;
        if (t->hung_up)
            return -EIO;
        if (copy_from_user(bytes, (const u8 *)buf + done, n) < 0)
            return done ? (long)done : -EFAULT;
        if (!t->stopped)
            taken = tty_output(t, bytes, n);
        done += taken;
        if (taken > 0)
            continue;
        if (f->flags & O_NONBLOCK)
            return done ? (long)done : -EAGAIN;
        if (t->stream)
            stream_wait(t->stream, &w);
        else
            waitq_add(&t->event, &w);
        if (t->stopped || tty_output_room(t) < 8)
            rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
        if (rc < 0)
            return done ? (long)done : rc;
    }
    return (long)done;
}

static unsigned tty_poll(struct file *f, struct poll_table *pt)
{
    struct tty *t = f->priv;
    unsigned mask = 0;
    bool end;
    size_t n = tty_ready(t, &end);

    poll_add(pt, &t->event);
    if (t->stream)
        (void)stream_poll(t->stream, pt);
    if (n > 0 || end || t->hung_up)
        mask |= POLLIN | POLLRDNORM;
    if (t->hung_up)
        mask |= POLLHUP;
    if (!t->stopped && tty_output_room(t) >= 8)
        mask |= POLLOUT | POLLWRNORM;
    return mask;
}

static void tty_release(struct file *f)
{
    tty_put(f->priv);
}

static long file_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    return tty_ioctl(f->priv, f, cmd, arg, false);
}

static const struct file_ops tty_ops = {
    .read = tty_read,
    .write = tty_write,
    .poll = tty_poll,
    .ioctl = file_ioctl,
    .release = tty_release,
};

struct file *tty_open(struct tty *t, unsigned flags)
{
    struct file *f = file_create_anon(&tty_ops, t, flags & ~(unsigned)O_NOCTTY, S_IFCHR | 0620);

    if (f)
        tty_get(t);
    return f;
}

/* ---- ioctls (ioctl_tty(2)) */

static long get_termios(const struct tty *t, unsigned long to)
{
    return copy_to_user((void *)to, &t->termios, sizeof(t->termios));
}

static long set_termios(struct tty *t, unsigned long from, bool flush)
{
    struct ktermios_ k;

    if (get_user(k, (void *)from) < 0)
        return -EFAULT;
    if (flush)
        t->length = t->complete = 0;
    /* Leaving canonical mode makes what was typed readable; entering it, what is there becomes lines. */
    if ((t->termios.lflag ^ k.lflag) & ICANON)
        t->complete = t->length;
    t->termios = k;
    if (!(k.iflag & IXON))
        t->stopped = false;
    waitq_wake(&t->event);
    return 0;
}

/* termios2: the same with speeds. */
static long termios2(struct tty *t, unsigned cmd, unsigned long arg)
{
    u32 speeds[2] = {38400, 38400};

    if (cmd == TCGETS2)
        return get_termios(t, arg) < 0 ||
                       copy_to_user((void *)(arg + sizeof(t->termios)), speeds, sizeof(speeds)) < 0
                   ? -EFAULT
                   : 0;
    return set_termios(t, arg, cmd == TCSETSF2);
}

static long take_session(struct tty *t, unsigned long force)
{
    struct process *p = current_process;

    (void)force;
    if (p->sid != p->pid || (p->tty && p->tty != t))
        return -EPERM;
    if (t->session && t->session != p->sid)
        return -EPERM;
    t->session = p->sid;
    if (!t->foreground)
        t->foreground = p->pgid;
    p->tty = t;
    return 0;
}

static bool group_in_session(int pgid, int sid)
{
    list_for_each(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pgid == pgid && p->sid == sid)
            return true;
    }
    return false;
}

static long set_foreground(struct tty *t, unsigned long arg)
{
    u32 pgid;
    int rc;

    if (current_process->tty != t || t->session != current_process->sid)
        return -ENOTTY;
    if (get_user_u32(&pgid, (void *)arg) < 0)
        return -EFAULT;
    if ((s32)pgid < 0)
        return -EINVAL;
    if ((rc = check_foreground(t, SIGTTOU)) < 0)
        return rc;
    if (!group_in_session((int)pgid, t->session))
        return -EPERM;
    t->foreground = (int)pgid;
    return 0;
}

long tty_ioctl(struct tty *t, struct file *f, unsigned cmd, unsigned long arg, bool is_master)
{
    struct winsize size;
    bool end;
    int rc;

    (void)f;
    switch (cmd) {
    case TCGETS:
        return get_termios(t, arg);
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        if (!is_master && (rc = check_foreground(t, SIGTTOU)) < 0)
            return rc;
        return set_termios(t, arg, cmd == TCSETSF);
    case TCGETS2:
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2:
        return termios2(t, cmd, arg);
    case TIOCGWINSZ:
        return put_user((struct winsize *)arg, t->size);
    case TIOCSWINSZ:
        if (get_user(size, (void *)arg) < 0)
            return -EFAULT;
        tty_resize(t, &size);
        return 0;
    case TIOCSCTTY:
        return take_session(t, arg);
    case TIOCNOTTY:
        if (current_process->tty != t)
            return -ENOTTY;
        if (t->session == current_process->pid)
            tty_session_ends(current_process);
        current_process->tty = NULL;
        return 0;
    case TIOCGPGRP:
        if (!is_master && current_process->tty != t)
            return -ENOTTY;
        return put_user_u32((void *)arg, (u32)t->foreground);
    case TIOCSPGRP:
        return set_foreground(t, arg);
    case TIOCGSID:
        if (!is_master && current_process->tty != t)
            return -ENOTTY;
        return put_user_u32((void *)arg, (u32)t->session);
    case FIONREAD:
        return put_user_u32((void *)arg, (u32)tty_ready(t, &end));
    case TIOCOUTQ:
        return put_user_u32((void *)arg, t->out_tail - t->out_head);
    case TCFLSH:
        if (arg > 2)
            return -EINVAL;
        if (arg != TCOFLUSH)
            t->length = t->complete = 0;
        return 0;
    case TCXONC:
        if (arg > 3)
            return -EINVAL;
        if (arg <= TCOON)
            t->stopped = arg == TCOOFF;
        waitq_wake(&t->event);
        return 0;
    case TCSBRK:
    case TCSBRKP:
    case TIOCEXCL:
    case TIOCNXCL:
        return 0;
    case TIOCSTI: /* typing for others: never (CVE-2017-5226 and its like) */
        return -EPERM;
    default:
        return -ENOTTY;
    }
}
