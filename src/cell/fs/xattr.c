/*
 * A list for each inode, sorted by name. They are few: the names of one file are bounded by what listxattr(2)
 * can tell of. What they take counts as data of files.
 */
#include "cell/fs/xattr.h"

#include <asm/errno.h>
#include <linux/xattr.h>

#include "cell/base/text.h"
#include "cell/fs/host_files.h"
#include "cell/fs/inode.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/heap.h"

struct xattr *xattr_create(const char *name, size_t size)
{
    size_t n = strlen(name) + 1;
    struct xattr *x = kmalloc(sizeof(*x) + n + size);

    if (!x)
        return NULL;
    x->name_size = (u32)n;
    x->size = (u32)size;
    memcpy(x->bytes, name, n);
    return x;
}

void xattr_destroy(struct xattr *x)
{
    kfree(x);
}

void *xattr_value(struct xattr *x)
{
    return x->bytes + x->name_size;
}

static size_t space(const struct xattr *x)
{
    return sizeof(*x) + x->name_size + x->size;
}

/* Where the name is linked in, or would be. */
static struct xattr **place_of(struct xattr **at, const char *name)
{
    while (*at && strcmp((*at)->bytes, name) < 0)
        at = &(*at)->next;
    return at;
}

static bool is_at(const struct xattr *x, const char *name)
{
    return x && strcmp(x->bytes, name) == 0;
}

struct xattr *xattr_find(const struct inode *i, const char *name)
{
    struct xattr *first = i->xattrs, *x = *place_of(&first, name);

    return is_at(x, name) ? x : NULL;
}

static void drop(struct xattr **at)
{
    struct xattr *x = *at;

    *at = x->next;
    tmpfs_uncharge(space(x));
    kfree(x);
}

/* Files of the host that nobody uses make room, as for data. */
static int charge(size_t n)
{
    int rc;

    do
        rc = tmpfs_charge(n);
    while (rc == -ENOSPC && host_files_evict());
    return rc;
}

int xattr_set(struct inode *i, struct xattr *x, unsigned flags)
{
    struct xattr **at = place_of(&i->xattrs, x->bytes);
    bool exists = is_at(*at, x->bytes);
    int rc;

    if (exists && (flags & XATTR_CREATE))
        return -EEXIST;
    if (!exists && (flags & XATTR_REPLACE))
        return -ENODATA;
    if (!exists && xattr_list(i, NULL) + x->name_size > XATTR_LIST_MAX_)
        return -ENOSPC;
    rc = charge(space(x));
    if (rc < 0)
        return rc;
    if (exists)
        drop(at);
    x->next = *at;
    *at = x;
    return 0;
}

int xattr_remove(struct inode *i, const char *name)
{
    struct xattr **at = place_of(&i->xattrs, name);

    if (!is_at(*at, name))
        return -ENODATA;
    drop(at);
    return 0;
}

size_t xattr_list(const struct inode *i, char *to)
{
    size_t n = 0;

    for (const struct xattr *x = i->xattrs; x; x = x->next) {
        if (to)
            memcpy(to + n, x->bytes, x->name_size);
        n += x->name_size;
    }
    return n;
}

void xattr_free(struct inode *i)
{
    while (i->xattrs)
        drop(&i->xattrs);
}
