/*
 * syscall.h - the table of system calls. A call is one function of the six argument registers; it returns the
 * result or -errno. SYS_UNLOCKED entries run without the kernel lock, all others under it.
 *
 * Each folder that implements calls lists them in a table of its own (fs/fs_calls.c ...), which boot merges:
 * a number named twice is a build error of the test that prints the table.
 */
#pragma once
#include "cell/base/types.h"

typedef long (*syscall_fn)(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);

enum { SYS_LOCKED = 0, SYS_UNLOCKED = 1, SYS_FILLS = 2 /* set by dispatch.c */ };
enum { SYSCALLS = 512 };

struct syscall {
    u16 nr;
    u16 flags;
    const char *name;
    syscall_fn fn;
};

/* Ended by an entry without fn. */
extern const struct syscall fs_calls[], proc_calls[], mem_calls[], ipc_calls[], net_calls[], misc_calls[];
