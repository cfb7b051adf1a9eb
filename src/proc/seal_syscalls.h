/* seal_syscalls.h - which system calls each seal group permits. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct seal_syscall {
    unsigned groups; /* enum seal_group bits that permit it */
    int nr;          /* SCMP_SYS() */
};

extern const struct seal_syscall seal_syscalls[];
extern const size_t seal_nsyscalls;

/* Never needed by any process of ours, the launcher included. */
extern const int seal_denied[];
extern const size_t seal_ndenied;

/* Is this one of the calls that SEAL_TRACE takes off the denylist? */
bool seal_is_tracing(int call);
