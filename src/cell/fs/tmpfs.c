#include "cell/fs/tmpfs.h"

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/memfd.h>

#include "cell/base/text.h"
#include "cell/fs/dir.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

static const struct inode_ops directory_ops, file_ops, link_ops, special_ops;
static struct super *memfds; /* of files without a place; set once at boot */

int tmpfs_init(u64 max_pages)
{
    memfds = kmalloc(sizeof(*memfds));
    if (!memfds)
        return -ENOMEM;
    memfds->type = "tmpfs";
    memfds->dev = 1;
    memfds->magic = 0x01021994;
    return tmpfs_data_init(max_pages);
}

static int create(struct inode *dir, unsigned mode, u32 rdev, struct inode **out)
{
    const struct inode_ops *ops = S_ISDIR(mode) ? &directory_ops : S_ISREG(mode) ? &file_ops : &special_ops;
    struct inode *i;

    if (mode & (S_ISUID | S_ISGID))
        return -EPERM; /* see set_mode() */
    i = inode_create(dir->super, ops, mode);
    if (!i)
        return -ENOSPC;
    i->rdev = rdev;
    i->seals = 1 /* F_SEAL_SEAL */;
    i->fops = S_ISDIR(mode) ? &dir_file_ops : S_ISREG(mode) ? &tmpfs_file_ops : NULL;
    *out = i;
    return 0;
}

int tmpfs_root(struct super *super, unsigned mode, u32 uid, struct inode **out)
{
    struct inode *i = inode_create(super, &directory_ops, S_IFDIR | mode);

    if (!i)
        return -ENOMEM;
    i->uid = i->gid = uid;
    i->fops = &dir_file_ops;
    *out = i;
    return 0;
}

int tmpfs_node(struct super *super, unsigned mode, u32 uid, struct inode **out)
{
    struct inode *i;

    if (S_ISDIR(mode))
        return tmpfs_root(super, mode & 0777, uid, out);
    i = inode_create(super, &file_ops, mode);
    if (!i)
        return -ENOMEM;
    i->seals = 1 /* F_SEAL_SEAL */;
    i->fops = &tmpfs_file_ops;
    i->uid = i->gid = uid;
    *out = i;
    return 0;
}

static int make_symlink(struct inode *dir, const char *target, struct inode **out)
{
    struct inode *i = inode_create(dir->super, &link_ops, S_IFLNK | 0777);

    if (!i)
        return -ENOSPC;
    i->size = strlen(target);
    i->priv = kstrndup(target, i->size);
    if (!i->priv) {
        inode_put(i);
        return -ENOSPC;
    }
    *out = i;
    return 0;
}

static long read_symlink(struct inode *link, char *buf, size_t cap)
{
    size_t n = MIN(cap, link->size);

    memcpy(buf, link->priv, n);
    return (long)n;
}

static void free_symlink(struct inode *i)
{
    kfree(i->priv);
}

/* A directory has 20 bytes for each entry, as if. */
static void refresh_directory(struct inode *i)
{
    u64 n = 2;

    list_for_each(node, &i->children) n++;
    i->size = n * 20;
}

static const struct inode_ops directory_ops = {
    .iterate = dir_iterate_pinned,
    .create = create,
    .symlink = make_symlink,
    .refresh = refresh_directory,
};
static const struct inode_ops file_ops = {
    .truncate = tmpfs_truncate,
    .peek = tmpfs_peek,
    .fallocate = tmpfs_fallocate,
    .destroy = tmpfs_free_data,
};
static const struct inode_ops link_ops = {.readlink = read_symlink, .destroy = free_symlink};
static const struct inode_ops special_ops = {0};

int memfd_create_file(const char *name, unsigned flags, struct file **out)
{
    struct inode *i = inode_create(memfds, &file_ops, S_IFREG | 0777);
    struct dentry *d;
    char label[NAME_MAX_ + 1];
    int rc;

    if (!i)
        return -ENOMEM;
    i->nlink = 0;
    i->fops = &tmpfs_file_ops;
    i->seals = flags & MFD_ALLOW_SEALING ? 0 : 1 /* F_SEAL_SEAL */;
    (void)text_format(label, sizeof(label), "memfd:%s", name);
    d = dentry_create_loose(NULL, label, i);
    if (!d) {
        inode_put(i);
        return -ENOMEM;
    }
    rc = file_open_dentry(d, O_RDWR | O_LARGEFILE, out);
    dentry_put(d);
    return rc;
}

static bool is_sealable(const struct file *f)
{
    return f->inode && f->inode->ops == &file_ops;
}

long memfd_get_seals(struct file *f)
{
    return is_sealable(f) ? (long)f->inode->seals : -EINVAL;
}

long memfd_add_seals(struct file *f, unsigned seals)
{
    if (!is_sealable(f) ||
        (seals & ~(unsigned)(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EINVAL;
    if ((f->flags & O_ACCMODE) == O_RDONLY || (f->inode->seals & F_SEAL_SEAL))
        return -EPERM;
    if ((seals & F_SEAL_WRITE) && f->inode->mapped > 0)
        return -EBUSY;
    f->inode->seals |= seals;
    return 0;
}
