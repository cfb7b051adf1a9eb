/*
 * Moving data between descriptors: from where it lies, if that is a file's memory, else through a page.
 */
#include <asm/errno.h>
#include <asm/poll.h>
#include <linux/fcntl.h>

#include "cell/fs/calls.h"
#include "cell/fs/inotify.h"
#include "cell/fs/path.h"
#include "cell/ipc/pipe.h"
#include "cell/mem/uaccess.h"

/* SPLICE_F_NONBLOCK; all of SPLICE_F_*: splice(2). */
enum { PIECE = 1 << 20, NONBLOCK = 2, KNOWN = 15 };
#define COUNT_MAX 0x7ffff000UL

struct side {
    struct file *file;
    u64 own, *pos; /* the position: the caller's own, or the file's */
    u64 user;      /* where the caller's comes from and goes to; 0: the file's */
};

static long get_side(struct side *s, u64 fd, u64 user_pos, bool for_write)
{
    struct file *f = fd_file((int)fd);

    if (!f || (f->flags & O_ACCMODE) == (for_write ? O_RDONLY : O_WRONLY))
        return -EBADF;
    if (for_write ? !f->ops->write : !f->ops->read)
        return -EINVAL;
    *s = (struct side){.file = f, .pos = &f->pos, .user = user_pos};
    if (user_pos) {
        if (!f->ops->seek)
            return -ESPIPE;
        if (get_user_u64(&s->own, (const void *)user_pos) < 0)
            return -EFAULT;
        if ((s64)s->own < 0)
            return -EINVAL;
        s->pos = &s->own;
    }
    return 0;
}

static long finish(const struct side *s)
{
    return s->user ? put_user_u64((void *)s->user, s->own) : 0;
}

/* All of it, unless something goes wrong. */
static long write_all(struct side *out, const u8 *buf, size_t n)
{
    size_t done = 0;
    long rc = 0;

    while (done < n) {
        rc = out->file->ops->write(out->file, buf + done, n - done, out->pos);
        if (rc <= 0)
            break;
        done += (size_t)rc;
    }
    return done > 0 ? (long)done : rc;
}

/* The next bytes of the file where they lie, or in `buf`. How many; 0 at the end. */
static long next_bytes(struct side *in, u8 *buf, u64 most, const u8 **at)
{
    struct inode *i = in->file->inode;
    u64 n;

    if (buf) {
        *at = buf;
        return in->file->ops->read(in->file, buf, MIN(most, PAGE), in->pos);
    }
    *at = i->ops->peek(i, *in->pos, &n);
    if (!*at)
        return 0;
    n = MIN(n, most);
    *in->pos += n;
    return (long)n;
}

/* Piece by piece. `once`: what the first read gives is enough (pipes). */
static long move(struct side *in, struct side *out, u8 *buf, u64 len, bool once)
{
    u64 done = 0;
    long rc = 0;

    while (done < len) {
        const u8 *at;
        long n = next_bytes(in, buf, MIN(len - done, (u64)PIECE), &at);
        if (n <= 0) {
            rc = n;
            break;
        }
        rc = write_all(out, at, (size_t)n);
        if (rc > 0)
            done += (u64)rc;
        /* What was read and not written stays in the file. */
        if (rc < n && in->file->ops->seek)
            *in->pos -= (u64)(rc > 0 ? n - rc : n);
        if (rc < n || once)
            break;
    }
    return done > 0 ? (long)done : rc < 0 ? rc : 0;
}

static long copy(struct side *in, struct side *out, u64 len, bool once)
{
    struct file *from = in->file, *to = out->file;
    bool direct = from->inode && from->inode->ops->peek;
    char *buf = direct ? NULL : path_buffer();
    long rc, end;

    if (!direct && !buf)
        return -ENOMEM;
    file_get(from);
    file_get(to);
    /* As if it were mapped: its pages stay while the other side sleeps. */
    if (direct)
        from->inode->mapped++;
    rc = move(in, out, (u8 *)buf, MIN(len, COUNT_MAX), once);
    if (direct)
        from->inode->mapped--;
    if (rc > 0) {
        notify_file(from, IN_ACCESS);
        notify_file(to, IN_MODIFY);
    }
    end = finish(in);
    end = end < 0 ? end : finish(out);
    file_put(from);
    file_put(to);
    path_free(buf);
    return end < 0 ? end : rc;
}

FS_CALL(sys_sendfile)
{
    struct side in, out;
    long rc = get_side(&in, a2, a3, false);

    if (rc == 0)
        rc = get_side(&out, a1, 0, true);
    if (rc < 0)
        return rc;
    if (!in.file->ops->seek || (out.file->flags & O_APPEND))
        return -EINVAL;
    return a4 == 0 ? 0 : copy(&in, &out, a4, false);
}

FS_CALL(sys_copy_file_range)
{
    struct side in, out;
    const struct inode *from, *to;
    long rc;

    if (a6 != 0)
        return -EINVAL;
    rc = get_side(&in, a1, a2, false);
    if (rc == 0)
        rc = get_side(&out, a3, a4, true);
    if (rc < 0)
        return rc;
    from = in.file->inode;
    to = out.file->inode;
    if ((from && inode_is_dir(from)) || (to && inode_is_dir(to)))
        return -EISDIR;
    if (!from || !to || !S_ISREG(from->mode) || !S_ISREG(to->mode))
        return -EINVAL;
    if (out.file->flags & O_APPEND)
        return -EBADF;
    if (from == to && *in.pos < *out.pos + a5 && *out.pos < *in.pos + a5)
        return -EINVAL;
    return a5 == 0 ? 0 : copy(&in, &out, a5, false);
}

static bool is_ready(struct file *f, unsigned events)
{
    return !f->ops->poll || (f->ops->poll(f, NULL) & (events | POLLHUP | POLLERR));
}

FS_CALL(sys_splice)
{
    struct side in, out;
    long rc = get_side(&in, a1, a2, false);

    if (rc == 0)
        rc = get_side(&out, a3, a4, true);
    if (rc < 0)
        return rc;
    if (!file_is_pipe(in.file) && !file_is_pipe(out.file))
        return -EINVAL;
    if ((a6 & NONBLOCK) && (!is_ready(in.file, POLLIN) || !is_ready(out.file, POLLOUT)))
        return -EAGAIN;
    /* Nothing may be taken out of a pipe that the other side would not take at once. */
    if ((out.file->flags & O_NONBLOCK) && !is_ready(out.file, POLLOUT))
        return -EAGAIN;
    if (a5 > PIPE_ATOMIC && (out.file->flags & O_NONBLOCK))
        a5 = PIPE_ATOMIC;
    return a5 == 0 ? 0 : copy(&in, &out, a5, true);
}

FS_CALL(sys_tee)
{
    struct side in, out;
    long rc;

    if (a4 & ~(u64)KNOWN)
        return -EINVAL;
    if (a3 == 0)
        return 0;
    rc = get_side(&in, a1, 0, false);
    if (rc == 0)
        rc = get_side(&out, a2, 0, true);
    if (rc < 0)
        return rc;
    if (!file_is_pipe(in.file) || !file_is_pipe(out.file) || in.file->priv == out.file->priv)
        return -EINVAL;
    return pipe_tee(in.file, out.file, MIN(a3, COUNT_MAX),
                    (a4 & NONBLOCK) || ((in.file->flags | out.file->flags) & O_NONBLOCK));
}
