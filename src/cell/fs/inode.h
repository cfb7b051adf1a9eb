/*
 * inode.h - files as such, apart from their names: what stat(2) shows, and the operations of the file system
 * that they belong to. Kernel lock held in all of this.
 */
#pragma once
#include <linux/stat.h>

#include "cell/base/list.h"
#include "cell/base/types.h"

struct dentry;
struct dir_sink;
struct file;
struct file_ops;
struct inode;
struct inotify_watch;
struct lock_table;
struct pipe;
struct xattr;

enum { NAME_MAX_ = 255, PATH_MAX_ = 4096, LINKS_MAX = 40 };
enum { MAY_EXEC = 1, MAY_WRITE = 2, MAY_READ = 4 };

/* A mounted file system. */
enum { SUPER_READONLY = 1, SUPER_NOEXEC = 2, SUPER_UNCACHED = 4 /* names are looked up each time */ };
struct super {
    struct list node; /* in the order of mounting */
    const char *type, *where;
    u32 flags, dev;
    u64 magic; /* statfs.f_type */
    u64 next_ino;
    struct dentry *root;
    /* A directory of the host (host_files.h): its number + 1 once changes are told, else 0. */
    u16 host_root, host_index;
    bool is_host, host_writable;
};

struct fs_time {
    s64 sec;
    u32 nsec;
};

/* Where a magic link of procfs leads: to a place in the tree, or to an open file that has none. References.
 */
struct link_target {
    struct dentry *dentry;
    struct file *file;
};

/* Every operation may be NULL: not offered. */
struct inode_ops {
    /* Directories. Without lookup, all names are in the dentry cache, pinned. */
    int (*lookup)(struct inode *dir, const char *name, size_t len, struct inode **out); /* -ENOENT */
    /* Entries from f->pos (>= 2) on, until the sink is full. */
    int (*iterate)(struct file *f, struct dir_sink *sink);
    /* A new file for this directory, without a name yet. `mode` with its type. */
    int (*create)(struct inode *dir, unsigned mode, u32 rdev, struct inode **out);
    int (*symlink)(struct inode *dir, const char *target, struct inode **out);
    /* Symbolic links: the length, not ended by 0. */
    long (*readlink)(struct inode *link, char *buf, size_t cap);
    int (*follow)(struct inode *link, struct link_target *out);
    /* Before a struct file of it is handed out: may set f->ops and f->priv. */
    int (*open)(struct inode *inode, struct file *f);
    /* Instead: makes the file itself (terminals). */
    int (*open_device)(struct inode *inode, unsigned flags, struct file **out);
    int (*truncate)(struct inode *inode, u64 size);
    /* Regular files: the bytes at pos where they lie, *n of them in a row; NULL: the end. */
    const u8 *(*peek)(struct inode *inode, u64 pos, u64 *n);
    int (*fallocate)(struct inode *inode, int mode, u64 offset, u64 len);
    void (*refresh)(struct inode *inode); /* before stat */
    void (*destroy)(struct inode *inode); /* the last reference went */
};

struct inode {
    const struct inode_ops *ops;
    const struct file_ops *fops; /* of files opened; NULL: cannot be opened (-ENXIO) */
    struct super *super;
    u64 ino, size;
    u32 refs, mode, uid, gid, nlink, rdev;
    u64 blocks; /* of 512 bytes */
    struct fs_time atime, mtime, ctime;
    struct lock_table *locks;      /* fs/lock.c; NULL: none yet */
    struct inotify_watch *watches; /* fs/inotify.c; NULL: none */
    struct xattr *xattrs;          /* fs/xattr.c; NULL: none */
    union {
        struct pipe *pipe; /* FIFO that is open */
        void *socket;      /* bound here; belongs to the socket */
        struct {
            struct list children; /* directory: pinned dentries, in the order of creation */
        };
        struct list host_unused; /* regular file of the host: fs/host_fetch.c */
    };
    u64 cookie; /* of the last entry of the directory */
    void *priv; /* of the file system */
    u64 data;
    u32 mapped; /* open files that were mapped: pages may be in use */
    u32 seals;  /* memfd_create(2) */
    /* Regular files of the host (fs/host_link.h): open files, and calls that need the contents; HOST_*. */
    u32 opens, host;
};

/* One reference. NULL: out of memory. */
struct inode *inode_create(struct super *super, const struct inode_ops *ops, unsigned mode);
void inode_get(struct inode *i);
void inode_put(struct inode *i);

/* The clock of time stamps: like Linux's, it ticks every few milliseconds. */
struct fs_time fs_now(void);
void inode_changed(struct inode *i);              /* the contents of a regular file did */
void inode_touch(struct inode *i, bool modified); /* ctime, and mtime too */
void inode_accessed(struct inode *i);             /* atime, as relatime has it */

/* MAY_*: 0, -EACCES, or -EROFS. */
int inode_permission(const struct inode *i, unsigned mask);
/* Does the caller own it? */
bool inode_owned(const struct inode *i);

static inline bool inode_is_dir(const struct inode *i)
{
    return S_ISDIR(i->mode);
}

static inline bool inode_is_link(const struct inode *i)
{
    return S_ISLNK(i->mode);
}

struct kstat {
    u64 dev, ino, size, blocks, rdev;
    u32 mode, uid, gid, nlink, block_size;
    struct fs_time atime, mtime, ctime;
};
void inode_stat(struct inode *i, struct kstat *out);
