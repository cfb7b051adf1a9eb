/*
 * Pipes, FIFOs, poll and select, and what moves data through them.
 */
#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/time_types.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/fs/inode.h"
#include "cell/ipc/pipe.h"
#include "cell/mem/heap.h"
#include "hosted.h"

#include <setjmp.h>
#include <cmocka.h>

static u8 buf[200000], back[200000];
static int fds[2];

static int make_pipe(void **state)
{
    (void)state;
    assert_int_equal(CELL(pipe2, fds, 0), 0);
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    CELL(close, fds[0]);
    CELL(close, fds[1]);
    return 0;
}

static void set_nonblock(int fd)
{
    assert_int_equal(CELL(fcntl, fd, F_SETFL, O_NONBLOCK), 0);
}

static void bytes_come_out_in_order(void **state)
{
    size_t in = 0, out = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i * 31 + i / 256);
    set_nonblock(fds[0]);
    set_nonblock(fds[1]);
    while (out < sizeof(buf)) {
        for (size_t n = 1; n < 7000 && in < sizeof(buf); n = n * 3 + 1) {
            long rc = CELL(write, fds[1], buf + in, n < sizeof(buf) - in ? n : sizeof(buf) - in);
            if (rc == -EAGAIN)
                break;
            assert_true(rc > 0);
            in += (size_t)rc;
        }
        for (;;) {
            long rc = CELL(read, fds[0], back + out, 1000);
            if (rc == -EAGAIN)
                break;
            assert_true(rc > 0);
            out += (size_t)rc;
        }
    }
    assert_memory_equal(buf, back, sizeof(buf));
}

static void a_full_pipe_holds_64_kib(void **state)
{
    u32 there;

    (void)state;
    set_nonblock(fds[1]);
    assert_int_equal(CELL(write, fds[1], buf, sizeof(buf)), 65536);
    assert_int_equal(CELL(write, fds[1], buf, 1), -EAGAIN);
    assert_int_equal(CELL(ioctl, fds[0], FIONREAD, &there), 0);
    assert_int_equal(there, 65536);
    /* What is no more than PIPE_BUF goes in whole or not at all. */
    assert_int_equal(CELL(read, fds[0], back, 100), 100);
    assert_int_equal(CELL(write, fds[1], buf, 4096), -EAGAIN);
    assert_int_equal(CELL(read, fds[0], back, 4000), 4000);
    assert_int_equal(CELL(write, fds[1], buf, 4096), 4096);
    assert_int_equal(CELL(fcntl, fds[0], F_GETPIPE_SZ), 65536);
    assert_int_equal(CELL(fcntl, fds[0], F_SETPIPE_SZ, 4096), -EBUSY);
    assert_int_equal(CELL(fcntl, fds[0], F_SETPIPE_SZ, 100000), 131072);
    assert_int_equal(CELL(write, fds[1], buf, 65536), 65536);
    assert_int_equal(CELL(fcntl, fds[0], F_SETPIPE_SZ, 2 << 20), -EPERM);
}

static void an_idle_pipe_gives_its_memory_back(void **state)
{
    size_t before = hosted_pages();

    (void)state;
    set_nonblock(fds[1]);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(CELL(write, fds[1], buf, 60000), 60000);
        assert_int_equal(CELL(read, fds[0], back, 60000), 60000);
    }
    assert_in_range(hosted_pages(), before, before + 1);
}

static void without_a_reader_there_is_sigpipe(void **state)
{
    (void)state;
    CELL(close, fds[0]);
    assert_int_equal(CELL(write, fds[1], "x", 1), -EPIPE);
    assert_int_equal(hosted_signal(), 13);
    assert_int_equal(CELL(write, fds[1], "x", 0), 0);
    assert_int_equal(CELL(write, 8, fds[1], 1), -EBADF);
}

static void without_a_writer_there_is_an_end(void **state)
{
    (void)state;
    assert_int_equal(CELL(write, fds[1], "x", 1), 1);
    CELL(close, fds[1]);
    assert_int_equal(CELL(read, fds[0], back, 10), 1);
    assert_int_equal(CELL(read, fds[0], back, 10), 0);
    assert_int_equal(CELL(write, fds[0], back, 10), -EBADF);
}

static void write_one(void)
{
    assert_int_equal(CELL(write, fds[1], "later", 5), 5);
}

static void close_writer(void)
{
    CELL(close, fds[1]);
}

static void a_reader_sleeps_until_there_is_something(void **state)
{
    (void)state;
    hosted_on_sleep = write_one;
    assert_int_equal(CELL(read, fds[0], back, 10), 5);
    hosted_on_sleep = close_writer;
    assert_int_equal(CELL(read, fds[0], back, 10), 0);
}

static void a_signal_ends_the_sleep(void **state)
{
    (void)state;
    assert_int_equal(CELL(read, fds[0], back, 10), -ERESTARTSYS);
    (void)hosted_signal();
    assert_int_equal(CELL(write, fds[1], buf, 65536), 65536);
    assert_int_equal(CELL(write, fds[1], buf, 10), -ERESTARTSYS);
    (void)hosted_signal();
    /* What was written already counts. */
    assert_int_equal(CELL(read, fds[0], back, 8192), 8192);
    assert_int_equal(CELL(write, fds[1], buf, 65536), 8192);
    (void)hosted_signal();
}

static void read_much(void)
{
    assert_int_equal(CELL(read, fds[0], back, 65536), 65536);
}

static void a_writer_sleeps_until_there_is_room(void **state)
{
    (void)state;
    assert_int_equal(CELL(write, fds[1], buf, 65536), 65536);
    hosted_on_sleep = read_much;
    assert_int_equal(CELL(write, fds[1], buf, 4000), 4000);
}

static void bad_addresses_lose_nothing(void **state)
{
    (void)state;
    assert_int_equal(CELL(write, fds[1], 8, 10), -EFAULT);
    assert_int_equal(CELL(write, fds[1], "abc", 3), 3);
    assert_int_equal(CELL(read, fds[0], 8, 10), -EFAULT);
    assert_int_equal(CELL(read, fds[0], back, 10), 3);
    assert_int_equal(CELL(pipe2, 8, 0), -EFAULT);
    assert_int_equal(CELL(pipe2, fds, 1), -EINVAL);
}

static void short_vectors_are_one_write(void **state)
{
    struct iovec v[2] = {{buf, 3000}, {buf, 1000}};

    (void)state;
    set_nonblock(fds[1]);
    assert_int_equal(CELL(write, fds[1], buf, 61441), 61441);
    assert_int_equal(CELL(writev, fds[1], v, 2), 4000);
    assert_int_equal(CELL(writev, fds[1], v, 2), -EAGAIN);
}

static void poll_tells_what_can_be_done(void **state)
{
    struct pollfd p[4] = {{fds[0], POLLIN, -1}, {fds[1], POLLOUT, -1}, {-1, POLLIN, -1}, {500, POLLIN, -1}};

    (void)state;
    assert_int_equal(CELL(poll, p, 4, 0), 2);
    assert_int_equal(p[0].revents, 0);
    assert_int_equal(p[1].revents, POLLOUT);
    assert_int_equal(p[2].revents, 0);
    assert_int_equal(p[3].revents, POLLNVAL);
    assert_int_equal(CELL(write, fds[1], "x", 1), 1);
    assert_int_equal(CELL(poll, p, 1, -1), 1);
    assert_int_equal(p[0].revents, POLLIN);
    CELL(read, fds[0], back, 1);
    hosted_on_sleep = write_one;
    assert_int_equal(CELL(poll, p, 1, -1), 1);
    CELL(read, fds[0], back, 10);
    assert_int_equal(CELL(poll, p, 1, 5), 0);
    assert_int_equal(CELL(poll, p, 1, -1), -ERESTARTNOHAND);
    (void)hosted_signal();
    assert_int_equal(CELL(poll, 8, 1, 0), -EFAULT);
    assert_int_equal(CELL(poll, p, 100000, 0), -EINVAL);
    CELL(close, fds[1]);
    assert_int_equal(CELL(poll, p, 1, -1), 1);
    assert_int_equal(p[0].revents, POLLHUP);
}

static void poll_watches_many(void **state)
{
    static struct pollfd p[300];
    struct __kernel_timespec ts = {1, 0};

    (void)state;
    for (int i = 0; i < 300; i++)
        p[i] = (struct pollfd){fds[0], POLLIN, 0};
    hosted_on_sleep = write_one;
    assert_int_equal(CELL(ppoll, p, 300, &ts, 0, 0), 300);
    assert_true(ts.tv_sec == 0 && ts.tv_nsec > 0);
    ts.tv_nsec = -1;
    assert_int_equal(CELL(ppoll, p, 300, &ts, 0, 0), -EINVAL);
}

static void select_tells_what_can_be_done(void **state)
{
    u64 in[16] = {0}, out[16] = {0};
    struct __kernel_old_timeval tv = {0, 0};

    (void)state;
    in[fds[0] / 64] = 1ULL << (fds[0] % 64);
    out[fds[1] / 64] = 1ULL << (fds[1] % 64);
    assert_int_equal(CELL(select, fds[1] + 1, in, out, 0, &tv), 1);
    assert_int_equal(in[fds[0] / 64], 0);
    assert_int_equal(out[fds[1] / 64], 1ULL << (fds[1] % 64));
    in[fds[0] / 64] = 1ULL << (fds[0] % 64);
    hosted_on_sleep = write_one;
    assert_int_equal(CELL(select, fds[0] + 1, in, 0, 0, 0), 1);
    in[5] = 1;
    assert_int_equal(CELL(select, 321, in, 0, 0, &tv), -EBADF);
    assert_int_equal(CELL(select, -1, in, 0, 0, &tv), -EINVAL);
    assert_int_equal(CELL(select, 0, 0, 0, 0, &tv), 0);
    tv.tv_usec = 1000;
    assert_int_equal(CELL(select, 0, 0, 0, 0, &tv), 0);
    assert_int_equal(CELL(pselect6, 0, 0, 0, 0, 0, 0), -ERESTARTNOHAND);
    (void)hosted_signal();
}

static long opened = -1;

static void open_for_writing(void)
{
    opened = CELL(open, "/tmp/fifo", O_WRONLY);
}

static void a_fifo_waits_for_its_other_end(void **state)
{
    struct stat st;
    long reader;

    (void)state;
    assert_int_equal(CELL(mknod, "/tmp/fifo", S_IFIFO | 0600, 0), 0);
    assert_int_equal(CELL(open, "/tmp/fifo", O_WRONLY | O_NONBLOCK), -ENXIO);
    assert_int_equal(CELL(open, "/tmp/fifo", O_RDONLY), -ERESTARTSYS);
    (void)hosted_signal();
    hosted_on_sleep = open_for_writing;
    reader = CELL(open, "/tmp/fifo", O_RDONLY);
    assert_true(reader >= 0 && opened >= 0);
    assert_int_equal(CELL(write, opened, "abc", 3), 3);
    assert_int_equal(CELL(close, opened), 0);
    assert_int_equal(CELL(read, reader, back, 10), 3);
    assert_int_equal(CELL(read, reader, back, 10), 0);
    assert_int_equal(CELL(fstat, reader, &st), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0600);
    assert_int_equal(CELL(lseek, reader, 0, 0), -ESPIPE);
    assert_int_equal(CELL(close, reader), 0);
    assert_int_equal(CELL(unlink, "/tmp/fifo"), 0);
}

static void an_end_can_be_opened_again(void **state)
{
    char path[64], target[64];
    long again;

    (void)state;
    (void)text_format(path, sizeof(path), "/proc/self/fd/%d", fds[1]);
    assert_true(CELL(readlink, path, target, sizeof(target)) > 6);
    assert_memory_equal(target, "pipe:[", 6);
    again = CELL(open, path, O_WRONLY);
    assert_true(again >= 0);
    CELL(close, fds[1]);
    assert_int_equal(CELL(write, again, "abc", 3), 3);
    assert_int_equal(CELL(close, again), 0);
    assert_int_equal(CELL(read, fds[0], back, 10), 3);
    assert_int_equal(CELL(read, fds[0], back, 10), 0);
}

static void splice_moves_between_files_and_pipes(void **state)
{
    long fd = CELL(open, "/tmp/spliced", O_RDWR | O_CREAT, 0644);
    u64 at = 0;

    (void)state;
    assert_int_equal(CELL(write, fds[1], "hello", 5), 5);
    assert_int_equal(CELL(splice, fds[0], 0, fd, &at, 100, 0), 5);
    assert_int_equal(at, 5);
    at = 1;
    assert_int_equal(CELL(splice, fd, &at, fds[1], 0, 3, 0), 3);
    assert_int_equal(CELL(read, fds[0], back, 10), 3);
    assert_memory_equal(back, "ell", 3);
    assert_int_equal(CELL(splice, fds[0], 0, fd, 0, 10, 2), -EAGAIN);
    assert_int_equal(CELL(splice, fd, 0, fd, 0, 10, 0), -EINVAL);
    assert_int_equal(CELL(splice, fds[0], &at, fd, 0, 10, 0), -ESPIPE);
    CELL(close, fd);
    CELL(unlink, "/tmp/spliced");
}

#define WITH_PIPE(f) cmocka_unit_test_setup_teardown(f, make_pipe, close_pipe)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PIPE(bytes_come_out_in_order),
        WITH_PIPE(a_full_pipe_holds_64_kib),
        WITH_PIPE(an_idle_pipe_gives_its_memory_back),
        WITH_PIPE(without_a_reader_there_is_sigpipe),
        WITH_PIPE(without_a_writer_there_is_an_end),
        WITH_PIPE(a_reader_sleeps_until_there_is_something),
        WITH_PIPE(a_signal_ends_the_sleep),
        WITH_PIPE(a_writer_sleeps_until_there_is_room),
        WITH_PIPE(bad_addresses_lose_nothing),
        WITH_PIPE(short_vectors_are_one_write),
        WITH_PIPE(poll_tells_what_can_be_done),
        WITH_PIPE(poll_watches_many),
        WITH_PIPE(select_tells_what_can_be_done),
        cmocka_unit_test(a_fifo_waits_for_its_other_end),
        WITH_PIPE(an_end_can_be_opened_again),
        WITH_PIPE(splice_moves_between_files_and_pipes),
    };
    uint64_t size = image_make(image_nothing);

    memory_make(64 << 20);
    hosted_boot(size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
