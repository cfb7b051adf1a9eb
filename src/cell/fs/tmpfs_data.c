/*
 * The bytes of a file in the memory file.
 *
 * A file has an array of chunks, a chunk an array of up to 1024 slots, a slot a page of the heap or nothing,
 * which reads as zeros. Both arrays grow as needed, so an empty file has none and a short one a few bytes.
 * Pages that are written in one go lie in a row in the memory file if there is such a row, so mapping them
 * takes one call of the host's.
 *
 * Two promises: bytes of a page behind the file's end are 0; and a page that may be mapped in a program is
 * not given back. The kernel is not told when a mapping goes, only when the file behind it is closed for the
 * last time, so while any file of an inode was mapped (inode->mapped) its pages are cleared where they would
 * be freed.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/host_files.h"
#include "cell/fs/file.h"
#include "cell/fs/regular.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"

enum { SLOTS = 1024, FIRST_SLOTS = 4, RUN_MAX = 64 };
#define FILE_MAX (1ULL << 40)
#define MAP_BEHIND                                                                                           \
    (64ULL << 20) /* a shared mapping reaches so far behind the file's end, for when it grows */

struct chunk {
    u32 *slots; /* offset in the memory file / PAGE + 1; 0: nothing there */
    u32 capacity;
};

struct data {
    struct chunk *chunks;
    u32 nchunks;
};

static struct usage {
    u64 used, max;
    u64 loose; /* bytes charged that do not fill a page yet: less than one */
    u64 run;   /* so many pages in a row are worth looking for: less when the heap is in pieces */
} * usage;     /* of all tmpfs; set once at boot */

int tmpfs_data_init(u64 max_pages)
{
    usage = kmalloc(sizeof(*usage));
    if (!usage)
        return -ENOMEM;
    usage->max = max_pages;
    usage->run = RUN_MAX;
    return 0;
}

void tmpfs_statfs(u64 *total, u64 *free)
{
    *total = usage->max;
    *free = usage->max - usage->used;
}

/* So many bytes are a page now and then, whoever's they are. */
int tmpfs_charge(u64 n)
{
    u64 loose = usage->loose + n;

    if (usage->used + PAGE_UP(loose) / PAGE > usage->max)
        return -ENOSPC;
    usage->used += loose / PAGE;
    usage->loose = loose % PAGE;
    return 0;
}

void tmpfs_uncharge(u64 n)
{
    u64 charged = usage->used * PAGE + usage->loose - n;

    usage->used = charged / PAGE;
    usage->loose = charged % PAGE;
}

static u32 *find_slot(const struct inode *i, u64 index)
{
    const struct data *d = i->priv;
    const struct chunk *c;

    if (!d || index / SLOTS >= d->nchunks)
        return NULL;
    c = &d->chunks[index / SLOTS];
    return index % SLOTS < c->capacity ? &c->slots[index % SLOTS] : NULL;
}

static u8 *address(u32 slot)
{
    return (u8 *)(CELL_MEMORY + (u64)(slot - 1) * PAGE);
}

static u8 *find_page(const struct inode *i, u64 index)
{
    const u32 *slot = find_slot(i, index);

    return slot && *slot ? address(*slot) : NULL;
}

static int grow_chunks(struct data *d, u64 n)
{
    u32 capacity = MAX(d->nchunks, 1U);
    struct chunk *chunks;

    if (n <= d->nchunks)
        return 0;
    while (capacity < n)
        capacity *= 2;
    chunks = kmalloc(capacity * sizeof(*chunks));
    if (!chunks)
        return -ENOSPC;
    if (d->nchunks)
        memcpy(chunks, d->chunks, d->nchunks * sizeof(*chunks));
    kfree(d->chunks);
    d->chunks = chunks;
    d->nchunks = capacity;
    return 0;
}

static int make_slot(struct inode *i, u64 index, u32 **out)
{
    struct data *d = i->priv;
    struct chunk *c;
    u32 capacity, *slots;

    if (!d && !(d = i->priv = kmalloc(sizeof(*d))))
        return -ENOSPC;
    if (grow_chunks(d, index / SLOTS + 1) < 0)
        return -ENOSPC;
    c = &d->chunks[index / SLOTS];
    if (index % SLOTS >= c->capacity) {
        capacity = MAX(c->capacity, (u32)FIRST_SLOTS);
        while (capacity <= index % SLOTS)
            capacity *= 2;
        slots = kmalloc(capacity * sizeof(*slots));
        if (!slots)
            return -ENOSPC;
        if (c->capacity)
            memcpy(slots, c->slots, c->capacity * sizeof(*slots));
        kfree(c->slots);
        c->slots = slots;
        c->capacity = capacity;
    }
    *out = &c->slots[index % SLOTS];
    return 0;
}

/* A page at index; of those behind it up to `want` in all, as long as there are none and the heap has a row
 * of free ones. */
static int find_memory(struct inode *i, u64 index, u64 want)
{
    u32 *slot;
    u64 n = 1;
    u8 *p;
    int rc = make_slot(i, index, &slot);

    if (rc < 0 || *slot)
        return rc;
    want = MIN(MIN(want, usage->run), SLOTS - index % SLOTS);
    while (n < want && !find_page(i, index + n))
        n++;
    if (usage->used >= usage->max)
        return -ENOSPC;
    n = MIN(n, usage->max - usage->used);
    p = page_alloc(n);
    if (!p && n > 1) {
        usage->run = n / 2;
        n = 1;
        p = page_alloc(1);
    }
    if (!p)
        return -ENOSPC;
    for (u64 k = 0; k < n; k++) {
        if (make_slot(i, index + k, &slot) < 0) {
            page_free(p + k * PAGE, n - k);
            return k > 0 ? 0 : -ENOSPC;
        }
        *slot = (u32)(page_offset(p + k * PAGE) / PAGE) + 1;
        usage->used++;
        i->blocks += PAGE / 512;
    }
    return 0;
}

/* Files of the host that nobody uses make room. */
static int make_pages(struct inode *i, u64 index, u64 want)
{
    int rc;

    do
        rc = find_memory(i, index, want);
    while (rc == -ENOSPC && host_files_evict());
    return rc;
}

/* Pages [first, end) go; those in a row in one call. */
static void drop_pages(struct inode *i, u64 first, u64 end)
{
    const struct data *d = i->priv;
    u32 run = 0, n = 0;

    if (!d)
        return;
    end = MIN(end, (u64)d->nchunks * SLOTS);
    for (u64 index = first; index < end; index++) {
        u32 *slot = find_slot(i, index);
        if (!slot) {
            index = index / SLOTS * SLOTS + SLOTS - 1; /* nothing in the rest of the chunk */
            continue;
        }
        if (!*slot)
            continue;
        if (i->mapped > 0) {
            memset(address(*slot), 0, PAGE);
            continue;
        }
        if (n > 0 && *slot != run + n) {
            page_free(address(run), n);
            n = 0;
        }
        if (n++ == 0)
            run = *slot;
        *slot = 0;
        usage->used--;
        i->blocks -= PAGE / 512;
    }
    if (n > 0) {
        page_free(address(run), n);
        usage->run = RUN_MAX;
    }
}

static void clear_bytes(struct inode *i, u64 from, u64 to)
{
    while (from < to) {
        u64 n = MIN(to - from, PAGE - from % PAGE);
        u8 *p = find_page(i, from / PAGE);
        if (p)
            memset(p + from % PAGE, 0, n);
        from += n;
    }
}

void tmpfs_free_data(struct inode *i)
{
    struct data *d = i->priv;

    host_files_forget(i);
    if (!d)
        return;
    i->mapped = 0;
    drop_pages(i, 0, UINT64_MAX);
    for (u32 k = 0; k < d->nchunks; k++)
        kfree(d->chunks[k].slots);
    kfree(d->chunks);
    kfree(d);
    i->priv = NULL;
}

int tmpfs_truncate(struct inode *i, u64 size)
{
    if (size > FILE_MAX)
        return -EFBIG;
    if ((size < i->size && (i->seals & F_SEAL_SHRINK)) || (size > i->size && (i->seals & F_SEAL_GROW)))
        return -EPERM;
    if (size == 0)
        host_files_emptied(i);
    if (size <= i->size) { /* also what fallocate(2) put behind the end */
        drop_pages(i, PAGE_UP(size) / PAGE, UINT64_MAX);
        clear_bytes(i, size, PAGE_UP(size));
    }
    i->size = size;
    inode_changed(i);
    told_truncate(i);
    return 0;
}

/* How many bytes from `at` in page p, number `index`, on lie in a row: at most `most`. */
static size_t run_length(const struct inode *i, u64 index, const u8 *p, size_t at, size_t most)
{
    size_t n = MIN(most, PAGE - at);

    while (n < most && find_page(i, index + (at + n) / PAGE) == p + at + n)
        n += MIN(most - n, PAGE);
    return n;
}

int tmpfs_fill(struct inode *i, u64 offset, const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        u64 index = (offset + done) / PAGE;
        size_t at = (offset + done) % PAGE, part;
        int rc = make_pages(i, index, (n - done + at + PAGE - 1) / PAGE);
        u8 *p;
        if (rc < 0)
            return rc;
        p = find_page(i, index);
        part = run_length(i, index, p, at, n - done);
        memcpy(p + at, (const u8 *)data + done, part);
        done += part;
    }
    return 0;
}

void tmpfs_filled(struct inode *i, u64 size)
{
    drop_pages(i, PAGE_UP(size) / PAGE, UINT64_MAX);
    clear_bytes(i, size, PAGE_UP(size));
    i->size = size;
}

void tmpfs_tell(struct inode *i, u64 from, u64 to)
{
    static const u8 zeros[PAGE];

    if (!i->super->host_root)
        return;
    to = MIN(to, i->size);
    while (from < to) {
        size_t at = from % PAGE, n = MIN(to - from, PAGE - at);
        const u8 *p = find_page(i, from / PAGE);
        /* Pages in a row are one record. */
        if (p)
            n = run_length(i, from / PAGE, p, at, to - from);
        told_write(i, from, p ? p + at : zeros, n);
        from += n;
    }
}

static int punch(struct inode *i, u64 offset, u64 end)
{
    u64 first = PAGE_UP(offset), last = PAGE_DOWN(end);

    if (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        return -EPERM;
    if (first >= last) {
        clear_bytes(i, offset, end);
    } else {
        clear_bytes(i, offset, first);
        drop_pages(i, first / PAGE, last / PAGE);
        clear_bytes(i, last, end);
    }
    inode_changed(i);
    tmpfs_tell(i, offset, end);
    return 0;
}

int tmpfs_fallocate(struct inode *i, int mode, u64 offset, u64 len)
{
    u64 end = offset + len;
    int rc = 0;

    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
        return -EOPNOTSUPP;
    if (end > FILE_MAX)
        return -EFBIG;
    if (mode & FALLOC_FL_PUNCH_HOLE)
        return mode & FALLOC_FL_KEEP_SIZE ? punch(i, offset, end) : -EOPNOTSUPP;
    if (end > i->size && !(mode & FALLOC_FL_KEEP_SIZE) && (i->seals & F_SEAL_GROW))
        return -EPERM;
    if ((PAGE_UP(end) - PAGE_DOWN(offset)) / PAGE > usage->max)
        return -ENOSPC;
    for (u64 k = offset / PAGE; k < PAGE_UP(end) / PAGE && rc == 0; k++)
        rc = make_pages(i, k, PAGE_UP(end) / PAGE - k);
    if (rc < 0)
        return rc;
    if (end > i->size && !(mode & FALLOC_FL_KEEP_SIZE))
        i->size = end;
    inode_changed(i);
    told_truncate(i);
    return 0;
}

const u8 *tmpfs_peek(struct inode *i, u64 pos, u64 *n)
{
    static const u8 zeros[PAGE];
    size_t at = pos % PAGE;
    const u8 *p;

    if (pos >= i->size)
        return NULL;
    inode_accessed(i);
    p = find_page(i, pos / PAGE);
    *n = p ? run_length(i, pos / PAGE, p, at, i->size - pos) : MIN(i->size - pos, PAGE - at);
    return p ? p + at : zeros;
}

static long read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    struct inode *i = f->inode;
    size_t done = 0;

    if (*pos >= i->size)
        return 0;
    len = MIN(len, i->size - *pos);
    inode_accessed(i);
    while (done < len) {
        size_t at = *pos % PAGE, n = MIN(len - done, PAGE - at), left;
        u64 index = *pos / PAGE;
        const u8 *p = find_page(i, index);
        if (p) {
            n = run_length(i, index, p, at, len - done);
            left = copy_user_partial((u8 *)buf + done, p + at, n);
        } else {
            left = clear_user((u8 *)buf + done, n) < 0 ? n : 0;
        }
        done += n - left;
        *pos += n - left;
        if (left > 0)
            return done > 0 ? (long)done : -EFAULT;
    }
    return (long)done;
}

static long write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    struct inode *i = f->inode;
    size_t done = 0;
    u64 start;
    long allowed = host_files_room(i);

    if (len == 0)
        return 0;
    if (allowed < 0)
        return allowed;
    if (f->flags & O_APPEND)
        *pos = i->size;
    if (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        return -EPERM;
    allowed = regular_limit(*pos, len);
    if (allowed < 0)
        return allowed;
    len = (size_t)allowed;
    if (*pos >= FILE_MAX)
        return -EFBIG;
    len = MIN(len, FILE_MAX - *pos);
    if ((i->seals & F_SEAL_GROW) && *pos + len > i->size) {
        if (*pos >= i->size)
            return -EPERM;
        len = i->size - *pos;
    }
    start = *pos;
    while (done < len) {
        size_t at = *pos % PAGE, n, left;
        u64 index = *pos / PAGE;
        u8 *p = find_page(i, index);
        if (!p) {
            int rc = make_pages(i, index, (len - done + at + PAGE - 1) / PAGE);
            if (rc < 0) {
                tmpfs_tell(i, start, *pos);
                return done > 0 ? (long)done : rc;
            }
            p = find_page(i, index);
        }
        n = run_length(i, index, p, at, len - done);
        left = copy_user_partial(p + at, (const u8 *)buf + done, n);
        done += n - left;
        *pos += n - left;
        i->size = MAX(i->size, *pos);
        if (left > 0)
            break;
    }
    if (done > 0) {
        inode_changed(i);
        tmpfs_tell(i, start, *pos);
    }
    return done > 0 ? (long)done : -EFAULT;
}

static long seek_data(struct inode *i, u64 offset, bool hole)
{
    const struct data *d = i->priv;
    u64 at = offset;

    if (offset >= i->size)
        return -ENXIO;
    while (at < i->size) {
        if (!d || at / PAGE / SLOTS >= d->nchunks)
            return hole ? (long)at : -ENXIO;
        if ((find_page(i, at / PAGE) != NULL) != hole)
            return (long)at;
        at = find_slot(i, at / PAGE) ? PAGE_DOWN(at) + PAGE : (at / PAGE / SLOTS + 1) * SLOTS * PAGE;
    }
    return hole ? (long)i->size : -ENXIO;
}

static long seek(struct file *f, s64 offset, int whence)
{
    long at;

    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return regular_seek(f, offset, whence);
    at = offset < 0 ? -ENXIO : seek_data(f->inode, (u64)offset, whence == SEEK_HOLE);
    if (at >= 0)
        f->pos = (u64)at;
    return at;
}

/* The pages [index, end) of the file at addr; runs of pages in a row are one mapping. */
static long map_pages(const struct inode *i, u8 *addr, int prot, int share, u64 index, u64 end)
{
    while (index < end) {
        const u32 *slot = find_slot(i, index);
        u64 n = 1;
        long rc;
        if (!slot || !*slot) {
            /* Only in a private mapping: a hole is zeros. */
            while (index + n < end && !find_page(i, index + n))
                n++;
            rc = host_mmap(addr, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        } else {
            const u8 *p = address(*slot);
            while (index + n < end && find_page(i, index + n) == p + n * PAGE)
                n++;
            rc = host_mmap(addr, n * PAGE, prot, share | MAP_FIXED, CELL_FD_MEMORY, page_offset(p));
        }
        if (rc < 0)
            return rc;
        addr += n * PAGE;
        index += n;
    }
    return 0;
}

static int map(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset)
{
    struct inode *i = f->inode;
    bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
    u64 first = offset / PAGE, end = PAGE_UP(i->size) / PAGE;
    long rc = 0;

    if (offset > FILE_MAX || len > FILE_MAX)
        return -EOVERFLOW;
    if (shared && (prot & PROT_WRITE) && (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EPERM;
    if (shared)
        end += MAP_BEHIND / PAGE;
    end = MIN(end, (offset + PAGE_UP(len)) / PAGE);
    for (u64 k = first; shared && k < end && rc == 0; k++)
        rc = make_pages(i, k, end - k);
    /* What lies behind the end is there in case the file grows: it may as well be missing. */
    while (rc < 0 && end > first && !find_page(i, end - 1))
        end--;
    if (rc < 0 && end < MIN(PAGE_UP(i->size) / PAGE, (offset + PAGE_UP(len)) / PAGE))
        return -ENOMEM;
    if (!f->mapped) {
        f->mapped = true;
        i->mapped++;
    }
    return first < end ? (int)map_pages(i, (u8 *)addr, prot, shared ? MAP_SHARED : MAP_PRIVATE, first, end)
                       : 0;
}

static int sync_file(struct file *f)
{
    if (f->mapped && (f->flags & O_ACCMODE) == O_RDWR)
        tmpfs_tell(f->inode, 0, f->inode->size);
    return host_files_sync(f->inode);
}

/* The last file that was mapped: what was kept behind the end for its mappings goes. */
static void release(struct file *f)
{
    struct inode *i = f->inode;

    /* What was written through mappings. */
    if (f->mapped && (f->flags & O_ACCMODE) == O_RDWR)
        tmpfs_tell(i, 0, i->size);
    if (f->mapped && i->mapped == 0)
        drop_pages(i, PAGE_UP(i->size) / PAGE, UINT64_MAX);
}

const struct file_ops tmpfs_file_ops = {
    .read = read,
    .write = write,
    .seek = seek,
    .map = map,
    .release = release,
    .sync = sync_file,
};
