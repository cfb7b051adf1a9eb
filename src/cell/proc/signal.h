/*
 * signal.h - the signals of programs: posting, blocking, default actions, delivery. The host's signals are
 * another matter (arch/x86_64/traps.h). Kernel lock held.
 */
#pragma once
#include <asm/siginfo.h>
#include <asm/signal.h>

#include "cell/proc/process.h"

#define SIGBIT(sig) (1ULL << ((sig)-1))
#define UNBLOCKABLE (SIGBIT(SIGKILL) | SIGBIT(SIGSTOP))

struct signal_item {
    struct list node;
    int sig;
    siginfo_t info;
};

/* Posts with the given information (NULL: SI_KERNEL). Standard signals that are pending already are not
 * queued again. 0, or -EAGAIN when the queue of real-time signals is full. */
int signal_post(struct process *p, int sig, const siginfo_t *info);
int signal_post_thread(struct thread *t, int sig, const siginfo_t *info);
/* Posts to the thread itself and makes sure that it is not ignored or blocked: a fault. */
void signal_force(struct thread *t, int sig, const siginfo_t *info);

/* The calling thread's mask; looks anew at what is pending. */
void signal_set_mask(u64 mask);
/* Replaces the mask until the call returns to the program, or its handler does (sigsuspend, ppoll, pselect,
 * epoll_pwait). */
void signal_mask_push(u64 mask);
/* Undoes signal_mask_push when no signal came. */
void signal_mask_pop(void);
/* Sets or clears PENDING_SIGNAL of a thread. */
void signal_recalculate(struct thread *t);
void signal_recalculate_all(struct process *p);

/* Takes one pending signal of `set` off the calling thread's and its process's queues. 0: none. */
int signal_take(u64 set, siginfo_t *info);
u64 signal_pending_set(const struct thread *t);
/* That of a POSIX timer, still pending for the process or one of its threads; NULL: it was taken. */
siginfo_t *signal_of_timer(struct process *p, int sig, int id);

/* What has to be done before program code goes on: deliver, stop, end. Called with the lock, by
 * cell_exit_work only. */
void signal_deliver(struct thread *t);
/* The program ignores it from now on: what is pending of it is gone. */
void signal_discard(struct process *p, int sig);
void signal_drop_all(struct list *queue, u64 *set);
void signal_copy_actions(struct process *to, const struct process *from);
void signal_reset_on_exec(struct process *p);

/* arch/x86_64/sigframe.c: builds the handler's frame on the program's stack. -EFAULT: there is no stack. */
int sigframe_push(struct thread *t, int sig, const siginfo_t *info, const struct k_sigaction *action,
                  u64 mask);
/* rt_sigreturn. */
long sigframe_pop(struct thread *t);
void sigframe_init(void);
