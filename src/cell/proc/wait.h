/*
 * wait.h - the one way to sleep. A thread puts itself on the queues of everything that it cares about, looks,
 * and sleeps on its own wake word; whoever changes something wakes the queue. All under the kernel lock,
 * which thread_sleep() gives up while asleep: between looking and sleeping nothing can be missed.
 *
 *     struct waiter w;
 *     waitq_add(&pipe->readers, &w);
 *     while (!has_data(pipe) && rc == 0)
 *         rc = thread_sleep(deadline);
 *     waitq_del(&w);
 */
#pragma once
#include "cell/base/list.h"

struct thread;
struct waiter;

struct waitq {
    struct list waiters;
};

struct waiter {
    struct list node, mine;
    struct thread *thread;
    /* What waking means; NULL: wake `thread`. Called under the kernel lock; may delete its own waiter. */
    void (*wake)(struct waiter *w);
    void *context; /* for `wake` */
};

static inline void waitq_init(struct waitq *q)
{
    list_init(&q->waiters);
}

/* The calling thread waits on q. A thread may be on many queues at once. */
void waitq_add(struct waitq *q, struct waiter *w);
/* With a function of one's own. */
void waitq_add_callback(struct waitq *q, struct waiter *w, void (*wake)(struct waiter *w), void *context);
void waitq_del(struct waiter *w);
/* The queue goes, before those that wait on it: they are on none. */
void waitq_release(struct waitq *q);
/* A thread that the host killed: off every queue. */
void waitq_forget(struct thread *t);
void waitq_wake(struct waitq *q);     /* everybody */
void waitq_wake_one(struct waitq *q); /* the one that waits longest */

/*
 * How long a thread looks at its wake word before it sleeps. Waking a thread on another processor costs the
 * host some 40 us where processors are virtual, and a pipe between two processes does so at every turn; who
 * is about to be woken does better to look for that long, as KVM does for its guests (Documentation/virt/kvm/
 * halt-polling.rst, whose rules these are, but that patience which was in vain is given up for longer each
 * time: the processor might have been of use to whoever was waited for).
 */
struct patience {
    u32 window;        /* cycles; 0: sleeps at once */
    u16 skip, penalty; /* so many short sleeps until it tries again; what that was the last time */
};
enum {
    PATIENCE_START = 20000, /* cycles of the time stamp counter: 5 to 10 us */
    PATIENCE_MAX = 200000,  /* 50 to 100 us: about what waking costs */
    PATIENCE_PENALTY_MAX = 255
};
/* After a sleep that looking could not prevent: it took this many cycles, looking included. */
void patience_learn(struct patience *p, u64 blocked);

#define NO_DEADLINE UINT64_MAX
/*
 * Sleeps until woken, or until the monotonic clock shows `deadline` (ns; NO_DEADLINE: never), or a signal has
 * to be looked at. Returns 0 (woken, perhaps for nothing: look again), -ETIMEDOUT, or -ERESTARTSYS.
 */
int thread_sleep(u64 deadline);
/* The same, but no signal ends it, except death. */
int thread_sleep_killable(u64 deadline);
void thread_wake(struct thread *t);
/* For those who sleep without the lock: something has to be looked at, and it is not the kernel's alone. */
bool thread_interrupted(void);

u64 monotonic_ns(void);
u64 realtime_ns(void);
