/*
 * host_files.h - directories of the host in a cell: the workspace and the mounts. They are tmpfs like any
 * other, filled before the workload starts; what the cell changes is told to the file server (abi/files.h),
 * in order and without waiting for it. fsync(2) waits.
 *
 * The told_* functions are called by the code that made the change, after it succeeded. Of a file system that
 * is not the host's they return at once.
 */
#pragma once
#include "cell/fs/inode.h"

/* At boot. */
void host_files_init(void);

/* The first program's process, before it executes anything: everything is there afterwards, or -errno and a
 * sentence in *why. Sleeps. */
int host_files_load(const char **why);

void told_create(const struct inode *dir, const char *name, size_t length, const struct inode *i);
void told_link(const struct inode *dir, const char *name, size_t length, const struct inode *i);
void told_remove(const struct inode *dir, const char *name, size_t length);
void told_rename(const struct inode *dir, const char *name, size_t length, const struct inode *to,
                 const char *new_name, size_t new_length, bool exchange);
/* `data` is the kernel's own copy, or a page of the file. */
void told_write(const struct inode *i, u64 offset, const void *data, size_t n);
void told_truncate(const struct inode *i);
void told_mode(const struct inode *i);
void told_time(const struct inode *i);

/* Waits while more is on its way to the host than should be. Before a change, where sleeping is fine. -errno
 * of a host that could not follow any more (no space), or of a signal. */
int host_files_room(const struct inode *i);
/* fsync: all that was told is on the host's disk. */
int host_files_sync(const struct inode *i);

/* Pid 1: moves what waits into the ring, takes answers. */
void host_files_service(void);
/* Is everything on its way? */
bool host_files_idle(void);
