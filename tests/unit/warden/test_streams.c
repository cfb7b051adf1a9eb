/*
 * The warden's view of a cell's memory, when the cell keeps the rules and when it does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "warden/streams.h"

static struct cell_memory memory;

static struct cell_stream *shared(unsigned i)
{
    return (struct cell_stream *)(void *)(memory.base + CELL_OFF_STREAMS) + i;
}

static _Atomic uint32_t *word(unsigned i)
{
    return (_Atomic uint32_t *)(void *)(memory.base + CELL_OFF_WAKES) + i;
}

static int map(void **state)
{
    (void)state;
    memory.base = mmap(NULL, CELL_OFF_HEAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory.base == MAP_FAILED ? -1 : 0;
}

static int unmap(void **state)
{
    (void)state;
    return munmap(memory.base, CELL_OFF_HEAP);
}

/* Both pieces lie in the ring of that stream and direction, and are as long as the answer. */
static void assert_pieces(const struct iovec v[2], ssize_t n, unsigned stream, unsigned direction)
{
    const uint8_t *ring = memory.base + CELL_OFF_RINGS + (stream * 2 + direction) * (size_t)CELL_RING_SIZE;

    assert_int_equal(v[0].iov_len + v[1].iov_len, n);
    for (int i = 0; i < 2; i++) {
        const uint8_t *at = v[i].iov_base;
        assert_true(at >= ring && v[i].iov_len <= CELL_RING_SIZE);
        assert_true(at + v[i].iov_len <= ring + CELL_RING_SIZE);
    }
}

static void what_the_cell_wrote_comes_in_order_and_around_the_end(void **state)
{
    uint32_t head = CELL_RING_SIZE - 3;
    struct iovec v[2];

    (void)state;
    atomic_store(&shared(5)->tx_tail, head + 10);
    assert_int_equal(ring_pending(&memory, 5, head, v), 10);
    assert_pieces(v, 10, 5, 0);
    assert_int_equal(v[0].iov_len, 3);
    assert_int_equal(v[1].iov_len, 7);
}

static void counters_go_around_as_well(void **state)
{
    struct iovec v[2];

    (void)state;
    atomic_store(&shared(0)->tx_tail, 4);
    assert_int_equal(ring_pending(&memory, 0, UINT32_MAX - 3, v), 8);
    assert_pieces(v, 8, 0, 0);
    atomic_store(&shared(0)->rx_head, UINT32_MAX - 1);
    assert_int_equal(ring_room(&memory, 0, 2, v), CELL_RING_SIZE - 4);
    assert_pieces(v, CELL_RING_SIZE - 4, 0, 1);
}

static void empty_and_full_rings_are_told_apart(void **state)
{
    struct iovec v[2];

    (void)state;
    atomic_store(&shared(9)->tx_tail, 77);
    assert_int_equal(ring_pending(&memory, 9, 77, v), 0);
    assert_int_equal(ring_pending(&memory, 9, 77U - CELL_RING_SIZE, v), CELL_RING_SIZE);
    assert_pieces(v, CELL_RING_SIZE, 9, 0);
    atomic_store(&shared(9)->rx_head, 77);
    assert_int_equal(ring_room(&memory, 9, 77, v), CELL_RING_SIZE);
    assert_int_equal(ring_room(&memory, 9, 77 + CELL_RING_SIZE, v), 0);
}

static void counters_that_contradict_each_other_are_refused(void **state)
{
    struct iovec v[2];

    (void)state;
    atomic_store(&shared(1)->tx_tail, 9);
    assert_int_equal(ring_pending(&memory, 1, 10, v), -1);
    assert_int_equal(ring_pending(&memory, 1, 9U - CELL_RING_SIZE - 1, v), -1);
    atomic_store(&shared(1)->rx_head, 11);
    assert_int_equal(ring_room(&memory, 1, 10, v), -1);
    assert_int_equal(ring_room(&memory, 1, 11 + CELL_RING_SIZE + 1, v), -1);
}

static void a_state_that_is_none_counts_as_free(void **state)
{
    (void)state;
    atomic_store(&shared(3)->state, CELL_CLOSING);
    assert_int_equal(stream_state(&memory, 3), CELL_CLOSING);
    atomic_store(&shared(3)->state, CELL_CLOSING + 1);
    assert_int_equal(stream_state(&memory, 3), CELL_FREE);
    atomic_store(&shared(3)->state, UINT32_MAX);
    assert_int_equal(stream_state(&memory, 3), CELL_FREE);
}

static void a_waiter_is_woken_and_no_word_beyond_the_last(void **state)
{
    (void)state;
    assert_null(stream_wake_word(&memory, 2));
    atomic_store(&shared(2)->wake, CELL_WAKES);
    assert_ptr_equal(stream_wake_word(&memory, 2), word(CELL_WAKES - 1));
    assert_int_equal(atomic_load(word(CELL_WAKES - 1)), 1);
    atomic_store(&shared(2)->wake, CELL_WAKES + 1);
    assert_null(stream_wake_word(&memory, 2));
    atomic_store(&shared(2)->wake, UINT32_MAX);
    assert_null(stream_wake_word(&memory, 2));
    assert_ptr_equal(irq_wake_word(&memory), word(CELL_WAKE_IRQ));
    assert_int_equal(atomic_load(word(CELL_WAKE_IRQ)), 1);
}

static void changes_are_told_once(void **state)
{
    uint64_t dirty[CELL_STREAMS / 64];

    (void)state;
    assert_false(streams_any_dirty(&memory));
    atomic_store(&cell_header(&memory)->dirty[CELL_STREAMS / 64 - 1], 1ULL << 63);
    assert_true(streams_any_dirty(&memory));
    streams_take_dirty(&memory, dirty);
    assert_true(dirty[CELL_STREAMS / 64 - 1] == 1ULL << 63 && dirty[0] == 0);
    assert_false(streams_any_dirty(&memory));
}

static void the_last_sentence_is_printable_and_ends(void **state)
{
    char text[16], all[2048];

    (void)state;
    memcpy(cell_header(&memory)->message, "a\x1b[2J\n\xff", 8);
    cell_message(&memory, text, sizeof(text));
    assert_string_equal(text, "a?[2J??");
    memset(cell_header(&memory)->message, 'x', sizeof(cell_header(&memory)->message));
    cell_message(&memory, text, sizeof(text));
    assert_int_equal(strlen(text), sizeof(text) - 1);
    cell_message(&memory, all, sizeof(all));
    assert_int_equal(strlen(all), sizeof(cell_header(&memory)->message));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, map, unmap)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_cell_wrote_comes_in_order_and_around_the_end),
        TEST(counters_go_around_as_well),
        TEST(empty_and_full_rings_are_told_apart),
        TEST(counters_that_contradict_each_other_are_refused),
        TEST(a_state_that_is_none_counts_as_free),
        TEST(a_waiter_is_woken_and_no_word_beyond_the_last),
        TEST(changes_are_told_once),
        TEST(the_last_sentence_is_printable_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
