#include "cell/fs/devfs.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/mman.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/dir.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"
#include "cell/tty/console.h"
#include "cell/tty/tty.h"

static struct dentry *dev; /* its root; set once at boot */

static u32 makedev(u32 major, u32 minor)
{
    return (minor & 0xff) | major << 8 | (minor & ~0xffU) << 12;
}

/* ---- memory devices: mem(4), random(4) */

static long read_nothing(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    (void)f, (void)buf, (void)len, (void)pos;
    return 0;
}

static long read_zeros(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    (void)f, (void)pos;
    return clear_user(buf, len) < 0 ? -EFAULT : (long)len;
}

static long write_anything(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    (void)f, (void)buf, (void)pos;
    return (long)len;
}

static long write_full(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    (void)f, (void)buf, (void)pos;
    return len == 0 ? 0 : -ENOSPC;
}

static long read_random(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    size_t done = 0;
    u8 bytes[256];

    (void)f, (void)pos;
    while (done < len) {
        size_t n = MIN(len - done, sizeof(bytes));
        if (host_getrandom(bytes, n, 0) != (long)n)
            return done > 0 ? (long)done : -EIO;
        if (copy_to_user((u8 *)buf + done, bytes, n) < 0)
            return done > 0 ? (long)done : -EFAULT;
        done += n;
        if (signal_pending())
            break;
    }
    return (long)done;
}

static long seek_nowhere(struct file *f, s64 offset, int whence)
{
    (void)f, (void)offset, (void)whence;
    return 0;
}

static int map_zeros(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset)
{
    int share = flags & MAP_TYPE;
    long rc;

    (void)f, (void)offset;
    if (share == MAP_SHARED_VALIDATE)
        share = MAP_SHARED;
    rc = host_mmap((void *)addr, PAGE_UP(len), prot, share | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    return rc < 0 ? (int)rc : 0;
}

static const struct file_ops null_ops = {.read = read_nothing, .write = write_anything, .seek = seek_nowhere};
static const struct file_ops zero_ops = {
    .read = read_zeros, .write = write_anything, .seek = seek_nowhere, .map = map_zeros};
static const struct file_ops full_ops = {.read = read_zeros, .write = write_full, .seek = seek_nowhere};
static const struct file_ops random_ops = {
    .read = read_random, .write = write_anything, .seek = seek_nowhere};

/* ---- terminals */

static int open_tty(struct tty *t, unsigned flags, struct file **out)
{
    if (!t)
        return -ENXIO;
    *out = tty_open(t, flags);
    if (!*out)
        return -ENOMEM;
    tty_maybe_take(t, flags);
    return 0;
}

static int open_controlling(unsigned flags, struct file **out)
{
    return open_tty(current_process->tty, flags | O_NOCTTY, out);
}

/* ---- the directory */

typedef int (*open_fn)(unsigned flags, struct file **out);

static int open_registered(struct inode *i, unsigned flags, struct file **out)
{
    return ((open_fn)i->priv)(flags, out);
}

static const struct inode_ops device_ops = {0};
static const struct inode_ops registered_ops = {.open_device = open_registered};
static const struct inode_ops directory_ops = {.iterate = dir_iterate_pinned};

static long read_link(struct inode *link, char *buf, size_t cap)
{
    size_t n = MIN(cap, strlen(link->priv));

    memcpy(buf, link->priv, n);
    return (long)n;
}
static const struct inode_ops link_ops = {.readlink = read_link};

static int add(const char *name, const struct inode_ops *ops, unsigned mode, u32 rdev,
               const struct file_ops *fops, const void *priv)
{
    struct inode *i = inode_create(dev->inode->super, ops, mode);
    int rc;

    if (!i)
        return -ENOMEM;
    i->uid = i->gid = 0;
    i->rdev = rdev;
    i->fops = fops;
    i->priv = (void *)(uintptr_t)priv;
    if (S_ISLNK(mode))
        i->size = strlen(priv);
    rc = dentry_add(dev, name, strlen(name), i, NULL);
    if (rc < 0)
        inode_put(i);
    return rc;
}

int dev_register(const char *name, unsigned mode, u32 rdev, open_fn open)
{
    return add(name, &registered_ops, mode, rdev, NULL, (const void *)(uintptr_t)open);
}

static const struct {
    const char *name;
    u32 major, minor;
    const struct file_ops *ops;
} devices[] = {
    {"null", 1, 3, &null_ops},     {"zero", 1, 5, &zero_ops},      {"full", 1, 7, &full_ops},
    {"random", 1, 8, &random_ops}, {"urandom", 1, 9, &random_ops},
};

static const struct {
    const char *name;
    u32 major, minor;
    open_fn open;
} terminals[] = {
    {"tty", 5, 0, open_controlling},
    {"ptmx", 5, 2, pty_open_master},
};

static const struct {
    const char *name, *target;
} links[] = {
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
};

int devfs_init(struct super *super, struct dentry **root)
{
    struct inode *i = inode_create(super, &directory_ops, S_IFDIR | 0755);
    int rc = 0;

    if (!i)
        return -ENOMEM;
    i->uid = i->gid = 0;
    i->fops = &dir_file_ops;
    dev = dentry_create_root(i);
    if (!dev)
        return -ENOMEM;
    for (size_t k = 0; k < ARRAY_LEN(devices) && rc == 0; k++)
        rc = add(devices[k].name, &device_ops, S_IFCHR | 0666, makedev(devices[k].major, devices[k].minor),
                 devices[k].ops, NULL);
    for (size_t k = 0; k < ARRAY_LEN(terminals) && rc == 0; k++)
        rc = dev_register(terminals[k].name, S_IFCHR | 0666, makedev(terminals[k].major, terminals[k].minor),
                          terminals[k].open);
    for (size_t k = 0; k < ARRAY_LEN(links) && rc == 0; k++)
        rc = add(links[k].name, &link_ops, S_IFLNK | 0777, 0, NULL, links[k].target);
    if (rc == 0)
        rc = add("shm", &directory_ops, S_IFDIR | 0755, 0, &dir_file_ops, NULL);
    if (rc == 0)
        rc = add("pts", &directory_ops, S_IFDIR | 0755, 0, &dir_file_ops, NULL);
    *root = dev;
    return rc;
}

/* ---- /dev/pts: what there is, is asked each time */

enum { PTS_MAX = 256, PTS_INO = 3 };

/* The console's terminal has a number, too. */
static struct tty *find_pts(int n)
{
    struct tty *console = console_tty();

    return console && console->number == n ? console : pty_find(n);
}

static int open_pts(struct inode *i, unsigned flags, struct file **out)
{
    struct tty *t = find_pts((int)i->data);

    if (!t)
        return -EIO;
    if (t->locked)
        return -EIO;
    *out = tty_open(t, flags);
    if (!*out)
        return -ENOMEM;
    t->was_opened = true;
    tty_maybe_take(t, flags);
    return 0;
}

static int open_ptmx(struct inode *i, unsigned flags, struct file **out)
{
    (void)i;
    return pty_open_master(flags, out);
}

static const struct inode_ops pts_ops = {.open_device = open_pts};
static const struct inode_ops ptmx_ops = {.open_device = open_ptmx};

static int pts_number(const char *name, size_t len)
{
    int n = 0;

    if (len == 0 || len > 4 || (len > 1 && name[0] == '0'))
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        n = n * 10 + (name[i] - '0');
    }
    return n < PTS_MAX ? n : -1;
}

static int pts_lookup(struct inode *dir, const char *name, size_t len, struct inode **out)
{
    int n = pts_number(name, len);
    bool is_master = len == 4 && memcmp(name, "ptmx", 4) == 0;
    struct inode *i;

    if (!is_master && (n < 0 || !find_pts(n)))
        return -ENOENT;
    i = inode_create(dir->super, is_master ? &ptmx_ops : &pts_ops, S_IFCHR | (is_master ? 0666 : 0620));
    if (!i)
        return -ENOMEM;
    i->ino = is_master ? 2 : (u64)n + PTS_INO;
    i->rdev = is_master ? makedev(5, 2) : makedev(136, (u32)n);
    i->gid = 5;
    i->data = (u64)n;
    *out = i;
    return 0;
}

static int pts_iterate(struct file *f, struct dir_sink *s)
{
    char name[16];

    if (f->pos == 2 && !dir_emit(f, s, "ptmx", 4, 2, S_IFCHR, 3))
        return 0;
    for (u64 n = f->pos - 3; n < PTS_MAX; n++) {
        if (!find_pts((int)n))
            continue;
        if (!dir_emit(f, s, name, text_format(name, sizeof(name), "%u", (unsigned)n), n + PTS_INO, S_IFCHR,
                      n + 4))
            break;
    }
    return 0;
}

static const struct inode_ops pts_dir_ops = {.lookup = pts_lookup, .iterate = pts_iterate};

int devpts_root(struct super *super, struct inode **out)
{
    struct inode *i = inode_create(super, &pts_dir_ops, S_IFDIR | 0755);

    if (!i)
        return -ENOMEM;
    i->uid = i->gid = 0;
    i->fops = &dir_file_ops;
    *out = i;
    return 0;
}
