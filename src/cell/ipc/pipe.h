/*
 * pipe.h - pipes, with and without a name. Kernel lock held.
 */
#pragma once
#include "cell/base/types.h"

struct file;
struct inode;

enum { PIPE_CAPACITY = 65536, PIPE_ATOMIC = 4096, PIPE_MAX = 1 << 20 };

/* pipe2(2): both ends, one reference each. */
int pipe_create(unsigned flags, struct file **reader, struct file **writer);
/* open(2) of a FIFO, f->flags say how: waits for the other end. Sets f->ops and f->priv. */
int fifo_open(struct inode *i, struct file *f);
/* F_GETPIPE_SZ, F_SETPIPE_SZ. -EBADF: not a pipe. */
long pipe_get_size(struct file *f);
long pipe_set_size(struct file *f, unsigned long size);
bool file_is_pipe(const struct file *f);
/* tee(2) between two different pipes: what waits in one goes into the other as well, as much as fits. Bytes,
 * 0 at the end, or -errno. Sleeps. */
long pipe_tee(struct file *from, struct file *to, size_t len, bool nonblocking);
