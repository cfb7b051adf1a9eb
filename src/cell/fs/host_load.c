/*
 * What the server says at the start: names, kinds, sizes and times, root by root. It is taken by the first
 * program's process, which runs nothing until all of it is there.
 */
#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/base/text.h"
#include "cell/fs/dentry.h"
#include "cell/fs/host_files.h"
#include "cell/fs/host_link.h"
#include "cell/fs/mount.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

enum { NOBODY = 65534 };

/* The next record, complete. */
static int await_record(void)
{
    struct waiter w;
    int rc;

    while ((rc = host_receive()) == 0) {
        stream_wait(host->stream, &w);
        if (!stream_readable(host->stream))
            rc = thread_sleep_killable(NO_DEADLINE);
        waitq_del(&w);
        if (rc < 0)
            return rc;
    }
    return rc;
}

struct loader {
    struct super *super;
    struct dentry **nodes; /* by number */
    size_t capacity;
    u16 root;
};

static int remember(struct loader *l, u64 ino, struct dentry *d)
{
    if (ino == 0 || ino > 1 << 21)
        return -EPROTO;
    if (ino >= l->capacity) {
        size_t capacity = l->capacity ? l->capacity : 256;
        struct dentry **nodes;
        while (capacity <= ino)
            capacity *= 2;
        nodes = kmalloc(capacity * sizeof(struct dentry *));
        if (!nodes)
            return -ENOMEM;
        if (l->capacity)
            memcpy(nodes, l->nodes, l->capacity * sizeof(struct dentry *));
        kfree(l->nodes);
        l->nodes = nodes;
        l->capacity = capacity;
    }
    l->nodes[ino] = d;
    return 0;
}

static struct dentry *recall(const struct loader *l, u64 ino)
{
    return ino < l->capacity ? l->nodes[ino] : NULL;
}

/* It is there, and has this many bytes: what they are is asked for when somebody opens it. */
static void set_absent(struct inode *i, u64 size)
{
    i->size = size;
    i->host |= HOST_ABSENT;
}

static int load_root(struct loader *l)
{
    const struct files_record *r = &host->r;
    bool writable = r->size == 1;
    struct dentry *root;
    int rc;

    rc = fs_mount_host((const char *)host->data, r->mode, writable ? CELL_UID : NOBODY, &l->super, &root);
    if (rc < 0)
        return rc;
    l->root = r->root;
    /* Numbers start anew with each root. */
    for (size_t i = 0; i < l->capacity; i++)
        l->nodes[i] = NULL;
    root->inode->ino = FILES_ROOT_INO;
    root->inode->mtime = (struct fs_time){r->mtime_sec, r->mtime_nsec};
    if (S_ISREG(root->inode->mode))
        set_absent(root->inode, r->parent);
    l->super->next_ino = FILES_CELL_INO;
    l->super->host_writable = writable;
    l->super->is_host = true;
    l->super->host_index = r->root;
    return remember(l, FILES_ROOT_INO, root);
}

static int load_node(struct loader *l)
{
    const struct files_record *r = &host->r;
    struct dentry *parent = recall(l, r->parent), *d;
    struct inode *i;
    unsigned mode = r->mode & (S_IFMT | 0777);
    int rc;

    if (!parent || !inode_is_dir(parent->inode) || r->root != l->root || r->name_length == 0)
        return -EPROTO;
    if (S_ISLNK(mode)) {
        rc = parent->inode->ops->symlink(parent->inode, (const char *)host->data, &i);
    } else {
        rc = parent->inode->ops->create(parent->inode, mode, 0, &i);
    }
    if (rc < 0)
        return rc;
    i->ino = r->ino;
    i->uid = i->gid = l->super->host_writable ? CELL_UID : NOBODY;
    rc = dentry_add(parent, host->name, r->name_length, i, &d);
    if (rc < 0) {
        inode_put(i);
        return rc;
    }
    if (inode_is_dir(i))
        parent->inode->nlink++;
    i->mtime = i->ctime = i->atime = (struct fs_time){r->mtime_sec, r->mtime_nsec};
    if (S_ISREG(mode))
        set_absent(i, r->size);
    return remember(l, r->ino, d);
}

static int load_record(struct loader *l, const char **why)
{
    int rc = await_record();

    if (rc < 0)
        return rc;
    switch (host->r.op) {
    case FILES_ROOT:
        return load_root(l);
    case FILES_NODE:
        return load_node(l);
    case FILES_LOADED:
        return 1;
    case FILES_FAILED:
        *why = kstrndup((const char *)host->data, FILES_DATA_MAX);
        return -EIO;
    default:
        return -EPROTO;
    }
}

/* Only from now on are changes told. */
static void begin_telling(void)
{
    list_for_each(n, mount_list())
    {
        struct super *s = list_entry(n, struct super, node);
        if (!s->is_host)
            continue;
        s->host_root = (u16)(s->host_index + 1);
        if (!s->host_writable)
            s->flags |= SUPER_READONLY;
    }
}

int host_files_load(const char **why)
{
    struct loader *l;
    int rc = 0;

    *why = "the host's directories cannot be shown";
    if (!host)
        return 0;
    if (!(l = kmalloc(sizeof(*l))))
        return -ENOMEM;
    while (rc == 0)
        rc = load_record(l, why);
    kfree(l->nodes);
    kfree(l);
    if (rc == -ENOSPC || rc == -ENOMEM)
        *why = "the names of the workspace do not fit into the cell's memory (--memory)";
    if (rc < 0)
        return rc;
    begin_telling();
    host->loaded = true;
    host_leave_to_init();
    host_drive();
    return 0;
}
