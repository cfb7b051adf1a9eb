/*
 * rename(2), with all that can be wrong about it.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/dir.h"
#include "cell/fs/host_files.h"
#include "cell/fs/inotify.h"
#include "cell/fs/path.h"

static bool is_name(const struct walk *w)
{
    return w->length > 0 && !(w->last[0] == '.' && (w->length == 1 || (w->length == 2 && w->last[1] == '.')));
}

/* What Linux checks before it looks at permissions. `to` may be NULL: the new name is free. */
static long check_names(const struct walk *old, const struct walk *new, const struct dentry *from,
                        const struct dentry *to, unsigned flags)
{
    if ((flags & RENAME_NOREPLACE) && to)
        return -EEXIST;
    if ((flags & RENAME_EXCHANGE) && !to)
        return -ENOENT;
    if ((flags & RENAME_EXCHANGE) && new->trailing && !inode_is_dir(to->inode))
        return -ENOTDIR;
    if (!inode_is_dir(from->inode) && (old->trailing || (!(flags & RENAME_EXCHANGE) && new->trailing)))
        return -ENOTDIR;
    if (dentry_is_below(new->dir, from))
        return -EINVAL; /* into itself */
    if (to && dentry_is_below(old->dir, to))
        return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    return 0;
}

static long check_permissions(const struct walk *old, const struct walk *new, const struct dentry *from,
                              const struct dentry *to, unsigned flags)
{
    bool directory = inode_is_dir(from->inode);
    long rc = dir_may_remove(from, directory);

    if (rc == 0 && !to)
        rc = dir_may_create(new->dir);
    else if (rc == 0)
        rc = dir_may_remove(to, flags & RENAME_EXCHANGE ? inode_is_dir(to->inode) : directory);
    /* A directory that moves gets another "..". */
    if (rc == 0 && directory && old->dir != new->dir)
        rc = inode_permission(from->inode, MAY_WRITE);
    if (rc == 0 && (flags & RENAME_EXCHANGE) && inode_is_dir(to->inode) && old->dir != new->dir)
        rc = inode_permission(to->inode, MAY_WRITE);
    if (rc == 0 && to && !(flags & RENAME_EXCHANGE) && directory && !dentry_is_empty(to))
        rc = -ENOTEMPTY;
    return rc;
}

static void count_directories(struct inode *from_dir, struct inode *to_dir, const struct inode *moved)
{
    if (inode_is_dir(moved)) {
        from_dir->nlink--;
        to_dir->nlink++;
    }
}

static long exchange(struct dentry *a, struct dentry *b)
{
    struct inode *dir_a = a->parent->inode, *dir_b = b->parent->inode;
    long rc = dentry_exchange(a, b);

    if (rc < 0)
        return rc;
    /* They have changed their places. */
    told_rename(dir_a, b->name, b->length, dir_b, a->name, a->length, true);
    count_directories(dir_a, dir_b, a->inode);
    count_directories(dir_b, dir_a, b->inode);
    inode_touch(dir_a, true);
    inode_touch(dir_b, true);
    inode_touch(a->inode, false);
    inode_touch(b->inode, false);
    notify_move(dir_a, b->name, b->length, dir_b, a->name, a->length, a->inode, NULL);
    notify_move(dir_b, a->name, a->length, dir_a, b->name, b->length, b->inode, NULL);
    return 0;
}

static long move(struct dentry *from, const struct walk *new, struct dentry *to)
{
    struct dentry *dir = from->parent;
    long rc;

    char old_name[NAME_MAX_ + 1];
    size_t old_length = from->length;

    memcpy(old_name, from->name, old_length);
    dentry_get(dir);
    /* First the move, which may fail for want of memory; then what was there before goes. */
    rc = dentry_move(from, new->dir, new->last, new->length);
    if (rc == 0) {
        told_rename(dir->inode, old_name, old_length, new->dir->inode, new->last, new->length, false);
        count_directories(dir->inode, new->dir->inode, from->inode);
        inode_touch(dir->inode, true);
        inode_touch(new->dir->inode, true);
        inode_touch(from->inode, false);
        if (to) {
            if (inode_is_dir(to->inode)) {
                to->inode->nlink = 0;
                new->dir->inode->nlink--;
            } else {
                to->inode->nlink--;
            }
            inode_touch(to->inode, false);
            dentry_remove(to);
        }
        notify_move(dir->inode, old_name, old_length, new->dir->inode, new->last, new->length, from->inode,
                    to ? to->inode : NULL);
    }
    dentry_put(dir);
    return rc;
}

static long rename_found(struct walk *old, struct walk *new, unsigned flags)
{
    struct dentry *from, *to = NULL;
    long rc;

    if (old->file || new->file)
        return -ENOTDIR;
    if (old->dir->inode->super != new->dir->inode->super)
        return -EXDEV;
    if (!is_name(old))
        return -EBUSY;
    if (!is_name(new))
        return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    if (old->dir->inode->super->flags & SUPER_READONLY)
        return -EROFS;
    rc = dentry_lookup(old->dir, old->last, old->length, &from);
    if (rc < 0)
        return rc;
    rc = dentry_lookup(new->dir, new->last, new->length, &to);
    if (rc == -ENOENT) {
        to = NULL;
        rc = 0;
    }
    if (rc == 0)
        rc = check_names(old, new, from, to, flags);
    /* Two names of one file: done already, says POSIX. */
    if (rc == 0 && !(to && to->inode == from->inode)) {
        rc = check_permissions(old, new, from, to, flags);
        if (rc == 0)
            rc = flags & RENAME_EXCHANGE ? exchange(from, to) : move(from, new, to);
    }
    if (to)
        dentry_put(to);
    dentry_put(from);
    return rc;
}

static long do_rename(int old_dirfd, u64 old_user, int new_dirfd, u64 new_user, unsigned flags)
{
    struct walk old = {0}, new = {0};
    char *old_path, *new_path = NULL;
    long rc;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        (flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)) == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    old_path = path_copy((const void *)old_user, false, &rc);
    if (old_path)
        new_path = path_copy((const void *)new_user, false, &rc);
    if (new_path && (rc = walk_begin(&old, old_dirfd, old_path, 0)) == 0 && (rc = walk_parent(&old)) == 0 &&
        (rc = walk_begin(&new, new_dirfd, new_path, 0)) == 0 && (rc = walk_parent(&new)) == 0)
        rc = rename_found(&old, &new, flags);
    walk_end(&old);
    walk_end(&new);
    path_free(new_path);
    path_free(old_path);
    return rc;
}

FS_CALL(sys_rename)
{
    return do_rename(AT_FDCWD, a1, AT_FDCWD, a2, 0);
}

FS_CALL(sys_renameat)
{
    return do_rename((int)a1, a2, (int)a3, a4, 0);
}

FS_CALL(sys_renameat2)
{
    return do_rename((int)a1, a2, (int)a3, a4, (unsigned)a5);
}
