/*
 * The image as programs see it: what mkfs.erofs made is found, listed, read and mapped; nothing of it can be
 * changed.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/openat2.h>
#include <linux/stat.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/path.h"
#include "hosted.h"

#include <setjmp.h>
#include <cmocka.h>

enum { MANY = 700, BIG = 3 * 4096 + 1234 };
static uint8_t big[BIG];

static void build(const char *dir)
{
    char name[64];

    image_dir(dir, "etc", 0755);
    image_file(dir, "etc/passwd", "root\n", 5, 0644);
    image_file(dir, "etc/shadow", "secret\n", 7, 0600);
    image_file(dir, "etc/empty", "", 0, 0644);
    image_dir(dir, "private", 0700);
    image_file(dir, "private/file", "x", 1, 0644);
    image_dir(dir, "bin", 0755);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 7 + i / 251);
    image_file(dir, "bin/big", big, BIG, 0755);
    image_file(dir, "bin/exact", big, 8192, 0755);
    image_link(dir, "bin/sh", "big");
    image_link(dir, "bin/absolute", "/etc/passwd");
    image_link(dir, "bin/loop", "loop");
    image_link(dir, "bin/up", "../etc");
    image_link(dir, "bin/dangling", "nowhere");
    image_dir(dir, "many", 0755);
    for (int i = 0; i < MANY; i++) {
        (void)text_format(name, sizeof(name), "many/an-entry-with-a-long-name-%d", i);
        image_file(dir, name, name, strlen(name), 0644);
    }
    image_file(dir, "tmp", "a file where a mount goes", 25, 0644);
    image_dir(dir, "var", 0755);
    image_dir(dir, "var/tmp", 0755);
}

static long open_it(const char *path, int flags)
{
    return CELL(open, path, flags, 0644);
}

static void files_are_found_by_their_paths(void **state)
{
    static const struct {
        const char *path;
        long expected; /* error, or 0 */
    } cases[] = {
        {"/etc/passwd", 0},
        {"//etc///passwd", 0},
        {"/etc/./../etc/passwd", 0},
        {"/../../etc/passwd", 0},
        {"/bin/sh", 0},
        {"/bin/absolute", 0},
        {"/bin/up/passwd", 0},
        {"/bin/up/../etc/passwd", 0},
        {"etc/passwd", 0},
        {"/etc/passwd/", -ENOTDIR},
        {"/etc/passwd/x", -ENOTDIR},
        {"/etc/passwd/..", -ENOTDIR},
        {"/etc/nothing", -ENOENT},
        {"/nothing/x", -ENOENT},
        {"/bin/loop", -ELOOP},
        {"/bin/loop/x", -ELOOP},
        {"/bin/dangling", -ENOENT},
        {"", -ENOENT},
        {"/private/file", -EACCES},
        {"/etc/shadow", -EACCES},
    };

    (void)state;
    for (size_t round = 0; round < 2; round++) /* the second time out of the cache */
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            long fd = open_it(cases[i].path, O_RDONLY);
            if (cases[i].expected == 0 ? fd < 0 : fd != cases[i].expected)
                fail_msg("open(%s) is %ld", cases[i].path, fd);
            if (fd >= 0)
                assert_int_equal(CELL(close, fd), 0);
        }
}

static void names_and_paths_have_a_longest(void **state)
{
    static char path[5000];
    char name[300];

    (void)state;
    memset(name, 'n', 299);
    name[0] = '/';
    name[256] = 0; /* 255 */
    assert_int_equal(open_it(name, O_RDONLY), -ENOENT);
    name[256] = 'n';
    name[257] = 0;
    assert_int_equal(open_it(name, O_RDONLY), -ENAMETOOLONG);
    for (size_t i = 0; i < 4999; i++)
        path[i] = '/';
    path[4095] = 0;
    assert_true(open_it(path, O_RDONLY) >= 0);
    path[4095] = '/';
    path[4999] = 0;
    assert_int_equal(open_it(path, O_RDONLY), -ENAMETOOLONG);
    assert_int_equal(open_it((const char *)8, O_RDONLY), -EFAULT);
}

static void what_is_read_is_what_was_written(void **state)
{
    static uint8_t buf[BIG + 100];
    long fd = open_it("/bin/big", O_RDONLY);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(read, fd, buf, BIG + 100), BIG);
    assert_memory_equal(buf, big, BIG);
    assert_int_equal(CELL(read, fd, buf, 10), 0);
    for (uint64_t at = 0; at < BIG; at += 1001) {
        uint64_t n = BIG - at < 1500 ? BIG - at : 1500;
        assert_int_equal(CELL(pread64, fd, buf, 1500, at), n);
        assert_memory_equal(buf, big + at, n);
    }
    assert_int_equal(CELL(lseek, fd, -10, SEEK_END), BIG - 10);
    assert_int_equal(CELL(read, fd, buf, 100), 10);
    assert_int_equal(CELL(lseek, fd, -1, SEEK_SET), -EINVAL);
    assert_int_equal(CELL(pread64, fd, buf, 1, -1), -EINVAL);
    assert_int_equal(CELL(write, fd, buf, 1), -EBADF);
    assert_int_equal(CELL(read, fd, 8, 1), 0); /* at the end nothing is copied */
    assert_int_equal(CELL(pread64, fd, 8, 1, 0), -EFAULT);
    CELL(close, fd);
    assert_int_equal(CELL(read, fd, buf, 1), -EBADF);
}

/* Lists a directory with a small buffer; how many entries, and how many have `prefix`. */
static int list(const char *path, const char *prefix, int *matching)
{
    uint8_t buf[512];
    long fd = open_it(path, O_RDONLY | O_DIRECTORY), n;
    int count = 0;

    assert_true(fd >= 0);
    *matching = 0;
    while ((n = CELL(getdents64, fd, buf, sizeof(buf))) > 0)
        for (long at = 0; at < n;) {
            uint16_t length;
            const char *name = (const char *)buf + at + 19;
            memcpy(&length, buf + at + 16, 2);
            count++;
            *matching += strncmp(name, prefix, strlen(prefix)) == 0;
            at += length;
        }
    assert_int_equal(n, 0);
    CELL(close, fd);
    return count;
}

static void directories_are_listed_whole(void **state)
{
    struct stat st;
    int matching;

    (void)state;
    assert_int_equal(list("/many", "an-entry", &matching), MANY + 2);
    assert_int_equal(matching, MANY);
    assert_int_equal(list("/etc", ".", &matching), 5);
    assert_int_equal(matching, 2);
    /* Mount points are there whether the image has them or not, and once. */
    list("/", "tmp", &matching);
    assert_int_equal(matching, 1);
    list("/", "workspace", &matching);
    assert_int_equal(matching, 1);
    assert_int_equal(CELL(stat, "/tmp", &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 01777);
    assert_int_equal(CELL(stat, "/workspace", &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(CELL(stat, "/tmp/..", &st), 0);
    assert_int_equal(CELL(getdents64, 77, &st, sizeof(st)), -EBADF);
}

static void every_entry_of_a_large_directory_is_found(void **state)
{
    char name[80], buf[80];
    struct stat st;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        (void)text_format(name, sizeof(name), "/many/an-entry-with-a-long-name-%d", i);
        long fd = open_it(name, O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(CELL(read, fd, buf, sizeof(buf)), strlen(name) - 1);
        CELL(close, fd);
        name[6] = 'b';
        assert_int_equal(CELL(stat, name, &st), -ENOENT);
    }
}

static void nothing_can_be_changed(void **state)
{
    long fd = open_it("/etc/passwd", O_RDONLY | O_CREAT);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(close, fd), 0);
    assert_int_equal(open_it("/etc/passwd", O_WRONLY), -EROFS);
    assert_int_equal(open_it("/etc/passwd", O_RDONLY | O_TRUNC), -EROFS);
    assert_int_equal(open_it("/etc/passwd", O_RDONLY | O_CREAT | O_EXCL), -EEXIST);
    assert_int_equal(open_it("/etc/new", O_WRONLY | O_CREAT), -EROFS);
    assert_int_equal(CELL(mkdir, "/etc/new", 0755), -EROFS);
    assert_int_equal(CELL(mkdir, "/etc", 0755), -EEXIST);
    assert_int_equal(CELL(mkdir, "/", 0755), -EEXIST);
    assert_int_equal(CELL(unlink, "/etc/passwd"), -EROFS);
    assert_int_equal(CELL(rmdir, "/tmp"), -EROFS);
    assert_int_equal(CELL(rename, "/etc/passwd", "/etc/other"), -EROFS);
    assert_int_equal(CELL(rename, "/etc/passwd", "/tmp/other"), -EXDEV);
    assert_int_equal(CELL(symlink, "x", "/etc/link"), -EROFS);
    assert_int_equal(CELL(link, "/etc/passwd", "/etc/link"), -EROFS);
    assert_int_equal(CELL(link, "/etc/passwd", "/tmp/link"), -EXDEV);
    assert_int_equal(CELL(chmod, "/etc/passwd", 0777), -EROFS);
    assert_int_equal(CELL(truncate, "/etc/passwd", 0), -EROFS);
    assert_int_equal(CELL(access, "/etc/passwd", 2), -EROFS);
    assert_int_equal(CELL(access, "/etc/passwd", 4), 0);
    assert_int_equal(CELL(access, "/etc/passwd", 1), -EACCES);
    assert_int_equal(CELL(mount, "x", "/tmp", "tmpfs", 0, 0), -EPERM);
    assert_int_equal(CELL(chroot, "/tmp"), -EPERM);
}

static void stat_shows_what_the_image_says(void **state)
{
    struct stat st;
    struct statx x;
    char target[64];

    (void)state;
    assert_int_equal(CELL(stat, "/bin/big", &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0755);
    assert_int_equal(st.st_size, BIG);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_mtime, 1700000000);
    assert_int_equal(CELL(lstat, "/bin/sh", &st), 0);
    assert_int_equal(st.st_mode & S_IFMT, S_IFLNK);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(CELL(readlink, "/bin/sh", target, sizeof(target)), 3);
    assert_memory_equal(target, "big", 3);
    assert_int_equal(CELL(readlink, "/bin/absolute", target, 4), 4);
    assert_int_equal(CELL(readlink, "/bin/big", target, 4), -EINVAL);
    assert_int_equal(CELL(readlink, "", target, 4), -ENOENT);
    assert_int_equal(CELL(readlink, "/bin/sh", target, 0), -EINVAL);
    assert_int_equal(CELL(statx, AT_FDCWD, "/bin/big", 0, STATX_BASIC_STATS, &x), 0);
    assert_int_equal(x.stx_size, BIG);
    assert_int_equal(CELL(newfstatat, AT_FDCWD, "/bin/sh", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(CELL(newfstatat, AT_FDCWD, "", &st, AT_EMPTY_PATH), 0);
    assert_int_equal(CELL(newfstatat, AT_FDCWD, "/bin/sh", &st, 0x4000), -EINVAL);
}

static void openat2_keeps_to_what_it_was_told(void **state)
{
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
    long dir = open_it("/bin", O_PATH | O_DIRECTORY), fd;

    (void)state;
    assert_true(dir >= 0);
    fd = CELL(openat2, dir, "big", &how, sizeof(how));
    assert_true(fd >= 0);
    CELL(close, fd);
    assert_int_equal(CELL(openat2, dir, "../etc/passwd", &how, sizeof(how)), -EXDEV);
    assert_int_equal(CELL(openat2, dir, "/bin/big", &how, sizeof(how)), -EXDEV);
    assert_int_equal(CELL(openat2, dir, "absolute", &how, sizeof(how)), -EXDEV);
    how.resolve = RESOLVE_IN_ROOT;
    fd = CELL(openat2, dir, "../../big", &how, sizeof(how));
    assert_true(fd >= 0);
    CELL(close, fd);
    assert_int_equal(CELL(openat2, dir, "absolute", &how, sizeof(how)), -ENOENT);
    how.resolve = RESOLVE_NO_SYMLINKS;
    assert_int_equal(CELL(openat2, dir, "sh", &how, sizeof(how)), -ELOOP);
    how.resolve = 0x100;
    assert_int_equal(CELL(openat2, dir, "sh", &how, sizeof(how)), -EINVAL);
    CELL(close, dir);
}

static void a_mapping_shows_the_file(void **state)
{
    size_t len = (BIG + 4095) / 4096 * 4096;
    uint8_t *at = (uint8_t *)host_mmap(NULL, len + 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const char *const names[] = {"/bin/big", "/bin/exact"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        size_t size = i == 0 ? BIG : 8192, end = (size + 4095) / 4096 * 4096;
        struct file *f;
        assert_int_equal(fs_kernel_open(names[i], &f), 0);
        assert_int_equal(file_map(f, (unsigned long)at, end, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0), 0);
        assert_memory_equal(at, big, size);
        for (size_t k = size; k < end; k++)
            assert_int_equal(at[k], 0);
        at[1] = 99; /* a private copy */
        assert_int_equal(file_map(f, (unsigned long)at, 4096, PROT_READ, MAP_PRIVATE, 4096), 0);
        assert_memory_equal(at, big + 4096, 4096);
        file_put(f);
    }
    (void)host_munmap(at, len + 4096);
}

static void only_programs_can_be_executed(void **state)
{
    struct file *f;

    (void)state;
    assert_int_equal(fs_open_exec(AT_FDCWD, "/bin/sh", 0, &f), 0);
    assert_int_equal(file_size(f), BIG);
    file_put(f);
    assert_int_equal(fs_open_exec(AT_FDCWD, "/etc/passwd", 0, &f), -EACCES);
    assert_int_equal(fs_open_exec(AT_FDCWD, "/etc", 0, &f), -EACCES);
    assert_int_equal(fs_open_exec(AT_FDCWD, "/bin/none", 0, &f), -ENOENT);
    assert_int_equal(fs_open_exec(AT_FDCWD, "/bin/sh", AT_SYMLINK_NOFOLLOW, &f), -ELOOP);
    assert_int_equal(fs_open_exec(AT_FDCWD, "/proc/self/comm", 0, &f), -EACCES);
}

static void the_cache_stays_bounded(void **state)
{
    char name[80];
    struct stat st;
    size_t before, after;

    (void)state;
    for (int i = 0; i < 6000; i++) {
        (void)text_format(name, sizeof(name), "/many/absent-%d", i);
        assert_int_equal(CELL(stat, name, &st), -ENOENT);
    }
    before = hosted_pages();
    for (int i = 6000; i < 30000; i++) {
        (void)text_format(name, sizeof(name), "/many/absent-%d", i);
        assert_int_equal(CELL(stat, name, &st), -ENOENT);
    }
    after = hosted_pages();
    assert_true(after < before + 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_found_by_their_paths),
        cmocka_unit_test(names_and_paths_have_a_longest),
        cmocka_unit_test(what_is_read_is_what_was_written),
        cmocka_unit_test(directories_are_listed_whole),
        cmocka_unit_test(every_entry_of_a_large_directory_is_found),
        cmocka_unit_test(nothing_can_be_changed),
        cmocka_unit_test(stat_shows_what_the_image_says),
        cmocka_unit_test(openat2_keeps_to_what_it_was_told),
        cmocka_unit_test(a_mapping_shows_the_file),
        cmocka_unit_test(only_programs_can_be_executed),
        cmocka_unit_test(the_cache_stays_bounded),
    };
    uint64_t size = image_make(build);

    memory_make(64 << 20);
    hosted_boot(size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
