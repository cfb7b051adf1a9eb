/*
 * streams.h - the warden's view of the memory file (cell/abi/layout.h). Everything in it may be rewritten by
 * hostile code while it is looked at: each function loads a field once, checks the copy, and uses the copy.
 * Counters that are the warden's own are kept by the caller; what stands in the memory file is never read
 * back.
 *
 * No system call in here: the fuzzer (tests/fuzz/warden) runs it with a second thread scribbling over the
 * memory.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cell/abi/layout.h"

struct cell_memory {
    uint8_t *base; /* at least CELL_OFF_HEAP bytes */
};

struct cell_header *cell_header(const struct cell_memory *m);

/* Streams that the cell has changed since the last call, as bits; they are cleared. */
void streams_take_dirty(const struct cell_memory *m, uint64_t out[CELL_STREAMS / 64]);
bool streams_any_dirty(const struct cell_memory *m);

enum cell_stream_state stream_state(const struct cell_memory *m,
                                    unsigned i); /* FREE for a value that is none */
uint32_t stream_port(const struct cell_memory *m, unsigned i);
bool stream_tx_ended(const struct cell_memory *m, unsigned i);

/* What the cell has written behind `head`: bytes, in up to two pieces. -1: the counters contradict each
 * other. */
ssize_t ring_pending(const struct cell_memory *m, unsigned i, uint32_t head, struct iovec out[2]);
/* Room for the cell to read, behind `tail`. -1 likewise. */
ssize_t ring_room(const struct cell_memory *m, unsigned i, uint32_t tail, struct iovec out[2]);

void stream_set_tx_head(const struct cell_memory *m, unsigned i, uint32_t head);
void stream_set_rx_tail(const struct cell_memory *m, unsigned i, uint32_t tail);
void stream_set_state(const struct cell_memory *m, unsigned i, enum cell_stream_state state);
void stream_refuse(const struct cell_memory *m, unsigned i, int error);
void stream_add_rx_flags(const struct cell_memory *m, unsigned i, uint32_t flags);
void stream_set_tx_gone(const struct cell_memory *m, unsigned i);

/* The wake word to futex-wake for this stream, already incremented; NULL: nobody waits. */
_Atomic uint32_t *stream_wake_word(const struct cell_memory *m, unsigned i);
/* Of the cell's pid 1. */
_Atomic uint32_t *irq_wake_word(const struct cell_memory *m);

/* The sentence that the cell left, printable and ended; cap > 0. */
void cell_message(const struct cell_memory *m, char *out, size_t cap);
