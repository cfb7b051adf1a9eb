#include "cell/fs/inode.h"

#include <asm/errno.h>

#include "cell/fs/dentry.h"
#include "cell/fs/host_link.h"
#include "cell/fs/inotify.h"
#include "cell/fs/lock.h"
#include "cell/fs/xattr.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

struct inode *inode_create(struct super *super, const struct inode_ops *ops, unsigned mode)
{
    struct inode *i = kmalloc(sizeof(*i));

    if (!i)
        return NULL;
    i->ops = ops;
    i->super = super;
    i->ino = ++super->next_ino;
    i->refs = 1;
    i->mode = mode;
    i->nlink = S_ISDIR(mode) ? 2 : 1;
    i->uid = CELL_UID;
    i->gid = CELL_GID;
    if (S_ISDIR(mode))
        list_init(&i->children);
    i->atime = i->mtime = i->ctime = fs_now();
    return i;
}

void inode_get(struct inode *i)
{
    i->refs++;
}

void inode_put(struct inode *i)
{
    if (--i->refs > 0)
        return;
    if (i->watches)
        inotify_inode_gone(i);
    if (i->ops->destroy)
        i->ops->destroy(i);
    lock_table_free(i->locks);
    xattr_free(i);
    kfree(i);
}

/*
 * Asking the host for the time costs more than most writes, so the last answer holds while the processor's
 * counter says that it is young: a few million cycles, about a millisecond. Each process keeps its own.
 */
struct fs_time fs_now(void)
{
    enum { YOUNG = 1 << 21 };
    static u64 asked, ns;
    u64 cycles = __builtin_ia32_rdtsc();

    if (ns == 0 || cycles - asked > YOUNG) {
        asked = cycles;
        ns = realtime_ns();
    }
    return (struct fs_time){(s64)(ns / 1000000000U), (u32)(ns % 1000000000U)};
}

/* Whoever changes a program takes its privileges away. */
void inode_changed(struct inode *i)
{
    i->mode &= ~(u32)S_ISUID;
    if (i->mode & S_IXGRP)
        i->mode &= ~(u32)S_ISGID;
    inode_touch(i, true);
}

void inode_touch(struct inode *i, bool modified)
{
    i->ctime = fs_now();
    if (modified)
        i->mtime = i->ctime;
}

static bool is_before(const struct fs_time *a, const struct fs_time *b)
{
    return a->sec != b->sec ? a->sec < b->sec : a->nsec < b->nsec;
}

void inode_accessed(struct inode *i)
{
    if ((i->super->flags & SUPER_READONLY) ||
        (is_before(&i->mtime, &i->atime) && is_before(&i->ctime, &i->atime)))
        return;
    i->atime = fs_now();
}

bool inode_owned(const struct inode *i)
{
    return i->uid == CELL_UID;
}

int inode_permission(const struct inode *i, unsigned mask)
{
    unsigned bits = i->mode;

    if ((mask & MAY_WRITE) && (i->super->flags & SUPER_READONLY) &&
        (S_ISREG(bits) || S_ISDIR(bits) || S_ISLNK(bits)))
        return -EROFS;
    if (i->uid == CELL_UID)
        bits >>= 6;
    else if (i->gid == CELL_GID)
        bits >>= 3;
    return (bits & mask & 7) == mask ? 0 : -EACCES;
}

void inode_stat(struct inode *i, struct kstat *out)
{
    if (i->ops->refresh)
        i->ops->refresh(i);
    *out = (struct kstat){
        .dev = i->super->dev,
        .ino = i->ino,
        .size = i->size,
        .blocks = i->host & HOST_ABSENT ? PAGE_UP(i->size) / 512 : i->blocks,
        .rdev = i->rdev,
        .mode = i->mode,
        .uid = i->uid,
        .gid = i->gid,
        .nlink = i->nlink,
        .block_size = PAGE,
        .atime = i->atime,
        .mtime = i->mtime,
        .ctime = i->ctime,
    };
}
