/*
 * xattr.h - extended attributes of files in the memory file (xattr(7)): pairs of a name, prefix and all, and
 * a value. Who may see and change which of them is the calls' business (call_xattr.c). Kernel lock held.
 */
#pragma once
#include "cell/base/types.h"

struct inode;

/* The system calls' limits (linux/limits.h), in bytes: a name; a value; all names of a file, each with its 0.
 */
enum { XATTR_NAME_MAX_ = 255, XATTR_SIZE_MAX_ = 65536, XATTR_LIST_MAX_ = 65536 };

struct xattr {
    struct xattr *next; /* in the order of the names, as tmpfs lists them */
    u32 name_size;      /* with its 0 */
    u32 size;           /* of the value */
    char bytes[];       /* name, 0, value */
};

/* One that belongs to nobody yet, its value zeros for the caller to fill. NULL: out of memory. */
struct xattr *xattr_create(const char *name, size_t size);
void xattr_destroy(struct xattr *x);
void *xattr_value(struct xattr *x);

/* NULL: it has none of this name. */
struct xattr *xattr_find(const struct inode *i, const char *name);
/* Gives the inode `x`, in place of one of the same name. `flags`: XATTR_CREATE, XATTR_REPLACE. -EEXIST,
 * -ENODATA, or -ENOSPC: then `x` is still the caller's. */
int xattr_set(struct inode *i, struct xattr *x, unsigned flags);
int xattr_remove(struct inode *i, const char *name); /* -ENODATA */
/* Bytes of all names; `to`: room for that many, or NULL. */
size_t xattr_list(const struct inode *i, char *to);
/* All go; the inode does. */
void xattr_free(struct inode *i);
