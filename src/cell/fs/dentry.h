/*
 * dentry.h - names. A dentry is one name in one directory and the inode behind it, found by (parent, name) in
 * one hash table. Two kinds:
 *
 *   pinned   the entries of tmpfs and devfs: these file systems have no other directories than this. Linked
 * in the inode of their directory. cached   what was found in the image, names that are not there too (inode
 * NULL: it cannot change). Those that nobody refers to are in a list, least recently used first, and go when
 * there are too many.
 *
 * A dentry keeps its parent and its inode. It never changes its inode; rename changes its place.
 */
#pragma once
#include "cell/base/list.h"
#include "cell/base/types.h"

struct inode;
struct super;
struct text;

enum { DENTRY_PINNED = 1, DENTRY_HASHED = 2, DENTRY_DELETED = 4, DENTRY_NAME = 24, DENTRY_CACHE = 4096 };

struct dentry {
    struct dentry *parent;  /* itself: the root of a file system, or a file without a place (memfd) */
    struct inode *inode;    /* NULL: there is no such file */
    struct dentry *mounted; /* root of what is mounted here */
    struct dentry *covered; /* for such a root: where it is mounted */
    struct dentry *hash_next, **hash_link;
    struct list link; /* pinned: in the directory's children; cached: in the list of unused ones */
    char *name;
    u64 cookie; /* pinned: place in the directory's order */
    u32 refs, hash;
    u16 length, flags;
    char short_name[DENTRY_NAME];
};

struct dentry_cache;
/* `max_pinned`: names in all of tmpfs. They live in the kernel's heap, which must not be all theirs. */
int dentry_init(u64 max_pinned);

void dentry_get(struct dentry *d);
void dentry_put(struct dentry *d);

/* The root of a file system. Takes the reference to the inode. NULL: out of memory. */
struct dentry *dentry_create_root(struct inode *i);
/* A file without a place: shown as "/name (deleted)", or below `dir` if there is one. Takes the reference. */
struct dentry *dentry_create_loose(struct dentry *dir, const char *name, struct inode *i);
/* A new entry of a directory whose entries are pinned; it must not be there. Takes the reference to the inode
 * on success; the dentry's own reference is the directory's. */
int dentry_add(struct dentry *dir, const char *name, size_t len, struct inode *i, struct dentry **out);
/* Out of the directory. Who refers to it keeps it. */
void dentry_remove(struct dentry *d);
/* To another name, in the same or another directory; nothing is there. -ENOMEM: nothing changed. */
int dentry_move(struct dentry *d, struct dentry *dir, const char *name, size_t len);
/* The two change their places. */
int dentry_exchange(struct dentry *a, struct dentry *b);

/* A name in a directory, "." and ".." not among them. With a reference; -ENOENT. Does not enter mounts. */
int dentry_lookup(struct dentry *dir, const char *name, size_t len, struct dentry **out);
bool dentry_is_empty(const struct dentry *dir);
/* Is `d` at or below `top`? */
bool dentry_is_below(const struct dentry *d, const struct dentry *top);

/* What is seen there: enters what is mounted. Borrowed. */
struct dentry *dentry_enter(struct dentry *d);
/* "..": leaves mounts; the root is its own parent. Borrowed. */
struct dentry *dentry_up(struct dentry *d);

/* The absolute path, with " (deleted)" where that is so, ended by 0. Its length, or -ENAMETOOLONG. */
long dentry_path(struct dentry *d, char *buf, size_t cap);
