/*
 * What is told waits in a queue, in the order of the changes; the queue goes into the ring as there is room,
 * by whoever comes by: the thread that made a change, or pid 1 when the host has made room.
 */
#include "cell/fs/host_files.h"

#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/host_link.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

enum { QUEUE_MAX = 4 << 20, RECORDS_AT_ONCE = 16 };

struct told {
    struct list node;
    size_t length, sent;
    u8 bytes[];
};

struct host_link *host;

void host_files_init(void)
{
    if (!(HEADER->flags & CELL_BOOT_FILES))
        return;
    host = kmalloc(sizeof(*host));
    list_init(&host->queue);
    waitq_init(&host->room);
    host->stream = stream_fixed(CELL_STREAM_FILES);
    host_fetch_init();
}

static bool is_hosted(const struct inode *i)
{
    return host && i->super->host_root != 0;
}

/* ---- telling */

void host_leave_to_init(void)
{
    atomic_store(&STREAM(CELL_STREAM_FILES)->wake, CELL_WAKE_IRQ + 1);
}

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
        host_leave_to_init(); /* pid 1 goes on */
    if (moved)
        waitq_wake(&host->room);
}

bool host_tell(const struct inode *i, struct files_record *r, const void *name, const void *data)
{
    size_t n = sizeof(*r) + r->name_length + r->data_length;
    struct told *t = kmalloc(sizeof(*t) + n);

    if (!t)
        return false;
    r->magic = FILES_MAGIC;
    r->root = i->super->host_index;
    t->length = n;
    memcpy(t->bytes, r, sizeof(*r));
    if (r->name_length)
        memcpy(t->bytes + sizeof(*r), name, r->name_length);
    if (r->data_length)
        memcpy(t->bytes + sizeof(*r) + r->name_length, data, r->data_length);
    list_add_tail(&host->queue, &t->node);
    host->queued += n;
    send_queue();
    return true;
}

static void tell(const struct inode *i, struct files_record *r, const void *name, const void *data)
{
    if (!host_tell(i, r, name, data))
        host->failed = ENOMEM;
}

static void tell_contents(struct inode *i, struct files_record *r, const void *data)
{
    i->host |= HOST_CHANGED | HOST_UNTIMED;
    tell(i, r, NULL, data);
}

static bool is_kept(const struct inode *i)
{
    return S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode);
}

void told_create(const struct inode *dir, const char *name, size_t length, struct inode *i)
{
    struct files_record r = {
        .op = FILES_CREATE, .ino = i->ino, .parent = dir->ino, .mode = i->mode, .name_length = (u32)length};

    if (!is_hosted(dir) || !is_kept(i))
        return;
    if (S_ISLNK(i->mode))
        r.data_length = (u32)i->size;
    i->host |= HOST_CHANGED | HOST_UNTIMED;
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

void told_write(struct inode *i, u64 offset, const void *data, size_t n)
{
    if (!is_hosted(i))
        return;
    for (size_t done = 0; done < n;) {
        size_t part = MIN(n - done, (size_t)FILES_DATA_MAX / 2);
        struct files_record r = {
            .op = FILES_WRITE, .ino = i->ino, .size = offset + done, .data_length = (u32)part};
        tell_contents(i, &r, (const u8 *)data + done);
        done += part;
    }
}

void told_truncate(struct inode *i)
{
    struct files_record r = {.op = FILES_TRUNCATE, .ino = i->ino, .size = i->size};

    if (is_hosted(i))
        tell_contents(i, &r, NULL);
}

void told_mode(const struct inode *i)
{
    struct files_record r = {.op = FILES_MODE, .ino = i->ino, .mode = i->mode};

    if (is_hosted(i))
        tell(i, &r, NULL, NULL);
}

void told_time(struct inode *i)
{
    struct files_record r = {
        .op = FILES_TIME, .ino = i->ino, .mtime_sec = i->mtime.sec, .mtime_nsec = i->mtime.nsec};

    if (!is_hosted(i))
        return;
    i->host &= ~(u32)HOST_UNTIMED;
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

/* ---- answers */

static bool is_valid(const struct files_record *r)
{
    return r->magic == FILES_MAGIC && r->name_length <= FILES_NAME_MAX && r->data_length <= FILES_DATA_MAX &&
           r->size <= INT64_MAX - FILES_DATA_MAX && r->mtime_nsec < 1000000000;
}

/* Where the next bytes of the record go, and how many are missing there; none: it is complete. */
static u8 *next_part(size_t *missing)
{
    size_t at = host->received;

    if (at < sizeof(host->r)) {
        *missing = sizeof(host->r) - at;
        return (u8 *)&host->r + at;
    }
    at -= sizeof(host->r);
    if (at < host->r.name_length) {
        *missing = host->r.name_length - at;
        return (u8 *)host->name + at;
    }
    at -= host->r.name_length;
    *missing = host->r.data_length - at;
    return host->data + at;
}

int host_receive(void)
{
    size_t missing;
    u8 *to = next_part(&missing);

    while (missing > 0) {
        long n = stream_read(host->stream, to, missing);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return -EIO;
        host->received += (size_t)n;
        if (host->received == sizeof(host->r) && !is_valid(&host->r))
            return -EPROTO;
        to = next_part(&missing);
    }
    host->received = 0;
    host->name[host->r.name_length] = 0;
    host->data[host->r.data_length] = 0;
    return 1;
}

/* False: that is no answer. */
static bool take_answer(void)
{
    const struct files_record *r = &host->r;

    switch (r->op) {
    case FILES_SYNCED:
        host->synced = MAX(host->synced, r->ino);
        waitq_wake(&host->room);
        return true;
    case FILES_FAILED:
        if (!host->failed)
            host->failed = r->mode > 0 && r->mode < 4096 ? (int)r->mode : EIO;
        waitq_wake(&host->room);
        return true;
    case FILES_DATA:
        return host_take_data();
    case FILES_FETCHED:
        return host_take_fetched();
    default:
        return false;
    }
}

static void take_answers(void)
{
    for (int k = 0; k < RECORDS_AT_ONCE && !host->ended; k++) {
        int rc = host_receive();
        if (rc == 0)
            return;
        if (rc > 0 && take_answer())
            continue;
        host->ended = true;
        host->failed = host->failed ? host->failed : EIO;
        waitq_wake(&host->room);
        host_fetch_end();
    }
}

void host_drive(void)
{
    send_queue();
    take_answers();
}

bool host_can_move(void)
{
    return !host->ended &&
           (stream_readable(host->stream) || (!list_empty(&host->queue) && stream_room(host->stream) > 0 &&
                                              !atomic_load(&STREAM(CELL_STREAM_FILES)->tx_gone)));
}

void host_files_service(void)
{
    if (!host || !host->loaded)
        return;
    host_leave_to_init(); /* before the look at the rings */
    host_drive();
    while (host_can_move()) { /* others have their turn at the lock */
        kernel_unlock();
        kernel_lock();
        host_drive();
    }
}

bool host_files_idle(void)
{
    return !host || host->failed || list_empty(&host->queue);
}
