/*
 * devfs.h - /dev.
 */
#pragma once
#include "cell/fs/inode.h"

/* Fills the root directory of /dev and mounts nothing; /dev/shm and /dev/pts are directories in it. */
int devfs_init(struct super *super, struct dentry **root);
/* The root of /dev/pts. */
int devpts_root(struct super *super, struct inode **out);
/* One more device: `open` makes the file. `mode` with S_IFCHR. */
int dev_register(const char *name, unsigned mode, u32 rdev, int (*open)(unsigned flags, struct file **out));
