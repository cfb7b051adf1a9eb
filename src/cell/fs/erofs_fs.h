/*
 * erofs_fs.h - the image as a file system.
 */
#pragma once
#include "cell/fs/inode.h"

/* Reads the image's head. -errno as erofs_open(). */
int erofs_fs_init(const void *base, u64 size);
int erofs_root(struct super *super, struct inode **out);
void erofs_statfs(u64 *blocks, u64 *inodes);
