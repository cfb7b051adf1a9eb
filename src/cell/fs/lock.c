/*
 * Each inode with locks has a table: held locks, and a queue of those who wait. A waiter looks again whenever
 * something was given back; there is no order among waiters beyond that.
 *
 * An owner is a process (record locks) or an open file (all others).
 */
#include "cell/fs/lock.h"

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "cell/fs/inode.h"
#include "cell/fs/file.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum lock_kind { LOCK_RECORD, LOCK_OFD, LOCK_FLOCK };
enum { CHAIN_MAX = 32, LOCKS_MAX = 8192 };
#define TO_END ((u64)INT64_MAX)

struct lock {
    struct list node;
    const void *owner;
    u64 start, end; /* end is the last byte */
    int pid;
    u8 kind;
    bool exclusive;
};

/* Who waits for whom, to find cycles. */
struct wanting {
    struct list node;
    const void *owner;
    const struct lock *lock;
    struct lock_table *table;
};

struct lock_table {
    struct list held, wanted;
    struct waitq changed;
    u32 count;
};

static struct lock_table *table_of(struct inode *i)
{
    if (!i->locks) {
        i->locks = kmalloc(sizeof(*i->locks));
        if (!i->locks)
            return NULL;
        list_init(&i->locks->held);
        list_init(&i->locks->wanted);
        waitq_init(&i->locks->changed);
    }
    return i->locks;
}

void lock_table_free(struct lock_table *t)
{
    if (!t)
        return;
    list_for_each_safe(n, &t->held)
    {
        list_del(n);
        kfree(list_entry(n, struct lock, node));
    }
    kfree(t);
}

static bool is_flock(unsigned kind)
{
    return kind == LOCK_FLOCK;
}

static bool conflicts(const struct lock *a, const struct lock *b)
{
    return is_flock(a->kind) == is_flock(b->kind) && a->owner != b->owner && (a->exclusive || b->exclusive) &&
           a->start <= b->end && b->start <= a->end;
}

static struct lock *find_conflict(const struct lock_table *t, const struct lock *want)
{
    list_for_each(n, &t->held)
    {
        struct lock *l = list_entry(n, struct lock, node);
        if (conflicts(l, want))
            return l;
    }
    return NULL;
}

static bool same_owner(const struct lock *a, const struct lock *b)
{
    return a->kind == b->kind && a->owner == b->owner;
}

/* Takes [want->start, want->end] out of what its owner holds. True: one lock became two, and `spare` is the
 * second. */
static bool cut(struct lock_table *t, const struct lock *want, struct lock *spare)
{
    bool used = false;

    list_for_each_safe(n, &t->held)
    {
        struct lock *l = list_entry(n, struct lock, node);
        if (!same_owner(l, want) || l->end < want->start || l->start > want->end)
            continue;
        if (l->start < want->start && l->end > want->end) {
            *spare = *l;
            spare->start = want->end + 1;
            l->end = want->start - 1;
            list_add(&l->node, &spare->node);
            t->count++;
            used = true;
        } else if (l->start < want->start) {
            l->end = want->start - 1;
        } else if (l->end > want->end) {
            l->start = want->end + 1;
        } else {
            list_del(&l->node);
            kfree(l);
            t->count--;
        }
    }
    return used;
}

// NOLINTBEGIN(clang-analyzer-unix.Malloc): what was freed is in no list any more
/* Another lock of the same owner and sort that touches l or overlaps it. */
static struct lock *find_touching(const struct lock_table *t, const struct lock *l)
{
    list_for_each(n, &t->held)
    {
        struct lock *o = list_entry(n, struct lock, node);
        if (o == l || !same_owner(o, l) || o->exclusive != l->exclusive)
            continue;
        if ((o->end >= l->start || o->end + 1 == l->start) && (l->end >= o->start || l->end + 1 == o->start))
            return o;
    }
    return NULL;
}
// NOLINTEND(clang-analyzer-unix.Malloc)

static void merge(struct lock_table *t, struct lock *l)
{
    struct lock *o;

    while ((o = find_touching(t, l)) != NULL) {
        l->start = MIN(l->start, o->start);
        l->end = MAX(l->end, o->end);
        list_del(&o->node);
        kfree(o);
        t->count--;
    }
}

static int take(struct lock_table *t, const struct lock *want, bool unlock)
{
    struct lock *spare = kmalloc(sizeof(*spare)), *mine = unlock ? NULL : kmalloc(sizeof(*mine));

    if (!spare || (!unlock && !mine) || t->count >= LOCKS_MAX) {
        kfree(spare);
        kfree(mine);
        return -ENOLCK;
    }
    if (!cut(t, want, spare))
        kfree(spare);
    if (mine) {
        *mine = *want;
        list_add_tail(&t->held, &mine->node);
        t->count++;
        merge(t, mine);
    }
    waitq_wake(&t->changed); /* an exclusive lock may have become shared, too */
    return 0;
}

/* What does this owner wait for in this file? A cycle over several files is not found: it waits, as it would
 * for locks of open files. */
static const struct lock *wanted_by(const struct lock_table *t, const void *owner)
{
    list_for_each(n, &t->wanted)
    {
        const struct wanting *w = list_entry(n, struct wanting, node);
        if (w->owner == owner)
            return w->lock;
    }
    return NULL;
}

/* Would waiting for `holder` be waiting for oneself? Within one file. */
static bool is_deadlock(const struct lock_table *t, const struct lock *want, const struct lock *holder)
{
    for (int i = 0; i < CHAIN_MAX && holder; i++) {
        const struct lock *next = wanted_by(t, holder->owner);
        if (!next)
            return false;
        holder = find_conflict(t, next);
        if (holder && holder->owner == want->owner)
            return true;
    }
    return false;
}

static long acquire(struct file *f, const struct lock *want, bool wait)
{
    struct lock_table *t = table_of(f->inode);
    const struct lock *holder;
    struct wanting self;
    struct waiter w;
    long rc = 0;

    if (!t)
        return -ENOLCK;
    holder = find_conflict(t, want);
    if (!holder)
        return take(t, want, false);
    if (!wait)
        return -EAGAIN;
    if (want->kind == LOCK_RECORD && is_deadlock(t, want, holder))
        return -EDEADLK;
    self = (struct wanting){.owner = want->owner, .lock = want, .table = t};
    list_add_tail(&t->wanted, &self.node);
    file_get(f);
    waitq_add(&t->changed, &w);
    while (find_conflict(t, want) && rc == 0)
        rc = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    list_del(&self.node);
    if (rc == 0)
        rc = take(t, want, false);
    file_put(f);
    return rc;
}

static int range_of(const struct file *f, const struct flock *l, struct lock *out)
{
    s64 base = l->l_whence == SEEK_CUR   ? (s64)f->pos
               : l->l_whence == SEEK_END ? (s64)f->inode->size
                                         : 0,
        start, end;

    if (l->l_whence != SEEK_SET && l->l_whence != SEEK_CUR && l->l_whence != SEEK_END)
        return -EINVAL;
    if (__builtin_add_overflow(base, l->l_start, &start))
        return -EOVERFLOW;
    if (start < 0)
        return -EINVAL;
    if (l->l_len > 0) {
        if (__builtin_add_overflow(start, l->l_len - 1, &end))
            return -EOVERFLOW;
    } else if (l->l_len < 0) {
        end = start - 1;
        start += l->l_len;
        if (start < 0)
            return -EINVAL;
    } else {
        end = INT64_MAX;
    }
    out->start = (u64)start;
    out->end = (u64)end;
    return 0;
}

static long get(struct file *f, const struct lock *want, struct flock *l, unsigned long arg)
{
    struct lock_table *t = table_of(f->inode);
    const struct lock *holder = t ? find_conflict(t, want) : NULL;

    if (!holder) {
        l->l_type = F_UNLCK;
    } else {
        l->l_type = holder->exclusive ? F_WRLCK : F_RDLCK;
        l->l_whence = SEEK_SET;
        l->l_start = (s64)holder->start;
        l->l_len = holder->end == TO_END ? 0 : (s64)(holder->end - holder->start + 1);
        l->l_pid = holder->pid;
    }
    return copy_to_user((void *)arg, l, sizeof(*l));
}

long lock_fcntl(struct file *f, unsigned cmd, unsigned long arg)
{
    bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
    struct flock l;
    struct lock want = {.kind = ofd ? LOCK_OFD : LOCK_RECORD, .pid = ofd ? -1 : current_process->pid};
    unsigned mode = f->flags & O_ACCMODE;
    int rc;

    if (get_user(l, (struct flock *)arg) < 0)
        return -EFAULT;
    if (ofd && l.l_pid != 0)
        return -EINVAL;
    if (!f->inode)
        return -EINVAL;
    if ((rc = range_of(f, &l, &want)) < 0)
        return rc;
    want.owner = ofd ? (const void *)f : (const void *)current_process;
    want.exclusive = l.l_type == F_WRLCK;
    if (l.l_type != F_RDLCK && l.l_type != F_WRLCK && l.l_type != F_UNLCK)
        return -EINVAL;
    if (cmd == F_GETLK || cmd == F_OFD_GETLK)
        return l.l_type == F_UNLCK ? -EINVAL : get(f, &want, &l, arg);
    if ((l.l_type == F_RDLCK && mode == O_WRONLY) || (l.l_type == F_WRLCK && mode == O_RDONLY))
        return -EBADF;
    if (l.l_type == F_UNLCK)
        return f->inode->locks ? take(f->inode->locks, &want, true) : 0;
    return acquire(f, &want, cmd == F_SETLKW || cmd == F_OFD_SETLKW);
}

static void drop_owner(struct inode *i, const void *owner)
{
    struct lock_table *t = i->locks;
    bool any = false;

    list_for_each_safe(n, &t->held)
    {
        struct lock *l = list_entry(n, struct lock, node);
        if (l->owner == owner) {
            list_del(&l->node);
            kfree(l);
            t->count--;
            any = true;
        }
    }
    if (any)
        waitq_wake(&t->changed);
}

long lock_flock(struct file *f, unsigned operation)
{
    struct lock want = {
        .kind = LOCK_FLOCK, .owner = f, .start = 0, .end = TO_END, .pid = current_process->pid};
    bool wait = !(operation & LOCK_NB);
    struct lock_table *t;

    operation &= ~(unsigned)LOCK_NB;
    if (operation != LOCK_SH && operation != LOCK_EX && operation != LOCK_UN)
        return -EINVAL;
    if (!f->inode)
        return -EBADF;
    t = f->inode->locks;
    want.exclusive = operation == LOCK_EX;
    /* A conversion gives the old one up first, as on Linux: somebody else may get in between. */
    if (t)
        (void)take(t, &want, true);
    return operation == LOCK_UN ? 0 : acquire(f, &want, wait);
}

void lock_drop_process(struct file *f, struct process *p)
{
    if (f->inode && f->inode->locks)
        drop_owner(f->inode, p);
}

void lock_drop_file(struct file *f)
{
    if (f->inode && f->inode->locks)
        drop_owner(f->inode, f);
}
