/*
 * seccomp.h - the system call filter of the container wall.
 *
 * The policy is the table in seccomp_table.c. A program at build time (seccomp_generate.c) turns it into BPF
 * through libseccomp, for the architecture being built; at run time loading it is one call and no library.
 * What it says, in this order:
 *   1. refusals: calls of the allowlist that are refused with particular arguments (libseccomp cannot express
 *      "all but two values" in the second);
 *   2. the allowlist: any call not in it answers EPERM (clone3 and openat2: ENOSYS, so that programs fall
 * back to clone and openat). A 32-bit or x32 entry kills the process. Both are one program: the kernel
 * permits one listener for a task, and it has to see the refusals of both.
 *
 * There are two variants of the program, which permit the same calls. The plain one refuses by itself. The
 * observed one asks a listener outside of the sandbox about every call that it refuses, except for those in
 * seccomp_quiet[]. The listener never lets a call through: it answers SECCOMP_REFUSED, and if it is gone the
 * kernel answers ENOSYS.
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

/* What the allowlist refuses, but a C library or a common program tries as a matter of course and does
 * without: answered inside the kernel also in the observed variant, as nobody wants to be told. */
extern const int seccomp_quiet[];
extern const size_t seccomp_nquiet;

/* The errno of every call that the observed variant reports. */
#define SECCOMP_REFUSED EPERM

/*
 * Loads the filter for this process and its children. Needs no_new_privs. With `listener`, the observed
 * variant: *listener is then the descriptor that refused calls are reported to, or -1 where the kernel has
 * none to give (it is too old, or a listener watches us already), and the plain variant holds.
 */
int seccomp_install(int *listener, struct err *e);
