/*
 * A cell that changes its memory while the warden reads it. The input is what stands in the memory and the
 * questions that are asked; a second thread goes on writing it over and over. Whatever is there: each answer
 * lies within the ring it is about, and the bytes of the pieces can be touched.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "warden/streams.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cell_memory memory;
/* What the other thread writes: 64-bit words at multiples of 4 below the rings. */
static _Atomic uint64_t scribbles[64];
static _Atomic uint32_t nscribbles;

static uint64_t load(const uint8_t *data, size_t size, size_t *at)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | (*at < size ? data[(*at)++] : 0);
    return v;
}

static void write_word(uint64_t what)
{
    static const size_t places[] = {CELL_OFF_HEADER, CELL_OFF_WAKES, CELL_OFF_STREAMS};
    size_t offset = places[what % 3] + (what / 3 % 0x1000) * 4;

    atomic_store((_Atomic uint32_t *)(void *)(memory.base + offset), (uint32_t)(what >> 32));
}

static void *scribble(void *arg)
{
    (void)arg;
    for (;;) {
        uint32_t n = atomic_load(&nscribbles);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t what = atomic_load(&scribbles[i]);
            write_word(what);
            write_word(what ^ 0xffffffff00000000ULL);
        }
    }
    return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    pthread_t thread;

    (void)argc;
    (void)argv;
    memory.base = mmap(NULL, CELL_OFF_HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(memory.base != MAP_FAILED);
    return pthread_create(&thread, NULL, scribble, NULL);
}

static void check_pieces(const struct iovec v[2], ssize_t n, unsigned stream, unsigned direction)
{
    const uint8_t *ring =
        memory.base + CELL_OFF_RINGS + ((size_t)(stream % CELL_STREAMS) * 2 + direction) * CELL_RING_SIZE;

    if (n < 0)
        return;
    assert(n <= CELL_RING_SIZE && v[0].iov_len + v[1].iov_len == (size_t)n);
    for (int i = 0; i < 2; i++) {
        const uint8_t *at = v[i].iov_base;
        assert(at >= ring && v[i].iov_len <= CELL_RING_SIZE && at + v[i].iov_len <= ring + CELL_RING_SIZE);
        if (v[i].iov_len > 0)
            (void)(*(const volatile uint8_t *)at + *(const volatile uint8_t *)(at + v[i].iov_len - 1));
    }
}

static void ask(uint64_t q)
{
    unsigned stream = (unsigned)(q >> 8 & 0xff);
    uint32_t counter = (uint32_t)(q >> 32);
    uint64_t dirty[CELL_STREAMS / 64];
    const _Atomic uint32_t *word;
    struct iovec v[2];
    char text[64];
    ssize_t n;

    switch (q % 8) {
    case 0:
        n = ring_pending(&memory, stream, counter, v);
        check_pieces(v, n, stream, 0);
        break;
    case 1:
        n = ring_room(&memory, stream, counter, v);
        check_pieces(v, n, stream, 1);
        break;
    case 2:
        assert(stream_state(&memory, stream) <= CELL_CLOSING);
        (void)stream_port(&memory, stream);
        (void)stream_tx_ended(&memory, stream);
        break;
    case 3:
        word = stream_wake_word(&memory, stream);
        assert(!word || ((const uint8_t *)word >= memory.base + CELL_OFF_WAKES &&
                         (const uint8_t *)(word + 1) <= memory.base + CELL_OFF_WAKES + CELL_WAKES * 4));
        break;
    case 4:
        streams_take_dirty(&memory, dirty);
        (void)streams_any_dirty(&memory);
        break;
    case 5:
        cell_message(&memory, text, 1 + counter % sizeof(text));
        assert(strlen(text) < 1 + counter % sizeof(text));
        for (const char *p = text; *p; p++)
            assert(*p >= ' ' && *p < 0x7f);
        break;
    case 6:
        stream_set_tx_head(&memory, stream, counter);
        stream_set_rx_tail(&memory, stream, counter);
        break;
    default:
        stream_refuse(&memory, stream, (int)(counter % 200));
        stream_add_rx_flags(&memory, stream, CELL_RESET);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, first = size / 2;
    uint32_t n = 0;

    while (at < first && n < sizeof(scribbles) / sizeof(scribbles[0]))
        atomic_store(&scribbles[n++], load(data, first, &at));
    atomic_store(&nscribbles, n);
    for (uint32_t i = 0; i < n; i++)
        write_word(atomic_load(&scribbles[i]));
    for (at = first; at < size;)
        ask(load(data, size, &at));
    return 0;
}
