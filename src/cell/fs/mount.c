/*
 * Puts the tree together: the image at /, and over it what a program expects to find at fixed places. Where
 * the image has no directory for a mount (or something else in its place), one is put over its root: a pinned
 * entry, found before the image's own.
 */
#include "cell/fs/mount.h"

#include <asm/errno.h>

#include "cell/abi/layout.h"
#include "cell/base/text.h"
#include "cell/fs/devfs.h"
#include "cell/fs/dir.h"
#include "cell/fs/erofs_fs.h"
#include "cell/fs/path.h"
#include "cell/fs/procfs.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

int path_init(void);

static struct mounts {
    struct list list;
    struct dentry *root;
    u32 count;
} * mounts; /* set once at boot */

static const struct inode_ops covering_ops = {.iterate = dir_iterate_pinned};

struct list *mount_list(void)
{
    return &mounts->list;
}

static struct super *create_super(const char *type, const char *where, u64 magic, u32 flags)
{
    struct super *s = kmalloc(sizeof(*s));

    if (!s)
        return NULL;
    s->type = type;
    s->where = where;
    s->magic = magic;
    s->flags = flags;
    s->dev = 16 + ++mounts->count;
    list_add_tail(&mounts->list, &s->node);
    return s;
}

/* An empty directory at `name` over the root of the image. */
static int cover(const char *name, struct dentry **out)
{
    struct inode *i = inode_create(mounts->root->inode->super, &covering_ops, S_IFDIR | 0755);
    int rc;

    if (!i)
        return -ENOMEM;
    i->ino += 1ULL << 48; /* away from the image's own */
    i->uid = i->gid = 0;
    i->fops = &dir_file_ops;
    rc = dentry_add(mounts->root, name, strlen(name), i, out);
    if (rc < 0)
        inode_put(i);
    else
        dentry_get(*out);
    return rc;
}

/* Where to mount: a directory that is there, or one put over the root. With a reference. */
static int mount_point(const char *where, struct dentry **out)
{
    struct dentry *dir = mounts->root;
    const char *name = where + 1, *slash = strchr(name, '/');
    int rc;

    if (!slash)
        return cover(name, out);
    rc = dentry_lookup(dir, name, (size_t)(slash - name), &dir);
    if (rc < 0)
        return rc;
    rc = dentry_lookup(dentry_enter(dir), slash + 1, strlen(slash + 1), out);
    dentry_put(dir);
    if (rc == 0 && (!inode_is_dir((*out)->inode) || (*out)->mounted)) {
        dentry_put(*out);
        rc = -ENOTDIR;
    }
    return rc;
}

/* The references to `root` and to the point stay with the mount for ever. */
static int attach(struct super *s, struct dentry *root)
{
    struct dentry *point;
    int rc = mount_point(s->where, &point);

    if (rc < 0)
        return rc;
    s->root = root;
    root->covered = point;
    point->mounted = root;
    return 0;
}

static int attach_inode(struct super *s, struct inode *i)
{
    struct dentry *root = dentry_create_root(i);

    return root ? attach(s, root) : -ENOMEM;
}

static int mount_image(const struct cell_header *h)
{
    struct super *s = create_super("erofs", "/", 0xe0f5e1e2, SUPER_READONLY);
    struct inode *i;
    int rc;

    if (!s)
        return -ENOMEM;
    if ((rc = erofs_fs_init((const void *)CELL_IMAGE, h->image_size)) < 0 || (rc = erofs_root(s, &i)) < 0)
        return rc;
    s->root = mounts->root = dentry_create_root(i);
    return s->root ? 0 : -ENOMEM;
}

static int mount_tmpfs(const char *where, unsigned mode, u32 uid)
{
    struct super *s = create_super("tmpfs", where, 0x01021994, 0);
    struct inode *i;
    int rc = s ? tmpfs_root(s, mode, uid, &i) : -ENOMEM;

    if (rc == 0)
        rc = attach_inode(s, i);
    if (rc < 0 && s)
        list_del(&s->node); /* not a mount, after all */
    return rc;
}

static int mount_devices(void)
{
    struct super *s = create_super("devtmpfs", "/dev", 0x01021994, 0);
    struct dentry *root;
    struct inode *i;
    int rc = s ? devfs_init(s, &root) : -ENOMEM;

    if (rc < 0 || (rc = attach(s, root)) < 0)
        return rc;
    s = create_super("devpts", "/dev/pts", 0x1cd1, SUPER_UNCACHED);
    rc = s ? devpts_root(s, &i) : -ENOMEM;
    return rc < 0 ? rc : attach_inode(s, i);
}

static int mount_text(const char *type, const char *where, u64 magic,
                      int (*root)(struct super *, struct inode **))
{
    struct super *s = create_super(type, where, magic, SUPER_UNCACHED | SUPER_NOEXEC);
    struct inode *i;
    int rc = s ? root(s, &i) : -ENOMEM;

    return rc < 0 ? rc : attach_inode(s, i);
}

int fs_init(const struct cell_header *h)
{
    u64 max_pages = (h->memory_size - CELL_OFF_HEAP) / 2 / PAGE;
    int rc;

    mounts = kmalloc(sizeof(*mounts));
    if (!mounts)
        return -ENOMEM;
    list_init(&mounts->list);
    if ((rc = dentry_init()) < 0 || (rc = path_init()) < 0 || (rc = tmpfs_init(max_pages)) < 0 ||
        (rc = mount_image(h)) < 0 || (rc = mount_devices()) < 0)
        return rc;
    if ((rc = mount_tmpfs("/dev/shm", 01777, 0)) < 0 || (rc = mount_tmpfs("/tmp", 01777, 0)) < 0 ||
        (rc = mount_tmpfs("/run", 0755, CELL_UID)) < 0 ||
        (rc = mount_tmpfs("/workspace", 0755, CELL_UID)) < 0)
        return rc;
    if ((rc = mount_text("proc", "/proc", 0x9fa0, procfs_root)) < 0 ||
        (rc = mount_text("sysfs", "/sys", 0x62656572, sysfs_root)) < 0)
        return rc;
    rc = mount_tmpfs("/var/tmp", 01777, 0);
    /* An image without /var/tmp, or with a link to /tmp there, is fine. */
    return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

void fs_context_init(struct fs_context *c)
{
    c->root = c->cwd = mounts->root;
    dentry_get(c->root);
    dentry_get(c->cwd);
    c->umask = 022;
}

void fs_context_copy(struct fs_context *to, const struct fs_context *from)
{
    *to = *from;
    if (to->root)
        dentry_get(to->root);
    if (to->cwd)
        dentry_get(to->cwd);
}

void fs_context_put(struct fs_context *c)
{
    if (c->cwd)
        dentry_put(c->cwd);
    if (c->root)
        dentry_put(c->root);
    c->cwd = c->root = NULL;
}
