/*
 * signalfd(2): signals are taken where they are pending, as the reader's own.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <linux/poll.h>
#include <linux/signalfd.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/calls.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/signal.h"

struct signalfd {
    u64 mask;
};

static void fill(struct signalfd_siginfo *out, int sig, const siginfo_t *info)
{
    memset(out, 0, sizeof(*out));
    out->ssi_signo = (u32)sig;
    out->ssi_errno = info->si_errno;
    out->ssi_code = info->si_code;
    out->ssi_pid = (u32)info->si_pid;
    out->ssi_uid = info->si_uid;
    if (sig == SIGCHLD) {
        out->ssi_status = info->si_status;
    } else if (info->si_code == SI_TIMER) {
        out->ssi_tid = (u32)info->si_tid;
        out->ssi_overrun = (u32)info->si_overrun;
        out->ssi_ptr = (u64)info->si_value.sival_ptr;
        out->ssi_int = info->si_value.sival_int;
    } else if (info->si_code < 0 && info->si_code != SI_TKILL) {
        out->ssi_ptr = (u64)info->si_value.sival_ptr;
        out->ssi_int = info->si_value.sival_int;
    }
}

static long signal_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct signalfd *s = f->priv;
    struct signalfd_siginfo out;
    struct waiter w;
    siginfo_t info;
    size_t done = 0;
    int sig, rc = 0;

    (void)pos;
    if (len < sizeof(out))
        return -EINVAL;
    waitq_add(&current_process->signal_event, &w);
    while (done + sizeof(out) <= len) {
        sig = signal_take(s->mask, &info);
        if (sig == 0) {
            if (done > 0 || rc < 0)
                break;
            rc = f->flags & O_NONBLOCK ? -EAGAIN : thread_sleep(NO_DEADLINE);
            continue;
        }
        fill(&out, sig, &info);
        if (copy_to_user((u8 *)buf + done, &out, sizeof(out)) < 0) {
            rc = -EFAULT;
            break;
        }
        done += sizeof(out);
    }
    waitq_del(&w);
    return done ? (long)done : rc;
}

static unsigned signal_poll(struct file *f, struct poll_table *pt)
{
    struct signalfd *s = f->priv;

    poll_add(pt, &current_process->signal_event);
    return signal_pending_set(current()) & s->mask ? POLLIN | POLLRDNORM : 0;
}

static void signal_release(struct file *f)
{
    kfree(f->priv);
}

static const struct file_ops signal_ops = {
    .name = "anon_inode:[signalfd]",
    .read = signal_read,
    .poll = signal_poll,
    .release = signal_release,
};

static long create(u64 fd, u64 mask_, u64 size, u64 flags)
{
    struct signalfd *s;
    u64 mask;

    if (size != 8 || (flags & ~(u64)(SFD_CLOEXEC | SFD_NONBLOCK)))
        return -EINVAL;
    if (get_user_u64(&mask, (void *)mask_) < 0)
        return -EFAULT;
    mask &= ~UNBLOCKABLE;
    if ((int)fd != -1) {
        struct file *f = fd_file((int)fd);
        if (!f)
            return -EBADF;
        if (f->ops != &signal_ops)
            return -EINVAL;
        ((struct signalfd *)f->priv)->mask = mask;
        return (int)fd;
    }
    if (!(s = kmalloc(sizeof(*s))))
        return -ENOMEM;
    s->mask = mask;
    return ipc_install(&signal_ops, s, O_RDWR | (unsigned)(flags & O_NONBLOCK), flags & SFD_CLOEXEC);
}

static long sys_signalfd(u64 fd, u64 mask, u64 size, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return create(fd, mask, size, 0);
}

static long sys_signalfd4(u64 fd, u64 mask, u64 size, u64 flags, u64 e, u64 f)
{
    (void)e, (void)f;
    return create(fd, mask, size, flags);
}

const struct syscall signalfd_calls[] = {
    {__NR_signalfd, SYS_LOCKED, "signalfd", sys_signalfd},
    {__NR_signalfd4, SYS_LOCKED, "signalfd4", sys_signalfd4},
    {0},
};
