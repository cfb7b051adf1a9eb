/*
 * cputime.h - processor time: the clocks that show it, and what is due by them. ITIMER_VIRTUAL and
 * ITIMER_PROF, POSIX timers, RLIMIT_CPU, clock_nanosleep(2). Kernel lock held.
 *
 * The host tells how much time a process has had, but not when it will have had so much. A timer by processor
 * time is one by the clock on the wall, set for the earliest moment at which it can be due: what is left,
 * divided by the threads that may run at once. Then the processor clock is asked, and the timer is due, or
 * set anew. Nobody looks more often than every four milliseconds, as a kernel does that ticks 250 times a
 * second.
 *
 * One process can read the clock of another, but not that of another's thread. So a timer by a thread's clock
 * waits for the process's clock, which is never slower, to show that the thread could be there; from then on
 * the thread itself has to look, on its next way through the kernel (PENDING_TIME). It is called in, unless
 * it sleeps: then it does not use any.
 */
#pragma once
#include "cell/proc/timer.h"

struct process;
struct thread;

/* Is it one? 0 and which, or -EINVAL: not a clock of this kind, or of nobody who is there. `id`:
 * CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, or one that clock_getcpuclockid(3) made. */
int cpu_clock_find(int id, struct cpu_clock *out);
/* Nanoseconds; a thread's only within its process. -EINVAL: there is nobody any more. */
int cpu_clock_read(const struct cpu_clock *c, u64 *ns);

void cpu_timer_init(struct timer *t, const struct cpu_clock *c, void (*fire)(struct timer *t, u64 times));
/* `due`: absolute, on the timer's clock; `interval` 0: once. */
void cpu_timer_arm(struct timer *t, u64 due, u64 interval);
void cpu_timer_disarm(struct timer *t);
/* The calling thread looks after its own: it is asked to by PENDING_TIME. */
void cpu_timers_look(void);

/* Until the clock shows `due`. 0, -ERESTARTSYS, or -EINVAL as cpu_clock_read(). */
int cpu_sleep_until(const struct cpu_clock *c, u64 due);

/* RLIMIT_CPU: before anything else; and when it has been set, or inherited. */
void cpu_limit_init(struct process *p);
void cpu_limit_changed(struct process *p);
