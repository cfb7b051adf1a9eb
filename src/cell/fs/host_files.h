/*
 * host_files.h - directories of the host in a cell: the workspace and the mounts. They are tmpfs like any
 * other, with all names from before the workload starts on. The contents of a file come when it is opened,
 * and may go again when nobody has it open. What the cell changes is told to the file server (abi/files.h),
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

void told_create(const struct inode *dir, const char *name, size_t length, struct inode *i);
void told_link(const struct inode *dir, const char *name, size_t length, const struct inode *i);
void told_remove(const struct inode *dir, const char *name, size_t length);
void told_rename(const struct inode *dir, const char *name, size_t length, const struct inode *to,
                 const char *new_name, size_t new_length, bool exchange);
/* `data` is the kernel's own copy, or a page of the file. */
void told_write(struct inode *i, u64 offset, const void *data, size_t n);
void told_truncate(struct inode *i);
void told_mode(const struct inode *i);
void told_time(struct inode *i);

/* Waits while more is on its way to the host than should be. Before a change, where sleeping is fine. -errno
 * of a host that could not follow any more (no space), or of a signal. */
int host_files_room(const struct inode *i);
/* fsync: all that was told is on the host's disk. */
int host_files_sync(const struct inode *i);

/*
 * Contents. Whoever needs those of a file says so before and after, as an open file does; in between they are
 * there and stay. `empty`: it is about to be emptied, so there is no need for them. Sleeps; -errno as open(2)
 * on a network file system: of the host, -ENOSPC if there is no room, -EIO if the server is gone. Of other
 * files both do nothing.
 */
int host_files_use(struct inode *i, bool empty);
void host_files_unuse(struct inode *i);
/* The file is empty now, whatever it was. */
void host_files_emptied(struct inode *i);
/* Its pages are about to be given back. */
void host_files_forget(struct inode *i);
/* Drops the contents of the file that was not used for longest. False: there is none. */
bool host_files_evict(void);

/* Pid 1: moves what waits into the ring, takes answers. */
void host_files_service(void);
/* Is everything on its way? */
bool host_files_idle(void);
