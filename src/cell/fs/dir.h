/*
 * dir.h - directories: listing them, and what making and removing names in them have in common.
 */
#pragma once
#include "cell/fs/dentry.h"
#include "cell/fs/file.h"
#include "cell/fs/inode.h"

/* Where getdents64(2) puts entries. */
struct dir_sink {
    USER u8 *at;
    size_t room, used;
    int error;
};

/* One entry; `next` is the position behind it. False: no more of them. */
bool dir_emit(struct file *f, struct dir_sink *s, const char *name, size_t len, u64 ino, unsigned mode,
              u64 next);

extern const struct file_ops dir_file_ops;  /* of every directory: by inode_ops.iterate */
extern const struct file_ops path_file_ops; /* O_PATH: nothing works */

/* inode_ops.iterate for directories whose entries are pinned dentries. */
int dir_iterate_pinned(struct file *f, struct dir_sink *s);

/* May the caller make a name there? 0, -EROFS, -EACCES, -EPERM, -ENOENT (the directory was removed). */
int dir_may_create(const struct dentry *dir);
/* May the caller remove or rename d? -EBUSY: something is mounted there. */
int dir_may_remove(const struct dentry *d, bool as_directory);
