/*
 * process.h - processes and threads of the cell. A program's process is a process of the host, its thread a
 * thread of the host; what the host does not keep for us (parents, groups, sessions, signals, descriptors)
 * is here, in memory that all processes of the cell share.
 */
#pragma once
#include <asm/signal.h>
#include <linux/resource.h>

#include "cell/arch/x86_64/regs.h"
#include "cell/base/list.h"
#include "cell/proc/timer.h"
#include "cell/proc/wait.h"

struct fd_table;
struct file;
struct dentry;
struct tty;
struct mm;

enum { PROCESS_NAME = 16, RLIMITS = 16, CPUS_MAX = 1024 };
enum { CELL_UID = 1000, CELL_GID = 1000 }; /* what every program in a cell runs as; there is no root */

/* Working directory, root and umask; shared by the threads of a process. fs/path.h uses it. */
struct fs_context {
    struct dentry *cwd, *root; /* references held */
    unsigned umask;
};

enum process_state { PROCESS_ALIVE, PROCESS_ZOMBIE, PROCESS_DEAD };

struct process {
    struct list all;      /* in process_list, in order of creation */
    struct list siblings; /* in parent->children */
    struct list children;
    struct list threads; /* thread.in_process */
    struct process *parent;
    struct thread *leader; /* NULL once it is gone */
    int pid, pgid, sid;
    enum process_state state;
    unsigned nthreads;
    int exit_status; /* as wait(2) reports it, once a zombie */
    bool exiting;    /* all threads are to end */
    bool execed;     /* for setpgid: -EACCES after exec */
    bool is_reaper;  /* PR_SET_CHILD_SUBREAPER */
    int death_signal;
    int exit_signal; /* for the parent; SIGCHLD or 0 */
    int host_pid;

    struct fd_table *fds;
    struct fs_context fs;
    struct rlimit64 rlimits[RLIMITS];
    struct tty *tty;         /* controlling terminal */
    char name[PROCESS_NAME]; /* comm */
    struct file *exe;        /* reference; NULL for pid 1 */
    char *cmdline;           /* arguments, each ended by 0; at most a page */
    u32 cmdline_len;
    unsigned long arg_start, arg_end, env_start, env_end; /* in the process's own memory */
    u64 start_ns;                                         /* monotonic */
    u64 utime_ns, stime_ns;                               /* once it has ended; unknown while alive */
    u64 children_ns; /* of children that were waited for, and of theirs: RUSAGE_CHILDREN */
    unsigned personality;
    int nice; /* kept, for who asks; the host's scheduler is not told */

    /* proc/signal.c */
    struct list pending; /* signals for the process: struct signal_item.node */
    u64 pending_set;
    struct k_sigaction {
        unsigned long handler, flags, restorer;
        u64 mask;
    } actions[64];
    bool stopped, stop_reported, continued; /* job control */
    int stop_signal;
    struct waitq child_event;          /* wait4 of this process */
    struct waitq signal_event;         /* signalfd, sigtimedwait */
    struct list timers;                /* POSIX timers and itimers: proc/timer.c */
    struct timer cpu_limit;            /* RLIMIT_CPU: proc/cputime.c */
    struct mm *mm;                     /* mem/mm.h */
    bool vfork_pending;                /* parent waits until we exec or exit */
    struct vfork_window *vfork_window; /* proc/clone.c */
    struct list records;               /* POSIX record locks of this process: fs/lock.c */
    struct pidfd *pidfd;               /* what its pidfds share, NULL while it has none: ipc/pidfd.h */
};

struct thread {
    struct arch_thread arch; /* first: the assembly knows its offsets */
    struct process *process;
    struct list in_process;
    int tid;                /* as programs see it */
    int host_tid, host_pid; /* its number and its process's, as the host sees them; 0 before it runs */
    unsigned slot;

    /* proc/wait.c */
    _Atomic u32 *word; /* wake word, in the memory file's table */
    u32 seen;          /* its value when the thread last came back from sleep: a wake since then counts */
    bool sleeping;     /* on its word */
    struct patience patience;
    struct list waiters; /* waiter.mine: on which queues it is, should the host kill it there */
    u16 nwakes;          /* wakes put down until the lock is free: slots of threads */
    u16 wakes[16];

    /* proc/signal.c */
    struct list pending;
    u64 pending_set, blocked, saved_blocked;
    bool restore_blocked; /* sigsuspend, ppoll: saved_blocked comes back after the handler */
    unsigned long altstack_base, altstack_size;
    int altstack_flags;
    unsigned long clear_tid;   /* CLONE_CHILD_CLEARTID, set_tid_address */
    unsigned long robust_list; /* set_robust_list */
    bool exiting;
    char name[PROCESS_NAME];
    u64 start_ns;
    int policy; /* SCHED_NORMAL, SCHED_BATCH or SCHED_IDLE, with SCHED_RESET_ON_FORK: proc/sched.c */
    u64 affinity[CPUS_MAX / 64]; /* sched_setaffinity(2): kept, for who asks; all 0: any */
    /* For its first steps: proc/clone.c */
    unsigned long child_tid, tls;
    u64 sleep_deadline; /* proc/timer.c: a relative sleep that is done again */
    void (*start)(void);
};

/* All processes, zombies too: struct process.all. */
struct list *process_list(void);

/* The calling thread; its process. */
#ifdef CELL_HOSTED /* unit tests */
struct thread *current(void);
#else
static inline struct thread *current(void)
{
    struct thread *t;

    __asm__ volatile("mov %%gs:0, %0" : "=r"(t));
    return t;
}
#endif
#define current_process (current()->process)

/* Processor time of the calling process or thread so far: CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID.
 */
u64 cpu_time_ns(int clock);
/* Processor time as programs get it: the host's clocks do not tell user from system time, and nearly all of
 * it is the program's own. */
struct rusage rusage_of(u64 ns);

struct process *process_find(int pid);
struct thread *thread_find(int tid);

/* Posts a signal (proc/signal.h) to a process, a process group; kernel lock held. */
void signal_process(struct process *p, int sig);
void signal_group(int pgid, int sig);
/* SIGPIPE and the like to the calling thread. */
void signal_self(int sig);
/* Is there a signal to look at for the calling thread? */
bool signal_pending(void);
