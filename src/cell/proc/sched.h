/*
 * sched.h - how a thread is scheduled, as far as anybody is told.
 */
#pragma once

struct thread;

/* A new thread's processors and policy are those of the one that makes it (sched(7), fork(2)). */
void sched_inherit(struct thread *child, const struct thread *parent);
