/*
 * mount.h - what is mounted where. Nothing changes after boot.
 */
#pragma once
#include "cell/base/list.h"

/* struct super.node, in the order of mounting. */
struct list *mount_list(void);

/* At start: a tmpfs that will hold a directory (or one file, by `mode`) of the host at this absolute path.
 * The path must lead somewhere in the image, or be one that can be made: at the root, or in a tmpfs. Borrowed
 * results. */
struct dentry;
struct super;
int fs_mount_host(const char *where, unsigned mode, unsigned uid, struct super **super, struct dentry **root);
