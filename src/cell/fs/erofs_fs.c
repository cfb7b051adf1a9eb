#include "cell/fs/erofs_fs.h"

#include <asm/errno.h>
#include <asm/mman.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/dir.h"
#include "cell/fs/erofs.h"
#include "cell/fs/regular.h"
#include "cell/mem/uaccess.h"

static struct erofs image; /* set once at boot */

static const struct inode_ops erofs_ops;
static const struct file_ops erofs_file_ops;

/* A mode is needed to list a directory; the entry's type tells it without a look at the inode. */
static unsigned mode_of(u8 type)
{
    static const unsigned modes[] = {0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK};

    return type < ARRAY_LEN(modes) ? modes[type] : 0;
}

static int make_inode(struct super *super, u64 nid, struct inode **out)
{
    struct erofs_node n;
    struct inode *i;
    int rc = erofs_node(&image, nid, &n);

    if (rc < 0)
        return rc;
    i = inode_create(super, &erofs_ops, n.mode);
    if (!i)
        return -ENOMEM;
    i->ino = nid;
    i->size = n.size;
    i->blocks = (n.size + 511) / 512;
    i->uid = n.uid;
    i->gid = n.gid;
    i->nlink = n.nlink;
    i->rdev = n.rdev;
    i->atime = i->mtime = i->ctime = (struct fs_time){n.mtime, n.mtime_nsec};
    i->fops = S_ISREG(n.mode) ? &erofs_file_ops : S_ISDIR(n.mode) ? &dir_file_ops : NULL;
    *out = i;
    return 0;
}

int erofs_fs_init(const void *base, u64 size)
{
    return erofs_open(&image, base, size);
}

int erofs_root(struct super *super, struct inode **out)
{
    int rc = make_inode(super, image.root_nid, out);

    if (rc == 0 && !S_ISDIR((*out)->mode)) {
        inode_put(*out);
        rc = -EUCLEAN;
    }
    return rc;
}

void erofs_statfs(u64 *blocks, u64 *inodes)
{
    *blocks = image.size / PAGE;
    *inodes = image.inodes;
}

static int erofs_lookup(struct inode *dir, const char *name, size_t len, struct inode **out)
{
    struct erofs_node n;
    struct erofs_entry e;
    int rc;

    if ((rc = erofs_node(&image, dir->ino, &n)) < 0 || (rc = erofs_find(&image, &n, name, len, &e)) < 0)
        return rc;
    return make_inode(dir->super, e.nid, out);
}

/* The image's entries, then those that were put over its root (fs/mount.c), whose positions start at EXTRA.
 */
#define EXTRA (1ULL << 40)

static bool is_covered(struct file *f, const struct erofs_entry *e)
{
    list_for_each(n, &f->inode->children)
    {
        const struct dentry *d = list_entry(n, struct dentry, link);
        if (d->length == e->length && memcmp(d->name, e->name, e->length) == 0)
            return true;
    }
    return false;
}

static int list_extra(struct file *f, struct dir_sink *s)
{
    list_for_each(n, &f->inode->children)
    {
        const struct dentry *d = list_entry(n, struct dentry, link);
        const struct inode *seen = (d->mounted ? d->mounted : d)->inode;
        if (f->pos >= EXTRA + d->cookie)
            continue;
        if (!dir_emit(f, s, d->name, d->length, seen->ino, seen->mode, EXTRA + d->cookie))
            break;
    }
    return 0;
}

static int erofs_iterate(struct file *f, struct dir_sink *s)
{
    struct erofs_node n;
    struct erofs_entry e;
    u64 pos = f->pos - 2;
    int rc;

    if (f->pos >= EXTRA)
        return list_extra(f, s);
    if ((rc = erofs_node(&image, f->inode->ino, &n)) < 0)
        return rc;
    while ((rc = erofs_next(&image, &n, &pos, &e)) > 0) {
        if (e.name[0] == '.' && (e.length == 1 || (e.length == 2 && e.name[1] == '.')))
            continue;
        if (is_covered(f, &e))
            continue;
        if (!dir_emit(f, s, e.name, e.length, e.nid, mode_of(e.type), pos + 2))
            return 0;
    }
    return rc < 0 ? rc : list_extra(f, s);
}

static long erofs_readlink(struct inode *link, char *buf, size_t cap)
{
    struct erofs_node n;
    size_t done = 0;
    int rc = erofs_node(&image, link->ino, &n);

    if (rc < 0)
        return rc;
    while (done < cap) {
        u64 left;
        const u8 *p = erofs_data(&image, &n, done, &left);
        if (!p)
            break;
        left = MIN(left, (u64)(cap - done));
        memcpy(buf + done, p, left);
        done += left;
    }
    return memchr(buf, 0, done) ? -EUCLEAN : (long)done;
}

static const u8 *erofs_peek(struct inode *i, u64 pos, u64 *left)
{
    struct erofs_node n;

    return erofs_node(&image, i->ino, &n) < 0 ? NULL : erofs_data(&image, &n, pos, left);
}

static long erofs_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct erofs_node n;
    size_t done = 0;
    int rc = erofs_node(&image, f->inode->ino, &n);

    if (rc < 0)
        return rc;
    while (done < len) {
        u64 there;
        const u8 *p = erofs_data(&image, &n, *pos, &there);
        size_t part, left;
        if (!p)
            break;
        part = MIN(len - done, there);
        left = copy_user_partial((u8 *)buf + done, p, part);
        done += part - left;
        *pos += part - left;
        if (left > 0)
            return done > 0 ? (long)done : -EFAULT;
    }
    return (long)done;
}

/* The last part of a file that lies in the metadata is no page of its own: the program gets a copy. */
static int map_tail(const struct erofs_node *n, unsigned long addr, int prot)
{
    long rc =
        host_mmap((void *)addr, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (rc < 0)
        return (int)rc;
    memcpy((void *)addr, image.base + n->tail, n->size - n->tail_at);
    return (int)host_mprotect((void *)addr, PAGE, prot);
}

static int erofs_map(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset)
{
    struct erofs_node n;
    u64 blocks_end;
    long rc = erofs_node(&image, f->inode->ino, &n);

    (void)flags; /* shared and private are the same: nobody can write */
    if (rc < 0)
        return (int)rc;
    blocks_end = PAGE_UP(n.tail_at); /* behind the data of a plain file its last block is zeros */
    if (offset < blocks_end) {
        size_t part = MIN(len, blocks_end - offset);
        rc = host_mmap((void *)addr, part, prot, MAP_PRIVATE | MAP_FIXED, CELL_FD_IMAGE, n.data + offset);
        if (rc < 0)
            return (int)rc;
    }
    if (n.tail_at < n.size && offset <= n.tail_at && n.tail_at - offset < len)
        return map_tail(&n, addr + (n.tail_at - offset), prot);
    return 0;
}

static const struct inode_ops erofs_ops = {
    .lookup = erofs_lookup,
    .iterate = erofs_iterate,
    .readlink = erofs_readlink,
    .peek = erofs_peek,
};

static const struct file_ops erofs_file_ops = {
    .read = erofs_read,
    .seek = regular_seek,
    .map = erofs_map,
};
