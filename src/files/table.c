/*
 * One entry for each name: (root, parent, name) -> ino, in two hash tables: by parent and name, and by
 * number. A file with several names has several entries; any of them is its path.
 */
#include "files/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"

enum { BUCKETS = 1 << 14 };

struct entry {
    struct entry *next_name, *next_ino;
    uint64_t ino, parent;
    uint16_t root;
    uint8_t length;
    char name[];
};

struct table {
    struct entry *names[BUCKETS], *inos[BUCKETS];
    size_t count;
};

struct table *table_create(void)
{
    return calloc(1, sizeof(struct table));
}

void table_free(struct table *t)
{
    for (size_t i = 0; t && i < BUCKETS; i++)
        for (struct entry *e = t->names[i], *next; e; e = next) {
            next = e->next_name;
            free(e);
        }
    free(t);
}

bool table_valid_name(const char *name, size_t length)
{
    if (length < 1 || length > 255 || memchr(name, '/', length) || memchr(name, 0, length))
        return false;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

static size_t hash_ino(unsigned root, uint64_t ino)
{
    return (size_t)((ino * 0x9e3779b97f4a7c15ULL + root) >> 40) % BUCKETS;
}

static size_t hash_name(unsigned root, uint64_t parent, const char *name, size_t length)
{
    return (size_t)(fnv1a(FNV_BASIS ^ (parent * 31 + root), name, length) >> 20) % BUCKETS;
}

static bool is_named(const struct entry *e, unsigned root, uint64_t parent, const char *name, size_t length)
{
    return e->root == root && e->parent == parent && e->length == length &&
           memcmp(e->name, name, length) == 0;
}

bool table_add(struct table *t, unsigned root, uint64_t ino, uint64_t parent, const char *name, size_t length)
{
    struct entry *e;
    size_t by_name = hash_name(root, parent, name, length), by_ino = hash_ino(root, ino);

    if (t->count >= TABLE_NODES || !(e = malloc(sizeof(*e) + length)))
        return false;
    *e = (struct entry){.next_name = t->names[by_name],
                        .next_ino = t->inos[by_ino],
                        .ino = ino,
                        .parent = parent,
                        .root = (uint16_t)root,
                        .length = (uint8_t)length};
    memcpy(e->name, name, length);
    t->names[by_name] = t->inos[by_ino] = e;
    t->count++;
    return true;
}

uint64_t table_find(const struct table *t, unsigned root, uint64_t parent, const char *name, size_t length)
{
    for (const struct entry *e = t->names[hash_name(root, parent, name, length)]; e; e = e->next_name)
        if (is_named(e, root, parent, name, length))
            return e->ino;
    return 0;
}

void table_remove(struct table *t, unsigned root, uint64_t parent, const char *name, size_t length)
{
    struct entry **at = &t->names[hash_name(root, parent, name, length)], *e;

    while (*at && !is_named(*at, root, parent, name, length))
        at = &(*at)->next_name;
    e = *at;
    if (!e)
        return;
    *at = e->next_name;
    at = &t->inos[hash_ino(root, e->ino)];
    while (*at != e)
        at = &(*at)->next_ino;
    *at = e->next_ino;
    free(e);
    t->count--;
}

static const struct entry *by_number(const struct table *t, unsigned root, uint64_t ino)
{
    for (const struct entry *e = t->inos[hash_ino(root, ino)]; e; e = e->next_ino)
        if (e->root == root && e->ino == ino)
            return e;
    return NULL;
}

bool table_path(const struct table *t, unsigned root, uint64_t ino, char *out, size_t cap)
{
    const struct entry *chain[TABLE_DEPTH];
    size_t depth = 0, used = 0;

    if (cap < 2)
        return false;
    out[0] = '.';
    out[1] = 0;
    for (; ino != 1; ino = chain[depth - 1]->parent) {
        /* A ring of parents, which only a hostile cell can make, ends here as well. */
        if (depth == TABLE_DEPTH || !(chain[depth] = by_number(t, root, ino)))
            return false;
        depth++;
    }
    while (depth > 0) {
        const struct entry *e = chain[--depth];
        if (used + e->length + 2 > cap)
            return false;
        if (used)
            out[used++] = '/';
        memcpy(out + used, e->name, e->length);
        used += e->length;
        out[used] = 0;
    }
    return true;
}
