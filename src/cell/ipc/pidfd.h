/*
 * pidfd.h - descriptors that stand for a process, also once that is gone and its number is somebody else's.
 * Kernel lock held.
 */
#pragma once
#include "cell/proc/wait.h"

struct file;
struct process;

/* What all pidfds of one process share; made when the first is asked for. */
struct pidfd {
    unsigned refs;           /* one for each file and each waitid(2), one of the process while it is there */
    struct process *process; /* NULL once it was waited for */
    struct waitq event;      /* it became a zombie; it was waited for */
};

/* A new close-on-exec descriptor of the caller for p. `flags`: O_NONBLOCK or 0. -ENOMEM, -EMFILE. */
long pidfd_install(struct process *p, unsigned flags);
/* What a file stands for; NULL: it is no pidfd. */
struct pidfd *pidfd_of(const struct file *f);
void pidfd_get(struct pidfd *d);
void pidfd_put(struct pidfd *d);

/* Of the life of a process: it became a zombie; it goes, and struct process with it. */
void pidfd_process_ended(struct process *p);
void pidfd_process_removed(struct process *p);
