/*
 * Open files: their life, and open(2).
 */
#include "cell/fs/file.h"

#include <asm/errno.h>
#include <linux/fcntl.h>

#include "cell/base/text.h"
#include "cell/fs/dir.h"
#include "cell/fs/host_files.h"
#include "cell/fs/inotify.h"
#include "cell/fs/lock.h"
#include "cell/ipc/epoll.h"
#include "cell/fs/path.h"
#include "cell/ipc/pipe.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

static struct file *create(const struct file_ops *ops, unsigned flags)
{
    struct file *f = kmalloc(sizeof(*f));

    if (!f)
        return NULL;
    f->ops = ops;
    f->flags = flags;
    f->refs = 1;
    list_init(&f->epolls);
    return f;
}

struct file *file_create_anon(const struct file_ops *ops, void *priv, unsigned flags, unsigned mode)
{
    struct file *f = create(ops, flags & ~(unsigned)(O_CLOEXEC | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC));

    if (!f)
        return NULL;
    f->priv = priv;
    f->anon_mode = mode;
    f->anon_ino = (u64)(uintptr_t)f >> 4 & 0xffffffff; /* unique while it is open */
    return f;
}

void file_set_place(struct file *f, struct dentry *d)
{
    f->dentry = d;
    dentry_get(d);
    f->inode = d->inode;
    inode_get(d->inode);
}

void file_set_path(struct file *f, const char *path)
{
    struct link_target t;

    if (!f->dentry && path_find(AT_FDCWD, path, 0, &t) == 0 && t.dentry)
        file_set_place(f, t.dentry);
    link_target_put(&t);
}

void file_get(struct file *f)
{
    f->refs++;
}

void file_put(struct file *f)
{
    if (--f->refs > 0)
        return;
    f->refs = 1; /* who gets and puts it in release() must not free it a second time */
    epoll_file_released(f);
    notify_file(f, (f->flags & O_ACCMODE) == O_RDONLY ? IN_CLOSE_NOWRITE : IN_CLOSE_WRITE);
    if (f->inode)
        lock_drop_file(f);
    if (f->mapped && f->inode)
        f->inode->mapped--;
    if (f->ops->release)
        f->ops->release(f);
    if (f->counted)
        host_files_unuse(f->inode);
    if (f->dentry)
        dentry_put(f->dentry);
    if (f->inode)
        inode_put(f->inode);
    kfree(f);
}

int file_map(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset)
{
    return f->ops->map ? f->ops->map(f, addr, len, prot, flags, offset) : -ENODEV;
}

u64 file_size(const struct file *f)
{
    return f->inode ? f->inode->size : 0;
}

long file_read_kernel(struct file *f, void *buf, size_t len, u64 pos)
{
    size_t done = 0;

    if (!f->ops->read)
        return -EINVAL;
    while (done < len) {
        long n = f->ops->read(f, (u8 *)buf + done, len - done, &pos);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    if (done > 0)
        notify_file(f, IN_ACCESS);
    return (long)done;
}

size_t file_describe(const struct file *f, char *buf, size_t cap)
{
    long n;

    if (f->dentry) {
        n = dentry_path(f->dentry, buf, cap);
        if (n >= 0)
            return (size_t)n;
        return text_format(buf, cap, "(path too long)");
    }
    if (strchr(f->ops->name ? f->ops->name : "file", ':')) /* "anon_inode:[eventpoll]" */
        return text_copy(buf, f->ops->name, cap);
    return text_format(buf, cap, "%s:[%lu]", f->ops->name ? f->ops->name : "file", f->anon_ino);
}

void mm_format_file(const struct file *f, struct text *t)
{
    char *path = path_buffer();

    if (!path)
        return;
    (void)file_describe(f, path, PATH_MAX_);
    text_add(t, "%20s%s", "", path);
    path_free(path);
}

/* What reading and writing need of the mode. */
static unsigned wanted(unsigned flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return MAY_READ | (flags & O_TRUNC ? MAY_WRITE : 0);
    case O_WRONLY:
        return MAY_WRITE;
    default:
        return MAY_READ | MAY_WRITE;
    }
}

enum { KEPT_NOT = O_CLOEXEC | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC };

/* The device makes the file; its name is what was opened. */
static int open_device(struct dentry *d, unsigned flags, struct file **out)
{
    int rc = d->inode->ops->open_device(d->inode, flags, out);

    if (rc == 0 && !(*out)->dentry)
        file_set_place(*out, d);
    if (rc == 0)
        notify_file(*out, IN_OPEN);
    return rc;
}

static int open_checked(struct dentry *d, unsigned flags, struct file **out)
{
    struct inode *i = d->inode;
    struct file *f;
    bool cut = (flags & O_TRUNC) && S_ISREG(i->mode) && i->ops->truncate;
    int rc = 0;

    if (!(flags & O_PATH) && i->ops->open_device)
        return open_device(d, flags, out);
    if (!(flags & O_PATH) && !S_ISFIFO(i->mode) && !i->fops)
        return S_ISCHR(i->mode) || S_ISBLK(i->mode) ? -EACCES : -ENXIO;
    f = create(i->fops, flags & ~(unsigned)KEPT_NOT);
    if (!f)
        return -ENFILE;
    file_set_place(f, d);
    if (flags & O_PATH) {
        f->flags = flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW);
        f->ops = &path_file_ops;
    } else {
        rc = host_files_use(i, cut);
        f->counted = rc == 0;
        if (rc < 0) {
            /* below */
        } else if (S_ISFIFO(i->mode)) {
            rc = fifo_open(i, f);
        } else if (i->ops->open) {
            rc = i->ops->open(i, f);
        }
        if (rc == 0 && cut)
            rc = i->ops->truncate(i, 0);
    }
    if (rc < 0) {
        static const struct file_ops none = {0};
        f->ops = &none; /* it was never open, so there is nothing to release, and nobody to be told */
        f->flags = O_PATH;
        file_put(f);
        return rc;
    }
    notify_file(f, IN_OPEN);
    if (cut)
        notify_file(f, IN_MODIFY);
    *out = f;
    return 0;
}

int file_open_dentry(struct dentry *d, unsigned flags, struct file **out)
{
    struct inode *i = d->inode;
    unsigned want = wanted(flags);
    int rc;

    if (flags & O_PATH)
        return open_checked(d, flags, out);
    if (inode_is_link(i))
        return -ELOOP;
    if (inode_is_dir(i) && (want & MAY_WRITE))
        return -EISDIR;
    rc = inode_permission(i, want);
    if (rc < 0)
        return rc;
    if ((flags & O_NOATIME) && !inode_owned(i))
        return -EPERM;
    return open_checked(d, flags, out);
}

/* A new regular file in w->dir, as w->last says. */
static int create_file(struct walk *w, unsigned flags, unsigned mode, struct file **out)
{
    struct inode *dir = w->dir->inode, *i;
    struct dentry *d;
    int rc;

    rc = dir_may_create(w->dir);
    if (rc < 0)
        return rc;
    rc = dir->ops->create(dir, S_IFREG | (mode & 07777 & ~current_process->fs.umask), 0, &i);
    if (rc < 0)
        return rc;
    rc = dentry_add(w->dir, w->last, w->length, i, &d);
    if (rc < 0) {
        inode_put(i);
        return rc;
    }
    inode_touch(dir, true);
    told_create(dir, w->last, w->length, i);
    notify_name(dir, w->last, w->length, IN_CREATE);
    /* Whoever makes a file may have it open, whatever its mode says. */
    return open_checked(d, flags & ~(unsigned)O_TRUNC, out);
}

static int open_tmpfile(struct walk *w, unsigned flags, unsigned mode, struct file **out)
{
    struct dentry *dir, *d;
    struct inode *i;
    char name[24];
    int rc;

    w->flags |= WALK_DIRECTORY | WALK_FOLLOW;
    rc = walk_last(w, &dir);
    if (rc < 0)
        return rc;
    if (!dir)
        return -ENOTDIR;
    rc = inode_permission(dir->inode, MAY_WRITE | MAY_EXEC);
    if (rc == 0 && !dir->inode->ops->create)
        rc = -EOPNOTSUPP;
    if (rc == 0)
        rc =
            dir->inode->ops->create(dir->inode, S_IFREG | (mode & 07777 & ~current_process->fs.umask), 0, &i);
    if (rc == 0) {
        i->nlink = 0;
        (void)text_format(name, sizeof(name), "#%lu", i->ino);
        d = dentry_create_loose(dir, name, i);
        if (!d) {
            inode_put(i);
            rc = -ENOMEM;
        } else {
            rc = open_checked(d, flags, out);
            dentry_put(d);
        }
    }
    dentry_put(dir);
    return rc;
}

static int reopen(struct file *f, unsigned flags, struct file **out)
{
    if (f->ops->reopen)
        return f->ops->reopen(f, flags, out);
    if (S_ISSOCK(f->anon_mode))
        return -ENXIO;
    file_get(f);
    *out = f;
    return 0;
}

static int open_found(struct walk *w, unsigned flags, unsigned mode, struct file **out)
{
    struct dentry *d;
    int rc = walk_last(w, &d);

    if (rc == -ENOENT && (flags & O_CREAT) && w->missing)
        return create_file(w, flags, mode, out);
    if (rc < 0)
        return rc;
    if (!d)
        return flags & O_PATH ? -ENXIO : reopen(w->file, flags, out);
    if ((flags & O_CREAT) && (flags & O_EXCL))
        rc = -EEXIST;
    else if ((flags & O_CREAT) && inode_is_dir(d->inode))
        rc = -EISDIR;
    else if ((flags & O_DIRECTORY) && !inode_is_dir(d->inode))
        rc = -ENOTDIR;
    if (rc == 0) {
        /* The walk holds buffers and places that a FIFO must not keep while it waits for its other end. */
        struct dentry *keep = d;
        walk_end(w);
        rc = file_open_dentry(keep, flags, out);
    }
    dentry_put(d);
    return rc;
}

int file_open(int dirfd, const char *path, unsigned flags, unsigned mode, unsigned walk_flags,
              struct file **out)
{
    struct walk w;
    int rc;

    if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY))
        return -EINVAL;
    if (!(flags & O_NOFOLLOW) && !((flags & O_CREAT) && (flags & O_EXCL)))
        walk_flags |= WALK_FOLLOW;
    if (flags & O_DIRECTORY)
        walk_flags |= WALK_DIRECTORY;
    if (flags & O_CREAT)
        walk_flags |= WALK_CREATE;
    rc = walk_begin(&w, dirfd, path, walk_flags);
    if (rc == 0)
        rc = walk_parent(&w);
    if (rc == 0)
        rc = (flags & O_TMPFILE) == O_TMPFILE ? open_tmpfile(&w, flags, mode, out)
                                              : open_found(&w, flags, mode, out);
    walk_end(&w);
    return rc;
}

int fs_kernel_open(const char *path, struct file **out)
{
    return file_open(AT_FDCWD, path, O_RDONLY, 0, 0, out);
}

int fs_open_exec(int dirfd, const char *path, int flags, struct file **out)
{
    unsigned walk =
        (flags & AT_SYMLINK_NOFOLLOW ? 0U : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0U);
    struct link_target t;
    int rc = path_find(dirfd, path, walk, &t);

    if (rc < 0)
        return rc;
    if (!t.dentry)
        rc = -EACCES;
    else if (inode_is_link(t.dentry->inode))
        rc = -ELOOP;
    else if (!S_ISREG(t.dentry->inode->mode) || (t.dentry->inode->super->flags & SUPER_NOEXEC))
        rc = -EACCES;
    else
        rc = inode_permission(t.dentry->inode, MAY_EXEC);
    /* Permission to read is not needed, as on Linux. */
    if (rc == 0)
        rc = open_checked(t.dentry, O_RDONLY, out);
    link_target_put(&t);
    return rc;
}
