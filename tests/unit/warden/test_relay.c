/*
 * The relay between a cell's streams and the host's descriptors, with the test in the cell's place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "warden/relay.h"

enum { PIPE_SIZE = 65536 };

static struct relay relay;
static int host[3]; /* our ends of the console */
static int kept[3]; /* the test program's own */

static struct cell_stream *shared(unsigned i)
{
    return (struct cell_stream *)(void *)(relay.memory.base + CELL_OFF_STREAMS) + i;
}

static uint8_t *ring(unsigned i, unsigned direction)
{
    return relay.memory.base + CELL_OFF_RINGS + (i * 2 + direction) * (size_t)CELL_RING_SIZE;
}

static void mark(unsigned i)
{
    atomic_fetch_or(&cell_header(&relay.memory)->dirty[i / 64], 1ULL << (i % 64));
}

static int begin(void **state)
{
    uint8_t *base = mmap(NULL, CELL_OFF_HEAP, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* blocked in the warden */
    for (int fd = 0; fd < 3; fd++) {
        kept[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 50);
        if (pipe(ends) < 0)
            return -1;
        host[fd] = fcntl(fd == 0 ? ends[1] : ends[0], F_DUPFD_CLOEXEC, 100);
        (void)dup2(fd == 0 ? ends[0] : ends[1], fd);
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    relay_init(&relay, base, false, false, -1);
    relay_set_console(&relay, 0, 1, 2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (int fd = 0; fd < 3; fd++) {
        (void)dup2(kept[fd], fd);
        (void)close(kept[fd]);
        (void)close(host[fd]);
    }
    return munmap(relay.memory.base, CELL_OFF_HEAP);
}

/* One round of the warden's loop; does not wait. */
static void turn(void)
{
    static struct pollfd fds[RELAY_POLL];
    unsigned n = relay_prepare(&relay, fds);

    (void)poll(fds, n, 0);
    relay_serve(&relay, fds);
}

static void turns(int n)
{
    while (n-- > 0)
        turn();
}

static void say(unsigned stream, const char *text, size_t len)
{
    uint32_t tail = atomic_load(&shared(stream)->tx_tail);

    for (size_t i = 0; i < len; i++)
        ring(stream, 0)[(tail + i) % CELL_RING_SIZE] = (uint8_t)text[i];
    atomic_store(&shared(stream)->tx_tail, tail + (uint32_t)len);
    mark(stream);
}

static void output_and_error_go_their_ways(void **state)
{
    char text[16] = "";

    (void)state;
    say(0, "out", 3);
    say(1, "error", 5);
    turns(2);
    assert_int_equal(read(host[1], text, sizeof(text)), 3);
    assert_memory_equal(text, "out", 3);
    assert_int_equal(read(host[2], text, sizeof(text)), 5);
    assert_memory_equal(text, "error", 5);
}

static void input_comes_in_and_its_end_is_told(void **state)
{
    (void)state;
    assert_int_equal(write(host[0], "hello", 5), 5);
    turn();
    assert_int_equal(atomic_load(&shared(0)->rx_tail), 5);
    assert_memory_equal(ring(0, 1), "hello", 5);
    (void)close(host[0]);
    host[0] = -1;
    turns(2);
    assert_true(atomic_load(&shared(0)->rx_flags) & CELL_END);
}

static void a_full_ring_stops_the_host_and_room_lets_it_go_on(void **state)
{
    static char much[PIPE_SIZE];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(host[0], much, sizeof(much)), sizeof(much));
        turns(20);
    }
    assert_int_equal(atomic_load(&shared(0)->rx_tail), CELL_RING_SIZE);
    atomic_store(&shared(0)->rx_head, 100);
    mark(0);
    turns(2);
    assert_int_equal(atomic_load(&shared(0)->rx_tail), CELL_RING_SIZE + 100);
}

static void a_host_that_takes_nothing_stops_the_cell(void **state)
{
    static char much[CELL_RING_SIZE];
    ssize_t before = 0, n;

    (void)state;
    say(0, much, sizeof(much));
    turns(40);
    say(0, much, sizeof(much) / 2);
    turns(40);
    assert_true(atomic_load(&shared(0)->tx_tail) - atomic_load(&shared(0)->tx_head) > 0);
    assert_int_equal(fcntl(1, F_GETFL) & O_NONBLOCK, 0); /* the caller's descriptor is as it was */
    (void)fcntl(host[1], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 100; i++) {
        while ((n = read(host[1], much, sizeof(much))) > 0)
            before += n;
        turn();
    }
    assert_int_equal(before, CELL_RING_SIZE + CELL_RING_SIZE / 2);
}

static void an_end_reaches_the_reader_behind_the_last_byte(void **state)
{
    char text[8];

    (void)state;
    say(0, "last", 4);
    atomic_store(&shared(0)->tx_flags, CELL_END);
    turns(3);
    assert_int_equal(read(host[1], text, sizeof(text)), 4);
    assert_int_equal(read(host[1], text, sizeof(text)), 0);
}

static void a_reader_that_went_away_is_told_without_a_write(void **state)
{
    (void)state;
    (void)close(host[1]);
    host[1] = -1;
    turn();
    assert_int_equal(atomic_load(&shared(0)->tx_gone), 1);
    say(0, "more", 4);
    turns(3); /* no loop, no error */
}

static void contradicting_counters_reset_that_stream_alone(void **state)
{
    char text[8];

    (void)state;
    atomic_store(&shared(0)->tx_tail, CELL_RING_SIZE + 1);
    mark(0);
    say(1, "fine", 4);
    turns(2);
    assert_true(atomic_load(&shared(0)->rx_flags) & CELL_RESET);
    assert_int_equal(atomic_load(&shared(0)->tx_gone), 1);
    assert_int_equal(read(host[2], text, sizeof(text)), 4);
}

static void without_ports_every_connection_is_refused_and_its_place_given_back(void **state)
{
    (void)state;
    for (unsigned port = 0; port < 5; port++) {
        shared(200)->port = port;
        atomic_store(&shared(200)->state, CELL_CONNECT);
        mark(200);
        turn();
        assert_int_equal(atomic_load(&shared(200)->state), CELL_REFUSED);
        assert_int_equal(shared(200)->error, ECONNREFUSED);
        atomic_store(&shared(200)->state, CELL_CLOSING);
        mark(200);
        turn();
        assert_int_equal(atomic_load(&shared(200)->state), CELL_FREE);
    }
}

/* Stream `i` as open_connection() leaves it; returns the port's end. */
static int connected(unsigned i)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    relay.channels[i] = (struct channel){.in = pair[0], .out = pair[0], .used = true, .is_socket = true};
    atomic_store(&shared(i)->state, CELL_OPEN);
    return pair[1];
}

static void each_half_of_a_connection_ends_by_itself(void **state)
{
    char text[16];
    int port = connected(7);

    (void)state;
    say(7, "request", 7);
    atomic_store(&shared(7)->tx_flags, CELL_END);
    turn();
    assert_int_equal(read(port, text, sizeof(text)), 7);
    assert_int_equal(read(port, text, sizeof(text)), 0);
    assert_int_equal(write(port, "answer", 6), 6);
    turn();
    assert_int_equal(atomic_load(&shared(7)->rx_tail), 6);
    (void)close(port);
    turn();
    assert_true(atomic_load(&shared(7)->rx_flags) & CELL_END);
    atomic_store(&shared(7)->state, CELL_CLOSING);
    mark(7);
    turn();
    assert_int_equal(atomic_load(&shared(7)->state), CELL_FREE);
}

static void what_was_said_before_closing_still_arrives(void **state)
{
    char text[16];
    int port = connected(8);

    (void)state;
    say(8, "bye", 3);
    atomic_store(&shared(8)->state, CELL_CLOSING);
    turn();
    assert_int_equal(atomic_load(&shared(8)->state), CELL_FREE);
    assert_int_equal(read(port, text, sizeof(text)), 3);
    assert_int_equal(read(port, text, sizeof(text)), 0);
    (void)close(port);
}

static void a_state_out_of_turn_ends_the_connection(void **state)
{
    static const uint32_t states[] = {CELL_FREE, CELL_CONNECT, CELL_REFUSED, 77};
    char c;

    (void)state;
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        int port = connected(9);
        atomic_store(&shared(9)->state, states[i]);
        mark(9);
        turn();
        assert_int_equal(read(port, &c, 1), 0);
        assert_int_equal(atomic_load(&shared(9)->state), CELL_FREE);
        (void)close(port);
    }
}

static void the_last_flush_waits_for_what_was_there_and_no_longer(void **state)
{
    static char much[PIPE_SIZE];
    ssize_t n;

    (void)state;
    say(0, "x", 1);
    relay_flush(&relay, true);
    assert_int_equal(read(host[1], much, sizeof(much)), 1);
    /* A reader that takes nothing: the impatient flush gives up. */
    (void)fcntl(host[1], F_SETPIPE_SZ, 4096);
    say(0, much, CELL_RING_SIZE);
    relay_flush(&relay, false);
    (void)fcntl(host[1], F_SETFL, O_NONBLOCK);
    n = read(host[1], much, sizeof(much));
    assert_true(n > 0 && n < CELL_RING_SIZE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_and_error_go_their_ways),
        TEST(input_comes_in_and_its_end_is_told),
        TEST(a_full_ring_stops_the_host_and_room_lets_it_go_on),
        TEST(a_host_that_takes_nothing_stops_the_cell),
        TEST(an_end_reaches_the_reader_behind_the_last_byte),
        TEST(a_reader_that_went_away_is_told_without_a_write),
        TEST(contradicting_counters_reset_that_stream_alone),
        TEST(without_ports_every_connection_is_refused_and_its_place_given_back),
        TEST(each_half_of_a_connection_ends_by_itself),
        TEST(what_was_said_before_closing_still_arrives),
        TEST(a_state_out_of_turn_ends_the_connection),
        TEST(the_last_flush_waits_for_what_was_there_and_no_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
