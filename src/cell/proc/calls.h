/*
 * calls.h - the tables of system calls of proc/, and the few functions that they share.
 */
#pragma once
#include "cell/proc/process.h"
#include "cell/proc/syscall.h"

extern const struct syscall clone_calls[], exit_calls[], wait_calls[], exec_calls[], signal_calls[],
    futex_calls[], timer_calls[], id_calls[], sched_calls[], system_calls[], poll_calls[], tty_calls[];

/* clone.c */
int clone_first(void (*fn)(void));
void vfork_leave_window(struct process *p);

/* exec.c: replaces the current program. `argv`, `envp`: kernel copies, see exec.h. */
struct exec_request;
long exec_program(struct exec_request *r);
