/*
 * erofs.h - reading an EROFS image that lies in memory. Pure functions of the bytes: whatever these are,
 * nothing outside [base, base+size) is read, and every loop ends. -EUCLEAN: the image contradicts itself.
 */
#pragma once
#include "cell/base/types.h"

struct erofs {
    const u8 *base;
    u64 size;
    u64 meta; /* where nids count from */
    u64 root_nid, inodes;
    s64 build_time;
    u32 build_time_nsec;
};

struct erofs_node {
    u64 nid, size;
    u32 mode, uid, gid, nlink, rdev;
    s64 mtime;
    u32 mtime_nsec;
    u64 data;    /* where in the image the file's blocks start: a multiple of the block size */
    u64 tail_at; /* up to here the file is in the blocks; a multiple of the block size, or `size` */
    u64 tail;    /* where in the image the rest is */
};

struct erofs_entry {
    u64 nid;
    const char *name; /* not ended by 0 */
    size_t length;    /* 1 .. 255 */
    u8 type; /* 1 regular, 2 directory, 3 character, 4 block, 5 FIFO, 6 socket, 7 link; others: unknown */
};

/* -EINVAL: not an image; -EOPNOTSUPP: features that this reader does not know. */
int erofs_open(struct erofs *fs, const void *base, u64 size);
int erofs_node(const struct erofs *fs, u64 nid, struct erofs_node *out);
/* The file's bytes at `offset`: *n of them lie in a row. NULL: the end, *n is 0. */
const u8 *erofs_data(const struct erofs *fs, const struct erofs_node *node, u64 offset, u64 *n);
/* -ENOENT, -EUCLEAN. */
int erofs_find(const struct erofs *fs, const struct erofs_node *dir, const char *name, size_t len,
               struct erofs_entry *out);
/* The entry at *pos, which starts at 0, and the next position. 1; 0: there are no more. */
int erofs_next(const struct erofs *fs, const struct erofs_node *dir, u64 *pos, struct erofs_entry *out);
