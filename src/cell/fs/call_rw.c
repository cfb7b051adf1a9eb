/*
 * read, write and their relatives.
 *
 * A file is kept while it is read or written: the operation may sleep, and another thread close the
 * descriptor.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/file.h"
#include "cell/fs/inode.h"
#include "cell/fs/inotify.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"

enum { RW_MAX = 0x7ffff000, IOV_FEW = 16, DENTS_MAX = 1 << 20 };

/* The descriptor, readable or writable. */
static long get_file(u64 fd, bool for_write, struct file **out)
{
    struct file *f = fd_file((int)fd);
    unsigned unwanted = for_write ? O_RDONLY : O_WRONLY;

    if (!f || (f->flags & O_ACCMODE) == unwanted)
        return -EBADF;
    if (for_write ? !f->ops->write && !f->ops->writev : !f->ops->read && !f->ops->readv)
        return -EINVAL;
    *out = f;
    return 0;
}

static bool has_position(const struct file *f)
{
    return f->ops->seek != NULL;
}

static long one(struct file *f, bool for_write, u64 buf, size_t len, u64 *pos)
{
    struct iovec v = {.iov_base = (void *)buf, .iov_len = len};

    if (for_write && f->ops->write)
        return f->ops->write(f, (const void *)buf, len, pos);
    if (for_write)
        return f->ops->writev ? f->ops->writev(f, &v, 1) : -EINVAL;
    if (f->ops->read)
        return f->ops->read(f, (void *)buf, len, pos);
    return f->ops->readv ? f->ops->readv(f, &v, 1) : -EINVAL;
}

/* At `pos`, or at the file's own position if that is NULL. */
static long move(struct file *f, bool for_write, u64 buf, u64 len, u64 *pos)
{
    long rc;

    if ((s64)len < 0)
        return -EINVAL;
    file_get(f);
    rc = one(f, for_write, buf, MIN(len, (u64)RW_MAX), pos ? pos : &f->pos);
    if (rc > 0)
        notify_file(f, for_write ? IN_MODIFY : IN_ACCESS);
    file_put(f);
    return rc;
}

FS_CALL(sys_read)
{
    struct file *f;
    long rc = get_file(a1, false, &f);

    return rc < 0 ? rc : move(f, false, a2, a3, NULL);
}

FS_CALL(sys_write)
{
    struct file *f;
    long rc = get_file(a1, true, &f);

    return rc < 0 ? rc : move(f, true, a2, a3, NULL);
}

static long at_position(u64 fd, bool for_write, u64 pos, struct file **f)
{
    if ((s64)pos < 0)
        return -EINVAL;
    *f = fd_file((int)fd);
    if (!*f)
        return -EBADF;
    return has_position(*f) ? get_file(fd, for_write, f) : -ESPIPE;
}

FS_CALL(sys_pread64)
{
    struct file *f;
    u64 pos = a4;
    long rc = at_position(a1, false, pos, &f);

    return rc < 0 ? rc : move(f, false, a2, a3, &pos);
}

FS_CALL(sys_pwrite64)
{
    struct file *f;
    u64 pos = a4;
    long rc = at_position(a1, true, pos, &f);

    return rc < 0 ? rc : move(f, true, a2, a3, &pos);
}

/* ---- vectors */

static long copy_vector(u64 user, u64 n, struct iovec *few, struct iovec **out)
{
    struct iovec *v = few;
    u64 total = 0;

    if (n > UIO_MAXIOV)
        return -EINVAL;
    if (n > IOV_FEW && !(v = kmalloc(n * sizeof(*v))))
        return -ENOMEM;
    *out = v;
    if (copy_from_user(v, (const void *)user, n * sizeof(*v)) < 0)
        return -EFAULT;
    for (u64 i = 0; i < n; i++) {
        if ((s64)v[i].iov_len < 0)
            return -EINVAL;
        v[i].iov_len = MIN(v[i].iov_len, RW_MAX - total);
        total += v[i].iov_len;
    }
    return 0;
}

static long move_vector(struct file *f, bool for_write, const struct iovec *v, u64 n, u64 *pos)
{
    size_t done = 0;
    long rc = 0;

    if (for_write && f->ops->writev)
        return f->ops->writev(f, v, (unsigned)n);
    if (!for_write && f->ops->readv)
        return f->ops->readv(f, v, (unsigned)n);
    for (u64 i = 0; i < n; i++) {
        if (v[i].iov_len == 0)
            continue;
        rc = one(f, for_write, (u64)(uintptr_t)v[i].iov_base, v[i].iov_len, pos);
        if (rc < 0)
            break;
        done += (size_t)rc;
        if ((size_t)rc < v[i].iov_len)
            break;
    }
    return done > 0 ? (long)done : rc;
}

static long vector(struct file *f, bool for_write, u64 user, u64 n, u64 *pos)
{
    struct iovec few[IOV_FEW], *v = few;
    long rc = copy_vector(user, n, few, &v);

    if (rc == 0) {
        file_get(f);
        rc = move_vector(f, for_write, v, n, pos ? pos : &f->pos);
        /* readv(2) that reads nothing is told as well: so does Linux. */
        if (for_write ? rc > 0 : rc >= 0)
            notify_file(f, for_write ? IN_MODIFY : IN_ACCESS);
        file_put(f);
    }
    if (v != few)
        kfree(v);
    return rc;
}

FS_CALL(sys_readv)
{
    struct file *f;
    long rc = get_file(a1, false, &f);

    return rc < 0 ? rc : vector(f, false, a2, a3, NULL);
}

FS_CALL(sys_writev)
{
    struct file *f;
    long rc = get_file(a1, true, &f);

    return rc < 0 ? rc : vector(f, true, a2, a3, NULL);
}

static long vector_at(u64 fd, bool for_write, u64 iov, u64 n, u64 pos)
{
    struct file *f;
    long rc = at_position(fd, for_write, pos, &f);

    return rc < 0 ? rc : vector(f, for_write, iov, n, &pos);
}

/* The position comes in two halves, of which 64-bit programs use the first alone. */
FS_CALL(sys_preadv)
{
    return vector_at(a1, false, a2, a3, a4);
}

FS_CALL(sys_pwritev)
{
    return vector_at(a1, true, a2, a3, a4);
}

enum { RW_KNOWN = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND };

static long vector2(u64 fd, bool for_write, u64 iov, u64 n, u64 pos, u64 flags)
{
    struct file *f;
    unsigned before;
    long rc = get_file(fd, for_write, &f);

    if (rc < 0)
        return rc;
    if (flags & ~(u64)RW_KNOWN)
        return -EOPNOTSUPP;
    if (pos != UINT64_MAX && (rc = at_position(fd, for_write, pos, &f)) < 0)
        return rc;
    before = f->flags;
    if (flags & RWF_APPEND)
        f->flags |= O_APPEND;
    if (flags & RWF_NOWAIT)
        f->flags |= O_NONBLOCK; /* so it does not sleep, and nobody else sees the flag */
    file_get(f);
    rc = vector(f, for_write, iov, n, pos == UINT64_MAX ? NULL : &pos);
    if (flags & (RWF_APPEND | RWF_NOWAIT))
        f->flags = before;
    file_put(f);
    return rc;
}

FS_CALL(sys_preadv2)
{
    return vector2(a1, false, a2, a3, a4, a6);
}

FS_CALL(sys_pwritev2)
{
    return vector2(a1, true, a2, a3, a4, a6);
}

FS_CALL(sys_lseek)
{
    struct file *f = fd_file((int)a1);

    if (!f)
        return -EBADF;
    if (a3 > SEEK_MAX)
        return -EINVAL;
    return f->ops->seek ? f->ops->seek(f, (s64)a2, (int)a3) : -ESPIPE;
}

/* ---- directories */

static long list(u64 fd, USER void *buf, size_t len)
{
    struct file *f = fd_file((int)fd);
    long n;

    if (!f)
        return -EBADF;
    n = f->ops->getdents ? f->ops->getdents(f, buf, len) : -ENOTDIR;
    if (n >= 0)
        notify_file(f, IN_ACCESS);
    return n;
}

FS_CALL(sys_getdents64)
{
    return list(a1, (void *)a2, (u32)a3);
}

/* The old form has the same size: its type stands at the end, the name one byte earlier. */
FS_CALL(sys_getdents)
{
    enum { LENGTH = 16, TYPE = 18, OLD_NAME = 18, NEW_NAME = 19 };
    size_t cap = MIN((size_t)(u32)a3, (size_t)DENTS_MAX);
    u8 *buf = kmalloc(MAX(cap, (size_t)1));
    long n;

    if (!buf)
        return -ENOMEM;
    n = list(a1, buf, cap);
    for (long at = 0; at < n;) {
        u8 *e = buf + at, type = e[TYPE];
        u16 len;
        memcpy(&len, e + LENGTH, sizeof(len));
        memmove(e + OLD_NAME, e + NEW_NAME, (size_t)len - NEW_NAME);
        e[len - 1] = type;
        at += len;
    }
    if (n > 0 && copy_to_user((void *)a2, buf, (size_t)n) < 0)
        n = -EFAULT;
    kfree(buf);
    return n;
}
