/*
 * regular.h - what the regular files of all file systems have in common.
 */
#pragma once
#include "cell/fs/file.h"

/* lseek(2) by the inode's size; SEEK_DATA and SEEK_HOLE see one piece of data. */
long regular_seek(struct file *f, s64 offset, int whence);
/* RLIMIT_FSIZE: how many of len bytes may be written at pos; -EFBIG with SIGXFSZ if none. */
long regular_limit(u64 pos, size_t len);
