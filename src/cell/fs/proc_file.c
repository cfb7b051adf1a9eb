/*
 * The machinery behind /proc and /sys. An inode is a table's entry and up to two numbers, the process and the
 * thread or descriptor; both are looked up each time, so nothing refers to a process that has ended.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "cell/base/text.h"
#include "cell/fs/dir.h"
#include "cell/fs/procfs.h"
#include "cell/fs/regular.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum { TEXT_FIRST = 4096, TEXT_MAX = 8 << 20, WRITE_MAX = 512, NUMBER_BASE = 4096 };

static const struct inode_ops proc_ops, proc_link_ops, proc_magic_ops;
static const struct file_ops proc_file_ops;

static const struct proc_entry *entry_of(const struct inode *i)
{
    return i->priv;
}

/* inode.data: the process in the upper half; in the lower a descriptor + 1, or a thread + 1 with IS_THREAD.
 */
#define IS_THREAD (1U << 31)

static int subject_of(const struct inode *i, struct proc_subject *s)
{
    int pid = (int)(i->data >> 32), other = (int)((u32)i->data & ~IS_THREAD) - 1;

    *s = (struct proc_subject){.fd = -1};
    if (pid == 0)
        return 0;
    s->process = process_find(pid);
    if (!s->process || s->process->state == PROCESS_DEAD)
        return -ESRCH;
    s->thread = s->process->leader;
    if (!((u32)i->data & IS_THREAD)) {
        s->fd = other;
    } else {
        s->thread = thread_find(other);
        if (!s->thread || s->thread->process != s->process)
            return -ESRCH;
    }
    return 0;
}

static int make_inode(struct super *super, const struct proc_entry *e, u64 data, struct inode **out)
{
    const struct inode_ops *ops = e->follow ? &proc_magic_ops : S_ISLNK(e->mode) ? &proc_link_ops : &proc_ops;
    struct inode *i = inode_create(super, ops, e->mode);

    if (!i)
        return -ENOMEM;
    i->priv = (void *)(uintptr_t)e;
    i->data = data;
    /* The same file has the same number each time. */
    i->ino = ((u64)(uintptr_t)e >> 3 ^ data * 0x9e3779b97f4a7c15ULL) >> 16 | 1ULL << 40;
    if (data >> 32 <= 1)
        i->uid = i->gid = 0;
    i->fops = S_ISDIR(e->mode) ? &dir_file_ops : S_ISREG(e->mode) ? &proc_file_ops : NULL;
    *out = i;
    return 0;
}

int proc_tree_root(struct super *super, const struct proc_entry *root, struct inode **out)
{
    return make_inode(super, root, 0, out);
}

int proc_directory_pid(const struct file *f)
{
    const struct inode *i = f->inode;

    return i && i->ops == &proc_ops && entry_of(i) == &proc_pid_entry ? (int)(i->data >> 32) : 0;
}

static int parse_number(const char *name, size_t len)
{
    int n = 0;

    if (len == 0 || len > 9 || (len > 1 && name[0] == '0'))
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        n = n * 10 + (name[i] - '0');
    }
    return n;
}

static u64 data_of(const struct inode *dir, const struct proc_entry *e, int n)
{
    if (!e->by_fd && !e->by_thread)
        return (u64)(u32)n << 32;
    return (dir->data & ~0xffffffffULL) | (u32)(n + 1) | (e->by_thread ? IS_THREAD : 0);
}

static int lookup(struct inode *dir, const char *name, size_t len, struct inode **out)
{
    const struct proc_entry *e = entry_of(dir);
    struct proc_subject s;
    int n = parse_number(name, len);

    if (subject_of(dir, &s) < 0)
        return -ENOENT;
    if (e->next && n >= 0 && e->next(&s, n) == n)
        return make_inode(dir->super, e->numbered, data_of(dir, e, n), out);
    for (const struct proc_entry *c = e->entries; c && c->name; c++)
        if (strlen(c->name) == len && memcmp(c->name, name, len) == 0)
            return make_inode(dir->super, c, dir->data, out);
    /* A thread that is not the first one has a directory too, which is not listed. */
    if (e->next && !e->by_fd && !e->by_thread && n > 0) {
        struct thread *t = thread_find(n);
        if (t && t->process->state == PROCESS_ALIVE)
            return make_inode(dir->super, e->numbered,
                              (u64)(u32)t->process->pid << 32 | (u32)(n + 1) | IS_THREAD, out);
    }
    return -ENOENT;
}

/* The table's names first, then the numbers, whose positions start at NUMBER_BASE. */
static int iterate(struct file *f, struct dir_sink *sink)
{
    const struct proc_entry *e = entry_of(f->inode), *c;
    struct proc_subject s;
    u64 at = 2;
    int n;

    if (subject_of(f->inode, &s) < 0)
        return -ENOENT;
    for (c = e->entries; c && c->name; c++, at++)
        if (at >= f->pos &&
            !dir_emit(f, sink, c->name, strlen(c->name), (u64)(uintptr_t)c >> 3, c->mode, at + 1))
            return 0;
    if (!e->next)
        return 0;
    n = f->pos < NUMBER_BASE ? 0 : (int)MIN(f->pos - NUMBER_BASE, (u64)INT32_MAX);
    while ((n = e->next(&s, n)) >= 0) {
        char name[16];
        size_t len = text_format(name, sizeof(name), "%d", n);
        if (!dir_emit(f, sink, name, len, (u64)n + NUMBER_BASE, e->numbered->mode, (u64)n + 1 + NUMBER_BASE))
            break;
        n++;
    }
    return 0;
}

static long readlink(struct inode *link, char *buf, size_t cap)
{
    struct proc_subject s;
    int rc = subject_of(link, &s);

    return rc < 0 ? -ENOENT : entry_of(link)->link(&s, buf, cap);
}

static int follow(struct inode *link, struct link_target *out)
{
    struct proc_subject s;
    int rc = subject_of(link, &s);

    return rc < 0 ? -ENOENT : entry_of(link)->follow(&s, out);
}

/* ---- files */

struct content {
    size_t length;
    char data[];
};

static int make_content(const struct inode *i, struct content **out)
{
    const struct proc_entry *e = entry_of(i);
    struct proc_subject s;
    int rc = subject_of(i, &s);

    if (rc < 0)
        return rc;
    for (size_t cap = TEXT_FIRST;; cap *= 4) {
        struct content *c = kmalloc(cap);
        struct text t;
        if (!c)
            return -ENOMEM;
        t = (struct text){.at = c->data, .cap = cap - sizeof(*c)};
        if (e->show)
            e->show(&s, &t);
        else
            text_add(&t, "%s", e->fixed ? e->fixed : "");
        if (t.len + 1 < t.cap || cap >= TEXT_MAX) {
            c->length = t.len;
            *out = c;
            return 0;
        }
        kfree(c);
    }
}

/* Made when it is read from the start, and kept for the rest. */
static long read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct content *c = f->priv;

    if (!c || *pos == 0) {
        int rc = make_content(f->inode, &c);
        if (rc < 0)
            return rc;
        kfree(f->priv);
        f->priv = c;
    }
    if (*pos >= c->length)
        return 0;
    len = MIN(len, c->length - *pos);
    if (copy_to_user(buf, c->data + *pos, len) < 0)
        return -EFAULT;
    *pos += len;
    return (long)len;
}

static long write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    const struct proc_entry *e = entry_of(f->inode);
    char data[WRITE_MAX + 1];
    struct proc_subject s;
    size_t n = MIN(len, (size_t)WRITE_MAX);
    int rc = subject_of(f->inode, &s);

    if (rc == 0 && !e->write)
        rc = -EACCES;
    if (rc == 0)
        rc = copy_from_user(data, buf, n);
    if (rc == 0) {
        data[n] = 0;
        rc = e->write(&s, data, n);
    }
    if (rc < 0)
        return rc;
    *pos += len;
    return (long)len;
}

static void release(struct file *f)
{
    kfree(f->priv);
}

static const struct inode_ops proc_ops = {.lookup = lookup, .iterate = iterate};
static const struct inode_ops proc_link_ops = {.readlink = readlink};
static const struct inode_ops proc_magic_ops = {.readlink = readlink, .follow = follow};
static const struct file_ops proc_file_ops = {
    .read = read, .write = write, .seek = regular_seek, .release = release};
