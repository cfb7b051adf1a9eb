/*
 * Who is woken: the warden bumps one wake word for a stream. If one thread alone waits on it, that is the
 * thread's own word; if there are several, or an epoll set among them, it is pid 1's, which wakes the queue.
 * Nothing is lost: a waiter sets the word before it looks at the ring, the warden changes the ring before it
 * looks at the word.
 */
#include "cell/ipc/stream.h"

#include <asm/errno.h>
#include <linux/poll.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/fs/file.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

static struct list *streams;                         /* set once at boot */
static struct stream *fixed[CELL_STREAM_FIRST_FREE]; /* likewise */

void stream_ring_doorbell(void)
{
    static const u64 one = 1;

    if (atomic_exchange(&HEADER->doorbell_armed, 0))
        (void)host_call3(__NR_write, CELL_FD_DOORBELL, (long)&one, sizeof(one));
}

static void notify(const struct stream *s)
{
    atomic_fetch_or(&HEADER->dirty[s->index / 64], 1ULL << (s->index % 64));
    stream_ring_doorbell();
}

static struct stream *create(u32 index)
{
    struct stream *s = kmalloc(sizeof(*s));

    if (!s)
        return NULL;
    s->index = index;
    s->served = false;
    waitq_init(&s->event);
    list_add_tail(streams, &s->open);
    return s;
}

void streams_init(void)
{
    streams = kmalloc(sizeof(*streams));
    list_init(streams);
    for (u32 i = 0; i < CELL_STREAM_FIRST_FREE; i++)
        fixed[i] = create(i);
}

struct stream *stream_fixed(u32 index)
{
    return fixed[index];
}

int stream_open(u32 port, struct stream **out)
{
    for (u32 i = CELL_STREAM_FIRST_FREE; i < CELL_STREAMS; i++) {
        struct cell_stream *c = STREAM(i);
        if (atomic_load(&c->state) != CELL_FREE)
            continue;
        *out = create(i);
        if (!*out)
            return -ENOMEM;
        c->port = port;
        c->error = 0;
        atomic_store(&c->tx_tail, 0);
        atomic_store(&c->tx_head, 0);
        atomic_store(&c->rx_tail, 0);
        atomic_store(&c->rx_head, 0);
        atomic_store(&c->tx_flags, 0);
        atomic_store(&c->rx_flags, 0);
        atomic_store(&c->tx_gone, 0);
        atomic_store(&c->wake, CELL_WAKE_IRQ + 1);
        atomic_store(&c->state, CELL_CONNECT);
        notify(*out);
        return 0;
    }
    return -EAGAIN;
}

int stream_connected(const struct stream *s)
{
    struct cell_stream *c = STREAM(s->index);

    switch (atomic_load(&c->state)) {
    case CELL_CONNECT:
        return -EINPROGRESS;
    case CELL_OPEN:
        return 0;
    default:
        return c->error > 0 && c->error < 4096 ? -c->error : -ECONNREFUSED;
    }
}

void stream_close(struct stream *s)
{
    struct cell_stream *c = STREAM(s->index);

    atomic_store(&c->wake, 0);
    atomic_fetch_or(&c->tx_flags, CELL_END);
    atomic_store(&c->state, CELL_CLOSING);
    notify(s);
    (void)host_madvise(RING(s->index, 1), CELL_RING_SIZE, 9 /* MADV_REMOVE */);
    list_del(&s->open);
    kfree(s);
}

size_t stream_available(const struct stream *s)
{
    struct cell_stream *c = STREAM(s->index);

    return MIN(atomic_load(&c->rx_tail) - atomic_load(&c->rx_head), (u32)CELL_RING_SIZE);
}

size_t stream_room(const struct stream *s)
{
    struct cell_stream *c = STREAM(s->index);
    u32 used = atomic_load(&c->tx_tail) - atomic_load(&c->tx_head);

    return used >= CELL_RING_SIZE ? 0 : CELL_RING_SIZE - used;
}

bool stream_readable(const struct stream *s)
{
    return stream_available(s) > 0 || (atomic_load(&STREAM(s->index)->rx_flags) & (CELL_END | CELL_RESET));
}

bool stream_writable(const struct stream *s)
{
    return stream_room(s) > 0 || atomic_load(&STREAM(s->index)->tx_gone);
}

long stream_read(struct stream *s, USER void *buf, size_t len)
{
    struct cell_stream *c = STREAM(s->index);
    u32 head = atomic_load(&c->rx_head), flags = atomic_load(&c->rx_flags);
    size_t n = MIN(stream_available(s), len),
           first = MIN(n, (size_t)(CELL_RING_SIZE - head % CELL_RING_SIZE)), missing;

    if (len == 0)
        return 0;
    if (n == 0)
        return flags & CELL_RESET ? -ECONNRESET : flags & CELL_END ? 0 : -EAGAIN;
    missing = copy_user_partial(buf, RING(s->index, 1) + head % CELL_RING_SIZE, first);
    if (missing == 0 && n > first)
        missing = copy_user_partial((u8 *)buf + first, RING(s->index, 1), n - first);
    else
        missing += n - first;
    n -= missing;
    if (n == 0)
        return -EFAULT;
    atomic_store(&c->rx_head, head + (u32)n);
    /* A full ring had stopped the warden. */
    if (atomic_load(&c->rx_tail) - head >= CELL_RING_SIZE)
        notify(s);
    return (long)n;
}

long stream_write(struct stream *s, USER const void *buf, size_t len)
{
    struct cell_stream *c = STREAM(s->index);
    u32 tail = atomic_load(&c->tx_tail);
    size_t n = MIN(stream_room(s), len), first = MIN(n, (size_t)(CELL_RING_SIZE - tail % CELL_RING_SIZE)),
           missing;

    if (atomic_load(&c->tx_gone) || (atomic_load(&c->tx_flags) & CELL_END))
        return -EPIPE;
    if (len == 0)
        return 0;
    if (n == 0)
        return -EAGAIN;
    missing = copy_user_partial(RING(s->index, 0) + tail % CELL_RING_SIZE, buf, first);
    if (missing == 0 && n > first)
        missing = copy_user_partial(RING(s->index, 0), (const u8 *)buf + first, n - first);
    else
        missing += n - first;
    n -= missing;
    if (n == 0)
        return -EFAULT;
    atomic_store(&c->tx_tail, tail + (u32)n);
    notify(s);
    return (long)n;
}

void stream_end(struct stream *s)
{
    atomic_fetch_or(&STREAM(s->index)->tx_flags, CELL_END);
    notify(s);
}

/* After a waiter was added to the queue. */
static void arm(struct stream *s)
{
    struct list *first = s->event.waiters.next;
    const struct waiter *w = list_entry(first, struct waiter, node);
    bool alone = !s->served && first->next == &s->event.waiters && !w->wake && w->thread == current();

    atomic_store(&STREAM(s->index)->wake, (alone ? current()->slot : CELL_WAKE_IRQ) + 1);
}

void stream_wait(struct stream *s, struct waiter *w)
{
    waitq_add(&s->event, w);
    arm(s);
}

unsigned stream_poll(struct stream *s, struct poll_table *pt)
{
    struct cell_stream *c = STREAM(s->index);
    u32 flags, state;
    unsigned events = 0;

    if (pt) {
        poll_add(pt, &s->event);
        if (!list_empty(&s->event.waiters))
            arm(s);
    }
    state = atomic_load(&c->state);
    if (state == CELL_CONNECT)
        return 0;
    if (state != CELL_OPEN)
        return POLLIN | POLLOUT | POLLERR | POLLHUP;
    flags = atomic_load(&c->rx_flags);
    if (stream_available(s) > 0 || (flags & (CELL_END | CELL_RESET)))
        events |= POLLIN | POLLRDNORM;
    if (flags & CELL_END)
        events |= POLLRDHUP;
    if (flags & CELL_RESET)
        events |= POLLERR | POLLHUP;
    if (atomic_load(&c->tx_gone))
        events |= POLLERR;
    if (stream_writable(s))
        events |= POLLOUT | POLLWRNORM;
    return events;
}

void streams_service(void)
{
    list_for_each_safe(n, streams) waitq_wake(&list_entry(n, struct stream, open)->event);
}
