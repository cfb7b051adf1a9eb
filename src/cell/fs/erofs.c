#include "cell/fs/erofs.h"

#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/base/text.h"
#include "cell/fs/erofs_format.h"

enum { ENTRIES_MAX = EROFS_BLOCK / sizeof(struct erofs_dirent), NAME_LONGEST = 255 };

int erofs_open(struct erofs *fs, const void *base, u64 size)
{
    struct erofs_super s;

    if (size < EROFS_SUPER_OFFSET + sizeof(s))
        return -EINVAL;
    memcpy(&s, (const u8 *)base + EROFS_SUPER_OFFSET, sizeof(s));
    if (s.magic != EROFS_MAGIC)
        return -EINVAL;
    if (s.block_bits != 12 || s.dir_block_bits != 0 || s.extra_devices != 0 ||
        (s.feature_incompat & ~(u32)EROFS_INCOMPAT_ZERO_PADDING))
        return -EOPNOTSUPP;
    *fs = (struct erofs){
        .base = base,
        .size = size,
        .meta = (u64)s.meta_block * EROFS_BLOCK,
        .root_nid = s.root_nid,
        .inodes = s.inodes,
        .build_time = (s64)s.build_time,
        .build_time_nsec = s.build_time_nsec < 1000000000 ? s.build_time_nsec : 0,
    };
    return fs->meta < size ? 0 : -EUCLEAN;
}

/* [at, at+n) lies in the image? */
static bool is_inside(const struct erofs *fs, u64 at, u64 n)
{
    return at <= fs->size && n <= fs->size - at;
}

static bool has_blocks(u32 mode)
{
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode);
}

/* Where the data is: `value` is the inode's, `behind` the first byte after inode and attributes. */
static int place_data(const struct erofs *fs, unsigned layout, u32 value, u64 behind, struct erofs_node *n)
{
    if (!has_blocks(n->mode)) {
        n->rdev = S_ISCHR(n->mode) || S_ISBLK(n->mode) ? value : 0;
        n->size = n->tail_at = 0;
        return 0;
    }
    n->data = (u64)value * EROFS_BLOCK;
    n->tail_at = n->size;
    if (layout == EROFS_FLAT_INLINE) {
        n->tail_at = n->size / EROFS_BLOCK * EROFS_BLOCK;
        n->tail = behind;
        if (n->size % EROFS_BLOCK > EROFS_BLOCK - behind % EROFS_BLOCK ||
            !is_inside(fs, behind, n->size - n->tail_at))
            return -EUCLEAN;
    } else if (layout != EROFS_FLAT_PLAIN) {
        return -EOPNOTSUPP;
    }
    return n->tail_at == 0 || is_inside(fs, n->data, n->tail_at) ? 0 : -EUCLEAN;
}

int erofs_node(const struct erofs *fs, u64 nid, struct erofs_node *out)
{
    struct erofs_inode_compact c;
    struct erofs_inode_extended x;
    u64 at, attributes;
    u32 data;

    if (nid > fs->size / EROFS_SLOT)
        return -EUCLEAN;
    at = fs->meta + nid * EROFS_SLOT;
    if (!is_inside(fs, at, sizeof(c)))
        return -EUCLEAN;
    memcpy(&c, fs->base + at, sizeof(c));
    attributes = c.xattr_count ? 12 + (u64)(c.xattr_count - 1) * 4 : 0;
    if (c.format & 1) {
        if (!is_inside(fs, at, sizeof(x)))
            return -EUCLEAN;
        memcpy(&x, fs->base + at, sizeof(x));
        *out = (struct erofs_node){
            .size = x.size,
            .mode = x.mode,
            .uid = x.uid,
            .gid = x.gid,
            .nlink = x.nlink,
            .mtime = (s64)x.mtime,
            .mtime_nsec = x.mtime_nsec < 1000000000 ? x.mtime_nsec : 0,
        };
        data = x.data;
        at += sizeof(x);
    } else {
        *out = (struct erofs_node){
            .size = c.size,
            .mode = c.mode,
            .uid = c.uid,
            .gid = c.gid,
            .nlink = c.nlink,
            .mtime = fs->build_time,
            .mtime_nsec = fs->build_time_nsec,
        };
        data = c.data;
        at += sizeof(c);
    }
    out->nid = nid;
    if (out->size > (u64)INT64_MAX)
        return -EUCLEAN;
    return place_data(fs, c.format >> 1 & 7, data, at + attributes, out);
}

const u8 *erofs_data(const struct erofs *fs, const struct erofs_node *node, u64 offset, u64 *n)
{
    if (offset >= node->size) {
        *n = 0;
        return NULL;
    }
    if (offset < node->tail_at) {
        *n = node->tail_at - offset;
        return fs->base + node->data + offset;
    }
    *n = node->size - offset;
    return fs->base + node->tail + (offset - node->tail_at);
}

/* One block of a directory. */
struct block {
    const u8 *at;
    u32 size, count;
};

static int read_block(const struct erofs *fs, const struct erofs_node *dir, u64 index, struct block *b)
{
    struct erofs_dirent first;
    u64 n;

    b->at = erofs_data(fs, dir, index * EROFS_BLOCK, &n);
    if (!b->at || n < sizeof(first))
        return -EUCLEAN;
    b->size = (u32)MIN(n, (u64)EROFS_BLOCK);
    memcpy(&first, b->at, sizeof(first));
    b->count = first.name_offset / (u32)sizeof(first);
    if (b->count == 0 || first.name_offset % sizeof(first) || first.name_offset > b->size)
        return -EUCLEAN;
    return 0;
}

static int read_entry(const struct block *b, u32 i, struct erofs_entry *out)
{
    struct erofs_dirent e, next;
    u32 end = b->size, n;

    memcpy(&e, b->at + i * sizeof(e), sizeof(e));
    if (i + 1 < b->count) {
        memcpy(&next, b->at + (i + 1) * sizeof(e), sizeof(next));
        end = next.name_offset;
    }
    if (e.name_offset >= end || end > b->size)
        return -EUCLEAN;
    out->nid = e.nid;
    out->type = e.type;
    out->name = (const char *)b->at + e.name_offset;
    for (n = 0; n < end - e.name_offset && out->name[n]; n++)
        if (out->name[n] == '/')
            return -EUCLEAN;
    out->length = n;
    return n > 0 && n <= NAME_LONGEST ? 0 : -EUCLEAN;
}

static int compare(const char *name, size_t len, const struct erofs_entry *e)
{
    int order = memcmp(name, e->name, MIN(len, e->length));

    return order ? order : len < e->length ? -1 : len > e->length;
}

/* Two binary searches: for the last block whose first name is not greater, then in the block. */
int erofs_find(const struct erofs *fs, const struct erofs_node *dir, const char *name, size_t len,
               struct erofs_entry *out)
{
    u64 low = 0, high = (dir->size + EROFS_BLOCK - 1) / EROFS_BLOCK;
    struct block b;
    u32 first, last;
    int rc, order;

    if (high == 0)
        return -ENOENT;
    while (high - low > 1) {
        u64 mid = low + (high - low) / 2;
        if ((rc = read_block(fs, dir, mid, &b)) < 0 || (rc = read_entry(&b, 0, out)) < 0)
            return rc;
        if (compare(name, len, out) < 0)
            high = mid;
        else
            low = mid;
    }
    if ((rc = read_block(fs, dir, low, &b)) < 0)
        return rc;
    for (first = 0, last = b.count; first < last;) {
        u32 mid = (first + last) / 2;
        if ((rc = read_entry(&b, mid, out)) < 0)
            return rc;
        order = compare(name, len, out);
        if (order == 0)
            return 0;
        if (order < 0)
            last = mid;
        else
            first = mid + 1;
    }
    return -ENOENT;
}

/* Positions are block * ENTRIES_MAX + index, so any number is a valid one. */
int erofs_next(const struct erofs *fs, const struct erofs_node *dir, u64 *pos, struct erofs_entry *out)
{
    u64 blocks = (dir->size + EROFS_BLOCK - 1) / EROFS_BLOCK;

    for (;;) {
        u64 block = *pos / ENTRIES_MAX;
        u32 i = (u32)(*pos % ENTRIES_MAX);
        struct block b;
        int rc;
        if (block >= blocks)
            return 0;
        if ((rc = read_block(fs, dir, block, &b)) < 0)
            return rc;
        if (i >= b.count) {
            *pos = (block + 1) * ENTRIES_MAX;
            continue;
        }
        if ((rc = read_entry(&b, i, out)) < 0)
            return rc;
        *pos = i + 1 < b.count ? *pos + 1 : (block + 1) * ENTRIES_MAX;
        return 1;
    }
}
