/*
 * /proc, /dev, /sys, and locks between processes.
 */
#include <asm/errno.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/fs.h>

#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/devfs.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"
#include "hosted.h"

#include <setjmp.h>
#include <cmocka.h>

static char text[65536];

/* The whole of a file; its length. */
static long slurp(const char *path)
{
    long fd = CELL(open, path, O_RDONLY), n, total = 0;

    if (fd < 0)
        return fd;
    while ((n = CELL(read, fd, text + total, 100)) > 0)
        total += n;
    text[total] = 0;
    CELL(close, fd);
    return n < 0 ? n : total;
}

static bool contains(const char *what)
{
    size_t n = strlen(what);

    for (const char *s = text; *s; s++)
        if (strncmp(s, what, n) == 0)
            return true;
    return false;
}

static void files_about_the_cell_can_be_read(void **state)
{
    static const struct {
        const char *path, *has;
    } cases[] = {
        {"/proc/meminfo", "MemTotal:"},
        {"/proc/cpuinfo", "processor\t: 1\n"},
        {"/proc/stat", "cpu1 "},
        {"/proc/uptime", "."},
        {"/proc/loadavg", "0.00 0.00 0.00"},
        {"/proc/version", "Linux version " CELL_RELEASE},
        {"/proc/filesystems", "tmpfs"},
        {"/proc/mounts", "tmpfs /tmp tmpfs rw"},
        {"/proc/self/mountinfo", " / / ro"},
        {"/proc/net/dev", "lo:"},
        {"/proc/sys/kernel/hostname", "cell\n"},
        {"/proc/sys/kernel/osrelease", CELL_RELEASE},
        {"/proc/sys/vm/overcommit_memory", "0\n"},
        {"/proc/sys/kernel/random/boot_id", "-4"},
        {"/sys/devices/system/cpu/online", "0-1\n"},
        {"/sys/kernel/mm/transparent_hugepage/enabled", "madvise"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (slurp(cases[i].path) <= 0 || !contains(cases[i].has))
            fail_msg("%s does not have \"%s\": %s", cases[i].path, cases[i].has, text);
}

static void files_about_a_process_can_be_read(void **state)
{
    static const char *const names[] = {"stat",   "status", "statm",  "comm", "maps",  "environ",
                                        "mounts", "limits", "cgroup", "io",   "wchan", "oom_score_adj"};
    char path[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)text_format(path, sizeof(path), "/proc/self/%s", names[i]);
        assert_true(slurp(path) >= 0);
        (void)text_format(path, sizeof(path), "/proc/self/task/%d/%s", current_process->pid, names[i]);
        assert_true(slurp(path) >= 0);
    }
    assert_true(slurp("/proc/self/limits") > 0);
    assert_true(contains("Max open files            1024                 4096                 files"));
    assert_true(slurp("/proc/self/status") > 0);
    assert_true(contains("Name:\ttest\n"));
    assert_true(contains("Uid:\t1000\t1000\t1000\t1000\n"));
    assert_int_equal(slurp("/proc/self/none"), -ENOENT);
    assert_int_equal(slurp("/proc/99999/stat"), -ENOENT);
    assert_int_equal(slurp("/proc/01/stat"), -ENOENT);
}

static void links_of_a_process_lead_where_they_say(void **state)
{
    char target[64];
    struct stat st, other;
    long fd, n;

    (void)state;
    n = CELL(readlink, "/proc/self", target, sizeof(target));
    assert_int_equal(n, text_format(text, sizeof(text), "%d", current_process->pid));
    assert_memory_equal(target, text, (size_t)n);
    assert_int_equal(CELL(chdir, "/tmp"), 0);
    assert_int_equal(CELL(readlink, "/proc/self/cwd", target, sizeof(target)), 4);
    assert_memory_equal(target, "/tmp", 4);
    assert_int_equal(CELL(stat, "/proc/self/cwd", &st), 0);
    assert_int_equal(CELL(stat, "/tmp", &other), 0);
    assert_true(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    assert_int_equal(CELL(chdir, "/"), 0);
    fd = CELL(open, "/tmp/file", O_RDWR | O_CREAT, 0644);
    assert_int_equal(CELL(write, fd, "content", 7), 7);
    assert_int_equal(CELL(unlink, "/tmp/file"), 0);
    (void)text_format(text, sizeof(text), "/dev/fd/%ld", fd);
    assert_int_equal(CELL(readlink, text, target, sizeof(target)), 19);
    assert_memory_equal(target, "/tmp/file (deleted)", 19);
    assert_int_equal(slurp(text), 7);
    assert_string_equal(text, "content");
    CELL(close, fd);
    assert_int_equal(CELL(readlink, "/proc/self/exe", target, sizeof(target)), -ENOENT);
    assert_int_equal(CELL(open, "/proc/self/root/tmp", O_RDONLY | O_DIRECTORY), fd);
    CELL(close, fd);
}

static void directories_of_proc_can_be_listed(void **state)
{
    long fd = CELL(open, "/proc/self/fd", O_RDONLY | O_DIRECTORY), n;
    int count = 0;

    (void)state;
    assert_true(fd >= 0);
    while ((n = CELL(getdents64, fd, text, 48)) > 0)
        count += (int)n / 24;
    assert_int_equal(n, 0);
    assert_int_equal(count, 3); /* ".", "..", itself */
    CELL(close, fd);
    fd = CELL(open, "/proc", O_RDONLY | O_DIRECTORY);
    n = CELL(getdents64, fd, text, sizeof(text));
    assert_true(n > 500);
    CELL(close, fd);
    assert_int_equal(CELL(open, "/proc/new", O_CREAT | O_WRONLY, 0644), -EACCES);
    assert_int_equal(CELL(mkdir, "/proc/self/new", 0755), -EACCES);
    assert_int_equal(CELL(unlink, "/proc/self/stat"), -EACCES);
}

static void a_process_can_be_renamed(void **state)
{
    long fd = CELL(open, "/proc/self/comm", O_WRONLY);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(CELL(write, fd, "a-name-that-is-much-too-long\n", 29), 29);
    CELL(close, fd);
    assert_int_equal(slurp("/proc/self/comm"), 16);
    assert_string_equal(text, "a-name-that-is-\n");
    assert_int_equal(CELL(open, "/proc/self/stat", O_WRONLY), -EACCES);
    fd = CELL(open, "/proc/self/oom_score_adj", O_WRONLY);
    assert_int_equal(CELL(write, fd, "500", 3), 3);
    CELL(close, fd);
}

static void a_process_that_ended_is_gone(void **state)
{
    struct process *p = hosted_fork();
    char path[64];
    long dir, fd;

    (void)state;
    (void)text_format(path, sizeof(path), "/proc/%d", p->pid);
    dir = CELL(open, path, O_RDONLY | O_DIRECTORY);
    assert_true(dir >= 0);
    fd = CELL(openat, dir, "status", O_RDONLY);
    assert_true(fd >= 0);
    assert_true(CELL(read, fd, text, 100) > 0);
    hosted_exit(p);
    assert_int_equal(CELL(pread64, fd, text, 100, 0), -ESRCH);
    assert_int_equal(CELL(openat, dir, "status", O_RDONLY), -ENOENT);
    assert_int_equal(CELL(getdents64, dir, text, 1000) > 0, 1); /* "." and ".." */
    CELL(close, fd);
    CELL(close, dir);
}

static void devices_do_what_their_manual_says(void **state)
{
    static const char *const names[] = {"/dev/urandom", "/dev/random"};
    struct stat st;
    long fd;

    (void)state;
    fd = CELL(open, "/dev/null", O_RDWR | O_TRUNC | O_CREAT, 0666);
    assert_int_equal(CELL(write, fd, text, 1000), 1000);
    assert_int_equal(CELL(read, fd, text, 1000), 0);
    assert_int_equal(CELL(fstat, fd, &st), 0);
    assert_int_equal(st.st_rdev, 0x103);
    assert_int_equal(st.st_mode, S_IFCHR | 0666);
    assert_int_equal(CELL(fsync, fd), -EINVAL);
    CELL(close, fd);
    fd = CELL(open, "/dev/zero", O_RDWR);
    memset(text, 1, 100);
    assert_int_equal(CELL(read, fd, text, 100), 100);
    assert_int_equal(text[99], 0);
    CELL(close, fd);
    fd = CELL(open, "/dev/full", O_RDWR);
    assert_int_equal(CELL(write, fd, text, 1), -ENOSPC);
    assert_int_equal(CELL(read, fd, text, 1), 1);
    CELL(close, fd);
    for (size_t i = 0; i < 2; i++) {
        fd = CELL(open, names[i], O_RDONLY);
        memset(text, 0, 600);
        assert_int_equal(CELL(read, fd, text, 600), 600);
        assert_true(text[0] | text[1] | text[2] | text[3] | text[590] | text[591] | text[592] | text[593]);
        CELL(close, fd);
    }
    assert_int_equal(CELL(open, "/dev/tty", O_RDWR), -ENXIO);
    assert_int_equal(CELL(open, "/dev/pts/0", O_RDWR), -ENOENT);
    assert_int_equal(CELL(open, "/dev/new", O_RDWR | O_CREAT, 0644), -EACCES);
    assert_int_equal(CELL(unlink, "/dev/null"), -EACCES);
    fd = CELL(open, "/dev/shm/x", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    CELL(close, fd);
    assert_int_equal(CELL(unlink, "/dev/shm/x"), 0);
}

/* ---- locks */

static long set_lock(long fd, int cmd, short type, long start, long len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    return CELL(fcntl, fd, cmd, &l);
}

static struct flock conflict(long fd, short type, long start, long len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

    assert_int_equal(CELL(fcntl, fd, F_GETLK, &l), 0);
    return l;
}

static void record_locks_belong_to_processes(void **state)
{
    long fd = CELL(open, "/tmp/locked", O_RDWR | O_CREAT, 0644), other;
    struct process *p;
    struct flock l;

    (void)state;
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 0, 100), 0);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 50, 100), 0); /* one's own never conflict */
    p = hosted_fork();
    hosted_switch(p);
    assert_int_equal(set_lock(fd, F_SETLK, F_RDLCK, 120, 1), -EAGAIN);
    assert_int_equal(set_lock(fd, F_SETLK, F_RDLCK, 150, 0), 0);
    l = conflict(fd, F_RDLCK, 20, 0);
    assert_int_equal(l.l_type, F_WRLCK);
    assert_int_equal(l.l_start, 0);
    assert_int_equal(l.l_len, 150);
    hosted_switch(NULL);
    /* Unlocking the middle leaves two. */
    assert_int_equal(set_lock(fd, F_SETLK, F_UNLCK, 50, 10), 0);
    hosted_switch(p);
    assert_int_equal(conflict(fd, F_WRLCK, 50, 10).l_type, F_UNLCK);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 50, 10), 0);
    assert_int_equal(conflict(fd, F_WRLCK, 60, 1).l_start, 60);
    hosted_switch(NULL);
    l = conflict(fd, F_WRLCK, 200, 1);
    assert_int_equal(l.l_type, F_RDLCK);
    assert_int_equal(l.l_len, 0);
    /* Waiting for each other. */
    assert_int_equal(set_lock(fd, F_SETLKW, F_WRLCK, 55, 1), -ERESTARTSYS);
    (void)hosted_signal();
    /* Closing any descriptor of the file gives the process's locks up. */
    other = CELL(open, "/tmp/locked", O_RDONLY);
    CELL(close, other);
    hosted_switch(p);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), 0);
    hosted_exit(p);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), 0);
    assert_int_equal(set_lock(fd, F_SETLK, 99, 0, 0), -EINVAL);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, -1, 0), -EINVAL);
    CELL(close, fd);
    fd = CELL(open, "/tmp/locked", O_RDONLY);
    assert_int_equal(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), -EBADF);
    CELL(close, fd);
}

static void file_locks_belong_to_open_files(void **state)
{
    long a = CELL(open, "/tmp/locked", O_RDWR), b = CELL(open, "/tmp/locked", O_RDWR), c = CELL(dup, a);

    (void)state;
    assert_int_equal(CELL(flock, a, 2), 0);
    assert_int_equal(CELL(flock, b, 1 | 4), -EAGAIN);
    assert_int_equal(CELL(flock, c, 1 | 4), 0); /* the same file: a conversion */
    assert_int_equal(CELL(flock, b, 1 | 4), 0);
    assert_int_equal(CELL(flock, b, 2 | 4), -EAGAIN);
    CELL(close, a);
    assert_int_equal(CELL(flock, b, 2 | 4), -EAGAIN);
    CELL(close, c);
    assert_int_equal(CELL(flock, b, 2 | 4), 0);
    assert_int_equal(CELL(flock, b, 16), -EINVAL);
    a = CELL(open, "/tmp/locked", O_RDWR);
    assert_int_equal(set_lock(a, F_OFD_SETLK, F_WRLCK, 0, 10), 0);
    assert_int_equal(set_lock(b, F_OFD_SETLK, F_WRLCK, 5, 10), -EAGAIN);
    assert_int_equal(set_lock(b, F_OFD_SETLK, F_WRLCK, 10, 10), 0);
    CELL(close, a);
    CELL(close, b);
    CELL(unlink, "/tmp/locked");
}

static void a_socket_has_a_name(void **state)
{
    struct inode *i;
    void *found;
    int mine;

    (void)state;
    assert_int_equal(fs_bind_socket("/tmp/my.sock", 0755, &mine, &i), 0);
    assert_int_equal(fs_bind_socket("/tmp/my.sock", 0755, &mine, &i), -EADDRINUSE);
    assert_int_equal(fs_find_socket("/tmp/my.sock", &found), 0);
    assert_ptr_equal(found, &mine);
    assert_int_equal(CELL(open, "/tmp/my.sock", O_RDWR), -ENXIO);
    i->socket = NULL;
    inode_put(i);
    assert_int_equal(fs_find_socket("/tmp/my.sock", &found), -ECONNREFUSED);
    assert_int_equal(CELL(unlink, "/tmp/my.sock"), 0);
    assert_int_equal(fs_find_socket("/tmp/my.sock", &found), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_about_the_cell_can_be_read),
        cmocka_unit_test(files_about_a_process_can_be_read),
        cmocka_unit_test(links_of_a_process_lead_where_they_say),
        cmocka_unit_test(directories_of_proc_can_be_listed),
        cmocka_unit_test(a_process_can_be_renamed),
        cmocka_unit_test(a_process_that_ended_is_gone),
        cmocka_unit_test(devices_do_what_their_manual_says),
        cmocka_unit_test(record_locks_belong_to_processes),
        cmocka_unit_test(file_locks_belong_to_open_files),
        cmocka_unit_test(a_socket_has_a_name),
    };
    uint64_t size = image_make(image_nothing);

    memory_make(64 << 20);
    hosted_boot(size);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
