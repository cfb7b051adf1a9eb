/*
 * The same calls, at random, on the host's tmpfs and on the cell's: same results, same errors, same trees. A
 * difference is printed with the calls that led to it; the seed is fixed, SEED and STEPS in the environment
 * change it.
 */
#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/time_types.h>
#include <linux/xattr.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/fs/inode.h"
#include "hosted.h"

#include <setjmp.h>
#include <cmocka.h>

enum { FILES = 6, DATA = 9000, LOG = 40, DENTS = 65536, STEPS = 60000 };

static u64 seed = 20240611;
static struct {
    int host, cell;
} files[FILES];
static u8 data[2][DATA];
static u8 dents[2][DENTS];
static char log_[LOG][320];
static u32 steps;

static u32 any(u32 n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (u32)(seed >> 20) % n;
}

static void make_path(char *out)
{
    static const char *const names[] = {"a", "b", "c",  "dir",
                                        "e", ".", "..", "a-name-that-is-longer-than-the-short-ones"};
    u32 n = 1 + any(3);
    size_t len = 0;

    for (u32 i = 0; i < n; i++)
        len += text_format(out + len, 200 - len, "%s%s", i ? any(8) ? "/" : "//" : "",
                           names[any(any(4) ? 5 : 8)]);
    if (any(8) == 0)
        (void)text_format(out + len, 200 - len, "/");
}

static void note(const char *what)
{
    text_copy(log_[steps % LOG], what, sizeof(log_[0]));
}

static void show(const char *what)
{
    for (u32 i = steps < LOG ? 0 : steps - LOG + 1; i <= steps; i++)
        print_message("%s\n", log_[i % LOG]);
    fail_msg("%s", what);
}

/* One call on both sides, the results compared. */
static long both(const char *name, long nr, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    long host = host_call6(nr, (long)a, (long)b, (long)c, (long)d, (long)e, 0),
         own = cell(nr, a, b, c, d, e, 0);
    char text[200];

    if (host != own) {
        (void)text_format(text, sizeof(text), "step %u: %s is %ld on the host, %ld in the cell", steps, name,
                          host, own);
        show(text);
    }
    return host;
}
#define BOTH_(name, a, b, c, d, e, ...)                                                                      \
    both(#name, __NR_##name, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e))
#define BOTH(...) BOTH_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

static void expect(bool same, const char *what)
{
    char text[200];

    if (!same) {
        (void)text_format(text, sizeof(text), "step %u: %s differs", steps, what);
        show(text);
    }
}

static void expect_equal(u64 host, u64 own, const char *what)
{
    char text[200];

    (void)text_format(text, sizeof(text), "%s: 0%lo (%ld) and 0%lo (%ld)", what, host, host, own, own);
    expect(host == own, text);
}

static void compare_stat(const struct stat *h, const struct stat *c)
{
    expect_equal(h->st_mode, c->st_mode, "st_mode");
    expect_equal(h->st_nlink, c->st_nlink, "st_nlink");
    expect(h->st_uid == c->st_uid && h->st_gid == c->st_gid, "owner");
    if (!S_ISDIR(h->st_mode))
        expect_equal((u64)h->st_size, (u64)c->st_size, "st_size");
    if (S_ISREG(h->st_mode))
        expect_equal((u64)h->st_blocks, (u64)c->st_blocks, "st_blocks");
    if (h->st_mtime < 1000000000)
        expect(h->st_mtime == c->st_mtime && h->st_mtime_nsec == c->st_mtime_nsec, "st_mtime");
}

static void op_stat(const char *path, bool follow)
{
    struct stat st[2] = {0};
    long host =
        host_call4(__NR_newfstatat, AT_FDCWD, (long)path, (long)&st[0], follow ? 0 : AT_SYMLINK_NOFOLLOW);
    long own = CELL(newfstatat, AT_FDCWD, path, &st[1], follow ? 0 : AT_SYMLINK_NOFOLLOW);

    expect(host == own, "the result of fstatat");
    if (host == 0)
        compare_stat(&st[0], &st[1]);
}

/* Where links at the top lead: most differences are about them. */
static void show_links(void)
{
    static const char *const names[] = {"a", "b", "c", "dir", "e"};
    char target[128];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        long n = host_call3(__NR_readlink, (long)names[i], (long)target, sizeof(target));
        if (n > 0)
            print_message("%s -> %.*s\n", names[i], (int)n, target);
    }
}

static void op_open(const char *path)
{
    static const unsigned extra[] = {0,
                                     O_CREAT,
                                     O_CREAT | O_EXCL,
                                     O_TRUNC,
                                     O_CREAT | O_TRUNC,
                                     O_APPEND | O_CREAT,
                                     O_DIRECTORY,
                                     O_NOFOLLOW,
                                     O_PATH,
                                     O_PATH | O_NOFOLLOW,
                                     O_CREAT | O_NOFOLLOW,
                                     O_PATH | O_DIRECTORY,
                                     O_TMPFILE,
                                     O_CREAT | O_DIRECTORY};
    unsigned flags = any(3) | extra[any(ARRAY_LEN(extra))] | O_NONBLOCK;
    u32 slot = any(FILES);
    long host, own;
    char text[300];

    (void)text_format(text, sizeof(text), "%u: open(%s, %o) as %u", steps, path, flags, slot);
    note(text);
    host = host_call4(__NR_openat, AT_FDCWD, (long)path, flags, 0644);
    own = CELL(openat, AT_FDCWD, path, flags, 0644);
    if (host < 0 ? host != own : own < 0)
        show_links();
    expect(host < 0 ? host == own : own >= 0,
           text_format(text, sizeof(text), "open: %ld and %ld", host, own) ? text : "");
    if (host < 0)
        return;
    if (files[slot].host >= 0) {
        expect(host_call3(__NR_close, files[slot].host, 0, 0) == CELL(close, files[slot].cell), "close");
    }
    files[slot].host = (int)host;
    files[slot].cell = (int)own;
}

/* A call on a descriptor of each side. */
static long on_file(u32 slot, const char *name, long nr, u64 b, u64 b_cell, u64 c, u64 d)
{
    long host = host_call4(nr, files[slot].host, (long)b, (long)c, (long)d);
    long own = cell(nr, (u64)files[slot].cell, b_cell, c, d, 0, 0);
    char text[200];

    (void)text_format(text, sizeof(text), "%s: %ld and %ld", name, host, own);
    expect(host == own, text);
    return host;
}

static void op_file(void)
{
    u32 slot = any(FILES), what = any(10);
    struct stat st[2] = {0};
    u64 n = any(4) ? any(DATA) : any(10), at = any(5) ? any(20000) : any(1000000);
    char text[200];
    long rc;

    if (files[slot].host < 0)
        return;
    (void)text_format(text, sizeof(text), "%u: file %u: operation %u, %lu bytes at %lu", steps, slot, what, n,
                      at);
    note(text);
    (void)host_call3(__NR_fstat, files[slot].host, (long)&st[0], 0);
    if (what <= 1 && S_ISFIFO(st[0].st_mode)) /* Linux counts pages that are not full as room that is used */
        n = any(100);
    switch (what) {
    case 0:
    case 1:
        for (u64 i = 0; i < n; i++)
            data[0][i] = (u8)(i + steps);
        rc = on_file(slot, "write", __NR_write, (u64)data[0], (u64)data[0], n, 0);
        break;
    case 2:
        rc = on_file(slot, "pwrite", __NR_pwrite64, (u64)data[0], (u64)data[0], n, at);
        break;
    case 3:
    case 4:
        rc = on_file(slot, "read", __NR_read, (u64)data[0], (u64)data[1], n, 0);
        expect(rc <= 0 || memcmp(data[0], data[1], (size_t)rc) == 0, "what was read");
        break;
    case 5:
        rc = on_file(slot, "pread", __NR_pread64, (u64)data[0], (u64)data[1], n, at);
        expect(rc <= 0 || memcmp(data[0], data[1], (size_t)rc) == 0, "what was read");
        break;
    case 6: {
        static const unsigned whence[] = {SEEK_SET, SEEK_CUR, SEEK_END, 9};
        unsigned w = whence[any(4)];
        s64 off = (s64)at - (any(2) ? 3000 : 0);
        /* Positions of directories are each file system's own business. */
        if (S_ISDIR(st[0].st_mode))
            break;
        (void)on_file(slot, "lseek", __NR_lseek, (u64)off, (u64)off, w, 0);
        break;
    }
    case 7:
        (void)on_file(slot, "ftruncate", __NR_ftruncate, at, at, 0, 0);
        break;
    case 8: {
        static const unsigned modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE};
        u64 mode = modes[any(3)];
        (void)on_file(slot, "fallocate", __NR_fallocate, mode, mode, at % 50000, n);
        break;
    }
    default:
        (void)on_file(slot, "F_GETFL", __NR_fcntl, F_GETFL, F_GETFL, 0, 0);
    }
    rc = host_call3(__NR_fstat, files[slot].host, (long)&st[0], 0);
    expect(rc == CELL(fstat, files[slot].cell, &st[1]), "the result of fstat");
    compare_stat(&st[0], &st[1]);
}

/* Is the entry `e` of the one listing in the other? */
static bool has_entry(const u8 *list, long n, const u8 *e)
{
    for (long at = 0; at < n;) {
        u16 length;
        memcpy(&length, list + at + 16, sizeof(length));
        if (strcmp((const char *)list + at + 19, (const char *)e + 19) == 0 && list[at + 18] == e[18])
            return true;
        at += length;
    }
    return false;
}

static void op_list(const char *path)
{
    long host = host_call4(__NR_openat, AT_FDCWD, (long)path, O_RDONLY | O_DIRECTORY, 0), own, n[2];

    own = CELL(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    expect(host < 0 ? host == own : own >= 0, "opening a directory");
    if (host < 0)
        return;
    n[0] = host_call3(__NR_getdents64, host, (long)dents[0], DENTS);
    n[1] = CELL(getdents64, own, dents[1], DENTS);
    expect(n[0] == n[1], "the length of a listing");
    for (long at = 0; at < n[0];) {
        u16 length;
        memcpy(&length, dents[0] + at + 16, sizeof(length));
        expect(has_entry(dents[1], n[1], dents[0] + at), "an entry of a directory");
        at += length;
    }
    (void)host_call3(__NR_close, host, 0, 0);
    CELL(close, own);
}

/* Extended attributes; the order in which they are listed is each kernel's own. */
static void op_attribute(const char *path, bool follow)
{
    static const char *const names[] = {"user.a", "user.b", "user.longer", "user.", "security.a", "other"};
    const char *name = names[any(any(3) ? 3 : ARRAY_LEN(names))];
    u64 n = any(3) ? any(20) : any(2000);
    u32 flags = any(3) ? 0 : any(4);
    long rc;

    switch (any(4)) {
    case 0:
        data[0][0] = (u8)steps;
        both("setxattr", follow ? __NR_setxattr : __NR_lsetxattr, (u64)path, (u64)name, (u64)data[0], n,
             flags);
        break;
    case 1:
        rc = host_call4(follow ? __NR_getxattr : __NR_lgetxattr, (long)path, (long)name, (long)data[0],
                        (long)n);
        expect(rc ==
                   cell(follow ? __NR_getxattr : __NR_lgetxattr, (u64)path, (u64)name, (u64)data[1], n, 0, 0),
               "the result of getxattr");
        expect(n == 0 || rc < 0 || memcmp(data[0], data[1], (size_t)rc) == 0, "an attribute's value");
        break;
    case 2:
        both("listxattr", follow ? __NR_listxattr : __NR_llistxattr, (u64)path, (u64)data[0], n, 0, 0);
        break;
    default:
        both("removexattr", follow ? __NR_removexattr : __NR_lremovexattr, (u64)path, (u64)name, 0, 0, 0);
    }
}

static void op_utimes(const char *path)
{
    struct __kernel_timespec ts[2] = {{any(1000000), any(1000000000)}, {any(1000000), any(1000000000)}};

    if (any(4) == 0)
        ts[any(2)].tv_nsec = any(2) ? (1L << 30) - 1 : (1L << 30) - 2;
    BOTH(utimensat, AT_FDCWD, path, ts, any(2) ? 0 : AT_SYMLINK_NOFOLLOW);
}

/* Back to where it began, whatever the directories on the way may have become. */
static void go_home(const char *host, const char *own)
{
    char path[256];

    for (int side = 0; side < 2; side++) {
        const char *home = side ? own : host, *s = home + 1;
        long rc = 0;
        for (; *s; s++) {
            if (strncmp(s, "/d", 2) != 0)
                continue;
            text_copy(path, home, (size_t)(s + 2 - home) + 1);
            if (strlen(path) > 9)
                rc = side ? CELL(chmod, path, 0755) : host_call3(__NR_chmod, (long)path, 0755, 0);
            expect(rc == 0, "opening the way home");
        }
        expect((side ? CELL(chdir, home) : host_call3(__NR_chdir, (long)home, 0, 0)) == 0, "going home");
    }
}

static void step(const char *home_host, const char *home_cell)
{
    char a[256], b[256], text[600];
    u32 what = any(26);
    long rc;

    make_path(a);
    make_path(b);
    (void)text_format(text, sizeof(text), "%u: operation %u, %s, %s", steps, what, a, b);
    note(text);
    switch (what) {
    case 0:
    case 1:
        BOTH(mkdir, a, any(6) ? 0755 : any(01000));
        break;
    case 2:
        BOTH(rmdir, a);
        break;
    case 3:
        BOTH(unlink, a);
        break;
    case 4:
        BOTH(unlinkat, AT_FDCWD, a, any(2) ? AT_REMOVEDIR : 0);
        break;
    case 5:
    case 6:
        BOTH(rename, a, b);
        break;
    case 7:
        BOTH(renameat2, AT_FDCWD, a, AT_FDCWD, b, any(4));
        break;
    case 8:
        BOTH(link, a, b);
        break;
    case 9:
        BOTH(symlink, a, b);
        break;
    case 10:
        rc = host_call3(__NR_readlink, (long)a, (long)data[0], 100);
        expect(rc == CELL(readlink, a, data[1], 100), "the result of readlink");
        expect(rc <= 0 || memcmp(data[0], data[1], (size_t)rc) == 0, "what a link says");
        break;
    case 11:
        op_stat(a, any(2));
        break;
    case 12:
        BOTH(truncate, a, any(100000));
        break;
    case 13:
        BOTH(chmod, a, any(3) ? any(010000) & 01777 : 0755);
        break;
    case 14:
        BOTH(access, a, any(9));
        break;
    case 15:
        BOTH(mknod, a, any(8) ? S_IFIFO | 0644 : any(0200000) & ~06000U, 0x105);
        break;
    case 16:
        op_list(a);
        break;
    case 17:
        op_utimes(a);
        break;
    case 18:
        BOTH(linkat, AT_FDCWD, a, AT_FDCWD, b, any(2) ? AT_SYMLINK_FOLLOW : 0);
        break;
    case 19:
        if (any(4) == 0)
            BOTH(chdir, a);
        if (any(4) == 0) {
            go_home(home_host, home_cell);
        }
        break;
    case 20:
        op_open(a);
        break;
    case 21:
    case 22:
        op_attribute(a, any(2));
        break;
    default:
        op_file();
    }
}

static void calls_do_what_they_do_on_the_host(void **state)
{
    char host[256], own[64], base[64];
    size_t n;
    u32 end = STEPS;

    (void)state;
    /* As deep as paths could climb. */
    n = text_format(host, sizeof(host), "%s", hosted_directory());
    text_copy(base, "/tmp/x", sizeof(base));
    assert_int_equal(CELL(mkdir, base, 0755), 0);
    for (int i = 0; i < 12; i++) {
        n += text_format(host + n, sizeof(host) - n, "/d");
        assert_int_equal(host_call3(__NR_mkdir, (long)host, 0755, 0), 0);
        text_copy(own, base, sizeof(own));
        (void)text_format(base, sizeof(base), "%s/d", own);
        assert_int_equal(CELL(mkdir, base, 0755), 0);
    }
    assert_int_equal(host_call3(__NR_chdir, (long)host, 0, 0), 0);
    assert_int_equal(CELL(chdir, base), 0);
    for (int i = 0; i < FILES; i++)
        files[i].host = files[i].cell = -1;
    hosted_environment(&seed, &end);
    for (steps = 0; steps < end; steps++)
        step(host, base);
    for (int i = 0; i < FILES; i++)
        if (files[i].host >= 0) {
            (void)host_call3(__NR_close, files[i].host, 0, 0);
            CELL(close, files[i].cell);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(calls_do_what_they_do_on_the_host)};
    uint64_t size = image_make(image_nothing);

    memory_make(256 << 20);
    hosted_boot(size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
