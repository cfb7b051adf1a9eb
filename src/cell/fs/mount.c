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
#include "cell/fs/inotify.h"
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

/* An empty directory (or, by `mode`, file) at a name over the image: at its root, or in such a directory. */
static int cover_at(struct dentry *dir, const char *name, size_t n, unsigned mode, struct dentry **out)
{
    struct super *super = mounts->root->inode->super;
    struct inode *i;
    int rc = 0;

    if (S_ISDIR(mode)) {
        i = inode_create(super, &covering_ops, S_IFDIR | 0755);
        if (i)
            i->fops = &dir_file_ops;
    } else {
        rc = tmpfs_node(super, S_IFREG | 0444, 0, &i);
    }
    if (rc < 0 || !i)
        return rc < 0 ? rc : -ENOMEM;
    i->ino += 1ULL << 48; /* away from the image's own */
    i->uid = i->gid = 0;
    rc = dentry_add(dir, name, n, i, out);
    if (rc < 0)
        inode_put(i);
    else
        dentry_get(*out);
    return rc;
}

static int cover(const char *name, struct dentry **out)
{
    return cover_at(mounts->root, name, strlen(name), S_IFDIR, out);
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

static int show_ports(void);

int fs_init(const struct cell_header *h)
{
    u64 max_pages = (h->memory_size - CELL_OFF_HEAP) / 2 / PAGE;
    int rc;

    mounts = kmalloc(sizeof(*mounts));
    if (!mounts)
        return -ENOMEM;
    list_init(&mounts->list);
    if ((rc = dentry_init(2 * max_pages)) < 0 || (rc = path_init()) < 0 || (rc = tmpfs_init(max_pages)) < 0 ||
        (rc = inotify_boot()) < 0 || (rc = mount_image(h)) < 0 || (rc = mount_devices()) < 0)
        return rc;
    if ((rc = mount_tmpfs("/dev/shm", 01777, 0)) < 0 || (rc = mount_tmpfs("/tmp", 01777, 0)) < 0 ||
        (rc = mount_tmpfs("/run", 0755, 0)) < 0 || (rc = mount_tmpfs("/workspace", 0755, CELL_UID)) < 0)
        return rc;
    if ((rc = mount_text("proc", "/proc", 0x9fa0, procfs_root)) < 0 ||
        (rc = mount_text("sysfs", "/sys", 0x62656572, sysfs_root)) < 0)
        return rc;
    if ((h->flags & CELL_BOOT_PORTS) && (rc = show_ports()) < 0)
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

/* ---- directories of the host */

static bool is_own_place(const char *where)
{
    static const char *const own[] = {"/proc", "/dev", "/sys", "/run/ironclaw"};

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t n = strlen(own[i]);
        if (strncmp(where, own[i], n) == 0 && (where[n] == 0 || where[n] == '/'))
            return true;
    }
    return false;
}

/* One missing name: over the root of the image, or in a tmpfs. */
static int make_point(struct dentry *dir, const char *name, size_t n, unsigned mode, struct dentry **out)
{
    struct inode *i;
    int rc;

    if (n == 0 || n > NAME_MAX_)
        return -ENAMETOOLONG;
    if (dir == mounts->root || dir->inode->ops == &covering_ops)
        return cover_at(dir, name, n, mode, out);
    if (!dir->inode->ops->create || (dir->inode->super->flags & SUPER_READONLY))
        return -EROFS;
    rc = dir->inode->ops->create(dir->inode, mode, 0, &i);
    if (rc < 0)
        return rc;
    rc = dentry_add(dir, name, n, i, out);
    if (rc < 0)
        inode_put(i);
    else
        dentry_get(*out);
    return rc;
}

static size_t strspn_slash(const char *s)
{
    size_t n = 0;

    while (s[n] == '/')
        n++;
    return n;
}

/* From the root on, name by name; links of the image are not followed: a mount is where it was asked for. */
static int find_point(const char *where, unsigned mode, struct dentry **out)
{
    struct dentry *dir = mounts->root, *next;

    dentry_get(dir);
    for (const char *p = where; *p;) {
        size_t n = 0;
        int rc;
        while (*p == '/')
            p++;
        while (p[n] && p[n] != '/')
            n++;
        if (n == 0)
            break;
        rc = dentry_lookup(dir, p, n, &next);
        if (rc == -ENOENT)
            rc = make_point(dir, p, n, p[n + strspn_slash(p + n)] ? S_IFDIR | 0755 : (mode & S_IFMT) | 0755,
                            &next);
        dentry_put(dir);
        if (rc < 0)
            return rc;
        p += n;
        dir = dentry_enter(next);
        dentry_get(dir);
        dentry_put(next);
    }
    if (dir == mounts->root || S_ISDIR(dir->inode->mode) != S_ISDIR(mode)) {
        dentry_put(dir);
        return -ENOTDIR;
    }
    *out = dir;
    return 0;
}

/* The names of the ports. Nothing hangs on them: connect(2) knows the paths (net/port.c). */
static int show_ports(void)
{
    static const char *const names[] = {"/run/ironclaw/queue.sock", "/run/ironclaw/model.sock"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct dentry *d;
        int rc = find_point(names[i], S_IFSOCK, &d);
        if (rc < 0)
            return rc;
        d->inode->mode = S_IFSOCK | 0666;
        d->inode->uid = d->inode->gid = 0;
        if (d->parent)
            d->parent->inode->uid = d->parent->inode->gid = 0;
        dentry_put(d);
    }
    return 0;
}

int fs_mount_host(const char *where, unsigned mode, unsigned uid, struct super **super, struct dentry **root)
{
    struct dentry *point;
    struct inode *i;
    int rc;

    list_for_each(n, &mounts->list)
    {
        struct super *s = list_entry(n, struct super, node);
        if (strcmp(s->where, where) == 0 && strcmp(s->type, "tmpfs") == 0 && !s->is_host && S_ISDIR(mode)) {
            *super = s;
            *root = s->root;
            return 0;
        }
    }
    if (where[0] != '/' || is_own_place(where) || strlen(where) >= PATH_MAX_)
        return -EINVAL;
    rc = find_point(where, mode, &point);
    if (rc < 0)
        return rc;
    *super = create_super("tmpfs", kstrndup(where, PATH_MAX_), 0x01021994, 0);
    if (!*super || !(*super)->where)
        return -ENOMEM;
    rc = tmpfs_node(*super, mode & (S_IFMT | 0777), uid, &i);
    if (rc < 0)
        return rc;
    *root = dentry_create_root(i);
    if (!*root)
        return -ENOMEM;
    (*super)->root = *root;
    (*root)->covered = point;
    point->mounted = *root;
    return 0;
}
