/*
 * Extended attributes: whose there are, who may see and change them, and in which order a call finds fault.
 *
 * Of the name spaces (xattr(7)) a program without privileges has user.*, of regular files and directories; it
 * cannot see trusted.* and cannot change security.*, and there is none of either. Only files of the cell's
 * own memory have any.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <linux/xattr.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/inotify.h"
#include "cell/fs/path.h"
#include "cell/fs/xattr.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

/* How a call names its file: by path, by path but not through a link at the end, by descriptor. */
enum how { PATH, LINK, DESCRIPTOR };

struct place {
    struct link_target found; /* by a path: references */
    struct inode *inode;      /* NULL: a pipe, a socket, an event */
    struct dentry *dentry;    /* NULL: without a name */
};

static long place_find(enum how how, u64 which, struct place *p)
{
    struct file *f;
    long rc;

    memset(p, 0, sizeof(*p));
    if (how == DESCRIPTOR) {
        f = fd_file((int)which);
        if (!f)
            return -EBADF;
        p->inode = f->inode;
        p->dentry = f->dentry;
        return 0;
    }
    rc = path_find_user(AT_FDCWD, (const char *)which, how == PATH ? WALK_FOLLOW : 0, &p->found);
    if (rc < 0)
        return rc;
    p->inode = link_target_inode(&p->found);
    p->dentry = p->found.dentry;
    return 0;
}

static void place_put(struct place *p)
{
    link_target_put(&p->found);
}

/* ---- name spaces */

static long take_name(u64 user, char *name)
{
    long n = strncpy_from_user(name, (const char *)user, XATTR_NAME_MAX_ + 1);

    return n == 0 || n == -ENAMETOOLONG ? -ERANGE : n < 0 ? n : 0;
}

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_kept(const struct inode *i)
{
    return i && i->super->magic == TMPFS_MAGIC && !i->super->is_host;
}

/* user.* of a file: in a directory that all may write to, only the owner's are the owner's to change. */
static long may_use(const struct inode *i, unsigned mask)
{
    bool change = mask == MAY_WRITE;

    if (!i || (!S_ISREG(i->mode) && !inode_is_dir(i)))
        return change ? -EPERM : -ENODATA;
    if (change && inode_is_dir(i) && (i->mode & S_ISVTX) && !inode_owned(i))
        return -EPERM;
    return inode_permission(i, mask);
}

/* 0: the inode may have such an attribute, and the caller may see it (MAY_READ), or change it (MAY_WRITE). */
static long check(const struct inode *i, const char *name, unsigned mask)
{
    bool change = mask == MAY_WRITE;
    long rc;

    if (begins(name, XATTR_TRUSTED_PREFIX))
        return change ? -EPERM : -ENODATA;
    if (begins(name, XATTR_SECURITY_PREFIX))
        return change ? -EPERM : is_kept(i) ? -ENODATA : -EOPNOTSUPP;
    if (begins(name, XATTR_SYSTEM_PREFIX))
        return -EOPNOTSUPP;
    if (!begins(name, XATTR_USER_PREFIX)) {
        rc = i ? inode_permission(i, mask) : 0;
        return rc < 0 ? rc : -EOPNOTSUPP;
    }
    rc = may_use(i, mask);
    if (rc < 0)
        return rc;
    if (!is_kept(i)) /* an image could have some, but has none */
        return i->super->flags & SUPER_READONLY && !i->super->is_host ? -ENODATA : -EOPNOTSUPP;
    return name[sizeof(XATTR_USER_PREFIX) - 1] ? 0 : -EINVAL;
}

static long check_change(const struct place *p, const char *name)
{
    if (p->inode && (p->inode->super->flags & SUPER_READONLY))
        return -EROFS;
    return check(p->inode, name, MAY_WRITE);
}

static void changed(const struct place *p)
{
    inode_touch(p->inode, false);
    notify_dentry(p->dentry, IN_ATTRIB);
}

/* ---- calls */

/* The attribute of a call to set one: -errno, or it is the caller's. */
static long take_attribute(u64 name_, u64 value, u64 size, u64 flags, struct xattr **out)
{
    char name[XATTR_NAME_MAX_ + 1];
    long rc;

    if ((u32)flags & ~(u32)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if ((rc = take_name(name_, name)) < 0)
        return rc;
    if (size > XATTR_SIZE_MAX_)
        return -E2BIG;
    *out = xattr_create(name, size);
    if (!*out)
        return -ENOSPC;
    rc = copy_from_user(xattr_value(*out), (const void *)value, size);
    if (rc < 0)
        xattr_destroy(*out);
    return rc;
}

static long set(enum how how, u64 which, u64 name, u64 value, u64 size, u64 flags)
{
    struct xattr *x;
    struct place p;
    long rc = take_attribute(name, value, size, flags, &x);

    if (rc < 0)
        return rc;
    rc = place_find(how, which, &p);
    if (rc == 0)
        rc = check_change(&p, x->bytes);
    if (rc == 0)
        rc = xattr_set(p.inode, x, (unsigned)flags);
    if (rc == 0)
        changed(&p);
    else
        xattr_destroy(x);
    place_put(&p);
    return rc;
}

static long give_value(const struct inode *i, const char *name, u64 to, u64 size)
{
    struct xattr *x = xattr_find(i, name);

    if (!x)
        return -ENODATA;
    if (size == 0)
        return x->size;
    if (x->size > size)
        return -ERANGE;
    return copy_to_user((void *)to, xattr_value(x), x->size) < 0 ? -EFAULT : (long)x->size;
}

static long get(enum how how, u64 which, u64 name_, u64 to, u64 size)
{
    char name[XATTR_NAME_MAX_ + 1];
    struct place p;
    long rc = take_name(name_, name);

    if (rc < 0)
        return rc;
    rc = place_find(how, which, &p);
    if (rc == 0)
        rc = check(p.inode, name, MAY_READ);
    if (rc == 0)
        rc = give_value(p.inode, name, to, size);
    place_put(&p);
    return rc;
}

static long give_names(const struct inode *i, u64 to, u64 size)
{
    size_t n = xattr_list(i, NULL);
    char *names;
    long rc;

    if (size == 0 || n == 0)
        return (long)n;
    if (n > size)
        return -ERANGE;
    names = kmalloc(n);
    if (!names)
        return -ENOMEM;
    (void)xattr_list(i, names);
    rc = copy_to_user((void *)to, names, n) < 0 ? -EFAULT : (long)n;
    kfree(names);
    return rc;
}

static long list(enum how how, u64 which, u64 to, u64 size)
{
    struct place p;
    long rc = place_find(how, which, &p);

    if (rc == 0 && p.inode)
        rc = give_names(p.inode, to, size);
    place_put(&p);
    return rc;
}

static long remove(enum how how, u64 which, u64 name_)
{
    char name[XATTR_NAME_MAX_ + 1];
    struct place p;
    long rc = take_name(name_, name);

    if (rc < 0)
        return rc;
    rc = place_find(how, which, &p);
    if (rc == 0)
        rc = check_change(&p, name);
    if (rc == 0)
        rc = xattr_remove(p.inode, name);
    if (rc == 0)
        changed(&p);
    place_put(&p);
    return rc;
}

FS_CALL(sys_setxattr)
{
    return set(PATH, a1, a2, a3, a4, a5);
}

FS_CALL(sys_lsetxattr)
{
    return set(LINK, a1, a2, a3, a4, a5);
}

FS_CALL(sys_fsetxattr)
{
    return set(DESCRIPTOR, a1, a2, a3, a4, a5);
}

FS_CALL(sys_getxattr)
{
    return get(PATH, a1, a2, a3, a4);
}

FS_CALL(sys_lgetxattr)
{
    return get(LINK, a1, a2, a3, a4);
}

FS_CALL(sys_fgetxattr)
{
    return get(DESCRIPTOR, a1, a2, a3, a4);
}

FS_CALL(sys_listxattr)
{
    return list(PATH, a1, a2, a3);
}

FS_CALL(sys_llistxattr)
{
    return list(LINK, a1, a2, a3);
}

FS_CALL(sys_flistxattr)
{
    return list(DESCRIPTOR, a1, a2, a3);
}

FS_CALL(sys_removexattr)
{
    return remove(PATH, a1, a2);
}

FS_CALL(sys_lremovexattr)
{
    return remove(LINK, a1, a2);
}

FS_CALL(sys_fremovexattr)
{
    return remove(DESCRIPTOR, a1, a2);
}
