/*
 * calls.h - the tables of system calls of ipc/, and how a file without a path becomes a descriptor.
 */
#pragma once
#include <asm/unistd.h>

#include "cell/proc/syscall.h"

struct file_ops;

extern const struct syscall event_calls[], epoll_calls[], timerfd_calls[], signalfd_calls[], pidfd_calls[],
    inotify_calls[];

/* A new descriptor for an object of these operations; on failure the object is released by them. */
long ipc_install(const struct file_ops *ops, void *object, unsigned flags, bool cloexec);
