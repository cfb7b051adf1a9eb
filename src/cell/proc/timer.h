/*
 * timer.h - what has to happen at a time: alarms, POSIX timers, timerfd. Pid 1 (boot/init.c) sleeps until the
 * soonest and runs it. Kernel lock held.
 */
#pragma once
#include <asm/siginfo.h>

#include "cell/base/list.h"

struct process;

/* Whose processor time: a process's, or, with `tid`, that of one of its threads. `pid` 0: not such a clock.
 */
struct cpu_clock {
    int pid, tid;
};

struct timer {
    struct list node;  /* in SHARED->timers while armed, soonest first */
    struct list owned; /* in process->timers: POSIX timers and itimers */
    u64 expires;       /* monotonic ns */
    u64 interval;      /* 0: once */
    bool armed;
    void (*fire)(struct timer *t, u64 times); /* `times` expirations at once, if pid 1 was late */

    /* POSIX timers */
    struct process *process;
    int id, clock, sig, notify, tid;
    u64 value;   /* sigval */
    int overrun; /* of the last signal that was taken */

    /* By processor time (proc/cputime.c): `expires` is then when to look. In ns of that time. */
    struct cpu_clock cpu;
    u64 due; /* 0: not armed */
    u64 due_interval;
    u64 gate; /* before the clock of the process shows this, it cannot be due */
    void (*due_fire)(struct timer *t, u64 times);
};

void timer_init(struct timer *t, void (*fire)(struct timer *t, u64 times));
void timer_arm(struct timer *t, u64 expires, u64 interval);
void timer_disarm(struct timer *t);
/* Runs what is due. Returns when the next one is, or NO_DEADLINE. */
u64 timers_run(void);
/* A signal with SI_TIMER is about to be delivered: what timer_getoverrun(2) says from now on. */
void timer_signal_taken(struct process *p, const siginfo_t *info);
/* exec: POSIX timers go, itimers stay. */
void timers_exec(struct process *p);
void timers_free(struct process *p);

/* For timed calls: 0 and *deadline (monotonic), or -EFAULT, -EINVAL. `address` 0: NO_DEADLINE. */
int deadline_from_user(u64 address, u64 *deadline);
/* Absolute time of a clock on the wall as monotonic. */
u64 clock_to_monotonic(int clock, u64 ns);
