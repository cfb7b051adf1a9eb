/*
 * Contents of the host's files: when they come and when they go.
 *
 * A regular file of the host is absent (HOST_ABSENT) or it is in memory whole. Absent ones are asked for when
 * somebody opens them; the answers come in the order of asking, so the first of host->asked is whose data
 * arrives. Who opens a file that is asked for already waits for the same answer.
 *
 * While anybody has a file open, and so while it may be mapped, it stays. Afterwards it is in a list, longest
 * unused first, and may become absent again at any time: all that the cell changed of it is in the queue to
 * the server or behind it, so a later answer has it. What the cell does not want is that its time stamp jumps
 * then: the host is told the time first, and a time that the cell set while it waited stands.
 */
#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/base/lock.h"
#include "cell/base/shared.h"
#include "cell/fs/host_files.h"
#include "cell/fs/host_link.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"
#include "cell/proc/signal.h"

enum { BUDGET_PART = 4 }; /* a quarter of the memory for files that nobody uses */
/* Do not end a process by themselves. */
#define HARMLESS                                                                                             \
    (SIGBIT(SIGCHLD) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGCONT) | SIGBIT(SIGSTOP) |               \
     SIGBIT(SIGTSTP) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU))

struct fetch {
    struct list node;     /* in host->asked */
    struct inode *inode;  /* reference */
    struct fs_time mtime; /* the file's when it was asked for */
    struct waitq waiters;
    u32 refs;   /* host->asked, and each thread that waits */
    bool stale; /* the file was emptied meanwhile: what comes is of no use */
    bool done;
    int error; /* errno */
};

void host_fetch_init(void)
{
    list_init(&host->asked);
    list_init(&host->unused);
    host->budget = (HEADER->memory_limit ? HEADER->memory_limit : HEADER->memory_size) / BUDGET_PART;
}

static bool is_counted(const struct inode *i)
{
    return host && i->super->is_host && S_ISREG(i->mode);
}

/* ---- what nobody uses */

static u64 bytes_of(const struct inode *i)
{
    return i->blocks * 512;
}

static void take_back(struct inode *i)
{
    if (!i->host_unused.next || list_empty(&i->host_unused))
        return;
    list_del(&i->host_unused);
    host->unused_bytes -= bytes_of(i);
}

bool host_files_evict(void)
{
    while (host && !list_empty(&host->unused)) {
        struct inode *i = list_entry(host->unused.next, struct inode, host_unused);
        take_back(i);
        /* Without a name on the host, or perhaps not as it is here: this is the only copy. */
        if (i->nlink == 0 || i->mapped > 0 || (host->failed && (i->host & HOST_CHANGED)))
            continue;
        i->host |= HOST_ABSENT;
        tmpfs_free_data(i);
        if (i->host & HOST_UNTIMED)
            told_time(i);
        return true;
    }
    return false;
}

static void set_unused(struct inode *i)
{
    if (i->opens > 0 || (i->host & HOST_ABSENT) || i->nlink == 0 || bytes_of(i) == 0)
        return;
    list_add_tail(&host->unused, &i->host_unused);
    host->unused_bytes += bytes_of(i);
    while (host->unused_bytes > host->budget && host_files_evict())
        ;
}

void host_files_forget(struct inode *i)
{
    if (is_counted(i))
        take_back(i);
}

/* ---- asking */

static void put_fetch(struct fetch *f)
{
    if (--f->refs == 0)
        kfree(f);
}

static struct fetch *find_fetch(const struct inode *i)
{
    list_for_each(n, &host->asked)
    {
        struct fetch *f = list_entry(n, struct fetch, node);
        if (f->inode == i && !f->stale)
            return f;
    }
    return NULL;
}

/* Most bytes that there is room for, if everything goes that nobody uses. */
static u64 room_for_data(void)
{
    u64 total, free;

    tmpfs_statfs(&total, &free);
    return free * PAGE + host->unused_bytes;
}

static struct fetch *ask(struct inode *i)
{
    struct files_record r = {.op = FILES_FETCH, .ino = i->ino, .size = room_for_data()};
    struct fetch *f = kmalloc(sizeof(*f));

    if (!f || !host_tell(i, &r, NULL, NULL)) {
        kfree(f);
        return NULL;
    }
    f->inode = i;
    f->mtime = i->mtime;
    f->refs = 1;
    waitq_init(&f->waiters);
    inode_get(i);
    list_add_tail(&host->asked, &f->node);
    return f;
}

/* Will a signal end the process? Nothing less interrupts: programs do not expect that of opening a file. */
static bool is_dying(void)
{
    const struct thread *t = current();
    u64 set = (t->pending_set | t->process->pending_set) & ~t->blocked;

    if (t->exiting || t->process->exiting)
        return true;
    for (int sig = 1; set && sig <= 64; sig++, set >>= 1)
        if ((set & 1) && (sig == SIGKILL || t->process->actions[sig - 1].handler == (unsigned long)SIG_DFL) &&
            !(HARMLESS & SIGBIT(sig)))
            return true;
    return false;
}

/*
 * Waits until it is answered. One of the threads that wait is woken by the warden and drives the stream, the
 * others are woken by the answer; when that one has what it wants, pid 1 takes over.
 */
static int await(struct fetch *f)
{
    bool drives = list_empty(&host->stream->event.waiters);
    struct waiter answer, stream;
    int rc = 0;

    f->refs++;
    waitq_add(&f->waiters, &answer);
    if (drives)
        stream_wait(host->stream, &stream);
    for (;;) {
        host_drive();
        if (f->done)
            break;
        if (is_dying()) {
            rc = -ERESTARTSYS;
            break;
        }
        if (drives) {
            atomic_store(&STREAM(CELL_STREAM_FILES)->wake, current()->slot + 1);
            if (host_can_move()) { /* others have their turn at the lock */
                kernel_unlock();
                kernel_lock();
                continue;
            }
        }
        (void)thread_sleep_killable(NO_DEADLINE);
    }
    waitq_del(&answer);
    if (drives) {
        waitq_del(&stream);
        host_leave_to_init();
        host_drive();
    }
    if (f->done)
        rc = -f->error;
    put_fetch(f);
    return rc;
}

int host_files_use(struct inode *i, bool empty)
{
    struct fetch *f;
    int rc = 0;

    if (!is_counted(i))
        return 0;
    take_back(i);
    i->opens++;
    while (rc == 0 && !empty && (i->host & HOST_ABSENT)) {
        if (host->ended)
            rc = -EIO;
        else if (!(f = find_fetch(i)) && !(f = ask(i)))
            rc = -ENOMEM;
        else
            rc = await(f);
    }
    if (rc < 0)
        host_files_unuse(i);
    return rc;
}

void host_files_unuse(struct inode *i)
{
    if (is_counted(i) && --i->opens == 0)
        set_unused(i);
}

/* ---- answers */

static void finish(struct fetch *f, int error)
{
    struct inode *i = f->inode;

    list_del(&f->node);
    if (!f->stale && error)
        tmpfs_free_data(i);
    if (!f->stale && !error)
        i->host &= ~(u32)HOST_ABSENT;
    f->error = f->stale ? 0 : error;
    f->done = true;
    waitq_wake(&f->waiters);
    if (!f->stale)
        set_unused(i); /* who waited for it may be gone */
    inode_put(i);
    put_fetch(f);
}

void host_files_emptied(struct inode *i)
{
    struct fetch *f;

    if (!is_counted(i) || !(i->host & HOST_ABSENT))
        return;
    i->host &= ~(u32)HOST_ABSENT;
    f = find_fetch(i);
    if (!f)
        return;
    tmpfs_free_data(i);
    f->stale = f->done = true;
    waitq_wake(&f->waiters);
}

void host_fetch_end(void)
{
    while (!list_empty(&host->asked))
        finish(list_entry(host->asked.next, struct fetch, node), EIO);
}

/* Whose answer this is, or NULL: answers come in the order in which was asked. */
static struct fetch *answered(void)
{
    struct fetch *f = list_entry(host->asked.next, struct fetch, node);

    if (list_empty(&host->asked) || f->inode->ino != host->r.ino ||
        f->inode->super->host_index != host->r.root)
        return NULL;
    return f;
}

bool host_take_data(void)
{
    const struct files_record *r = &host->r;
    struct fetch *f = answered();
    int rc;

    if (!f || r->size > FILES_SIZE_MAX - FILES_DATA_MAX)
        return false;
    if (f->stale || f->error)
        return true;
    rc = tmpfs_fill(f->inode, r->size, host->data, r->data_length);
    if (rc < 0) { /* what there is so far is of no use, and the rest need not find room */
        f->error = -rc;
        tmpfs_free_data(f->inode);
    }
    return true;
}

bool host_take_fetched(void)
{
    const struct files_record *r = &host->r;
    struct fetch *f = answered();
    struct fs_time mtime = {r->mtime_sec, r->mtime_nsec};
    struct inode *i;

    if (!f || r->size > FILES_SIZE_MAX)
        return false;
    if (!f->stale && !f->error && r->mode)
        f->error = r->mode < 4096 ? (int)r->mode : EIO;
    if (!f->stale && !f->error) {
        i = f->inode;
        tmpfs_filled(i, r->size);
        if (i->mtime.sec == f->mtime.sec && i->mtime.nsec == f->mtime.nsec &&
            (mtime.sec != i->mtime.sec || mtime.nsec != i->mtime.nsec)) { /* somebody else changed it */
            i->mtime = mtime;
            i->ctime = fs_now();
        }
    }
    finish(f, f->error);
    return true;
}
