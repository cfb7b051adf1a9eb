/*
 * exit.h - the end of threads and processes. Kernel lock held.
 */
#pragma once
#include "cell/proc/process.h"

/* All threads of the calling process end; `status` as wait(2) reports it. Does not return. */
void process_exit(int status) __attribute__((noreturn));
/* The calling thread ends, with it perhaps the process. Does not return. */
void thread_exit(void) __attribute__((noreturn));
/* All other threads of the calling process end; returns when they have (exec). */
void process_end_other_threads(void);
/* A child changed its state: wakes wait4 and posts SIGCHLD. */
void process_notify_parent(struct process *p);
/* The host told that a child of it ended: which, and did it tell us before? `killed`: by a signal, so not by
 * our own doing. */
void process_check_children(struct process *p, bool killed);
/* exec or exit of a vfork child: its parent goes on. */
void process_vfork_done(struct process *p);
