/*
 * lock.h - advisory locks on files: record locks of processes (fcntl F_SETLK), of open files (F_OFD_SETLK),
 * and flock(2). A record lock of a process goes when that process closes any descriptor of the file, as POSIX
 * wants.
 */
#pragma once
#include "cell/base/types.h"

struct file;
struct lock_table;
struct process;

/* fcntl(2): F_GETLK, F_SETLK, F_SETLKW and the F_OFD_ ones. */
long lock_fcntl(struct file *f, unsigned cmd, unsigned long arg);
long lock_flock(struct file *f, unsigned operation);

void lock_drop_process(struct file *f, struct process *p); /* p closed a descriptor of f */
void lock_drop_file(struct file *f);                       /* the last reference went */
void lock_table_free(struct lock_table *t);                /* NULL is fine */
