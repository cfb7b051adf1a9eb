/*
 * table.h - making and unmaking processes and threads: numbers, slots, stacks. Kernel lock held.
 */
#pragma once
#include "cell/proc/process.h"

/* At boot: the thread that boots becomes pid 1, the cell's init (boot/init.c). */
struct thread *table_init(void);

/* A process with one thread, without descriptors, memory and place in the tree yet. NULL: *error is set. */
struct process *process_create(struct process *parent, long *error);
/* One more thread. Its process counts it from now on. */
struct thread *thread_create(struct process *p, long *error);
/* Takes the thread out of all tables. Its stack goes once the host is done with it: see thread_stack_last. */
void thread_remove(struct thread *t);
/* A process that nobody will wait for any more. */
void process_remove(struct process *p);
/* Stacks of ended threads that the host is done with. */
void stacks_collect(void);
