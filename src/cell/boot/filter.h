/*
 * filter.h - the host system calls that a cell may make: the boundary. Everything else about a cell kernel is
 * convenience; this filter, an empty descriptor table and the envelope (walls/envelope.h) are what holds.
 *
 * Program code makes no host call at all: whatever it tries outside of the kernel's text is a SIGSYS that the
 * kernel answers. Code in the kernel's text, hostile code that jumped there included, may make the calls of
 * the list in filter.c, with those arguments; any other ends the process.
 *
 * Freestanding: shared by the cell kernel and the test that interprets it.
 */
#pragma once
#include <linux/filter.h>
#include <linux/sched.h>

/* The only two ways to make a task. The thread's kernel stack stays in use until the host cleared the word
 * that CHILD_CLEARTID names. */
#define CELL_CLONE_THREAD                                                                                    \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID)
#define CELL_CLONE_FORK 17 /* SIGCHLD; its header and a C library exclude each other */

/* For seccomp(SECCOMP_SET_MODE_FILTER). Static; needs no_new_privs, which the envelope has set. */
const struct sock_fprog *cell_filter(void);
