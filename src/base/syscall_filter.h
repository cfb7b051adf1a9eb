/*
 * syscall_filter.h - the system call filter of a small static program: a list, and everything else kills. For
 * programs with a policy of arguments or groups there are walls/container/seccomp.h and proc/seal.h, which
 * need libseccomp.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { SYSCALL_FILTER_MAX = 64 };

/* Allows the n calls, and socket(2) of the unix family alone if asked. Needs no_new_privs. 0 or -1 with e. */
int syscall_filter_install(const int *calls, size_t n, bool unix_sockets, struct err *e);
