/*
 * Making and removing names.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/dir.h"
#include "cell/fs/host_files.h"
#include "cell/fs/inotify.h"
#include "cell/fs/path.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

static bool is_name(const struct walk *w)
{
    return w->length > 0 && !(w->last[0] == '.' && (w->length == 1 || (w->length == 2 && w->last[1] == '.')));
}

/* The place for a new name, `path` the kernel's: w->dir and w->last. The caller ends the walk. */
static int find_place(struct walk *w, int dirfd, const char *path, bool for_directory)
{
    struct dentry *there;
    int rc = walk_begin(w, dirfd, path, 0);

    if (rc == 0)
        rc = walk_parent(w);
    if (rc < 0)
        return rc;
    if (w->file || !is_name(w))
        return -EEXIST;
    rc = dentry_lookup(w->dir, w->last, w->length, &there);
    if (rc == 0) {
        dentry_put(there);
        return -EEXIST;
    }
    if (rc != -ENOENT)
        return rc;
    return w->trailing && !for_directory ? -ENOENT : dir_may_create(w->dir);
}

/* Gives the inode its name, or gives it up. */
static int add_name(struct walk *w, struct inode *i)
{
    int rc = dentry_add(w->dir, w->last, w->length, i, NULL);

    if (rc < 0) {
        inode_put(i);
        return rc;
    }
    if (inode_is_dir(i))
        w->dir->inode->nlink++;
    inode_touch(w->dir->inode, true);
    return 0;
}

static int add_new(struct walk *w, struct inode *i)
{
    int rc = add_name(w, i);

    if (rc == 0) {
        told_create(w->dir->inode, w->last, w->length, i);
        notify_name(w->dir->inode, w->last, w->length, IN_CREATE | (inode_is_dir(i) ? IN_ISDIR : 0U));
    }
    return rc;
}

static long make_node(int dirfd, u64 user_path, unsigned mode)
{
    struct inode *i;
    struct walk w = {0};
    long rc;
    char *path = path_copy((const void *)user_path, false, &rc);

    if (!path)
        return rc;
    mode &= ~(current_process->fs.umask & 0777);
    rc = find_place(&w, dirfd, path, S_ISDIR(mode));
    if (rc == 0 && (S_ISCHR(mode) || S_ISBLK(mode)))
        rc = -EPERM;
    if (rc == 0)
        rc = w.dir->inode->ops->create(w.dir->inode, mode, 0, &i);
    if (rc == 0)
        rc = add_new(&w, i);
    walk_end(&w);
    path_free(path);
    return rc;
}

FS_CALL(sys_mkdir)
{
    return make_node(AT_FDCWD, a1, S_IFDIR | ((unsigned)a2 & 01777));
}

FS_CALL(sys_mkdirat)
{
    return make_node((int)a1, a2, S_IFDIR | ((unsigned)a3 & 01777));
}

static long do_mknod(int dirfd, u64 path, unsigned mode)
{
    switch (mode & S_IFMT) {
    case 0:
        mode |= S_IFREG;
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR: /* not permitted, but other errors come first */
    case S_IFBLK:
        break;
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
    return make_node(dirfd, path, mode & (S_IFMT | 07777));
}

FS_CALL(sys_mknod)
{
    return do_mknod(AT_FDCWD, a1, (unsigned)a2);
}

FS_CALL(sys_mknodat)
{
    return do_mknod((int)a1, a2, (unsigned)a3);
}

int fs_bind_socket(const char *path, unsigned mode, void *socket, struct inode **out)
{
    struct walk w;
    struct inode *i;
    int rc = find_place(&w, AT_FDCWD, path, false);

    if (rc == 0)
        rc = w.dir->inode->ops->create(w.dir->inode, S_IFSOCK | (mode & 0777), 0, &i);
    if (rc == 0)
        rc = add_name(&w, i);
    if (rc == 0) {
        notify_name(w.dir->inode, w.last, w.length, IN_CREATE);
        i->socket = socket;
        inode_get(i);
        *out = i;
    }
    walk_end(&w);
    return rc == -EEXIST ? -EADDRINUSE : rc;
}

int fs_find_socket(const char *path, void **socket)
{
    struct link_target t;
    int rc = path_find(AT_FDCWD, path, WALK_FOLLOW, &t);

    if (rc == 0 && (!t.dentry || !S_ISSOCK(t.dentry->inode->mode) || !t.dentry->inode->socket))
        rc = -ECONNREFUSED;
    if (rc == 0)
        rc = inode_permission(t.dentry->inode, MAY_WRITE);
    if (rc == 0)
        *socket = t.dentry->inode->socket;
    link_target_put(&t);
    return rc;
}

static long do_symlink(u64 user_target, int dirfd, u64 user_path)
{
    struct walk w = {0};
    struct inode *i;
    long rc;
    char *target = path_copy((const void *)user_target, false, &rc), *path = NULL;

    if (target && (path = path_copy((const void *)user_path, false, &rc)) != NULL) {
        rc = find_place(&w, dirfd, path, false);
        if (rc == 0)
            rc = w.dir->inode->ops->symlink(w.dir->inode, target, &i);
        if (rc == 0)
            rc = add_new(&w, i);
        walk_end(&w);
    }
    path_free(path);
    path_free(target);
    return rc;
}

FS_CALL(sys_symlink)
{
    return do_symlink(a1, AT_FDCWD, a2);
}

FS_CALL(sys_symlinkat)
{
    return do_symlink(a1, (int)a2, a3);
}

static long link_inode(struct walk *w, struct dentry *from)
{
    struct inode *i = from->inode;
    long rc;

    if (i->super != w->dir->inode->super)
        return -EXDEV;
    if (inode_is_dir(i))
        return -EPERM;
    /* A file without a name may get one if it was opened to get one: O_TMPFILE. */
    if (i->nlink == 0 && from->name[0] != '#')
        return -ENOENT;
    inode_get(i);
    rc = add_name(w, i);
    if (rc == 0) {
        if (i->nlink == 0) { /* until now it was the cell's alone */
            told_create(w->dir->inode, w->last, w->length, i);
            tmpfs_tell(i, 0, i->size);
        } else {
            told_link(w->dir->inode, w->last, w->length, i);
        }
        i->nlink++;
        inode_touch(i, false);
        notify_inode(i, IN_ATTRIB);
        notify_name(w->dir->inode, w->last, w->length, IN_CREATE);
    }
    return rc;
}

static long do_link(int old_dirfd, u64 old, int dirfd, u64 user_path, u64 flags)
{
    struct link_target t = {0};
    struct walk w = {0};
    char *path = NULL;
    long rc;

    if (flags & ~(u64)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    rc = path_find_user(
        old_dirfd, (const char *)old,
        (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0U) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0U), &t);
    if (rc == 0 && (path = path_copy((const void *)user_path, false, &rc)) != NULL) {
        rc = find_place(&w, dirfd, path, false);
        if (rc == 0)
            rc = t.dentry ? link_inode(&w, t.dentry) : -EXDEV;
        walk_end(&w);
        path_free(path);
    }
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_link)
{
    return do_link(AT_FDCWD, a1, AT_FDCWD, a2, 0);
}

FS_CALL(sys_linkat)
{
    return do_link((int)a1, a2, (int)a3, a4, a5);
}

/* ---- removing */

static long remove_found(struct dentry *d, bool as_directory)
{
    struct dentry *dir = d->parent;
    long rc = dir_may_remove(d, as_directory);

    if (rc < 0)
        return rc;
    if (as_directory) {
        if (!dentry_is_empty(d))
            return -ENOTEMPTY;
        d->inode->nlink = 0;
        dir->inode->nlink--;
    } else {
        d->inode->nlink--;
        notify_inode(d->inode, IN_ATTRIB);
    }
    inode_touch(d->inode, false);
    inode_touch(dir->inode, true);
    told_remove(dir->inode, d->name, d->length);
    dentry_remove(d);
    return 0;
}

static long remove_last(struct walk *w, bool as_directory)
{
    struct dentry *d;
    long rc;

    if (w->file)
        return -ENOTDIR;
    if (!is_name(w)) {
        if (!as_directory)
            return -EISDIR;
        return w->length == 0 ? -EBUSY : w->length == 1 ? -EINVAL : -ENOTEMPTY;
    }
    if (w->dir->inode->super->flags & SUPER_READONLY)
        return -EROFS;
    rc = dentry_lookup(w->dir, w->last, w->length, &d);
    if (rc < 0)
        return rc;
    if (w->trailing && !as_directory)
        rc = inode_is_dir(d->inode) ? -EISDIR : -ENOTDIR;
    else if (!w->dir->inode->ops->create)
        rc = inode_permission(w->dir->inode, MAY_WRITE | MAY_EXEC) < 0 ? -EACCES : -EPERM;
    else
        rc = remove_found(d, as_directory);
    dentry_put(d); /* the file goes, perhaps: who watches it is told before who watches its directory */
    if (rc == 0)
        notify_name(w->dir->inode, w->last, w->length, IN_DELETE | (as_directory ? IN_ISDIR : 0U));
    return rc;
}

static long do_remove(int dirfd, u64 user_path, bool as_directory)
{
    struct walk w;
    long rc;
    char *path = path_copy((const void *)user_path, false, &rc);

    if (!path)
        return rc;
    rc = walk_begin(&w, dirfd, path, 0);
    if (rc == 0)
        rc = walk_parent(&w);
    if (rc == 0)
        rc = remove_last(&w, as_directory);
    walk_end(&w);
    path_free(path);
    return rc;
}

FS_CALL(sys_rmdir)
{
    return do_remove(AT_FDCWD, a1, true);
}

FS_CALL(sys_unlink)
{
    return do_remove(AT_FDCWD, a1, false);
}

FS_CALL(sys_unlinkat)
{
    if (a3 & ~(u64)AT_REMOVEDIR)
        return -EINVAL;
    return do_remove((int)a1, a2, (a3 & AT_REMOVEDIR) != 0);
}
