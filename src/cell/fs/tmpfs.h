/*
 * tmpfs.h - files in the memory file. Directories are pinned dentries (dentry.h); the bytes of a file are
 * pages of the heap, so that mmap(MAP_SHARED) is a mapping of the memory file, the same in every process.
 */
#pragma once
#include "cell/fs/inode.h"

/* At boot. `max_pages`: of all tmpfs together. */
int tmpfs_init(u64 max_pages);
/* The root directory of one more. */
int tmpfs_root(struct super *super, unsigned mode, u32 uid, struct inode **out);
/* A root that may be a regular file as well. */
int tmpfs_node(struct super *super, unsigned mode, u32 uid, struct inode **out);
void tmpfs_statfs(u64 *total, u64 *free); /* pages */
/* Bytes elsewhere that count as data of files: extended attributes. -ENOSPC. */
int tmpfs_charge(u64 n);
void tmpfs_uncharge(u64 n);

/* memfd_create(2). */
int memfd_create_file(const char *name, unsigned flags, struct file **out);
/* F_ADD_SEALS, F_GET_SEALS: -EINVAL if the file has none. */
long memfd_add_seals(struct file *f, unsigned seals);
long memfd_get_seals(struct file *f);

/* tmpfs_data.c */
extern const struct file_ops tmpfs_file_ops;
/* Tells the host what these bytes of the file are now (host_files.h). */
void tmpfs_tell(struct inode *i, u64 from, u64 to);
/* Contents that come from the host: bytes at an offset, into a file that nobody has open (-ENOSPC); then,
 * when all are there, its size. */
int tmpfs_fill(struct inode *i, u64 offset, const void *data, size_t n);
void tmpfs_filled(struct inode *i, u64 size);
const u8 *tmpfs_peek(struct inode *i, u64 pos, u64 *n);
int tmpfs_truncate(struct inode *i, u64 size);
int tmpfs_fallocate(struct inode *i, int mode, u64 offset, u64 len);
void tmpfs_free_data(struct inode *i); /* the file has no page any more; its size stays */
int tmpfs_data_init(u64 max_pages);
