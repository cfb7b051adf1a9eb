#include "warden/streams.h"

#include <stdatomic.h>
#include <string.h>

struct cell_header *cell_header(const struct cell_memory *m)
{
    return (struct cell_header *)(void *)(m->base + CELL_OFF_HEADER);
}

static struct cell_stream *at(const struct cell_memory *m, unsigned i)
{
    return (struct cell_stream *)(void *)(m->base + CELL_OFF_STREAMS) + i % CELL_STREAMS;
}

/* Direction 0: from the cell. */
static uint8_t *ring(const struct cell_memory *m, unsigned i, unsigned direction)
{
    return m->base + CELL_OFF_RINGS + ((size_t)(i % CELL_STREAMS) * 2 + direction) * CELL_RING_SIZE;
}

static _Atomic uint32_t *wake_word(const struct cell_memory *m, uint32_t i)
{
    return (_Atomic uint32_t *)(void *)(m->base + CELL_OFF_WAKES) + i;
}

void streams_take_dirty(const struct cell_memory *m, uint64_t out[CELL_STREAMS / 64])
{
    for (unsigned i = 0; i < CELL_STREAMS / 64; i++)
        out[i] = atomic_exchange(&cell_header(m)->dirty[i], 0);
}

bool streams_any_dirty(const struct cell_memory *m)
{
    for (unsigned i = 0; i < CELL_STREAMS / 64; i++)
        if (atomic_load(&cell_header(m)->dirty[i]))
            return true;
    return false;
}

enum cell_stream_state stream_state(const struct cell_memory *m, unsigned i)
{
    uint32_t state = atomic_load(&at(m, i)->state);

    return state <= CELL_CLOSING ? (enum cell_stream_state)state : CELL_FREE;
}

uint32_t stream_port(const struct cell_memory *m, unsigned i)
{
    return *(volatile uint32_t *)&at(m, i)->port;
}

bool stream_tx_ended(const struct cell_memory *m, unsigned i)
{
    return atomic_load(&at(m, i)->tx_flags) & CELL_END;
}

static void split(uint8_t *base, uint32_t from, uint32_t n, struct iovec out[2])
{
    uint32_t start = from % CELL_RING_SIZE, first = CELL_RING_SIZE - start;

    first = first < n ? first : n;
    out[0] = (struct iovec){base + start, first};
    out[1] = (struct iovec){base, n - first};
}

ssize_t ring_pending(const struct cell_memory *m, unsigned i, uint32_t head, struct iovec out[2])
{
    uint32_t n = atomic_load(&at(m, i)->tx_tail) - head;

    if (n > CELL_RING_SIZE)
        return -1;
    split(ring(m, i, 0), head, n, out);
    return n;
}

ssize_t ring_room(const struct cell_memory *m, unsigned i, uint32_t tail, struct iovec out[2])
{
    uint32_t used = tail - atomic_load(&at(m, i)->rx_head);

    if (used > CELL_RING_SIZE)
        return -1;
    split(ring(m, i, 1), tail, CELL_RING_SIZE - used, out);
    return CELL_RING_SIZE - used;
}

void stream_set_tx_head(const struct cell_memory *m, unsigned i, uint32_t head)
{
    atomic_store(&at(m, i)->tx_head, head);
}

void stream_set_rx_tail(const struct cell_memory *m, unsigned i, uint32_t tail)
{
    atomic_store(&at(m, i)->rx_tail, tail);
}

void stream_set_state(const struct cell_memory *m, unsigned i, enum cell_stream_state state)
{
    atomic_store(&at(m, i)->state, (uint32_t)state);
}

void stream_refuse(const struct cell_memory *m, unsigned i, int error)
{
    at(m, i)->error = error;
    stream_set_state(m, i, CELL_REFUSED);
}

void stream_add_rx_flags(const struct cell_memory *m, unsigned i, uint32_t flags)
{
    atomic_fetch_or(&at(m, i)->rx_flags, flags);
}

void stream_set_tx_gone(const struct cell_memory *m, unsigned i)
{
    atomic_store(&at(m, i)->tx_gone, 1);
}

_Atomic uint32_t *stream_wake_word(const struct cell_memory *m, unsigned i)
{
    uint32_t which = atomic_load(&at(m, i)->wake);

    if (which == 0 || which > CELL_WAKES)
        return NULL;
    atomic_fetch_add(wake_word(m, which - 1), 1);
    return wake_word(m, which - 1);
}

_Atomic uint32_t *irq_wake_word(const struct cell_memory *m)
{
    atomic_fetch_add(wake_word(m, CELL_WAKE_IRQ), 1);
    return wake_word(m, CELL_WAKE_IRQ);
}

void cell_message(const struct cell_memory *m, char *out, size_t cap)
{
    const volatile char *from = cell_header(m)->message;
    size_t n = 0;

    while (n + 1 < cap && n < sizeof(cell_header(m)->message)) {
        char c = from[n];
        if (c == 0)
            break;
        out[n++] = c >= ' ' && c < 0x7f ? c : '?';
    }
    out[n] = 0;
}
