/*
 * stat and everything else that only asks.
 */
#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <linux/fcntl.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/erofs_fs.h"
#include "cell/fs/path.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

static void stat_file(struct file *f, struct kstat *k)
{
    if (f->inode) {
        inode_stat(f->inode, k);
        return;
    }
    /* Pipes, sockets, events: as the kernel's own little file systems show them. */
    *k = (struct kstat){.dev = 12,
                        .ino = f->anon_ino,
                        .mode = f->anon_mode,
                        .uid = CELL_UID,
                        .gid = CELL_GID,
                        .nlink = 1,
                        .block_size = PAGE,
                        .atime = fs_now(),
                        .mtime = fs_now(),
                        .ctime = fs_now()};
}

static long put_stat(u64 user, const struct kstat *k)
{
    struct stat s = {
        .st_dev = k->dev,
        .st_ino = k->ino,
        .st_nlink = k->nlink,
        .st_mode = k->mode,
        .st_uid = k->uid,
        .st_gid = k->gid,
        .st_rdev = k->rdev,
        .st_size = (long)k->size,
        .st_blksize = k->block_size,
        .st_blocks = (long)k->blocks,
        .st_atime = (unsigned long)k->atime.sec,
        .st_atime_nsec = k->atime.nsec,
        .st_mtime = (unsigned long)k->mtime.sec,
        .st_mtime_nsec = k->mtime.nsec,
        .st_ctime = (unsigned long)k->ctime.sec,
        .st_ctime_nsec = k->ctime.nsec,
    };

    return copy_to_user((void *)user, &s, sizeof(s));
}

static long stat_path(int dirfd, u64 path, unsigned flags, struct kstat *k)
{
    struct link_target t;
    long rc = path_find_user(dirfd, (const char *)path, flags, &t);

    if (rc == 0) {
        if (t.dentry)
            inode_stat(t.dentry->inode, k);
        else
            stat_file(t.file, k);
    }
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_stat)
{
    struct kstat k;
    long rc = stat_path(AT_FDCWD, a1, WALK_FOLLOW, &k);

    return rc < 0 ? rc : put_stat(a2, &k);
}

FS_CALL(sys_lstat)
{
    struct kstat k;
    long rc = stat_path(AT_FDCWD, a1, 0, &k);

    return rc < 0 ? rc : put_stat(a2, &k);
}

FS_CALL(sys_fstat)
{
    struct file *f = fd_file_any((int)a1);
    struct kstat k;

    if (!f)
        return -EBADF;
    stat_file(f, &k);
    return put_stat(a2, &k);
}

/* AT_* of a call that looks at a file, as the walk's. */
static unsigned walk_flags(u64 flags)
{
    return (flags & AT_SYMLINK_NOFOLLOW ? 0U : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0U);
}

/* What C libraries make of fstat(): fstatat(fd, "", ..., AT_EMPTY_PATH). */
static bool is_plain_descriptor(u64 dirfd, u64 path, u64 flags)
{
    char c = 1;

    return (flags & AT_EMPTY_PATH) && (int)dirfd >= 0 && get_user(c, (const char *)path) == 0 && c == 0;
}

FS_CALL(sys_newfstatat)
{
    struct kstat k;
    long rc;

    if (a4 & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
        return -EINVAL;
    if (is_plain_descriptor(a1, a2, a4))
        return sys_fstat(a1, a3, 0, 0, 0, 0);
    rc = stat_path((int)a1, a2, walk_flags(a4), &k);
    return rc < 0 ? rc : put_stat(a3, &k);
}

static struct statx_timestamp timestamp(struct fs_time t)
{
    return (struct statx_timestamp){.tv_sec = t.sec, .tv_nsec = t.nsec};
}

FS_CALL(sys_statx)
{
    struct statx x = {0};
    struct kstat k;
    long rc;

    if ((a3 & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE)) ||
        (a3 & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE || (a4 & STATX__RESERVED))
        return -EINVAL;
    rc = stat_path((int)a1, a2, walk_flags(a3), &k);
    if (rc != 0)
        return rc;
    x.stx_mask = STATX_BASIC_STATS;
    x.stx_blksize = k.block_size;
    x.stx_nlink = k.nlink;
    x.stx_uid = k.uid;
    x.stx_gid = k.gid;
    x.stx_mode = (u16)k.mode;
    x.stx_ino = k.ino;
    x.stx_size = k.size;
    x.stx_blocks = k.blocks;
    x.stx_atime = timestamp(k.atime);
    x.stx_mtime = timestamp(k.mtime);
    x.stx_ctime = timestamp(k.ctime);
    x.stx_dev_minor = (u32)k.dev;
    x.stx_rdev_major = (u32)k.rdev >> 8 & 0xfff;
    x.stx_rdev_minor = ((u32)k.rdev & 0xff) | ((u32)k.rdev >> 12 & 0xfff00);
    return copy_to_user((void *)a5, &x, sizeof(x));
}

/* ---- access */

static long do_access(u64 dirfd, u64 path, u64 mode, u64 flags)
{
    struct link_target t;
    const struct inode *i;
    long rc;

    if (mode & ~7ULL)
        return -EINVAL;
    if (flags & ~(u64)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    rc = path_find_user((int)dirfd, (const char *)path, walk_flags(flags), &t);
    if (rc == 0 && (i = link_target_inode(&t)) != NULL) {
        rc = inode_permission(i, (unsigned)mode);
        if (rc == 0 && (mode & MAY_EXEC) && S_ISREG(i->mode) && (i->super->flags & SUPER_NOEXEC))
            rc = -EACCES;
    }
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_access)
{
    return do_access((u64)AT_FDCWD, a1, (u32)a2, 0);
}

FS_CALL(sys_faccessat)
{
    return do_access(a1, a2, (u32)a3, 0);
}

FS_CALL(sys_faccessat2)
{
    return do_access(a1, a2, (u32)a3, (u32)a4);
}

/* ---- links */

static long do_readlink(u64 dirfd, u64 path, u64 buf, u64 cap)
{
    struct link_target t;
    char *text;
    long rc;

    if ((int)cap <= 0)
        return -EINVAL;
    /* An empty path is the link that the descriptor was opened on, with O_PATH | O_NOFOLLOW. */
    rc = path_find_user((int)dirfd, (const char *)path, WALK_EMPTY, &t);
    if (rc == 0 && (!t.dentry || !inode_is_link(t.dentry->inode)))
        rc = -EINVAL;
    if (rc == 0) {
        text = path_buffer();
        if (!text)
            rc = -ENOMEM;
        else
            rc = t.dentry->inode->ops->readlink(t.dentry->inode, text,
                                                MIN((size_t)(u32)cap, (size_t)PATH_MAX_));
        if (rc > 0 && copy_to_user((void *)buf, text, (size_t)rc) < 0)
            rc = -EFAULT;
        if (rc >= 0)
            inode_accessed(t.dentry->inode);
        path_free(text);
    } else if (rc == -EINVAL && (int)dirfd == AT_FDCWD) {
        char c = 1;
        if (get_user(c, (const char *)path) == 0 && c == 0)
            rc = -ENOENT;
    }
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_readlink)
{
    return do_readlink((u64)AT_FDCWD, a1, a2, a3);
}

FS_CALL(sys_readlinkat)
{
    return do_readlink(a1, a2, a3, a4);
}

/* ---- file systems */

static long put_statfs(u64 user, const struct inode *i)
{
    struct statfs s = {.f_type = 0x50495045 /* pipefs, as good as any */,
                       .f_bsize = PAGE,
                       .f_namelen = NAME_MAX_,
                       .f_frsize = PAGE};
    u64 total = 0, free = 0;

    if (i) {
        s.f_type = (long)i->super->magic;
        s.f_fsid.val[0] = (int)i->super->dev;
        s.f_flags = 0x20 /* ST_VALID */ | 2 /* ST_NOSUID */ | (i->super->flags & SUPER_READONLY ? 1 : 0);
        if (i->super->magic == 0x01021994) {
            tmpfs_statfs(&total, &free);
            s.f_files = s.f_ffree = (long)total;
        } else if (i->super->flags & SUPER_READONLY) {
            u64 inodes;
            erofs_statfs(&total, &inodes);
            s.f_files = (long)inodes;
        }
        s.f_blocks = (long)total;
        s.f_bfree = s.f_bavail = (long)free;
    }
    return copy_to_user((void *)user, &s, sizeof(s));
}

FS_CALL(sys_statfs)
{
    struct link_target t;
    long rc = path_find_user(AT_FDCWD, (const char *)a1, WALK_FOLLOW, &t);

    if (rc == 0)
        rc = put_statfs(a2, link_target_inode(&t));
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_fstatfs)
{
    struct file *f = fd_file_any((int)a1);

    return f ? put_statfs(a2, f->inode) : -EBADF;
}
