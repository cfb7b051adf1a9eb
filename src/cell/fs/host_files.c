/*
 * What is told waits in a queue, in the order of the changes; the queue goes into the ring as there is room,
 * by whoever comes by: the thread that made a change, or pid 1 when the host has made room.
 */
#include "cell/fs/host_files.h"

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "cell/abi/files.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/mount.h"
#include "cell/fs/path.h"
#include "cell/fs/tmpfs.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

enum { QUEUE_MAX = 4 << 20, NOBODY = 65534 };

struct told {
    struct list node;
    size_t length, sent;
    u8 bytes[];
};

static struct host {
    struct stream *stream;
    struct list queue;
    size_t queued;
    struct waitq room; /* the queue became shorter, or an answer came */
    u64 syncs, synced;
    int failed;
    u8 answer[sizeof(struct files_record)];
    size_t answered; /* bytes of it that are there */
    bool loaded;
} * host; /* NULL: no directories of the host. Set once at boot, by the stream's owner */

void host_files_init(void)
{
    if (!(HEADER->flags & CELL_BOOT_FILES))
        return;
    host = kmalloc(sizeof(*host));
    list_init(&host->queue);
    waitq_init(&host->room);
    host->stream = stream_fixed(CELL_STREAM_FILES);
}

static bool is_hosted(const struct inode *i)
{
    return host && i->super->host_root != 0;
}

/* ---- telling */

static void send_queue(void)
{
    bool moved = false;

    while (!list_empty(&host->queue)) {
        struct told *t = list_entry(host->queue.next, struct told, node);
        long n = stream_write(host->stream, t->bytes + t->sent, t->length - t->sent);
        if (n < 0)
            break;
        t->sent += (size_t)n;
        if (t->sent < t->length)
            continue;
        host->queued -= t->length;
        list_del(&t->node);
        kfree(t);
        moved = true;
    }
    if (!list_empty(&host->queue))
        atomic_store(&STREAM(CELL_STREAM_FILES)->wake, CELL_WAKE_IRQ + 1); /* pid 1 goes on */
    if (moved)
        waitq_wake(&host->room);
}

static void tell(const struct inode *i, struct files_record *r, const void *name, const void *data)
{
    size_t n = sizeof(*r) + r->name_length + r->data_length;
    struct told *t = kmalloc(sizeof(*t) + n);

    if (!t) {
        host->failed = ENOMEM;
        return;
    }
    r->magic = FILES_MAGIC;
    r->root = (u16)(i->super->host_root - 1);
    t->length = n;
    memcpy(t->bytes, r, sizeof(*r));
    if (r->name_length)
        memcpy(t->bytes + sizeof(*r), name, r->name_length);
    if (r->data_length)
        memcpy(t->bytes + sizeof(*r) + r->name_length, data, r->data_length);
    list_add_tail(&host->queue, &t->node);
    host->queued += n;
    send_queue();
}

static bool is_kept(const struct inode *i)
{
    return S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode);
}

void told_create(const struct inode *dir, const char *name, size_t length, const struct inode *i)
{
    struct files_record r = {
        .op = FILES_CREATE, .ino = i->ino, .parent = dir->ino, .mode = i->mode, .name_length = (u32)length};

    if (!is_hosted(dir) || !is_kept(i))
        return;
    if (S_ISLNK(i->mode))
        r.data_length = (u32)i->size;
    tell(dir, &r, name, i->priv);
}

void told_link(const struct inode *dir, const char *name, size_t length, const struct inode *i)
{
    struct files_record r = {.op = FILES_LINK, .ino = i->ino, .parent = dir->ino, .name_length = (u32)length};

    if (is_hosted(dir) && is_kept(i))
        tell(dir, &r, name, NULL);
}

void told_remove(const struct inode *dir, const char *name, size_t length)
{
    struct files_record r = {.op = FILES_REMOVE, .parent = dir->ino, .name_length = (u32)length};

    if (is_hosted(dir))
        tell(dir, &r, name, NULL);
}

void told_rename(const struct inode *dir, const char *name, size_t length, const struct inode *to,
                 const char *new_name, size_t new_length, bool exchange)
{
    struct files_record r = {.op = FILES_RENAME,
                             .parent = dir->ino,
                             .ino = to->ino,
                             .mode = exchange,
                             .name_length = (u32)length,
                             .data_length = (u32)new_length};

    if (is_hosted(dir))
        tell(dir, &r, name, new_name);
}

void told_write(const struct inode *i, u64 offset, const void *data, size_t n)
{
    if (!is_hosted(i))
        return;
    for (size_t done = 0; done < n;) {
        size_t part = MIN(n - done, (size_t)FILES_DATA_MAX / 2);
        struct files_record r = {
            .op = FILES_WRITE, .ino = i->ino, .size = offset + done, .data_length = (u32)part};
        tell(i, &r, NULL, (const u8 *)data + done);
        done += part;
    }
}

void told_truncate(const struct inode *i)
{
    struct files_record r = {.op = FILES_TRUNCATE, .ino = i->ino, .size = i->size};

    if (is_hosted(i))
        tell(i, &r, NULL, NULL);
}

void told_mode(const struct inode *i)
{
    struct files_record r = {.op = FILES_MODE, .ino = i->ino, .mode = i->mode};

    if (is_hosted(i))
        tell(i, &r, NULL, NULL);
}

void told_time(const struct inode *i)
{
    struct files_record r = {
        .op = FILES_TIME, .ino = i->ino, .mtime_sec = i->mtime.sec, .mtime_nsec = i->mtime.nsec};

    if (is_hosted(i))
        tell(i, &r, NULL, NULL);
}

int host_files_room(const struct inode *i)
{
    struct waiter w;
    int rc = 0;

    if (!is_hosted(i))
        return 0;
    if (host->queued > QUEUE_MAX && !host->failed) {
        waitq_add(&host->room, &w);
        while (host->queued > QUEUE_MAX && !host->failed && rc == 0)
            rc = thread_sleep(NO_DEADLINE);
        waitq_del(&w);
    }
    return host->failed ? -host->failed : rc;
}

int host_files_sync(const struct inode *i)
{
    struct files_record r = {.op = FILES_SYNC};
    struct waiter w;
    int rc = 0;

    if (!is_hosted(i))
        return 0;
    r.ino = ++host->syncs;
    tell(i, &r, NULL, NULL);
    waitq_add(&host->room, &w);
    while (host->synced < r.ino && !host->failed && rc == 0)
        rc = thread_sleep_killable(NO_DEADLINE);
    waitq_del(&w);
    return host->failed ? -host->failed : rc;
}

/* Answers are headers alone. */
static void take_answers(void)
{
    struct files_record r;
    long n;

    while ((n = stream_read(host->stream, host->answer + host->answered, sizeof(r) - host->answered)) > 0) {
        host->answered += (size_t)n;
        if (host->answered < sizeof(r))
            continue;
        host->answered = 0;
        memcpy(&r, host->answer, sizeof(r));
        if (r.op == FILES_SYNCED)
            host->synced = MAX(host->synced, r.ino);
        else if (r.op == FILES_FAILED && !host->failed)
            host->failed = r.mode > 0 && r.mode < 4096 ? (int)r.mode : EIO;
        waitq_wake(&host->room);
    }
    if (n == 0 || (n < 0 && n != -EAGAIN)) {
        host->failed = host->failed ? host->failed : EIO;
        waitq_wake(&host->room);
    }
}

void host_files_service(void)
{
    if (!host || !host->loaded)
        return;
    send_queue();
    take_answers();
    atomic_store(&STREAM(CELL_STREAM_FILES)->wake, CELL_WAKE_IRQ + 1);
}

bool host_files_idle(void)
{
    return !host || host->failed || list_empty(&host->queue);
}

/* ---- loading */

static int read_all(void *to, size_t n)
{
    size_t done = 0;
    struct waiter w;

    while (done < n) {
        long got = stream_read(host->stream, (u8 *)to + done, n - done);
        if (got > 0) {
            done += (size_t)got;
            continue;
        }
        if (got != -EAGAIN)
            return -EIO;
        stream_wait(host->stream, &w);
        if (stream_available(host->stream) == 0)
            got = thread_sleep_killable(NO_DEADLINE);
        waitq_del(&w);
        if (got < 0 && got != -EAGAIN)
            return (int)got;
    }
    return 0;
}

struct loader {
    struct files_record r;
    char name[FILES_NAME_MAX + 1];
    u8 *data; /* FILES_DATA_MAX + 1 bytes */
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

static int load_root(struct loader *l)
{
    bool writable = l->r.size == 1;
    struct dentry *root;
    int rc;

    l->data[l->r.data_length] = 0;
    rc = fs_mount_host((const char *)l->data, l->r.mode, writable ? CELL_UID : NOBODY, &l->super, &root);
    if (rc < 0)
        return rc;
    l->root = l->r.root;
    /* Numbers start anew with each root. */
    for (size_t i = 0; i < l->capacity; i++)
        l->nodes[i] = NULL;
    root->inode->ino = FILES_ROOT_INO;
    root->inode->mtime = (struct fs_time){l->r.mtime_sec, l->r.mtime_nsec};
    l->super->next_ino = FILES_CELL_INO;
    l->super->host_writable = writable;
    l->super->is_host = true;
    l->super->host_index = l->r.root;
    return remember(l, FILES_ROOT_INO, root);
}

static int load_node(struct loader *l)
{
    struct dentry *parent = recall(l, l->r.parent), *d;
    struct inode *i;
    unsigned mode = l->r.mode & (S_IFMT | 0777);
    int rc;

    if (!parent || l->r.root != l->root || l->r.name_length == 0)
        return -EPROTO;
    if (S_ISLNK(mode)) {
        l->data[l->r.data_length] = 0;
        rc = parent->inode->ops->symlink(parent->inode, (const char *)l->data, &i);
    } else {
        rc = parent->inode->ops->create(parent->inode, mode, 0, &i);
    }
    if (rc < 0)
        return rc;
    i->ino = l->r.ino;
    i->uid = i->gid = l->super->host_writable ? CELL_UID : NOBODY;
    rc = dentry_add(parent, l->name, l->r.name_length, i, &d);
    if (rc < 0) {
        inode_put(i);
        return rc;
    }
    if (inode_is_dir(i))
        parent->inode->nlink++;
    i->mtime = i->ctime = i->atime = (struct fs_time){l->r.mtime_sec, l->r.mtime_nsec};
    return remember(l, l->r.ino, d);
}

static int load_data(struct loader *l)
{
    struct dentry *d = recall(l, l->r.ino);
    struct fs_time mtime;
    u64 pos = l->r.size;
    long n;

    if (!d || !S_ISREG(d->inode->mode))
        return -EPROTO;
    mtime = d->inode->mtime;
    {
        /* The kernel's own hand: whatever the file's mode says. */
        struct file f = {.ops = &tmpfs_file_ops, .inode = d->inode, .flags = O_RDWR};
        n = tmpfs_file_ops.write(&f, l->data, l->r.data_length, &pos);
    }
    d->inode->mtime = mtime;
    return n == (long)l->r.data_length ? 0 : n < 0 ? (int)n : -ENOSPC;
}

static int load_record(struct loader *l, const char **why)
{
    int rc = read_all(&l->r, sizeof(l->r));

    if (rc < 0)
        return rc;
    if (l->r.magic != FILES_MAGIC || l->r.name_length > FILES_NAME_MAX || l->r.data_length > FILES_DATA_MAX)
        return -EPROTO;
    if ((rc = read_all(l->name, l->r.name_length)) < 0 || (rc = read_all(l->data, l->r.data_length)) < 0)
        return rc;
    l->name[l->r.name_length] = 0;
    switch (l->r.op) {
    case FILES_ROOT:
        return load_root(l);
    case FILES_NODE:
        return load_node(l);
    case FILES_DATA:
        return load_data(l);
    case FILES_LOADED:
        return 1;
    case FILES_FAILED:
        l->data[l->r.data_length] = 0;
        *why = kstrndup((const char *)l->data, FILES_DATA_MAX);
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
    if (!(l = kmalloc(sizeof(*l))) || !(l->data = kmalloc(FILES_DATA_MAX + 1)))
        return -ENOMEM;
    while (rc == 0)
        rc = load_record(l, why);
    kfree(l->data);
    kfree(l->nodes);
    kfree(l);
    if (rc == -ENOSPC || rc == -ENOMEM)
        *why = "the workspace does not fit into the cell's memory (--memory)";
    if (rc < 0)
        return rc;
    begin_telling();
    host->loaded = true;
    return 0;
}
