/*
 * fd.h - what the calls on descriptors need of the table beyond fs/file.h.
 */
#pragma once
#include "cell/fs/file.h"

/* f becomes descriptor fd; what was there is closed. The reference moves on success. -EBADF: over the limit.
 */
int fd_install_at(struct file *f, int fd, bool cloexec);
int fd_get_cloexec(int fd); /* 0, 1 or -EBADF */
int fd_set_cloexec(int fd, bool on);
bool fd_is_cloexec(struct fd_table *t, int fd);
u32 fd_table_capacity(const struct fd_table *t);
