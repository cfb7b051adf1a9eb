/*
 * Tables of descriptors. A slot holds the file, with the close-on-exec flag in the pointer's lowest bit.
 */
#include <asm/errno.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/fd.h"
#include "cell/fs/lock.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

enum { FIRST_CAPACITY = 64 };

struct fd_table {
    u32 refs, capacity;
    u32 lowest; /* nothing below is free */
    uintptr_t *slots;
};

#define CLOEXEC ((uintptr_t)1)

static struct file *file_of(uintptr_t slot)
{
    return (struct file *)(slot & ~CLOEXEC);
}

static struct fd_table *create(u32 capacity)
{
    struct fd_table *t = kmalloc(sizeof(*t));

    if (!t)
        return NULL;
    t->slots = kmalloc(capacity * sizeof(*t->slots));
    if (!t->slots) {
        kfree(t);
        return NULL;
    }
    t->refs = 1;
    t->capacity = capacity;
    return t;
}

struct fd_table *fd_table_create(void)
{
    return create(FIRST_CAPACITY);
}

struct fd_table *fd_table_copy(struct fd_table *from)
{
    struct fd_table *t;
    u32 used = from->capacity;

    while (used > FIRST_CAPACITY && !from->slots[used - 1])
        used--;
    t = create(MAX(used, (u32)FIRST_CAPACITY));
    if (!t)
        return NULL;
    t->lowest = from->lowest;
    for (u32 i = 0; i < used; i++) {
        t->slots[i] = from->slots[i];
        if (t->slots[i])
            file_get(file_of(t->slots[i]));
    }
    return t;
}

static void close_slot(struct fd_table *t, u32 i, struct process *owner)
{
    struct file *f = file_of(t->slots[i]);

    t->slots[i] = 0;
    t->lowest = MIN(t->lowest, i);
    lock_drop_process(f, owner);
    if (f->ops->flush)
        f->ops->flush(f, owner);
    file_put(f);
}

void fd_table_put(struct fd_table *t, struct process *owner)
{
    if (--t->refs > 0)
        return;
    for (u32 i = 0; i < t->capacity; i++)
        if (t->slots[i])
            close_slot(t, i, owner);
    kfree(t->slots);
    kfree(t);
}

void fd_table_close_on_exec(struct fd_table *t, struct process *owner)
{
    for (u32 i = 0; i < t->capacity; i++)
        if (t->slots[i] & CLOEXEC)
            close_slot(t, i, owner);
}

struct file *fd_file_of(struct fd_table *t, int fd)
{
    return t && (u32)fd < t->capacity ? file_of(t->slots[fd]) : NULL;
}

int fd_next(struct fd_table *t, int fd)
{
    for (u32 i = fd < 0 ? 0 : (u32)fd; t && i < t->capacity; i++)
        if (t->slots[i])
            return (int)i;
    return -1;
}

struct file *fd_file_any(int fd)
{
    return fd_file_of(current_process->fds, fd);
}

struct file *fd_file(int fd)
{
    struct file *f = fd_file_any(fd);

    return f && !(f->flags & 010000000 /* O_PATH */) ? f : NULL;
}

static u32 limit(void)
{
    u64 soft = current_process->rlimits[RLIMIT_NOFILE].rlim_cur;

    return (u32)MIN(soft, (u64)FD_MAX);
}

/* Room for descriptor fd. */
static int reserve(struct fd_table *t, u32 fd)
{
    u32 capacity = t->capacity;
    uintptr_t *slots;

    if (fd < capacity)
        return 0;
    while (capacity <= fd)
        capacity *= 2;
    slots = kmalloc(capacity * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    memcpy(slots, t->slots, t->capacity * sizeof(*slots));
    kfree(t->slots);
    t->slots = slots;
    t->capacity = capacity;
    return 0;
}

int fd_install(struct file *f, int min, bool cloexec)
{
    struct fd_table *t = current_process->fds;
    u32 fd = MAX((u32)min, t->lowest), first = t->lowest;
    int rc;

    while (fd < t->capacity && t->slots[fd])
        fd++;
    if (fd >= limit())
        return -EMFILE;
    rc = reserve(t, fd);
    if (rc < 0)
        return rc;
    t->slots[fd] = (uintptr_t)f | (cloexec ? CLOEXEC : 0);
    if ((u32)min <= first)
        t->lowest = fd + 1;
    return (int)fd;
}

int fd_install_at(struct file *f, int fd, bool cloexec)
{
    struct fd_table *t = current_process->fds;
    int rc;

    if ((u32)fd >= limit())
        return -EBADF;
    rc = reserve(t, (u32)fd);
    if (rc < 0)
        return rc;
    if (t->slots[fd])
        close_slot(t, (u32)fd, current_process);
    t->slots[fd] = (uintptr_t)f | (cloexec ? CLOEXEC : 0);
    return fd;
}

int fd_close(int fd)
{
    struct fd_table *t = current_process->fds;

    if (!fd_file_of(t, fd))
        return -EBADF;
    close_slot(t, (u32)fd, current_process);
    return 0;
}

int fd_get_cloexec(int fd)
{
    if (!fd_file_any(fd))
        return -EBADF;
    return (int)(current_process->fds->slots[fd] & CLOEXEC);
}

int fd_set_cloexec(int fd, bool on)
{
    struct fd_table *t = current_process->fds;

    if (!fd_file_any(fd))
        return -EBADF;
    t->slots[fd] = (t->slots[fd] & ~CLOEXEC) | (on ? CLOEXEC : 0);
    return 0;
}

bool fd_is_cloexec(struct fd_table *t, int fd)
{
    return t && (u32)fd < t->capacity && (t->slots[fd] & CLOEXEC);
}

u32 fd_table_capacity(const struct fd_table *t)
{
    return t ? t->capacity : 0;
}
