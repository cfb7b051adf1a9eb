/*
 * Directories of the host: when contents come, when they go, and what of a server's answers is believed.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/host_link.h"
#include "cell/fs/host_files.h"
#include "cell/fs/path.h"
#include "hosted.h"
#include "server.h"

#include <setjmp.h>
#include <cmocka.h>

enum { PAGE_ = 4096, MIB = 1 << 20, FIRST = 2 };
static u8 buf[4 * MIB], bytes[4 * MIB];
static char place[32];
static unsigned rounds;

static const char *in(const char *name)
{
    static char path[64];

    (void)text_format(path, sizeof(path), "%s/%s", place, name);
    return path;
}

/* One more mount, of `n` files f0, f1 ... with the numbers FIRST ... and the contents `bytes`, this long. */
static void show(unsigned n, size_t length)
{
    struct files_record root = {.op = FILES_ROOT, .ino = FILES_ROOT_INO, .mode = S_IFDIR | 0755, .size = 1};
    const char *why;
    char name[16];

    while (host_files_evict())
        ; /* of the mount before */
    server_start();
    streams_init();
    HEADER->flags |= CELL_BOOT_FILES;
    host_files_init();
    (void)text_format(place, sizeof(place), "/tmp/h%u", rounds++);
    root.data_length = (u32)strlen(place);
    server_say(&root, NULL, place);
    for (unsigned i = 0; i < n; i++) {
        struct files_record r = {.op = FILES_NODE,
                                 .ino = FIRST + i,
                                 .parent = FILES_ROOT_INO,
                                 .mode = S_IFREG | 0644,
                                 .size = length,
                                 .mtime_sec = 1000};
        r.name_length = (u32)text_format(name, sizeof(name), "f%u", i);
        server_say(&r, name, NULL);
        *server_file(FIRST + i) =
            (struct server_file){.data = bytes, .length = length, .size = length, .mtime = 1000};
    }
    server_say(&(const struct files_record){.op = FILES_LOADED}, NULL, NULL);
    assert_int_equal(host_files_load(&why), 0);
}

/* How often each of these was told. */
static unsigned count(unsigned op)
{
    unsigned n = 0, all = server_heard();

    for (unsigned k = 0; k < all; k++)
        n += server_record(k)->op == op;
    return n;
}

static long open_at(const char *name, int flags)
{
    return CELL(open, in(name), flags);
}

static void check_contents(const char *name, size_t length)
{
    long fd = open_at(name, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(CELL(read, fd, buf, sizeof(buf)), length);
    assert_memory_equal(buf, bytes, length);
    CELL(close, fd);
}

static void contents_come_when_a_file_is_opened(void **state)
{
    struct stat st;

    (void)state;
    show(2, 70000);
    assert_int_equal(CELL(stat, in("f0"), &st), 0);
    assert_int_equal(st.st_size, 70000);
    assert_int_equal(st.st_blocks, 18 * 8);
    CELL(close, open_at("f0", O_PATH));
    assert_int_equal(CELL(access, in("f0"), 4), 0);
    assert_int_equal(server_heard(), 0);

    check_contents("f0", 70000);
    check_contents("f0", 70000);
    assert_int_equal(count(FILES_FETCH), 1);
    assert_int_equal(server_record(0)->ino, FIRST);
    assert_int_equal(CELL(stat, in("f0"), &st), 0);
    assert_int_equal(st.st_blocks, 18 * 8);
    assert_int_equal(st.st_mtime, 1000);
}

static void what_the_host_changed_meanwhile_is_seen(void **state)
{
    struct stat st;

    (void)state;
    show(1, 70000);
    server_file(FIRST)->length = server_file(FIRST)->size = 5;
    server_file(FIRST)->mtime = 2000;
    check_contents("f0", 5);
    assert_int_equal(CELL(stat, in("f0"), &st), 0);
    assert_int_equal(st.st_size, 5);
    assert_int_equal(st.st_mtime, 2000);
}

static void an_error_of_the_host_is_that_of_open(void **state)
{
    (void)state;
    show(1, 100);
    server_file(FIRST)->error = EACCES;
    assert_int_equal(open_at("f0", O_RDONLY), -EACCES);
    server_file(FIRST)->error = ENOENT;
    assert_int_equal(open_at("f0", O_RDWR), -ENOENT);
    assert_int_equal(CELL(truncate, in("f0"), 10), -ENOENT);
    server_file(FIRST)->error = 1 << 20; /* none */
    assert_int_equal(open_at("f0", O_RDONLY), -EIO);
    server_file(FIRST)->error = 0;
    check_contents("f0", 100);
    assert_int_equal(count(FILES_FETCH), 5);
}

static void extended_attributes_are_not_offered(void **state)
{
    char value[8];

    (void)state;
    show(1, 100);
    assert_int_equal(CELL(setxattr, in("f0"), "user.a", "x", 1, 0), -EOPNOTSUPP);
    assert_int_equal(CELL(getxattr, in("f0"), "user.a", value, 8), -EOPNOTSUPP);
    assert_int_equal(CELL(removexattr, in("f0"), "user.a"), -EOPNOTSUPP);
    assert_int_equal(CELL(setxattr, in(""), "user.a", "x", 1, 0), -EOPNOTSUPP);
    assert_int_equal(CELL(listxattr, in("f0"), value, 8), 0);
    assert_int_equal(server_heard(), 0);
}

static void what_is_emptied_is_not_asked_for(void **state)
{
    struct stat st;
    long fd;

    (void)state;
    show(3, 5000);
    fd = open_at("f0", O_WRONLY | O_TRUNC);
    assert_int_equal(CELL(write, fd, "new", 3), 3);
    CELL(close, fd);
    assert_int_equal(CELL(truncate, in("f1"), 0), 0);
    assert_int_equal(count(FILES_FETCH), 0);
    assert_int_equal(count(FILES_TRUNCATE), 2);
    assert_int_equal(CELL(stat, in("f0"), &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(CELL(truncate, in("f2"), 10), 0);
    assert_int_equal(count(FILES_FETCH), 1);
    check_contents("f2", 10);
}

static void bytes_behind_the_end_are_zeros(void **state)
{
    static const u8 zeros[PAGE_];
    long fd;

    (void)state;
    show(1, 3UL * PAGE_);
    server_file(FIRST)->size = 100; /* of 12288 that were sent */
    fd = open_at("f0", O_RDWR);
    assert_int_equal(CELL(ftruncate, fd, 2 * PAGE_), 0);
    assert_int_equal(CELL(pread64, fd, buf, sizeof(buf), 100), 2 * PAGE_ - 100);
    assert_memory_equal(buf, zeros, PAGE_);
    CELL(close, fd);
}

static void holes_are_zeros(void **state)
{
    struct stat st;
    long fd;

    (void)state;
    show(1, PAGE_);
    server_file(FIRST)->size = 1ULL << 35;
    fd = open_at("f0", O_RDONLY);
    assert_int_equal(CELL(fstat, fd, &st), 0);
    assert_int_equal(st.st_size, 1L << 35);
    assert_int_equal(st.st_blocks, 8);
    assert_int_equal(CELL(pread64, fd, buf, 10, 1L << 34), 10);
    assert_int_equal(buf[0], 0);
    CELL(close, fd);
}

static void what_nobody_uses_makes_room(void **state)
{
    size_t before;
    long kept;
    char name[16];

    (void)state;
    show(200, MIB);
    before = hosted_pages();
    kept = open_at("f0", O_RDONLY);
    for (int i = 1; i < 200; i++) {
        (void)text_format(name, sizeof(name), "f%d", i);
        check_contents(name, MIB);
    }
    assert_in_range(hosted_pages(), before, before + HEADER->memory_size / 4 / PAGE_ + 2 * MIB / PAGE_);
    /* In use: it stayed, whole. */
    assert_int_equal(CELL(read, kept, buf, MIB), MIB);
    assert_memory_equal(buf, bytes, MIB);
    CELL(close, kept);
    assert_int_equal(count(FILES_FETCH), 200);
    /* Those used last are there, the first ones come again. */
    check_contents("f199", MIB);
    assert_int_equal(count(FILES_FETCH), 200);
    check_contents("f1", MIB);
    assert_int_equal(count(FILES_FETCH), 201);
}

static void a_file_that_was_dropped_keeps_its_time(void **state)
{
    struct stat st, again;
    char name[16];
    unsigned told = 0, last;
    long fd;

    (void)state;
    show(60, MIB);
    fd = open_at("f0", O_WRONLY);
    assert_int_equal(CELL(write, fd, "x", 1), 1);
    CELL(close, fd);
    assert_int_equal(CELL(stat, in("f0"), &st), 0);
    for (int i = 1; i < 60; i++) {
        (void)text_format(name, sizeof(name), "f%d", i);
        check_contents(name, MIB);
    }
    /* The host gets the time before it is asked for the file again. */
    server_file(FIRST)->mtime = 1000;
    last = server_heard();
    for (unsigned k = 0; k < last; k++)
        if (server_record(k)->op == FILES_TIME && server_record(k)->ino == FIRST) {
            assert_int_equal(server_record(k)->mtime_sec, st.st_mtime);
            server_file(FIRST)->mtime = server_record(k)->mtime_sec;
            told++;
        }
    assert_int_equal(told, 1);
    check_contents("f0", MIB);
    assert_true(server_heard() > last);
    assert_int_equal(CELL(stat, in("f0"), &again), 0);
    assert_int_equal(again.st_mtime, st.st_mtime);
}

static void what_is_mapped_stays(void **state)
{
    char name[16];
    u8 *at;
    long fd;

    (void)state;
    show(100, MIB);
    fd = open_at("f0", O_RDWR);
    at = (u8 *)host_mmap(NULL, MIB, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(
        file_map(fd_file((int)fd), (unsigned long)at, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, 0), 0);
    for (int i = 1; i < 100; i++) {
        (void)text_format(name, sizeof(name), "f%d", i);
        check_contents(name, MIB);
    }
    assert_memory_equal(at, bytes, MIB);
    at[5] ^= 1;
    assert_int_equal(CELL(pread64, fd, buf, 1, 5), 1);
    assert_int_equal(buf[0], bytes[5] ^ 1);
    CELL(close, fd);
    (void)host_munmap(at, MIB);
}

static void a_file_without_a_name_stays_while_it_is_open(void **state)
{
    long fd;

    (void)state;
    show(1, 5000);
    fd = open_at("f0", O_RDONLY);
    assert_int_equal(CELL(unlink, in("f0")), 0);
    assert_int_equal(CELL(read, fd, buf, sizeof(buf)), 5000);
    CELL(close, fd);
    assert_int_equal(count(FILES_FETCH), 1);
    assert_int_equal(count(FILES_REMOVE), 1);
}

static void what_does_not_fit_is_enospc(void **state)
{
    size_t before;

    (void)state;
    show(2, sizeof(bytes));
    before = hosted_pages();
    server_file(FIRST)->times = 32; /* a server that sends more than it was asked for */
    assert_int_equal(open_at("f0", O_RDONLY), -ENOSPC);
    assert_in_range(hosted_pages(), before, before + 4);
    assert_in_range(server_record(0)->size, 32 * MIB, HEADER->memory_size - CELL_OFF_HEAP);
    check_contents("f1", sizeof(bytes));
}

static void a_root_may_be_a_file(void **state)
{
    struct files_record root = {.op = FILES_ROOT, .ino = FILES_ROOT_INO, .mode = S_IFREG | 0644, .parent = 5};
    const char *why;
    struct stat st;
    long fd;

    (void)state;
    server_start();
    streams_init();
    host_files_init();
    root.data_length = 9;
    server_say(&root, NULL, "/tmp/file");
    server_say(&(const struct files_record){.op = FILES_LOADED}, NULL, NULL);
    assert_int_equal(host_files_load(&why), 0);
    *server_file(FILES_ROOT_INO) = (struct server_file){.data = bytes, .length = 5, .size = 5};
    assert_int_equal(CELL(stat, "/tmp/file", &st), 0);
    assert_int_equal(st.st_size, 5);
    fd = CELL(open, "/tmp/file", O_RDONLY);
    assert_int_equal(CELL(read, fd, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, bytes, 5);
    CELL(close, fd);
    assert_int_equal(CELL(open, "/tmp/file", O_WRONLY), -EROFS);
}

/* ---- answers that are none */

static void the_end_of_the_server_ends_the_wait(void **state)
{
    struct files_record piece = {.op = FILES_DATA, .ino = FIRST, .data_length = 1000};

    (void)state;
    show(2, 5000);
    check_contents("f1", 5000);
    server_keep_silent();
    server_say(&piece, NULL, bytes); /* in the middle of it */
    server_end();
    assert_int_equal(open_at("f0", O_RDONLY), -EIO);
    assert_int_equal(open_at("f0", O_RDONLY), -EIO);
    check_contents("f1", 5000); /* what is there can still be read */
}

static void nonsense_is_the_end_of_the_server(void **state)
{
    const struct files_record wrong[] = {
        {.op = FILES_DATA, .ino = FIRST + 1, .data_length = 10}, /* not asked for */
        {.op = FILES_DATA, .ino = FIRST, .root = 1, .data_length = 10},
        {.op = FILES_DATA, .ino = FIRST, .size = FILES_SIZE_MAX, .data_length = 10},
        {.op = FILES_DATA, .ino = FIRST, .size = UINT64_MAX, .data_length = 10},
        {.op = FILES_DATA, .ino = FIRST, .data_length = FILES_DATA_MAX + 1},
        {.op = FILES_DATA, .ino = FIRST, .name_length = FILES_NAME_MAX + 1},
        {.op = FILES_FETCHED, .ino = FIRST + 1},
        {.op = FILES_FETCHED, .ino = FIRST, .size = FILES_SIZE_MAX + 1},
        {.op = FILES_FETCHED, .ino = FIRST, .mtime_nsec = 1000000000},
        {.op = FILES_NODE, .ino = 9, .parent = FILES_ROOT_INO, .mode = S_IFREG | 0644},
        {.op = FILES_ROOT, .ino = FILES_ROOT_INO, .mode = S_IFDIR | 0755},
        {.op = 77},
    };

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(wrong); k++) {
        struct files_record r = wrong[k];
        show(2, 5000);
        server_keep_silent();
        r.magic = FILES_MAGIC;
        server_say_bytes(&r, sizeof(r));
        server_say_bytes(bytes, MIN(r.data_length, 100U));
        assert_int_equal(open_at("f0", O_RDONLY), -EIO);
        assert_true(list_empty(&host->asked));
    }
    show(1, 10);
    server_keep_silent();
    server_say_bytes("nothing like a record, but as long as one would be at the least", 60);
    assert_int_equal(open_at("f0", O_RDONLY), -EIO);
    assert_int_equal(CELL(stat, in("f0"), buf), 0);
}

static u64 random_state;

static u32 random_number(void)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (u32)(random_state >> 33);
}

static void random_answers_do_no_harm(void **state)
{
    uint64_t seed = 1;
    u32 steps = 300;

    (void)state;
    hosted_environment(&seed, &steps);
    random_state = seed;
    for (u32 round = 0; round < steps; round++) {
        static const u16 ops[] = {FILES_DATA,    FILES_DATA,   FILES_DATA,
                                  FILES_FETCHED, FILES_SYNCED, FILES_FAILED};
        size_t before = 0;
        show(3, 5000);
        before = hosted_pages();
        server_keep_silent();
        for (u32 k = random_number() % 12; k > 0; k--) {
            struct files_record r = {.magic = FILES_MAGIC, .op = ops[random_number() % ARRAY_LEN(ops)]};
            r.ino = FIRST + random_number() % 2 * (random_number() % 4 == 0);
            r.size = random_number() % 8 ? random_number() % 20000 : (u64)random_number() << 32;
            r.mode = random_number() % 4 ? 0 : random_number() % 5000;
            r.data_length = r.op == FILES_DATA ? random_number() % 9000 : 0;
            if (random_number() % 16 == 0)
                ((u8 *)&r)[random_number() % sizeof(r)] = (u8)random_number();
            server_say_bytes(&r, sizeof(r));
            server_say_bytes(bytes, MIN(r.data_length, 9000U));
        }
        server_end();
        for (int k = 0; k < 3; k++) {
            long fd = open_at("f0", random_number() % 2 ? O_RDONLY : O_RDWR);
            if (fd >= 0) {
                assert_true(CELL(read, fd, buf, sizeof(buf)) >= 0);
                CELL(close, fd);
            }
        }
        assert_true(list_empty(&host->asked));
        assert_int_equal(CELL(unlink, in("f0")), 0);
        assert_in_range(hosted_pages(), before - 4, before + 40);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_come_when_a_file_is_opened),
        cmocka_unit_test(what_the_host_changed_meanwhile_is_seen),
        cmocka_unit_test(an_error_of_the_host_is_that_of_open),
        cmocka_unit_test(extended_attributes_are_not_offered),
        cmocka_unit_test(what_is_emptied_is_not_asked_for),
        cmocka_unit_test(bytes_behind_the_end_are_zeros),
        cmocka_unit_test(holes_are_zeros),
        cmocka_unit_test(what_nobody_uses_makes_room),
        cmocka_unit_test(a_file_that_was_dropped_keeps_its_time),
        cmocka_unit_test(what_is_mapped_stays),
        cmocka_unit_test(a_file_without_a_name_stays_while_it_is_open),
        cmocka_unit_test(what_does_not_fit_is_enospc),
        cmocka_unit_test(a_root_may_be_a_file),
        cmocka_unit_test(the_end_of_the_server_ends_the_wait),
        cmocka_unit_test(nonsense_is_the_end_of_the_server),
        cmocka_unit_test(random_answers_do_no_harm),
    };
    uint64_t size = image_make(image_nothing);
    int rc;

    memory_make(160 << 20);
    hosted_boot(size);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (u8)(i * 7 + i / 4096);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    server_stop();
    return rc;
}
