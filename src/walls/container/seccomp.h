/*
 * seccomp.h - the system call filter of the container wall.
 *
 * The policy is the table in seccomp_table.c. A program at build time (seccomp_generate.c) turns it into BPF
 * through libseccomp, for the architecture being built; at run time loading it costs one prctl per filter and
 * no library. Two filters are stacked, the kernel takes the stricter verdict of both:
 *   1. the allowlist: any call not in it answers EPERM (clone3 and openat2: ENOSYS, so that
 *      programs fall back to clone and openat);
 *   2. refusals: calls of the allowlist that are refused with particular arguments (libseccomp cannot express
 * "all but two values" in the first). A 32-bit or x32 entry kills the process.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct seccomp_group {
    const char *why;
    const int *calls; /* SCMP_SYS() numbers, terminated by SECCOMP_END */
};
enum {
    SECCOMP_END = -100000
}; /* libseccomp uses small negative pseudo numbers for calls an architecture lacks */

/* One condition: (argument & mask) == value. The kernel looks at the low 32 bits of most arguments; a mask
 * says which. */
struct seccomp_condition {
    unsigned argument;
    uint64_t mask, value;
};

/* With seccomp_conditional[]: the call is allowed when all conditions of one of its lines hold. With
 * seccomp_refused[]: the otherwise allowed call answers EPERM when they do. */
struct seccomp_argument {
    const char *why;
    int call;
    unsigned n;
    struct seccomp_condition when[2];
};

extern const struct seccomp_group seccomp_allowed[];
extern const size_t seccomp_nallowed;
extern const struct seccomp_argument seccomp_conditional[], seccomp_refused[];
extern const size_t seccomp_nconditional, seccomp_nrefused;

/* Loads both filters for this process and its children. Needs no_new_privs. */
int seccomp_install(struct err *e);
