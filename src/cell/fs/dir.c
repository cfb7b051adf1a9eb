#include "cell/fs/dir.h"

#include <asm/errno.h>
#include <linux/fs.h>
#include <linux/stat.h>

#include "cell/base/text.h"
#include "cell/mem/uaccess.h"

/* struct linux_dirent64 of getdents64(2), with the longest name. */
struct entry {
    u64 ino, offset;
    u16 length;
    u8 type;
    char name[NAME_MAX_ + 1];
};
enum { ENTRY_NAME = 19 }; /* offset of the name */

bool dir_emit(struct file *f, struct dir_sink *s, const char *name, size_t len, u64 ino, unsigned mode,
              u64 next)
{
    struct entry e;
    size_t n = (ENTRY_NAME + len + 1 + 7) & ~(size_t)7;

    if (n > s->room - s->used) {
        if (s->used == 0)
            s->error = -EINVAL; /* not even one */
        return false;
    }
    e.ino = ino;
    e.offset = next;
    e.length = (u16)n;
    e.type = (u8)(mode >> 12 & 15);
    memcpy((u8 *)&e + ENTRY_NAME, name, len);
    memset((u8 *)&e + ENTRY_NAME + len, 0, n - ENTRY_NAME - len);
    if (copy_to_user(s->at + s->used, &e, n) < 0) {
        if (s->used == 0)
            s->error = -EFAULT;
        return false;
    }
    s->used += n;
    f->pos = next;
    return true;
}

static long dir_getdents(struct file *f, USER void *buf, size_t len)
{
    struct dir_sink s = {.at = buf, .room = len};
    struct dentry *d = f->dentry;
    int rc = 0;

    if (!f->inode->ops->iterate)
        return -ENOTDIR;
    if ((d->flags & DENTRY_DELETED) && d->parent != d)
        return -ENOENT;
    if (f->pos == 0 && !dir_emit(f, &s, ".", 1, d->inode->ino, S_IFDIR, 1))
        return s.error;
    if (f->pos == 1 && !dir_emit(f, &s, "..", 2, dentry_up(d)->inode->ino, S_IFDIR, 2))
        return s.used > 0 ? (long)s.used : s.error;
    rc = f->inode->ops->iterate(f, &s);
    inode_accessed(f->inode);
    if (s.used > 0)
        return (long)s.used;
    return rc < 0 ? rc : s.error;
}

static long dir_seek(struct file *f, s64 offset, int whence)
{
    if (whence == SEEK_CUR)
        offset += (s64)f->pos;
    else if (whence != SEEK_SET)
        return -EINVAL;
    if (offset < 0)
        return -EINVAL;
    f->pos = (u64)offset;
    return offset;
}

static long dir_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return -EISDIR;
}

const struct file_ops dir_file_ops = {.read = dir_read, .getdents = dir_getdents, .seek = dir_seek};
const struct file_ops path_file_ops = {0};

/*
 * Positions are the cookies of the dentries, which only grow: what is removed or made while somebody lists
 * the directory moves nothing that was there. A getdents call goes through the list once, so a directory of n
 * entries costs n * (n / entries of a buffer): nothing for those that people have.
 */
int dir_iterate_pinned(struct file *f, struct dir_sink *s)
{
    list_for_each(n, &f->inode->children)
    {
        const struct dentry *d = list_entry(n, struct dentry, link);
        const struct dentry *seen;
        if (d->cookie + 2 <= f->pos)
            continue;
        seen = d->mounted ? d->mounted : d;
        if (!dir_emit(f, s, d->name, d->length, seen->inode->ino, seen->inode->mode, d->cookie + 2))
            break;
    }
    return 0;
}

int dir_may_create(const struct dentry *dir)
{
    int rc;

    if (dir->flags & DENTRY_DELETED)
        return -ENOENT;
    rc = inode_permission(dir->inode, MAY_WRITE | MAY_EXEC);
    if (rc == 0 && !dir->inode->ops->create)
        rc = -EPERM;
    return rc;
}

int dir_may_remove(const struct dentry *d, bool as_directory)
{
    const struct inode *dir = d->parent->inode;
    int rc = inode_permission(dir, MAY_WRITE | MAY_EXEC);

    if (rc < 0)
        return rc;
    if ((dir->mode & S_ISVTX) && !inode_owned(dir) && !inode_owned(d->inode))
        return -EPERM;
    if (as_directory && !inode_is_dir(d->inode))
        return -ENOTDIR;
    if (!as_directory && inode_is_dir(d->inode))
        return -EISDIR;
    return d->mounted || d->parent == d ? -EBUSY : 0;
}
