/*
 * Changing what a file is like: mode, owner, times, size.
 */
#include <asm/errno.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/fadvise.h>
#include <linux/time_types.h>
#include <linux/utime.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/host_files.h"
#include "cell/fs/inotify.h"
#include "cell/fs/path.h"
#include "cell/fs/regular.h"
#include "cell/ipc/pipe.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

static bool is_readonly(const struct inode *i)
{
    return (i->super->flags & SUPER_READONLY) != 0;
}

/* ---- mode */

static long set_mode(struct inode *i, unsigned mode)
{
    if (is_readonly(i))
        return -EROFS;
    if (!inode_owned(i))
        return -EPERM;
    if (inode_is_link(i))
        return -EOPNOTSUPP;
    /* As in every other wall: a workspace lies on the host, where such a bit would mean something. */
    if (mode & (S_ISUID | S_ISGID))
        return -EPERM;
    i->mode = (i->mode & S_IFMT) | (mode & 07777);
    inode_touch(i, false);
    told_mode(i);
    return 0;
}

static long change_mode(int dirfd, u64 path, unsigned mode, unsigned flags)
{
    struct link_target t;
    long rc = path_find_user(dirfd, (const char *)path, flags, &t);

    if (rc == 0)
        rc = link_target_inode(&t) ? set_mode(link_target_inode(&t), mode) : 0;
    if (rc == 0)
        notify_dentry(t.dentry, IN_ATTRIB);
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_chmod)
{
    return change_mode(AT_FDCWD, a1, (unsigned)a2, WALK_FOLLOW);
}

FS_CALL(sys_fchmodat)
{
    return change_mode((int)a1, a2, (unsigned)a3, WALK_FOLLOW);
}

FS_CALL(sys_fchmod)
{
    struct file *f = fd_file((int)a1);
    long rc;

    if (!f)
        return -EBADF;
    if (f->inode) {
        rc = set_mode(f->inode, (unsigned)a2);
        if (rc == 0)
            notify_dentry(f->dentry, IN_ATTRIB);
        return rc;
    }
    f->anon_mode = (f->anon_mode & S_IFMT) | ((unsigned)a2 & 07777);
    return 0;
}

/* ---- owner: nobody can give anything away, but saying what is so already is fine */

static long set_owner(struct inode *i, struct dentry *d, u32 uid, u32 gid)
{
    if (is_readonly(i))
        return -EROFS;
    if (!inode_owned(i) || (uid != (u32)-1 && uid != CELL_UID) || (gid != (u32)-1 && gid != CELL_GID))
        return uid == (u32)-1 && gid == (u32)-1 ? 0 : -EPERM;
    if (gid != (u32)-1)
        i->gid = gid;
    if (!inode_is_dir(i))
        i->mode &= ~(u32)S_ISUID & ~(i->mode & S_IXGRP ? (u32)S_ISGID : 0);
    inode_touch(i, false);
    if (uid != (u32)-1 || gid != (u32)-1)
        notify_dentry(d, IN_ATTRIB);
    return 0;
}

static long change_owner(int dirfd, u64 path, u64 uid, u64 gid, unsigned flags)
{
    struct link_target t;
    long rc = path_find_user(dirfd, (const char *)path, flags, &t);

    if (rc == 0 && link_target_inode(&t))
        rc = set_owner(link_target_inode(&t), t.dentry, (u32)uid, (u32)gid);
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_chown)
{
    return change_owner(AT_FDCWD, a1, a2, a3, WALK_FOLLOW);
}

FS_CALL(sys_lchown)
{
    return change_owner(AT_FDCWD, a1, a2, a3, 0);
}

FS_CALL(sys_fchown)
{
    struct file *f = fd_file((int)a1);

    return !f ? -EBADF : f->inode ? set_owner(f->inode, f->dentry, (u32)a2, (u32)a3) : 0;
}

FS_CALL(sys_fchownat)
{
    if (a5 & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return change_owner((int)a1, a2, a3, a4,
                        (a5 & AT_SYMLINK_NOFOLLOW ? 0U : WALK_FOLLOW) |
                            (a5 & AT_EMPTY_PATH ? WALK_EMPTY : 0U));
}

/* ---- times */

#define NSEC_NOW  ((1L << 30) - 1L) /* UTIME_NOW, UTIME_OMIT: utimensat(2) */
#define NSEC_OMIT ((1L << 30) - 2L)

/* ts: two of them, or NULL for now. `d`: whose they are, if that has a name. */
static long set_times(struct inode *i, struct dentry *d, const struct __kernel_timespec *ts)
{
    bool now = !ts || (ts[0].tv_nsec == NSEC_NOW && ts[1].tv_nsec == NSEC_NOW);
    struct fs_time *const times[2] = {&i->atime, &i->mtime};

    if (ts && ts[0].tv_nsec == NSEC_OMIT && ts[1].tv_nsec == NSEC_OMIT)
        return 0;
    if (is_readonly(i))
        return -EROFS;
    if (!inode_owned(i) && (!now || inode_permission(i, MAY_WRITE) < 0))
        return now ? -EACCES : -EPERM;
    for (int k = 0; k < 2; k++) {
        if (!ts || ts[k].tv_nsec == NSEC_NOW)
            *times[k] = fs_now();
        else if (ts[k].tv_nsec != NSEC_OMIT)
            *times[k] = (struct fs_time){ts[k].tv_sec, (u32)ts[k].tv_nsec};
    }
    i->ctime = fs_now();
    told_time(i);
    notify_dentry(d, ts && ts[1].tv_nsec == NSEC_OMIT   ? IN_ACCESS
                     : ts && ts[0].tv_nsec == NSEC_OMIT ? IN_MODIFY
                                                        : IN_ATTRIB);
    return 0;
}

static long change_times(int dirfd, u64 path, const struct __kernel_timespec *ts, unsigned flags)
{
    struct link_target t;
    struct file *f;
    long rc;

    for (int k = 0; ts && k < 2; k++)
        if (ts[k].tv_nsec != NSEC_NOW && ts[k].tv_nsec != NSEC_OMIT &&
            (ts[k].tv_nsec < 0 || ts[k].tv_nsec >= 1000000000))
            return -EINVAL;
    if (!path && dirfd != AT_FDCWD) {
        f = fd_file(dirfd);
        return !f ? -EBADF : f->inode ? set_times(f->inode, f->dentry, ts) : 0;
    }
    rc = path_find_user(dirfd, (const char *)path, flags, &t);
    if (rc == 0 && link_target_inode(&t))
        rc = set_times(link_target_inode(&t), t.dentry, ts);
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_utimensat)
{
    struct __kernel_timespec ts[2];

    if (a4 & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (a3 && copy_from_user(ts, (const void *)a3, sizeof(ts)) < 0)
        return -EFAULT;
    return change_times((int)a1, a2, a3 ? ts : NULL,
                        (a4 & AT_SYMLINK_NOFOLLOW ? 0U : WALK_FOLLOW) |
                            (a4 & AT_EMPTY_PATH ? WALK_EMPTY : 0U));
}

static long times_by_timeval(int dirfd, u64 path, u64 user)
{
    struct __kernel_old_timeval tv[2];
    struct __kernel_timespec ts[2];

    if (user && copy_from_user(tv, (const void *)user, sizeof(tv)) < 0)
        return -EFAULT;
    for (int k = 0; user && k < 2; k++) {
        if (tv[k].tv_usec < 0 || tv[k].tv_usec >= 1000000)
            return -EINVAL;
        ts[k] = (struct __kernel_timespec){tv[k].tv_sec, tv[k].tv_usec * 1000};
    }
    return change_times(dirfd, path, user ? ts : NULL, WALK_FOLLOW);
}

FS_CALL(sys_utimes)
{
    return times_by_timeval(AT_FDCWD, a1, a2);
}

FS_CALL(sys_futimesat)
{
    return times_by_timeval((int)a1, a2, a3);
}

FS_CALL(sys_utime)
{
    struct __kernel_timespec ts[2] = {0};
    struct utimbuf b;

    if (a2 && get_user(b, (const struct utimbuf *)a2) < 0)
        return -EFAULT;
    if (a2) {
        ts[0].tv_sec = b.actime;
        ts[1].tv_sec = b.modtime;
    }
    return change_times(AT_FDCWD, a1, a2 ? ts : NULL, WALK_FOLLOW);
}

/* ---- size */

static long set_size(struct inode *i, struct dentry *d, u64 size)
{
    long rc;

    if (size > i->size) {
        rc = regular_limit(size - 1, 1);
        if (rc < 0)
            return rc;
    }
    rc = i->ops->truncate ? i->ops->truncate(i, size) : -EINVAL;
    if (rc == 0)
        notify_dentry(d, IN_MODIFY);
    return rc;
}

FS_CALL(sys_truncate)
{
    struct link_target t;
    struct inode *i;
    long rc;

    if ((s64)a2 < 0)
        return -EINVAL;
    rc = path_find_user(AT_FDCWD, (const char *)a1, WALK_FOLLOW, &t);
    if (rc == 0) {
        i = link_target_inode(&t);
        rc = !i                  ? -EINVAL
             : inode_is_dir(i)   ? -EISDIR
             : !S_ISREG(i->mode) ? -EINVAL
                                 : inode_permission(i, MAY_WRITE);
        if (rc == 0)
            rc = host_files_use(i, a2 == 0);
        if (rc == 0) {
            rc = set_size(i, t.dentry, a2);
            host_files_unuse(i);
        }
    }
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_ftruncate)
{
    struct file *f = fd_file((int)a1);

    if ((s64)a2 < 0)
        return -EINVAL;
    if (!f)
        return -EBADF;
    if (!f->inode || !S_ISREG(f->inode->mode) || (f->flags & O_ACCMODE) == O_RDONLY)
        return -EINVAL;
    return set_size(f->inode, f->dentry, a2);
}

FS_CALL(sys_fallocate)
{
    struct file *f = fd_file((int)a1);
    long rc;
    u64 end;

    if (!f)
        return -EBADF;
    if ((s64)a3 < 0 || (s64)a4 <= 0)
        return -EINVAL;
    if ((f->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (file_is_pipe(f))
        return -ESPIPE;
    if (!f->inode || !S_ISREG(f->inode->mode))
        return -ENODEV;
    if (__builtin_add_overflow(a3, a4, &end) || (s64)end < 0)
        return -EFBIG;
    if (!f->inode->ops->fallocate)
        return -EOPNOTSUPP;
    if (!((int)a2 & FALLOC_FL_KEEP_SIZE) && end > f->inode->size && regular_limit(end - 1, 1) < 0)
        return -EFBIG;
    rc = f->inode->ops->fallocate(f->inode, (int)a2, a3, a4);
    if (rc == 0)
        notify_file(f, IN_MODIFY);
    return rc;
}

FS_CALL(sys_fsync)
{
    struct file *f = fd_file((int)a1);

    if (!f)
        return -EBADF;
    if (f->ops->sync)
        return f->ops->sync(f);
    return f->inode && (S_ISREG(f->inode->mode) || inode_is_dir(f->inode)) ? 0 : -EINVAL;
}

FS_CALL(sys_fadvise64)
{
    struct file *f = fd_file((int)a1);

    if (!f)
        return -EBADF;
    if (file_is_pipe(f))
        return -ESPIPE;
    return (s64)a3 < 0 || a4 > POSIX_FADV_NOREUSE ? -EINVAL : 0;
}
