/*
 * poll, ppoll, select, pselect6: register with every queue, look, sleep, look again.
 *
 * The files are kept while the thread sleeps, as another thread may close the descriptors meanwhile.
 */
#include "cell/ipc/poll.h"

#include <asm/errno.h>
#include <asm/poll.h>
#include <asm/unistd.h>
#include <linux/time_types.h>

#include "cell/base/text.h"
#include "cell/fs/fd.h"
#include "cell/fs/file.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/process.h"
#include "cell/proc/signal.h"

enum { INLINE_WAITERS = 8, CHUNK_WAITERS = 32 };
#define NS 1000000000ULL

struct chunk {
    struct chunk *next;
    u32 n;
    struct waiter waiters[CHUNK_WAITERS];
};

/* The waiters of one call. */
struct poller {
    struct poll_table table;
    u32 n;
    struct waiter waiters[INLINE_WAITERS];
    struct chunk *more;
    bool failed; /* out of memory */
};

void poll_add(struct poll_table *pt, struct waitq *q)
{
    if (pt && pt->add)
        pt->add(pt, q);
}

static void add_waiter(struct poll_table *pt, struct waitq *q)
{
    struct poller *p = container_of(pt, struct poller, table);
    struct chunk *c = p->more;

    if (p->n < INLINE_WAITERS) {
        waitq_add(q, &p->waiters[p->n++]);
        return;
    }
    if (!c || c->n == CHUNK_WAITERS) {
        c = kmalloc(sizeof(*c));
        if (!c) {
            p->failed = true;
            return;
        }
        c->next = p->more;
        p->more = c;
    }
    waitq_add(q, &c->waiters[c->n++]);
}

static void poller_init(struct poller *p)
{
    p->table.add = add_waiter;
    p->n = 0;
    p->more = NULL;
    p->failed = false;
}

static void poller_end(struct poller *p)
{
    for (u32 i = 0; i < p->n; i++)
        waitq_del(&p->waiters[i]);
    while (p->more) {
        struct chunk *c = p->more;
        p->more = c->next;
        for (u32 i = 0; i < c->n; i++)
            waitq_del(&c->waiters[i]);
        kfree(c);
    }
}

static unsigned events_of(struct file *f, struct poll_table *pt)
{
    return f->ops->poll ? f->ops->poll(f, pt) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

int poll_wait_file(struct file *f, unsigned events, u64 deadline)
{
    struct poller p;
    int rc = 0;

    poller_init(&p);
    file_get(f);
    events |= POLLERR | POLLHUP;
    if (!(events_of(f, &p.table) & events))
        do {
            rc = p.failed ? -ENOMEM : thread_sleep(deadline);
        } while (rc == 0 && !(events_of(f, NULL) & events));
    poller_end(&p);
    file_put(f);
    return rc;
}

/* One descriptor to watch. */
struct watch {
    struct file *file; /* reference; NULL: not open, or to be ignored */
    s32 fd;
    u16 events, result;
};

static bool look(struct watch *w, struct poll_table *pt)
{
    if (w->fd < 0 || !w->file) {
        w->result = w->fd < 0 ? 0 : POLLNVAL;
        return w->result != 0;
    }
    w->result = (u16)(events_of(w->file, pt) & (w->events | (unsigned)(POLLERR | POLLHUP)));
    return w->result != 0;
}

/* Number of watches with a result, 0 when the time is up, or -errno. */
static long wait(struct watch *watches, u32 n, u64 deadline)
{
    struct poll_table *pt;
    struct poller p;
    long ready = 0;
    int rc = 0;

    for (u32 i = 0; i < n; i++)
        if (watches[i].file)
            file_get(watches[i].file);
    poller_init(&p);
    pt = deadline == 0 ? NULL : &p.table;
    for (;;) {
        for (u32 i = 0; i < n; i++) {
            ready += look(&watches[i], pt);
            if (ready > 0)
                pt = NULL; /* it will not sleep any more */
        }
        pt = NULL;
        if (ready > 0 || rc < 0 || deadline == 0)
            break;
        rc = p.failed ? -ENOMEM : thread_sleep(deadline);
    }
    poller_end(&p);
    for (u32 i = 0; i < n; i++)
        if (watches[i].file)
            file_put(watches[i].file);
    if (ready > 0)
        return ready;
    return rc == -ETIMEDOUT ? 0 : rc == -ERESTARTSYS ? -ERESTARTNOHAND : rc;
}

/* Relative time to a deadline; the far future is never. */
static u64 deadline_in(s64 sec, u64 nsec)
{
    if (sec == 0 && nsec == 0)
        return 0;
    if ((u64)sec > UINT64_MAX / NS / 4)
        return NO_DEADLINE;
    return monotonic_ns() + (u64)sec * NS + nsec;
}

static int timespec_deadline(USER const void *user, u64 *deadline)
{
    struct __kernel_timespec ts;

    *deadline = NO_DEADLINE;
    if (!user)
        return 0;
    if (copy_from_user(&ts, user, sizeof(ts)) < 0)
        return -EFAULT;
    if (ts.tv_sec < 0 || ts.tv_nsec < 0 || (u64)ts.tv_nsec >= NS)
        return -EINVAL;
    *deadline = deadline_in(ts.tv_sec, (u64)ts.tv_nsec);
    return 0;
}

/* What is left until the deadline goes back to the program (ppoll, select). Not said is not wrong. */
static u64 time_left(u64 deadline)
{
    u64 now;

    if (deadline == 0)
        return 0;
    now = monotonic_ns();
    return deadline > now ? deadline - now : 0;
}

static void put_timespec(USER void *user, u64 deadline)
{
    u64 left = time_left(deadline);
    struct __kernel_timespec ts = {.tv_sec = (s64)(left / NS), .tv_nsec = (s64)(left % NS)};

    if (user && deadline != NO_DEADLINE)
        (void)copy_to_user(user, &ts, sizeof(ts));
}

static int push_mask(USER const void *mask, u64 size)
{
    u64 set;

    if (!mask)
        return 0;
    if (size != sizeof(set))
        return -EINVAL;
    if (get_user_u64(&set, mask) < 0)
        return -EFAULT;
    signal_mask_push(set);
    return 0;
}

/* ---- poll */

enum { INLINE_WATCHES = 16 };

static long do_poll(USER struct pollfd *fds, u64 n, u64 deadline)
{
    struct watch inlined[INLINE_WATCHES], *watches = inlined;
    long rc = 0;

    if (n > MIN(current_process->rlimits[RLIMIT_NOFILE].rlim_cur, (u64)FD_MAX))
        return -EINVAL;
    if (n > INLINE_WATCHES && !(watches = kmalloc(n * sizeof(*watches))))
        return -ENOMEM;
    for (u64 i = 0; i < n && rc == 0; i++) {
        struct pollfd p;
        rc = get_user(p, &fds[i]);
        watches[i] = (struct watch){
            .file = rc == 0 && p.fd >= 0 ? fd_file(p.fd) : NULL, .fd = p.fd, .events = (u16)p.events};
    }
    if (rc == 0)
        rc = wait(watches, (u32)n, deadline);
    for (u64 i = 0; i < n && rc >= 0; i++) {
        short result = (short)watches[i].result;
        if (put_user(&fds[i].revents, result) < 0)
            rc = -EFAULT;
    }
    if (watches != inlined)
        kfree(watches);
    return rc;
}

static long sys_poll(u64 fds, u64 n, u64 timeout, u64 d, u64 e, u64 f)
{
    int ms = (int)timeout;

    (void)d, (void)e, (void)f;
    return do_poll((void *)fds, n, ms < 0 ? NO_DEADLINE : deadline_in(ms / 1000, (u64)(ms % 1000) * 1000000));
}

static long sys_ppoll(u64 fds, u64 n, u64 timeout, u64 mask, u64 size, u64 f)
{
    u64 deadline;
    long rc = timespec_deadline((void *)timeout, &deadline);

    (void)f;
    if (rc == 0)
        rc = push_mask((void *)mask, size);
    if (rc < 0)
        return rc;
    rc = do_poll((void *)fds, n, deadline);
    if (mask && rc != -ERESTARTNOHAND)
        signal_mask_pop();
    put_timespec((void *)timeout, deadline);
    return rc;
}

/* ---- select */

enum { SETS = 3 };
static const unsigned set_events[SETS] = {POLLIN | POLLRDNORM | POLLHUP | POLLERR,
                                          POLLOUT | POLLWRNORM | POLLERR, POLLPRI};

static bool bit(const u64 *set, u32 i)
{
    return set[i / 64] >> (i % 64) & 1;
}

/* Counts descriptors in any set; with `watches`, fills them. -EBADF. */
static long collect(u64 *const sets[SETS], u32 n, struct watch *watches)
{
    u32 count = 0;

    for (u32 fd = 0; fd < n; fd++) {
        unsigned events = 0;
        for (int s = 0; s < SETS; s++)
            if (bit(sets[s], fd))
                events |= set_events[s];
        if (!events)
            continue;
        if (!fd_file((int)fd))
            return -EBADF;
        if (watches)
            watches[count] = (struct watch){.file = fd_file((int)fd), .fd = (s32)fd, .events = (u16)events};
        count++;
    }
    return count;
}

/* The bits of what is ready stay, all others go. How many stay. */
static long keep_ready(u64 *const sets[SETS], size_t words, const struct watch *watches, u32 count)
{
    long ready = 0;

    for (int s = 0; s < SETS; s++) {
        u64 *set = sets[s];
        for (u32 i = 0; i < count; i++) {
            u32 fd = (u32)watches[i].fd;
            u64 mask = 1ULL << (fd % 64);
            if (!(set[fd / 64] & mask))
                continue;
            if (watches[i].result & set_events[s])
                ready++;
            else
                set[fd / 64] &= ~mask;
        }
    }
    (void)words;
    return ready;
}

static long do_select(u32 n, USER void *const user[SETS], u64 deadline)
{
    size_t words, bytes;
    struct watch *watches = NULL;
    u64 *memory, *sets[SETS];
    long rc = 0, count;

    if ((s32)n < 0)
        return -EINVAL;
    n = MIN(n, MAX(fd_table_capacity(current_process->fds), 1024U));
    words = (n + 63) / 64;
    bytes = (n + 7) / 8;
    memory = kmalloc(MAX(words * 8 * SETS, (size_t)8));
    if (!memory)
        return -ENOMEM;
    for (size_t s = 0; s < SETS; s++) {
        sets[s] = memory + s * words;
        if (user[s] && rc == 0)
            rc = copy_from_user(sets[s], user[s], bytes);
    }
    count = rc == 0 ? collect(sets, n, NULL) : rc;
    if (count > 0 && !(watches = kmalloc((size_t)count * sizeof(*watches))))
        count = -ENOMEM;
    rc = count;
    if (rc > 0)
        (void)collect(sets, n, watches);
    if (rc >= 0)
        rc = wait(watches, (u32)count, deadline);
    if (rc >= 0) {
        rc = keep_ready(sets, words, watches, (u32)count);
        for (size_t s = 0; s < SETS; s++)
            if (user[s] && copy_to_user(user[s], sets[s], bytes) < 0)
                rc = -EFAULT;
    }
    kfree(watches);
    kfree(memory);
    return rc;
}

static long sys_select(u64 n, u64 in, u64 out, u64 except, u64 timeout, u64 f)
{
    void *const sets[SETS] = {(void *)in, (void *)out, (void *)except};
    struct __kernel_old_timeval tv;
    u64 deadline = NO_DEADLINE;
    long rc;

    (void)f;
    if (timeout) {
        if (get_user(tv, (struct __kernel_old_timeval *)timeout) < 0)
            return -EFAULT;
        if (tv.tv_sec < 0 || tv.tv_usec < 0)
            return -EINVAL;
        deadline = deadline_in(tv.tv_sec + tv.tv_usec / 1000000, (u64)(tv.tv_usec % 1000000) * 1000);
    }
    rc = do_select((u32)n, sets, deadline);
    if (timeout && deadline != NO_DEADLINE) {
        u64 left = time_left(deadline);
        tv.tv_sec = (__kernel_long_t)(left / NS);
        tv.tv_usec = (__kernel_long_t)(left % NS / 1000);
        (void)copy_to_user((void *)timeout, &tv, sizeof(tv));
    }
    return rc;
}

static long sys_pselect6(u64 n, u64 in, u64 out, u64 except, u64 timeout, u64 sig)
{
    void *const sets[SETS] = {(void *)in, (void *)out, (void *)except};
    struct {
        u64 mask, size;
    } mask = {0, 0};
    u64 deadline;
    long rc = timespec_deadline((void *)timeout, &deadline);

    if (rc == 0 && sig && copy_from_user(&mask, (void *)sig, sizeof(mask)) < 0)
        rc = -EFAULT;
    if (rc == 0)
        rc = push_mask((void *)mask.mask, mask.size);
    if (rc < 0)
        return rc;
    rc = do_select((u32)n, sets, deadline);
    if (mask.mask && rc != -ERESTARTNOHAND)
        signal_mask_pop();
    put_timespec((void *)timeout, deadline);
    return rc;
}

const struct syscall poll_calls[] = {
    {__NR_poll, SYS_LOCKED, "poll", sys_poll},
    {__NR_ppoll, SYS_LOCKED, "ppoll", sys_ppoll},
    {__NR_select, SYS_LOCKED, "select", sys_select},
    {__NR_pselect6, SYS_LOCKED, "pselect6", sys_pselect6},
    {0},
};
