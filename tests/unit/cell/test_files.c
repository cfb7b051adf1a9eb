/*
 * Files of tmpfs and descriptors: what the random comparison with the host (test_same_as_host.c) does not
 * reach.
 */
#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/mman.h>
#include <asm/stat.h>
#include <asm/statfs.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <linux/resource.h>
#include <linux/uio.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/path.h"
#include "hosted.h"

#include <setjmp.h>
#include <cmocka.h>

enum { PAGE_ = 4096 };
static u8 buf[70000];

static long make(const char *path, int flags)
{
    long fd = CELL(open, path, flags | O_CREAT, 0644);

    assert_true(fd >= 0);
    return fd;
}

static u8 *reserve(size_t n)
{
    return (u8 *)host_mmap(NULL, n, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static struct file *file_at(long fd)
{
    return fd_file((int)fd);
}

static void memory_comes_back_when_files_go(void **state)
{
    size_t before = hosted_pages();
    char name[32];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) {
            (void)text_format(name, sizeof(name), "/tmp/f%d", i);
            long fd = make(name, O_RDWR);
            for (int k = 0; k < 4; k++)
                assert_int_equal(CELL(write, fd, buf, sizeof(buf)), sizeof(buf));
            CELL(close, fd);
        }
        assert_true(hosted_pages() > before + 50 * 60);
        for (int i = 0; i < 50; i++) {
            (void)text_format(name, sizeof(name), "/tmp/f%d", i);
            assert_int_equal(CELL(unlink, name), 0);
        }
    }
    assert_in_range(hosted_pages(), before, before + 20);
}

static void a_sparse_file_has_holes(void **state)
{
    long fd = make("/tmp/sparse", O_RDWR);
    struct stat st;

    (void)state;
    assert_int_equal(CELL(pwrite64, fd, "x", 1, 100ULL << 30), 1);
    assert_int_equal(CELL(fstat, fd, &st), 0);
    assert_int_equal(st.st_size, (100L << 30) + 1);
    assert_int_equal(st.st_blocks, 8);
    assert_int_equal(CELL(lseek, fd, 0, SEEK_DATA), 100L << 30);
    assert_int_equal(CELL(lseek, fd, 0, SEEK_HOLE), 0);
    assert_int_equal(CELL(lseek, fd, 100L << 30, SEEK_HOLE), (100L << 30) + 1);
    assert_int_equal(CELL(lseek, fd, 200L << 30, SEEK_DATA), -ENXIO);
    memset(buf, 7, 100);
    assert_int_equal(CELL(pread64, fd, buf, 100, 5000), 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf[i], 0);
    assert_int_equal(CELL(pwrite64, fd, "x", 1, 1ULL << 41), -EFBIG);
    CELL(close, fd);
    CELL(unlink, "/tmp/sparse");
}

static void space_ends_with_enospc(void **state)
{
    long fd = make("/tmp/full", O_RDWR), n;
    struct statfs s;
    u64 total = 0;

    (void)state;
    while ((n = CELL(write, fd, buf, sizeof(buf))) > 0)
        total += (u64)n;
    assert_int_equal(n, -ENOSPC);
    assert_true(total > 10 << 20);
    assert_int_equal(CELL(statfs, "/tmp", &s), 0);
    assert_int_equal(s.f_type, 0x01021994);
    assert_int_equal(s.f_bfree, 0);
    assert_int_equal(CELL(ftruncate, fd, 0), 0);
    assert_int_equal(CELL(statfs, "/tmp", &s), 0);
    assert_true(s.f_bfree > 1000);
    assert_int_equal(CELL(write, fd, buf, 10), 10);
    assert_int_equal(CELL(fallocate, fd, 0, 0, 1ULL << 35), -ENOSPC);
    CELL(close, fd);
    CELL(unlink, "/tmp/full");
}

static void names_end_with_enospc(void **state)
{
    char name[32];
    int made = 0;
    long rc;

    (void)state;
    do {
        (void)text_format(name, sizeof(name), "/tmp/n%d", made++);
        rc = CELL(mknod, name, 0100644, 0);
    } while (rc == 0);
    assert_int_equal(rc, -ENOSPC);
    assert_in_range(made, 1000, 100000);
    assert_int_equal(CELL(open, "/tmp/other", O_CREAT | O_WRONLY, 0644), -ENOSPC);
    assert_int_equal(CELL(mkdir, "/dev/shm/other", 0755), -ENOSPC);
    assert_int_equal(CELL(unlink, "/tmp/n0"), 0);
    assert_int_equal(CELL(mkdir, "/tmp/n0", 0755), 0);
    assert_int_equal(CELL(rmdir, "/tmp/n0"), 0);
    for (int i = 1; i < made - 1; i++) {
        (void)text_format(name, sizeof(name), "/tmp/n%d", i);
        assert_int_equal(CELL(unlink, name), 0);
    }
}

static void a_shared_mapping_is_the_file(void **state)
{
    u8 *at = reserve(4 * PAGE_), *other = reserve(4 * PAGE_);
    long fd = make("/tmp/mapped", O_RDWR);
    struct file *f = file_at(fd);

    (void)state;
    assert_int_equal(CELL(ftruncate, fd, 3 * PAGE_), 0);
    assert_int_equal(CELL(pwrite64, fd, "hello", 5, PAGE_), 5);
    assert_int_equal(file_map(f, (unsigned long)at, 4 * PAGE_, PROT_READ | PROT_WRITE, MAP_SHARED, 0), 0);
    assert_int_equal(file_map(f, (unsigned long)other, PAGE_, PROT_READ, MAP_SHARED, PAGE_), 0);
    assert_memory_equal(at + PAGE_, "hello", 5);
    at[PAGE_] = 'j';
    at[0] = 'a';
    assert_memory_equal(other, "jello", 5);
    assert_int_equal(CELL(pread64, fd, buf, 5, PAGE_), 5);
    assert_memory_equal(buf, "jello", 5);
    /* Growing later shows in the mapping, too. */
    assert_int_equal(CELL(pwrite64, fd, "end", 3, 3 * PAGE_), 3);
    assert_memory_equal(at + 3 * PAGE_, "end", 3);
    /* Truncated pages read as zeros and are nobody else's while they are mapped. */
    assert_int_equal(CELL(ftruncate, fd, 0), 0);
    assert_int_equal(at[PAGE_], 0);
    long victim = make("/tmp/victim", O_RDWR);
    memset(buf, 'v', sizeof(buf));
    assert_int_equal(CELL(write, victim, buf, sizeof(buf)), sizeof(buf));
    assert_int_equal(at[PAGE_], 0);
    at[PAGE_] = 1;
    assert_int_equal(CELL(pread64, victim, buf, sizeof(buf), 0), sizeof(buf));
    for (size_t i = 0; i < sizeof(buf); i++)
        assert_int_equal(buf[i], 'v');
    /* Unlinked and closed, it still is a file for whoever mapped it. */
    file_get(f);
    assert_int_equal(CELL(unlink, "/tmp/mapped"), 0);
    CELL(close, fd);
    at[0] = 9;
    assert_int_equal(at[0], 9);
    (void)host_munmap(at, 4 * PAGE_);
    (void)host_munmap(other, 4 * PAGE_);
    file_put(f);
    CELL(close, victim);
    CELL(unlink, "/tmp/victim");
}

static void a_private_mapping_keeps_its_changes(void **state)
{
    u8 *at = reserve(3 * PAGE_);
    long fd = make("/tmp/private", O_RDWR);

    (void)state;
    assert_int_equal(CELL(pwrite64, fd, "abc", 3, 0), 3);
    assert_int_equal(CELL(pwrite64, fd, "def", 3, 2 * PAGE_), 3);
    assert_int_equal(
        file_map(file_at(fd), (unsigned long)at, 3 * PAGE_, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0), 0);
    assert_memory_equal(at + 2 * PAGE_, "def", 3);
    assert_int_equal(at[PAGE_], 0);
    at[0] = 'X';
    at[PAGE_] = 'Y';
    assert_int_equal(CELL(pread64, fd, buf, 3, 0), 3);
    assert_memory_equal(buf, "abc", 3);
    (void)host_munmap(at, 3 * PAGE_);
    CELL(close, fd);
    CELL(unlink, "/tmp/private");
}

static void a_memfd_can_be_sealed(void **state)
{
    long fd = CELL(memfd_create, "name", MFD_ALLOW_SEALING | MFD_CLOEXEC), again;
    char path[64], target[64];
    long n;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(fcntl, fd, F_GETFD), 1);
    assert_int_equal(CELL(write, fd, "12345", 5), 5);
    (void)text_format(path, sizeof(path), "/proc/self/fd/%ld", fd);
    n = CELL(readlink, path, target, sizeof(target));
    assert_int_equal(n, 21);
    assert_memory_equal(target, "/memfd:name (deleted)", 21);
    again = CELL(open, path, O_RDONLY);
    assert_true(again >= 0);
    assert_int_equal(CELL(read, again, buf, 10), 5);
    CELL(close, again);
    assert_int_equal(CELL(fcntl, fd, F_GET_SEALS), 0);
    assert_int_equal(CELL(fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(CELL(ftruncate, fd, 4), -EPERM);
    assert_int_equal(CELL(ftruncate, fd, 6), -EPERM);
    assert_int_equal(CELL(pwrite64, fd, "x", 1, 4), 1);
    assert_int_equal(CELL(pwrite64, fd, "x", 1, 5), -EPERM);
    assert_int_equal(CELL(fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
    assert_int_equal(CELL(pwrite64, fd, "x", 1, 0), -EPERM);
    assert_int_equal(CELL(fcntl, fd, F_ADD_SEALS, F_SEAL_GROW), -EPERM);
    CELL(close, fd);
    assert_int_equal(CELL(memfd_create, "x", 0x1000), -EINVAL);
}

static void a_file_without_a_name_can_get_one(void **state)
{
    long fd = CELL(open, "/tmp", O_TMPFILE | O_RDWR, 0600);
    char path[64];
    struct stat st;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(write, fd, "abc", 3), 3);
    assert_int_equal(CELL(fstat, fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    (void)text_format(path, sizeof(path), "/proc/self/fd/%ld", fd);
    assert_int_equal(CELL(linkat, AT_FDCWD, path, AT_FDCWD, "/tmp/named", AT_SYMLINK_FOLLOW), 0);
    assert_int_equal(CELL(stat, "/tmp/named", &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_nlink, 1);
    CELL(close, fd);
    assert_int_equal(CELL(unlink, "/tmp/named"), 0);
    assert_int_equal(CELL(open, "/etc", O_TMPFILE | O_RDWR, 0600), -ENOENT);
}

static void descriptors_are_the_lowest_free(void **state)
{
    long a = make("/tmp/d", O_RDWR), b = CELL(dup, a), c = CELL(fcntl, a, F_DUPFD, 100);

    (void)state;
    assert_int_equal(b, a + 1);
    assert_int_equal(c, 100);
    assert_int_equal(CELL(close, a), 0);
    assert_int_equal(CELL(dup, b), a);
    assert_int_equal(CELL(dup2, a, 200), 200);
    assert_int_equal(CELL(dup2, a, a), a);
    assert_int_equal(CELL(dup2, 999, 999), -EBADF);
    assert_int_equal(CELL(dup2, a, 1024), -EBADF);
    assert_int_equal(CELL(dup3, a, a, 0), -EINVAL);
    assert_int_equal(CELL(dup3, a, 201, O_CLOEXEC), 201);
    assert_int_equal(CELL(fcntl, 201, F_GETFD), 1);
    assert_int_equal(CELL(fcntl, 200, F_GETFD), 0);
    assert_int_equal(CELL(fcntl, a, F_DUPFD, 1024), -EINVAL);
    assert_int_equal(CELL(fcntl, a, 9999, 0), -EINVAL);
    assert_int_equal(CELL(close_range, 100, 201, CLOSE_RANGE_CLOEXEC), 0);
    assert_int_equal(CELL(fcntl, 100, F_GETFD), 1);
    assert_int_equal(CELL(close_range, 100, 4000000000, 0), 0);
    assert_int_equal(CELL(fcntl, 200, F_GETFD), -EBADF);
    assert_int_equal(CELL(close_range, 5, 4, 0), -EINVAL);
    hosted_set_limit(RLIMIT_NOFILE, (u64)b + 1);
    assert_int_equal(CELL(dup, a), -EMFILE);
    assert_int_equal(CELL(open, "/tmp/d", O_RDONLY), -EMFILE);
    hosted_set_limit(RLIMIT_NOFILE, 1024);
    /* Two descriptors of one open file share its position and flags. */
    assert_int_equal(CELL(write, a, "abc", 3), 3);
    assert_int_equal(CELL(lseek, b, 0, SEEK_CUR), 3);
    assert_int_equal(CELL(fcntl, a, F_SETFL, O_APPEND | O_NONBLOCK), 0);
    assert_int_equal(CELL(fcntl, b, F_GETFL), O_RDWR | O_APPEND | O_NONBLOCK | O_LARGEFILE);
    CELL(close, a);
    CELL(close, b);
    CELL(unlink, "/tmp/d");
}

static void a_path_descriptor_does_nothing_else(void **state)
{
    long fd = CELL(open, "/tmp", O_PATH);
    struct stat st;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(read, fd, buf, 1), -EBADF);
    assert_int_equal(CELL(fstat, fd, &st), 0);
    assert_int_equal(CELL(fchmod, fd, 0700), -EBADF);
    assert_int_equal(CELL(getdents64, fd, buf, 100), -EBADF);
    assert_int_equal(CELL(fchdir, fd), 0);
    assert_int_equal(CELL(getcwd, buf, 100), 5);
    assert_string_equal((char *)buf, "/tmp");
    assert_int_equal(CELL(getcwd, buf, 4), -ERANGE);
    CELL(close, fd);
}

static void vectors_move_as_one(void **state)
{
    long fd = make("/tmp/v", O_RDWR);
    struct iovec v[3] = {{buf, 3}, {buf + 100, 0}, {buf + 200, 5000}};

    (void)state;
    memcpy(buf, "abc", 3);
    memset(buf + 200, 'z', 5000);
    assert_int_equal(CELL(writev, fd, v, 3), 5003);
    assert_int_equal(CELL(preadv, fd, v, 3, 1), 5002);
    assert_memory_equal(buf, "bcz", 3);
    assert_int_equal(CELL(readv, fd, v, 1025), -EINVAL);
    assert_int_equal(CELL(readv, fd, 8, 1), -EFAULT);
    v[1].iov_len = (size_t)-1;
    assert_int_equal(CELL(readv, fd, v, 3), -EINVAL);
    v[1].iov_len = 0;
    assert_int_equal(CELL(pwritev2, fd, v, 1, 0, 0, RWF_APPEND), 3);
    assert_int_equal(CELL(lseek, fd, 0, SEEK_END), 5006);
    assert_int_equal(CELL(preadv2, fd, v, 1, 0, 0, 0x100), -EOPNOTSUPP);
    CELL(close, fd);
    CELL(unlink, "/tmp/v");
}

static void the_size_limit_sends_a_signal(void **state)
{
    long fd = make("/tmp/limit", O_RDWR);

    (void)state;
    hosted_set_limit(RLIMIT_FSIZE, 1000);
    assert_int_equal(CELL(write, fd, buf, 1500), 1000);
    assert_int_equal(hosted_signal(), 0);
    assert_int_equal(CELL(write, fd, buf, 1), -EFBIG);
    assert_int_equal(hosted_signal(), 25 /* SIGXFSZ */);
    assert_int_equal(CELL(ftruncate, fd, 2000), -EFBIG);
    assert_int_equal(hosted_signal(), 25);
    assert_int_equal(CELL(ftruncate, fd, 500), 0);
    hosted_set_limit(RLIMIT_FSIZE, ~0ULL);
    CELL(close, fd);
    CELL(unlink, "/tmp/limit");
}

static void copying_between_files_stays_in_the_kernel(void **state)
{
    long a = make("/tmp/a", O_RDWR), b = make("/tmp/b", O_RDWR);
    u64 from = 10, to = 20;

    (void)state;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i % 251);
    assert_int_equal(CELL(write, a, buf, sizeof(buf)), sizeof(buf));
    assert_int_equal(CELL(copy_file_range, a, &from, b, &to, 66000, 0), 66000);
    assert_int_equal(from, 66010);
    assert_int_equal(to, 66020);
    memset(buf, 0, 100);
    assert_int_equal(CELL(pread64, b, buf, 100, 20), 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf[i], i + 10);
    from = 0, to = 5;
    assert_int_equal(CELL(copy_file_range, a, &from, a, &to, 10, 0), -EINVAL);
    from = 69990;
    assert_int_equal(CELL(sendfile, b, a, &from, 100), 10);
    assert_int_equal(from, 70000);
    assert_int_equal(CELL(sendfile, b, a, &from, 100), 0);
    CELL(close, a);
    CELL(close, b);
    CELL(unlink, "/tmp/a");
    CELL(unlink, "/tmp/b");
}

static void attributes_answer_as_tmpfs_does(void **state)
{
    long fd = make("/tmp/x", O_RDWR);

    (void)state;
    assert_int_equal(CELL(getxattr, "/tmp/x", "user.a", buf, 10), -ENODATA);
    assert_int_equal(CELL(getxattr, "/tmp/x", "security.capability", buf, 10), -ENODATA);
    assert_int_equal(CELL(fgetxattr, fd, "security.selinux", buf, 10), -ENODATA);
    assert_int_equal(CELL(listxattr, "/tmp/x", buf, 10), 0);
    assert_int_equal(CELL(lgetxattr, "/tmp/none", "user.a", buf, 10), -ENOENT);
    assert_int_equal(CELL(chown, "/tmp/x", 1000, -1), 0);
    assert_int_equal(CELL(chown, "/tmp/x", 0, 0), -EPERM);
    assert_int_equal(CELL(chmod, "/tmp", 0777), -EPERM);
    assert_int_equal(CELL(umask, 077), 022);
    assert_int_equal(CELL(umask, 022), 077);
    assert_int_equal(CELL(ioctl, fd, FIONREAD, buf), 0);
    assert_int_equal(CELL(ioctl, fd, TCGETS, buf), -ENOTTY);
    assert_int_equal(CELL(ioctl, fd, FIOCLEX), 0);
    assert_int_equal(CELL(fcntl, fd, F_GETFD), 1);
    CELL(close, fd);
    CELL(unlink, "/tmp/x");
}

static u64 free_pages(void)
{
    struct statfs s;

    assert_int_equal(CELL(statfs, "/tmp", &s), 0);
    return (u64)s.f_bfree;
}

/* They are memory of files like their data, and gone with them. */
static void extended_attributes_count_as_data(void **state)
{
    u64 before = free_pages();
    char name[40];
    size_t heap;
    long rc;
    int n = 0;

    (void)state;
    CELL(close, make("/tmp/x", O_RDWR));
    heap = hosted_pages();
    for (int round = 0; round < 3; round++) {
        for (n = 0; n < 16; n++) {
            (void)text_format(name, sizeof(name), "user.%d", n);
            assert_int_equal(CELL(setxattr, "/tmp/x", name, buf, 65536, 0), 0);
        }
        assert_in_range(before - free_pages(), 256, 258);
    }
    for (n = 0; n < 16; n++) {
        (void)text_format(name, sizeof(name), "user.%d", n);
        assert_int_equal(CELL(setxattr, "/tmp/x", name, buf, n % 2, 0), 0);
    }
    assert_int_equal(before - free_pages(), 0);
    do {
        (void)text_format(name, sizeof(name), "user.%d", n++);
        rc = CELL(setxattr, "/tmp/x", name, buf, 65536, 0);
    } while (rc == 0);
    assert_int_equal(rc, -ENOSPC);
    assert_true(free_pages() < 17);
    assert_int_equal(CELL(setxattr, "/tmp/x", "user.0", buf, 65536, 0), -ENOSPC);
    assert_int_equal(CELL(getxattr, "/tmp/x", "user.0", buf, 10), 0); /* what was there stays */
    assert_int_equal(CELL(unlink, "/tmp/x"), 0);
    assert_int_equal(free_pages(), before);
    assert_in_range(hosted_pages(), heap - 2, heap + 2);
}

/* No more names than listxattr(2) can tell of. */
static void the_names_of_extended_attributes_have_an_end(void **state)
{
    char name[40];
    long rc = 0;
    int n = 0;

    (void)state;
    CELL(close, make("/tmp/x", O_RDWR));
    while (rc == 0) {
        (void)text_format(name, sizeof(name), "user.a-name-of-thirty-one%06d", n++);
        rc = CELL(setxattr, "/tmp/x", name, "x", 1, 0);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(n, 65536 / 32 + 1);
    assert_int_equal(CELL(listxattr, "/tmp/x", buf, sizeof(buf)), 65536);
    assert_int_equal(CELL(setxattr, "/tmp/x", "user.a-name-of-thirty-one000000", "new", 3, 0), 0);
    assert_int_equal(CELL(unlink, "/tmp/x"), 0);
}

static void a_removed_directory_is_nobodys_place(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(CELL(mkdir, "/tmp/gone", 0755), 0);
    assert_int_equal(CELL(chdir, "/tmp/gone"), 0);
    assert_int_equal(CELL(rmdir, "/tmp/gone"), 0);
    assert_int_equal(CELL(getcwd, buf, 100), -ENOENT);
    assert_int_equal(CELL(open, "x", O_CREAT | O_WRONLY, 0644), -ENOENT);
    assert_int_equal(CELL(mkdir, "x", 0755), -ENOENT);
    assert_int_equal(CELL(stat, ".", &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(CELL(chdir, ".."), 0);
    assert_int_equal(CELL(getcwd, buf, 100), 5);
    assert_int_equal(CELL(rmdir, "/dev/shm"), -EACCES);
    assert_int_equal(CELL(chdir, "/"), 0);
}

static void a_directory_can_change_while_it_is_listed(void **state)
{
    char name[64];
    int seen = 0;
    long fd, n;

    (void)state;
    assert_int_equal(CELL(mkdir, "/tmp/list", 0755), 0);
    for (int i = 0; i < 200; i++) {
        (void)text_format(name, sizeof(name), "/tmp/list/%d", i);
        CELL(close, make(name, O_RDWR));
    }
    fd = CELL(open, "/tmp/list", O_RDONLY);
    while ((n = CELL(getdents64, fd, buf, 200)) > 0)
        for (long at = 0; at < n;) {
            u16 length;
            memcpy(&length, buf + at + 16, 2);
            if (buf[at + 19] != '.') {
                (void)text_format(name, sizeof(name), "/tmp/list/%s", (char *)buf + at + 19);
                assert_int_equal(CELL(unlink, name), 0);
                seen++;
            }
            at += length;
        }
    assert_int_equal(n, 0);
    assert_int_equal(seen, 200);
    assert_int_equal(CELL(lseek, fd, 0, SEEK_SET), 0);
    assert_int_equal(CELL(getdents64, fd, buf, 200), 48);
    CELL(close, fd);
    assert_int_equal(CELL(rmdir, "/tmp/list"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_comes_back_when_files_go),
        cmocka_unit_test(a_sparse_file_has_holes),
        cmocka_unit_test(space_ends_with_enospc),
        cmocka_unit_test(names_end_with_enospc),
        cmocka_unit_test(a_shared_mapping_is_the_file),
        cmocka_unit_test(a_private_mapping_keeps_its_changes),
        cmocka_unit_test(a_memfd_can_be_sealed),
        cmocka_unit_test(a_file_without_a_name_can_get_one),
        cmocka_unit_test(descriptors_are_the_lowest_free),
        cmocka_unit_test(a_path_descriptor_does_nothing_else),
        cmocka_unit_test(vectors_move_as_one),
        cmocka_unit_test(the_size_limit_sends_a_signal),
        cmocka_unit_test(copying_between_files_stays_in_the_kernel),
        cmocka_unit_test(attributes_answer_as_tmpfs_does),
        cmocka_unit_test(extended_attributes_count_as_data),
        cmocka_unit_test(the_names_of_extended_attributes_have_an_end),
        cmocka_unit_test(a_removed_directory_is_nobodys_place),
        cmocka_unit_test(a_directory_can_change_while_it_is_listed),
    };
    uint64_t size = image_make(image_nothing);

    memory_make(96 << 20);
    hosted_boot(size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
