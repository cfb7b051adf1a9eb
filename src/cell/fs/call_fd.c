/*
 * Calls on descriptors as such.
 */
#include <asm/errno.h>
#include <asm/ioctls.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>

#include "cell/fs/calls.h"
#include "cell/fs/fd.h"
#include "cell/fs/inode.h"
#include "cell/fs/lock.h"
#include "cell/fs/tmpfs.h"
#include "cell/ipc/pipe.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum { SETTABLE = O_APPEND | O_NONBLOCK | FASYNC | O_DIRECT | O_NOATIME };

FS_CALL(sys_close)
{
    return fd_close((int)a1);
}

FS_CALL(sys_close_range)
{
    struct fd_table *t = current_process->fds;
    u64 first = (u32)a1, last = (u32)a2;

    if (a3 & ~(u64)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
        return -EINVAL;
    last = MIN(last, (u64)FD_MAX);
    for (int fd = fd_next(t, (int)MIN(first, (u64)FD_MAX)); fd >= 0 && (u64)fd <= last;
         fd = fd_next(t, fd + 1)) {
        if (a3 & CLOSE_RANGE_CLOEXEC)
            (void)fd_set_cloexec(fd, true);
        else
            (void)fd_close(fd);
    }
    return 0;
}

static long dup_to(struct file *f, int min, bool cloexec)
{
    long fd;

    file_get(f);
    fd = fd_install(f, min, cloexec);
    if (fd < 0)
        file_put(f);
    return fd;
}

FS_CALL(sys_dup)
{
    struct file *f = fd_file_any((int)a1);

    return f ? dup_to(f, 0, false) : -EBADF;
}

static long replace(int from, int to, bool cloexec)
{
    struct file *f = fd_file_any(from);
    long rc;

    if (!f)
        return -EBADF;
    file_get(f);
    rc = fd_install_at(f, to, cloexec);
    if (rc < 0)
        file_put(f);
    return rc;
}

FS_CALL(sys_dup2)
{
    if ((int)a1 == (int)a2)
        return fd_file_any((int)a1) ? (long)(int)a1 : -EBADF;
    return replace((int)a1, (int)a2, false);
}

FS_CALL(sys_dup3)
{
    if ((a3 & ~(u64)O_CLOEXEC) || (int)a1 == (int)a2)
        return -EINVAL;
    return replace((int)a1, (int)a2, (a3 & O_CLOEXEC) != 0);
}

static long set_flags(struct file *f, unsigned flags)
{
    if ((flags & O_NOATIME) && !(f->flags & O_NOATIME) && f->inode && !inode_owned(f->inode))
        return -EPERM;
    f->flags = (f->flags & ~(unsigned)SETTABLE) | (flags & SETTABLE);
    return 0;
}

/* The commands that work on an O_PATH descriptor as well. */
static bool is_about_descriptor(unsigned cmd)
{
    return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC || cmd == F_GETFD || cmd == F_SETFD || cmd == F_GETFL;
}

static long control(struct file *f, unsigned cmd, u64 arg)
{
    switch (cmd) {
    case F_SETFL:
        return set_flags(f, (unsigned)arg);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return lock_fcntl(f, cmd, arg);
    case F_GETPIPE_SZ:
        return pipe_get_size(f);
    case F_SETPIPE_SZ:
        return pipe_set_size(f, arg);
    case F_GET_SEALS:
        return memfd_get_seals(f);
    case F_ADD_SEALS:
        return memfd_add_seals(f, (unsigned)arg);
    case F_GETOWN:
    case F_GETSIG:
    case F_SETOWN: /* taken, but nobody gets SIGIO */
    case F_SETSIG:
        return 0;
    case F_GETLEASE:
        return F_UNLCK;
    case F_SETLEASE:
        return -EAGAIN;
    case F_NOTIFY: /* taken, but nobody gets SIGIO */
        return f->inode && inode_is_dir(f->inode) ? 0 : -ENOTDIR;
    default:
        return -EINVAL;
    }
}

FS_CALL(sys_fcntl)
{
    struct file *f = fd_file_any((int)a1);
    unsigned cmd = (unsigned)a2;

    if (!f || ((f->flags & O_PATH) && !is_about_descriptor(cmd)))
        return -EBADF;
    switch (cmd) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if (a3 >= MIN(current_process->rlimits[RLIMIT_NOFILE].rlim_cur, (u64)FD_MAX))
            return -EINVAL;
        return dup_to(f, (int)a3, cmd == F_DUPFD_CLOEXEC);
    case F_GETFD:
        return fd_get_cloexec((int)a1);
    case F_SETFD:
        return fd_set_cloexec((int)a1, (a3 & FD_CLOEXEC) != 0);
    case F_GETFL:
        return (long)f->flags;
    default:
        return control(f, cmd, a3);
    }
}

FS_CALL(sys_flock)
{
    struct file *f = fd_file((int)a1);

    return f ? lock_flock(f, (unsigned)a2) : -EBADF;
}

static long set_flag(struct file *f, unsigned flag, u64 user)
{
    u32 on;

    if (get_user_u32(&on, (const void *)user) < 0)
        return -EFAULT;
    f->flags = on ? f->flags | flag : f->flags & ~flag;
    return 0;
}

FS_CALL(sys_ioctl)
{
    struct file *f = fd_file((int)a1);
    unsigned cmd = (unsigned)a2;
    long rc;

    if (!f)
        return -EBADF;
    switch (cmd) {
    case FIOCLEX:
        return fd_set_cloexec((int)a1, true);
    case FIONCLEX:
        return fd_set_cloexec((int)a1, false);
    case FIONBIO:
        return set_flag(f, O_NONBLOCK, a3);
    case FIOASYNC:
        return set_flag(f, FASYNC, a3);
    case FIONREAD:
        if (f->inode && S_ISREG(f->inode->mode))
            return put_user_u32((void *)a3, (u32)(f->inode->size > f->pos ? f->inode->size - f->pos : 0));
        break;
    default:
        break;
    }
    if (!f->ops->ioctl)
        return -ENOTTY;
    file_get(f);
    rc = f->ops->ioctl(f, cmd, a3);
    file_put(f);
    return rc;
}

static long do_pipe(u64 user, u64 flags)
{
    struct file *reader, *writer;
    bool cloexec = (flags & O_CLOEXEC) != 0;
    int fds[2];
    long rc;

    if (flags & ~(u64)(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
        return -EINVAL;
    rc = pipe_create((unsigned)flags, &reader, &writer);
    if (rc < 0)
        return rc;
    fds[0] = fd_install(reader, 0, cloexec);
    if (fds[0] < 0) {
        file_put(reader);
        file_put(writer);
        return fds[0];
    }
    fds[1] = fd_install(writer, 0, cloexec);
    if (fds[1] < 0) {
        file_put(writer);
        (void)fd_close(fds[0]);
        return fds[1];
    }
    if (copy_to_user((void *)user, fds, sizeof(fds)) < 0) {
        (void)fd_close(fds[0]);
        (void)fd_close(fds[1]);
        return -EFAULT;
    }
    return 0;
}

FS_CALL(sys_pipe)
{
    return do_pipe(a1, 0);
}

FS_CALL(sys_pipe2)
{
    return do_pipe(a1, a2);
}
