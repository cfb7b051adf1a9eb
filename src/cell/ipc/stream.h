/*
 * stream.h - the cell's end of the streams that lead to the host (abi/layout.h): rings in shared memory, the
 * doorbell for one direction, wake words for the other. Kernel lock held.
 */
#pragma once
#include "cell/proc/wait.h"

struct poll_table;

struct stream {
    struct list open; /* in the list of all open streams */
    u32 index;
    bool served;        /* pid 1 moves its data (a terminal's): it is woken first, whoever waits */
    struct waitq event; /* anything changed: data, room, state */
};

void streams_init(void);
/* One of those below CELL_STREAM_FIRST_FREE, open from the start. */
struct stream *stream_fixed(u32 index);
/* Begins to connect to a port of the host (enum cell_port): 0 and *out, or -errno. */
int stream_open(u32 port, struct stream **out);
/* 0: connected; -EINPROGRESS; -ECONNREFUSED ... */
int stream_connected(const struct stream *s);
void stream_close(struct stream *s);

/* Moves what there is or fits now: bytes, 0 at the end of the data, -EAGAIN, -EPIPE, -ECONNRESET, -EFAULT. */
long stream_read(struct stream *s, USER void *buf, size_t len);
long stream_write(struct stream *s, USER const void *buf, size_t len);
/* Bytes that can be read; room for writing. */
size_t stream_available(const struct stream *s);
size_t stream_room(const struct stream *s);
/* Would stream_read() or stream_write() say something else than -EAGAIN? The warden changes what they see
 * without the kernel lock: to be asked after stream_wait(), before sleeping. */
bool stream_readable(const struct stream *s);
bool stream_writable(const struct stream *s);
/* No more data will come from us. */
void stream_end(struct stream *s);
/* POLLIN and friends; registers with pt as file_ops.poll does. */
unsigned stream_poll(struct stream *s, struct poll_table *pt);

/* Instead of waitq_add(&s->event): the warden then wakes the calling thread itself where that is possible. */
void stream_wait(struct stream *s, struct waiter *w);
/* Pid 1: the warden woke us. */
void streams_service(void);

void stream_ring_doorbell(void);
