/*
 * shared.h - the kernel's own state at the start of the heap, one for the whole cell. Each process has its
 * own copy of the kernel's variables (fork copies them), so what changes after boot lives here or behind it.
 */
#pragma once
#include "cell/abi/layout.h"
#include "cell/base/list.h"

struct thread;
struct process;

enum { HEAP_CLASSES = 12, HOT_PAGES = 32, PIDS = 32768 };

struct shared {
    /* base/lock.c */
    _Atomic u32 lock; /* host tid of the holder | LOCK_WAITERS */

    /* mem/heap.c */
    u64 *bitmap;
    struct page_info *pages; /* one for each page of the heap */
    u8 *first;
    size_t npages, used, hint;
    u32 partial[HEAP_CLASSES]; /* pages with free objects: index+1, 0 none */
    u32 nhot;
    u32 hot[HOT_PAGES];

    /* proc/process.c */
    struct list processes;
    struct process *init;
    int last_pid;
    u32 nthreads, max_threads;
    u64 slots[CELL_WAKES / 64];      /* thread slots in use */
    struct thread *dead[CELL_WAKES]; /* ended threads, until the host is done with them; else NULL */
    u32 nspare, ndead;
    void *spare_stacks[4];
    struct thread *threads[CELL_WAKES];
    _Atomic u32 ending[CELL_WAKES]; /* slot of a thread that is on its last host call: not 0 */
    u32 unused;                     /* CLONE_CHILD_CLEARTID needs a word */
    u64 kernel_started_ns;

    /* proc/timer.c */
    struct list timers; /* armed, soonest first */
    bool main_ended;
};

#define SHARED       ((struct shared *)(CELL_MEMORY + CELL_OFF_HEAP))
#define HEADER       ((struct cell_header *)(CELL_MEMORY + CELL_OFF_HEADER))
#define STREAM(i)    ((struct cell_stream *)(CELL_MEMORY + CELL_OFF_STREAMS) + (i))
#define WAKE_WORD(i) ((_Atomic u32 *)(CELL_MEMORY + CELL_OFF_WAKES) + (i))
/* Data of stream i: direction 0 from the cell to the host, 1 back. */
#define RING(i, direction)                                                                                   \
    ((u8 *)(CELL_MEMORY + CELL_OFF_RINGS) + ((size_t)(i)*2 + (direction)) * CELL_RING_SIZE)

/* What uname(2) and /proc say. The release is the oldest kernel whose calls are all here, for programs that
 * ask. */
#define CELL_RELEASE "6.1.0-cell"
#define CELL_VERSION "#1 SMP IronClaw cell"
