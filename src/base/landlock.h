/*
 * landlock.h - file-system and scope restrictions that the process puts on itself
 * (Documentation/userspace-api/landlock.rst).
 *
 * Deny by default: whatever is not below one of the listed descriptors is out of reach, for this thread and
 * all its children, for good. Access bits that the running kernel does not know are left out (the ABI
 * decides); the caller learns from the return value how strong the result is.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum landlock_mode {
    LANDLOCK_READ,      /* read files, list directories, execute */
    LANDLOCK_READ_DATA, /* read files, list directories; no execution */
    LANDLOCK_FILES, /* read; create, write, remove regular files, but no directory, link, socket or device */
    LANDLOCK_WRITE, /* read, execute, create, remove, rename, truncate, device ioctl */
};

struct landlock_path {
    int fd; /* O_PATH is enough; borrowed */
    enum landlock_mode mode;
};

/* The kernel's ABI version; 0 when Landlock is missing or disabled. */
int landlock_abi(void);

/*
 * Applies the rules. `no_tcp`: refuse bind and connect over TCP (ABI 4). `scoped`: no signals to and no
 * abstract unix sockets of processes outside this domain (ABI 6). Needs no_new_privs. Returns the ABI in
 * force (0: kernel has no Landlock, nothing was done), or -1 with e.
 */
int landlock_restrict(const struct landlock_path *paths, size_t n, bool no_tcp, bool scoped, struct err *e);
