#include "cell/fs/dentry.h"

#include <asm/errno.h>

#include "cell/base/text.h"
#include "cell/fs/inode.h"
#include "cell/mem/heap.h"

enum { BUCKETS = 4096 }; /* a power of two */

struct dentry_cache {
    struct list unused; /* cached ones without references, least recently used first */
    u32 nunused;
    u64 npinned, max_pinned;
    struct dentry *buckets[BUCKETS];
};

static struct dentry_cache *cache; /* set once at boot */

int dentry_init(u64 max_pinned)
{
    cache = kmalloc(sizeof(*cache));
    if (!cache)
        return -ENOMEM;
    list_init(&cache->unused);
    cache->max_pinned = max_pinned;
    return 0;
}

static u32 hash_of(const struct dentry *dir, const char *name, size_t len)
{
    u64 h = (u64)(uintptr_t)dir * 0x9e3779b97f4a7c15ULL;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (u8)name[i]) * 0x100000001b3ULL;
    return (u32)(h ^ h >> 32);
}

static void hash_in(struct dentry *d)
{
    struct dentry **bucket;

    d->hash = hash_of(d->parent, d->name, d->length);
    bucket = &cache->buckets[d->hash % BUCKETS];
    d->hash_next = *bucket;
    if (d->hash_next)
        d->hash_next->hash_link = &d->hash_next;
    d->hash_link = bucket;
    *bucket = d;
    d->flags |= DENTRY_HASHED;
}

static void hash_out(struct dentry *d)
{
    if (!(d->flags & DENTRY_HASHED))
        return;
    *d->hash_link = d->hash_next;
    if (d->hash_next)
        d->hash_next->hash_link = d->hash_link;
    d->flags &= (u16)~DENTRY_HASHED;
}

static struct dentry *hash_find(struct dentry *dir, const char *name, size_t len)
{
    u32 h = hash_of(dir, name, len);

    for (struct dentry *d = cache->buckets[h % BUCKETS]; d; d = d->hash_next)
        if (d->hash == h && d->parent == dir && d->length == len && memcmp(d->name, name, len) == 0)
            return d;
    return NULL;
}

static bool set_name(struct dentry *d, const char *name, size_t len)
{
    char *copy = len < DENTRY_NAME ? d->short_name : kmalloc(len + 1);

    if (!copy)
        return false;
    memcpy(copy, name, len);
    copy[len] = 0;
    d->name = copy;
    d->length = (u16)len;
    return true;
}

static void free_name(struct dentry *d, char *name)
{
    if (name != d->short_name)
        kfree(name);
}

/* Keeps its parent; one reference. The inode is the caller's business. */
static struct dentry *create(struct dentry *parent, const char *name, size_t len)
{
    struct dentry *d = kmalloc(sizeof(*d));

    if (!d)
        return NULL;
    if (!set_name(d, name, len)) {
        kfree(d);
        return NULL;
    }
    list_init(&d->link);
    d->refs = 1;
    d->parent = parent ? parent : d;
    if (parent)
        dentry_get(parent);
    return d;
}

/* A loop, as the last child of a directory takes its parents along. */
static void destroy(struct dentry *d)
{
    while (d) {
        struct dentry *parent = d->parent != d ? d->parent : NULL;
        hash_out(d);
        if (d->inode)
            inode_put(d->inode);
        free_name(d, d->name);
        kfree(d);
        if (!parent || --parent->refs > 0)
            break;
        if (parent->flags & DENTRY_HASHED) {
            list_add_tail(&cache->unused, &parent->link);
            cache->nunused++;
            break;
        }
        d = parent;
    }
}

static void trim(void)
{
    while (cache->nunused > DENTRY_CACHE) {
        struct dentry *d = list_entry(cache->unused.next, struct dentry, link);
        list_del(&d->link);
        cache->nunused--;
        destroy(d);
    }
}

void dentry_get(struct dentry *d)
{
    if (d->refs++ == 0) {
        list_del(&d->link);
        cache->nunused--;
    }
}

void dentry_put(struct dentry *d)
{
    if (--d->refs > 0)
        return;
    if (!(d->flags & DENTRY_HASHED)) {
        destroy(d);
        return;
    }
    list_add_tail(&cache->unused, &d->link);
    if (++cache->nunused > DENTRY_CACHE)
        trim();
}

struct dentry *dentry_create_root(struct inode *i)
{
    struct dentry *d = create(NULL, "", 0);

    if (d)
        d->inode = i;
    return d;
}

struct dentry *dentry_create_loose(struct dentry *dir, const char *name, struct inode *i)
{
    struct dentry *d = create(dir, name, MIN(strlen(name), (size_t)NAME_MAX_));

    if (d) {
        d->inode = i;
        d->flags = DENTRY_DELETED;
    }
    return d;
}

static void pin(struct dentry *d)
{
    struct inode *dir = d->parent->inode;

    d->cookie = ++dir->cookie;
    list_add_tail(&dir->children, &d->link);
    hash_in(d);
}

int dentry_add(struct dentry *dir, const char *name, size_t len, struct inode *i, struct dentry **out)
{
    struct dentry *d = cache->npinned < cache->max_pinned ? create(dir, name, len) : NULL;

    if (!d)
        return -ENOSPC;
    cache->npinned++;
    d->inode = i;
    d->flags = DENTRY_PINNED;
    pin(d);
    if (out)
        *out = d;
    return 0;
}

void dentry_remove(struct dentry *d)
{
    hash_out(d);
    list_del(&d->link);
    cache->npinned--;
    d->flags = (u16)((d->flags & ~DENTRY_PINNED) | DENTRY_DELETED);
    dentry_put(d);
}

int dentry_move(struct dentry *d, struct dentry *dir, const char *name, size_t len)
{
    char *old_name = d->name;
    struct dentry *old = d->parent;

    if (old_name == d->short_name && len < DENTRY_NAME) {
        hash_out(d);
    } else {
        char *copy = len < DENTRY_NAME ? d->short_name : kmalloc(len + 1);
        if (!copy)
            return -ENOMEM;
        hash_out(d);
        d->name = copy;
    }
    memcpy(d->name, name, len);
    d->name[len] = 0;
    d->length = (u16)len;
    if (old_name != d->name)
        free_name(d, old_name);
    list_del(&d->link);
    dentry_get(dir);
    d->parent = dir;
    pin(d);
    dentry_put(old);
    return 0;
}

int dentry_exchange(struct dentry *a, struct dentry *b)
{
    struct dentry *dir_a = a->parent, *dir_b = b->parent;
    char *name_a = kstrndup(a->name, a->length), *name_b = kstrndup(b->name, b->length);
    size_t len_a = a->length, len_b = b->length;
    int rc = -ENOMEM;

    if (name_a && name_b) {
        dentry_get(dir_a);
        dentry_get(dir_b);
        /* For a moment both have one name: nobody looks. */
        rc = dentry_move(a, dir_b, name_b, len_b);
        if (rc == 0 && (rc = dentry_move(b, dir_a, name_a, len_a)) < 0)
            (void)dentry_move(a, dir_a, name_a, len_a);
        dentry_put(dir_a);
        dentry_put(dir_b);
    }
    kfree(name_a);
    kfree(name_b);
    return rc;
}

int dentry_lookup(struct dentry *dir, const char *name, size_t len, struct dentry **out)
{
    struct dentry *d = hash_find(dir, name, len);
    struct inode *i = NULL;
    int rc;

    if (!d) {
        if (!dir->inode->ops->lookup)
            return -ENOENT;
        rc = dir->inode->ops->lookup(dir->inode, name, len, &i);
        if (rc < 0 && (rc != -ENOENT || (dir->inode->super->flags & SUPER_UNCACHED)))
            return rc;
        d = create(dir, name, len);
        if (!d) {
            if (i)
                inode_put(i);
            return -ENOMEM;
        }
        d->inode = i;
        if (!(dir->inode->super->flags & SUPER_UNCACHED))
            hash_in(d);
    } else {
        dentry_get(d);
    }
    if (!d->inode) {
        dentry_put(d);
        return -ENOENT;
    }
    *out = d;
    return 0;
}

bool dentry_is_empty(const struct dentry *dir)
{
    return list_empty(&dir->inode->children);
}

bool dentry_is_below(const struct dentry *d, const struct dentry *top)
{
    for (;; d = d->parent) {
        if (d == top)
            return true;
        if (d->parent == d)
            return false;
    }
}

struct dentry *dentry_enter(struct dentry *d)
{
    while (d->mounted)
        d = d->mounted;
    return d;
}

struct dentry *dentry_up(struct dentry *d)
{
    while (d->parent == d && d->covered)
        d = d->covered;
    return dentry_enter(d->parent);
}

long dentry_path(struct dentry *d, char *buf, size_t cap)
{
    static const char deleted[] = " (deleted)";
    size_t at = cap;

    if (d->flags & DENTRY_DELETED) {
        if (cap < sizeof(deleted))
            return -ENAMETOOLONG;
        at -= sizeof(deleted);
        memcpy(buf + at, deleted, sizeof(deleted));
    } else {
        if (at == 0)
            return -ENAMETOOLONG;
        buf[--at] = 0;
    }
    for (;;) {
        if (d->parent == d && d->covered) {
            d = d->covered;
            continue;
        }
        if (d->parent == d && d->length == 0)
            break;
        if (at < (size_t)d->length + 1)
            return -ENAMETOOLONG;
        at -= d->length;
        memcpy(buf + at, d->name, d->length);
        buf[--at] = '/';
        if (d->parent == d)
            break;
        d = d->parent;
    }
    if (at == cap - 1) {
        if (at == 0)
            return -ENAMETOOLONG;
        buf[--at] = '/';
    }
    memmove(buf, buf + at, cap - at);
    return (long)(cap - at - 1);
}
