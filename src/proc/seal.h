/*
 * seal.h - a control-plane process gives up everything its job does not need, before it serves anyone.
 *
 * Order inside seal_process(): chroot (root only), landlock, own uid/gid and no groups (root only), all
 * capabilities except `keep_caps`, no_new_privs, not dumpable, RLIMIT_CORE 0, seccomp allowlist (anything
 * else kills the process). Every step that the kernel offers must succeed: on failure the process exits (fail
 * closed).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/landlock.h"

/* Groups of system calls a process may need; the table with every number and its reason is in
 * proc/seal_syscalls.c. */
enum seal_group {
    SEAL_BASE = 1U << 0,    /* memory, event loop, time, descriptors it already has, unix-socket messages */
    SEAL_FILES = 1U << 1,   /* open, create, rename, unlink, fsync files below its Landlock paths */
    SEAL_ACCEPT = 1U << 2,  /* accept on sockets it was given */
    SEAL_CONNECT = 1U << 3, /* new TCP/UDP sockets and connect, resolver */
    SEAL_THREADS = 1U << 4, /* threads (libcurl's resolver) */
    SEAL_NOTIFY = 1U << 7,  /* answer the listeners of sandboxes' filters: three ioctls and no other */
    SEAL_LAUNCH =
        1U << 5, /* no filter of its own beyond a denylist: creates namespaces, mounts, cgroups, children */
    SEAL_TRACE = 1U << 6, /* with SEAL_LAUNCH: its children may trace theirs, as gVisor does */
};

struct seal_path {
    const char *path; /* as it was before the chroot, and below chroot_to if there is one */
    enum landlock_mode mode;
};

struct seal_profile {
    unsigned groups;               /* enum seal_group */
    uint32_t uid;                  /* own uid and gid when started as root; 0 keeps root (launcher only) */
    const char *chroot_to;         /* when root: "" an empty directory, NULL none, else this directory */
    const struct seal_path *paths; /* Landlock: everything else on the file system is out of reach */
    unsigned npaths;
    uint64_t keep_caps; /* bit mask of CAP_*; 0 for everyone but the launcher */
};

/* Returns 0 or -1 with e; the caller must then exit. */
int seal_process(const struct seal_profile *p, struct err *e);

/* True once seal_process() confined this process by chroot (that is: it was started as root). */
bool seal_is_chrooted(void);
