#include "hosted.h"

#include <asm/errno.h>
#include <asm/unistd.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/lock.h"
#include "cell/base/panic.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/host_files.h"
#include "cell/fs/path.h"
#include "cell/ipc/epoll.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/calls.h"
#include "cell/proc/cputime.h"
#include "cell/proc/exit.h"
#include "cell/proc/process.h"
#include "cell/proc/signal.h"
#include "cell/tty/console.h"
#include "cell/tty/tty.h"

void (*hosted_on_sleep)(void);

static struct thread *self;
static struct process *first;
static int last_signal;

/* ---- processes */

struct thread *current(void)
{
    return self;
}

struct list *process_list(void)
{
    return &SHARED->processes;
}

struct process *process_find(int pid)
{
    list_for_each(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

struct thread *thread_find(int tid)
{
    struct process *p = process_find(tid);

    return p ? p->leader : NULL;
}

static struct process *make_process(struct process *parent)
{
    struct process *p = kmalloc(sizeof(*p));
    struct thread *t = kmalloc(sizeof(*t));

    p->pid = p->pgid = p->sid = ++SHARED->last_pid + 1;
    p->parent = parent ? parent : p;
    list_init(&p->threads);
    list_init(&p->children);
    list_init(&p->siblings);
    list_init(&p->records);
    list_add_tail(process_list(), &p->all);
    for (size_t i = 0; i < RLIMITS; i++)
        p->rlimits[i] = (struct rlimit64){RLIM64_INFINITY, RLIM64_INFINITY};
    p->rlimits[RLIMIT_NOFILE] = (struct rlimit64){1024, 4096};
    t->process = p;
    t->tid = p->pid;
    t->slot = (unsigned)p->pid;
    t->word = WAKE_WORD(p->pid);
    list_init(&t->waiters);
    list_init(&t->pending);
    list_add_tail(&p->threads, &t->in_process);
    p->leader = t;
    p->nthreads = 1;
    text_copy(p->name, "test", sizeof(p->name));
    text_copy(t->name, "test", sizeof(t->name));
    return p;
}

struct process *hosted_fork(void)
{
    struct process *p = make_process(current_process);

    p->fds = fd_table_copy(current_process->fds);
    fs_context_copy(&p->fs, &current_process->fs);
    return p;
}

void hosted_switch(struct process *p)
{
    self = (p ? p : first)->leader;
}

void hosted_exit(struct process *p)
{
    struct thread *t = p->leader;

    hosted_switch(NULL);
    fd_table_put(p->fds, p);
    fs_context_put(&p->fs);
    list_del(&p->all);
    kfree(t);
    kfree(p);
}

void hosted_boot(uint64_t image_size)
{
    HEADER->image_size = image_size;
    HEADER->cpus = 2;
    text_copy(HEADER->hostname, "cell", sizeof(HEADER->hostname));
    HEADER->boot_realtime_ns = realtime_ns();
    HEADER->boot_monotonic_ns = monotonic_ns();
    heap_init();
    list_init(&SHARED->processes);
    first = make_process(NULL);
    hosted_switch(NULL);
    if (fs_init(HEADER) < 0)
        panic("the image does not mount");
    first->fds = fd_table_create();
    fs_context_init(&first->fs);
}

void hosted_set_limit(int resource, uint64_t soft)
{
    current_process->rlimits[resource].rlim_cur = soft;
}

size_t hosted_pages(void)
{
    size_t used, total;

    page_count(&used, &total);
    return used;
}

/* ---- system calls */

static const struct syscall *find(long nr)
{
    static const struct syscall *const tables[] = {fs_calls, ipc_calls, poll_calls};

    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (const struct syscall *s = tables[i]; s->fn; s++)
            if (s->nr == nr)
                return s;
    return NULL;
}

long cell(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    const struct syscall *s = find(nr);

    return s ? s->fn(a, b, c, d, e, f) : -ENOSYS;
}

/* ---- sleeping and signals */

void kernel_lock(void)
{
}

void kernel_unlock(void)
{
}

long cell_futex_wait(_Atomic u32 *word, int op, u32 value, const struct __kernel_timespec *timeout,
                     u32 value3)
{
    void (*hook)(void) = hosted_on_sleep;

    hosted_on_sleep = NULL;
    if (hook) {
        struct thread *t = self;
        hook();
        self = t;
        return 0;
    }
    if (timeout)
        return host_futex(word, op, value, timeout, value3);
    atomic_store(&self->arch.pending, PENDING_SIGNAL);
    return -EINTR;
}

void cpu_timers_look(void)
{
}

void process_check_children(struct process *p, bool killed)
{
    (void)p, (void)killed; /* it has none */
}

int hosted_signal(void)
{
    int sig = last_signal;

    last_signal = 0;
    atomic_store(&self->arch.pending, 0);
    return sig;
}

void signal_self(int sig)
{
    last_signal = sig;
}

bool signal_pending(void)
{
    return false;
}

void signal_mask_push(u64 mask)
{
    self->saved_blocked = self->blocked;
    self->blocked = mask;
}

void signal_mask_pop(void)
{
    self->blocked = self->saved_blocked;
}

void panic(const char *fmt, ...)
{
    (void)fmt;
    __builtin_trap();
}

/* ---- memory of programs: the first page is nobody's */

static bool is_bad(const void *p)
{
    return (uintptr_t)p < PAGE;
}

int copy_to_user(void *dst, const void *src, size_t n)
{
    if (n && is_bad(dst))
        return -EFAULT;
    memmove(dst, src, n);
    return 0;
}

int copy_from_user(void *dst, const void *src, size_t n)
{
    if (n && is_bad(src))
        return -EFAULT;
    memmove(dst, src, n);
    return 0;
}

size_t copy_user_partial(void *dst, const void *src, size_t n)
{
    if (is_bad(dst) || is_bad(src))
        return n;
    memmove(dst, src, n);
    return 0;
}

int clear_user(void *dst, size_t n)
{
    if (n && is_bad(dst))
        return -EFAULT;
    memset(dst, 0, n);
    return 0;
}

long strncpy_from_user(char *dst, const char *src, size_t cap)
{
    size_t n;

    if (is_bad(src))
        return -EFAULT;
    n = strnlen(src, cap);
    if (n == cap)
        return -ENAMETOOLONG;
    memcpy(dst, src, n + 1);
    return (long)n;
}

int get_user_u32(u32 *value, const void *src)
{
    return copy_from_user(value, src, sizeof(*value));
}

int get_user_u64(u64 *value, const void *src)
{
    return copy_from_user(value, src, sizeof(*value));
}

int put_user_u32(void *dst, u32 value)
{
    return copy_to_user(dst, &value, sizeof(value));
}

int put_user_u64(void *dst, u64 value)
{
    return copy_to_user(dst, &value, sizeof(value));
}

/* ---- what others answer */

void mm_format_maps(struct process *p, struct text *t)
{
    (void)p;
    text_add(t, "maps of the test\n");
}

void epoll_file_released(struct file *f)
{
    (void)f;
}

struct tty *console_tty(void)
{
    return NULL;
}

struct file *console_open(u32 stream, unsigned flags)
{
    (void)stream, (void)flags;
    return NULL;
}

struct file *tty_open(struct tty *t, unsigned flags)
{
    (void)t, (void)flags;
    return NULL;
}

void tty_maybe_take(struct tty *t, unsigned flags)
{
    (void)t, (void)flags;
}

struct tty *pty_find(int number)
{
    (void)number;
    return NULL;
}

int pty_open_master(unsigned flags, struct file **out)
{
    (void)flags, (void)out;
    return -ENOSPC;
}

/* ---- no sockets */

struct list *inet_sockets(void)
{
    static struct list none = {&none, &none};

    return &none;
}

struct list *unix_sockets(void)
{
    return inet_sockets();
}
