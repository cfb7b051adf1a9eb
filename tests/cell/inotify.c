/* inotify: what is told to whom, in which order, and what is refused. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include <stdarg.h>
#include "show.h"

#ifndef TOP
#define TOP "/tmp/watched"
#endif

static const struct {
    unsigned bit;
    const char *name;
} bits[] = {
    {IN_ACCESS, "ACCESS"},
    {IN_MODIFY, "MODIFY"},
    {IN_ATTRIB, "ATTRIB"},
    {IN_CLOSE_WRITE, "CLOSE_WRITE"},
    {IN_OPEN, "OPEN"},
    {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
    {IN_MOVED_FROM, "MOVED_FROM"},
    {IN_MOVED_TO, "MOVED_TO"},
    {IN_CREATE, "CREATE"},
    {IN_DELETE, "DELETE"},
    {IN_DELETE_SELF, "DEL_SELF"},
    {IN_MOVE_SELF, "MOVE_SELF"},
    {IN_UNMOUNT, "UNMOUNT"},
    {IN_Q_OVERFLOW, "OVERFLOW"},
    {IN_IGNORED, "IGNORED"},
    {IN_ISDIR, "ISDIR"},
};

/* Appends as far as there is room. */
static __attribute__((format(printf, 4, 5))) void add(char *line, size_t cap, size_t *n, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = vsnprintf(line + *n, cap - *n, fmt, ap);
    va_end(ap);
    *n = rc < 0 ? *n : *n + (size_t)rc < cap ? *n + (size_t)rc : cap - 1;
}

/* All that is in the queue, on one line: "2:CREATE|ISDIR(name)+". A + says that the cookie is that of the
 * event before, a * that there is one of its own. */
static void show_events(const char *what, int fd)
{
    char buf[8192] __attribute__((aligned(8))), line[4096];
    unsigned cookie = 0;
    size_t n = 0;
    long got;

    line[0] = 0;
    while ((got = read(fd, buf, sizeof(buf))) > 0) {
        for (long at = 0; at < got;) {
            const struct inotify_event *e = (const void *)(buf + at);
            const char *between = "";
            if (n < sizeof(line) - 400) {
                add(line, sizeof(line), &n, " %d:", e->wd);
                for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
                    if (e->mask & bits[i].bit) {
                        add(line, sizeof(line), &n, "%s%s", between, bits[i].name);
                        between = "|";
                    }
                if (e->len)
                    add(line, sizeof(line), &n, "(%s/%u)", e->name, e->len);
                if (e->cookie)
                    add(line, sizeof(line), &n, "%s", e->cookie == cookie ? "+" : "*");
            }
            cookie = e->cookie;
            at += (long)(sizeof(*e) + e->len);
        }
    }
    show_text(what, line[0] ? line + 1 : "nothing");
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);

    (void)write(fd, text, strlen(text));
    (void)close(fd);
}

static void test_errors(void)
{
    char buf[300];
    int fd, other, n;

    show("init1 badly", inotify_init1(0x123));
    show_ok("init", fd = inotify_init());
    show("its flags", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
    show("not cloexec", fcntl(fd, F_GETFD));
    (void)close(fd);
    show_ok("init1", fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    show("flags", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
    show("cloexec", fcntl(fd, F_GETFD));
    show("empty", read(fd, buf, sizeof(buf)));
    show("empty, no room", read(fd, buf, 0));
    show("write", write(fd, "x", 1));
    show("pread", pread(fd, buf, sizeof(buf), 0));
    show("no mask", inotify_add_watch(fd, TOP, 0));
    show("unknown bit", inotify_add_watch(fd, TOP, IN_OPEN | 0x08000000));
    show("kernel's bits alone", inotify_add_watch(fd, "/tmp/none", IN_ISDIR));
    show("no file", inotify_add_watch(fd, "/tmp/none", IN_OPEN));
    show("empty path", inotify_add_watch(fd, "", IN_OPEN));
    show("null", syscall(SYS_inotify_add_watch, fd, 1, IN_OPEN));
    show("not open", inotify_add_watch(99, TOP, IN_OPEN));
    show("not open, no mask", inotify_add_watch(99, TOP, 0));
    show("below a file", inotify_add_watch(fd, TOP "/file/x", IN_OPEN));
    show("only a directory", inotify_add_watch(fd, TOP "/file", IN_OPEN | IN_ONLYDIR));
    show("a loop", inotify_add_watch(fd, TOP "/loop", IN_OPEN));
    show("no permission", inotify_add_watch(fd, TOP "/secret", IN_OPEN));
    show("add and create", inotify_add_watch(fd, TOP, IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
    show("add and create, not open", inotify_add_watch(99, TOP, IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
    other = open("/dev/null", O_RDWR);
    show("no instance", inotify_add_watch(other, TOP, IN_OPEN));
    show("remove from none", inotify_rm_watch(other, 1));
    show("remove not open", inotify_rm_watch(99, 1));
    show("remove unknown", inotify_rm_watch(fd, 1));
    (void)close(other);
    show("first", inotify_add_watch(fd, TOP, IN_OPEN));
    show("the same again", inotify_add_watch(fd, TOP "/.", IN_OPEN));
    show("create one that is there", inotify_add_watch(fd, TOP, IN_OPEN | IN_MASK_CREATE));
    show("second", inotify_add_watch(fd, TOP "/file", IN_OPEN | IN_MASK_CREATE));
    show("through a link", inotify_add_watch(fd, TOP "/link", IN_OPEN));
    show("the link itself", inotify_add_watch(fd, TOP "/link", IN_OPEN | IN_DONT_FOLLOW));
    show("remove", inotify_rm_watch(fd, 2));
    show("remove again", inotify_rm_watch(fd, 2));
    show("remove badly", inotify_rm_watch(fd, -1));
    show("numbers are not used again", inotify_add_watch(fd, TOP "/file", IN_OPEN));
    show("only oneshot", inotify_add_watch(fd, TOP "/dir", IN_ONESHOT));
    show("FIONREAD", (ioctl(fd, FIONREAD, &n), n));
    show("FIONREAD badly", ioctl(fd, FIONREAD, 1));
    show("another ioctl", ioctl(fd, 0x5401, buf));
    show("no room", read(fd, buf, 15));
    show("bad buffer", read(fd, (void *)1, 100));
    show_events("gone with the bad buffer", fd);
    (void)close(fd);
}

static void test_waiting(void)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 7};
    int fd = inotify_init(), e = epoll_create1(0);
    struct pollfd p = {fd, POLLIN | POLLOUT, 0};
    char buf[4096];

    show("watch", inotify_add_watch(fd, TOP, IN_CREATE | IN_DELETE));
    show("poll", poll(&p, 1, 0));
    show("epoll add", epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev));
    show("epoll", epoll_wait(e, &ev, 1, 0));
    if (fork() == 0) {
        (void)usleep(50000);
        _exit(mkdir(TOP "/made", 0700));
    }
    show("epoll waits", epoll_wait(e, &ev, 1, 5000));
    show("poll", poll(&p, 1, 5000));
    show("revents", p.revents);
    show("read", read(fd, buf, sizeof(buf)));
    show("epoll after", epoll_wait(e, &ev, 1, 0));
    (void)wait(NULL);
    if (fork() == 0) {
        (void)usleep(50000);
        _exit(rmdir(TOP "/made"));
    }
    show("read waits", read(fd, buf, sizeof(buf)));
    (void)wait(NULL);
    (void)alarm(0);
    (void)close(fd);
    (void)close(e);
}

static void test_files(int fd)
{
    struct timespec both[2] = {{1, 0}, {2, 0}}, first[2] = {{3, 0}, {0, UTIME_OMIT}},
                    second[2] = {{0, UTIME_OMIT}, {4, 0}}, none[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    struct iovec v[2] = {{"ab", 2}, {"cd", 2}};
    char buf[64];
    int f, g, fds[2];

    show("watch the directory", inotify_add_watch(fd, TOP "/dir", IN_ALL_EVENTS));
    f = open(TOP "/dir/new", O_RDWR | O_CREAT | O_EXCL, 0644);
    show_events("create", fd);
    show("watch the file", inotify_add_watch(fd, TOP "/dir/new", IN_ALL_EVENTS));
    (void)write(f, "123456", 6);
    show_events("write", fd);
    (void)write(f, "123456", 6);
    (void)write(f, "123456", 6);
    show_events("write twice", fd);
    (void)write(f, "", 0);
    show_events("write nothing", fd);
    (void)writev(f, v, 2);
    show_events("writev", fd);
    (void)read(f, buf, 6);
    show_events("read at the end", fd);
    v[0].iov_base = v[1].iov_base = buf;
    (void)readv(f, v, 2);
    show_events("readv at the end", fd);
    (void)pread(f, buf, 6, 0);
    show_events("pread", fd);
    (void)ftruncate(f, 3);
    show_events("ftruncate", fd);
    (void)truncate(TOP "/dir/new", 3);
    show_events("truncate", fd);
    (void)fallocate(f, 0, 0, 100);
    show_events("fallocate", fd);
    (void)fchmod(f, 0600);
    show_events("fchmod", fd);
    (void)chmod(TOP "/dir/new", 0644);
    show_events("chmod", fd);
    (void)chown(TOP "/dir/new", getuid(), getgid());
    show_events("chown", fd);
    (void)chown(TOP "/dir/new", -1, -1);
    show_events("chown nothing", fd);
    (void)futimens(f, both);
    show_events("both times", fd);
    (void)utimensat(AT_FDCWD, TOP "/dir/new", first, 0);
    show_events("atime", fd);
    (void)utimensat(AT_FDCWD, TOP "/dir/new", second, 0);
    show_events("mtime", fd);
    (void)futimens(f, none);
    show_events("no time", fd);
    (void)lseek(f, 0, SEEK_SET);
    g = open(TOP "/dir/copy", O_RDWR | O_CREAT, 0644);
    show_events("another", fd);
    (void)sendfile(g, f, NULL, 10);
    show_events("sendfile", fd);
    (void)copy_file_range(f, NULL, g, NULL, 10, 0);
    show_events("copy_file_range", fd);
    (void)pipe(fds);
    (void)splice(f, &(off_t){0}, fds[1], NULL, 10, 0);
    show_events("splice out", fd);
    (void)splice(fds[0], NULL, g, NULL, 10, 0);
    show_events("splice in", fd);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(g);
    show_events("close the other", fd);
    (void)close(f);
    show_events("close", fd);
    f = open(TOP "/dir/new", O_RDONLY);
    g = dup(f);
    (void)close(f);
    show_events("open, dup, close", fd);
    (void)close(g);
    show_events("close the last", fd);
    f = open(TOP "/dir/new", O_PATH);
    (void)close(f);
    show_events("O_PATH", fd);
    (void)open(TOP "/dir/new", O_RDONLY | O_DIRECTORY);
    show_events("failed", fd);
    (void)stat(TOP "/dir/new", &(struct stat){0});
    (void)access(TOP "/dir/new", R_OK);
    show_events("stat, access", fd);
    f = open(TOP "/dir/new", O_WRONLY | O_TRUNC);
    show_events("O_TRUNC", fd);
    (void)close(f);
    show_events("close it", fd);
    f = open(TOP "/dir/new", O_RDWR);
    (void)write(f, "123", 3);
    memcpy(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0), "x", 1);
    (void)close(f);
    show_events("mmap", fd);
    (void)link(TOP "/dir/new", TOP "/dir/second");
    show_events("link", fd);
    (void)unlink(TOP "/dir/second");
    show_events("unlink one of two", fd);
    f = open(TOP "/dir/new", O_RDWR);
    (void)unlink(TOP "/dir/new");
    show_events("unlink an open file", fd);
    (void)write(f, "x", 1);
    show_events("write to it", fd);
    (void)close(f);
    show_events("close it", fd);
    (void)unlink(TOP "/dir/copy");
    show_events("unlink", fd);
}

static void test_names(int fd)
{
    char buf[4096];
    int f, s;
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = TOP "/dir/sock"};

    (void)mkdir(TOP "/dir/sub", 0755);
    (void)symlink("nowhere", TOP "/dir/sym");
    (void)mkfifo(TOP "/dir/fifo", 0644);
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)bind(s, (void *)&a, sizeof(a));
    (void)close(s);
    (void)mknod(TOP "/dir/a-name-of-sixteen", S_IFREG | 0644, 0);
    (void)mknod(TOP "/dir/a-name-of-fif15", S_IFREG | 0644, 0);
    (void)mknod(TOP "/dir/fifteen-letters", S_IFREG | 0644, 0);
    (void)mknod(TOP "/dir/fifteenletters", S_IFREG | 0644, 0);
    (void)mknod(TOP "/dir/fifteen-letter", S_IFREG | 0644, 0);
    show_events("made", fd);
    (void)mkdir(TOP "/dir/sub", 0755);
    (void)unlink(TOP "/dir/sub");
    (void)rmdir(TOP "/dir/sym");
    show_events("refused", fd);
    (void)unlink(TOP "/dir/a-name-of-sixteen");
    (void)unlink(TOP "/dir/a-name-of-fif15");
    (void)unlink(TOP "/dir/fifteen-letters");
    (void)unlink(TOP "/dir/fifteenletters");
    (void)unlink(TOP "/dir/fifteen-letter");
    (void)unlink(TOP "/dir/sock");
    (void)unlink(TOP "/dir/sym");
    show_events("removed", fd);
    f = open(TOP "/dir/fifo", O_RDWR | O_NONBLOCK);
    (void)write(f, "123", 3);
    (void)read(f, buf, 3);
    (void)close(f);
    show_events("fifo", fd);
    (void)unlink(TOP "/dir/fifo");
    show("watch below", inotify_add_watch(fd, TOP "/dir/sub", IN_ALL_EVENTS));
    f = open(TOP "/dir/sub", O_RDONLY | O_DIRECTORY);
    show_events("open a directory", fd);
    (void)syscall(SYS_getdents64, f, buf, sizeof(buf));
    show_events("list it", fd);
    (void)syscall(SYS_getdents64, f, buf, sizeof(buf));
    show_events("list its end", fd);
    (void)close(f);
    (void)chmod(TOP "/dir/sub", 0700);
    show_events("close, chmod", fd);
    write_file(TOP "/dir/sub/x", "1");
    show_events("write a file below", fd);
    (void)rename(TOP "/dir/sub/x", TOP "/dir/sub/y");
    show_events("rename", fd);
    (void)rename(TOP "/dir/sub/y", TOP "/dir/y");
    show_events("to another directory", fd);
    (void)rename(TOP "/dir/y", TOP "/y");
    show_events("out", fd);
    (void)rename(TOP "/y", TOP "/dir/y");
    show_events("in", fd);
    write_file(TOP "/dir/z", "1");
    show_events("z", fd);
    show("watch y", inotify_add_watch(fd, TOP "/dir/y", IN_ALL_EVENTS));
    show("watch z", inotify_add_watch(fd, TOP "/dir/z", IN_ALL_EVENTS));
    (void)renameat2(AT_FDCWD, TOP "/dir/y", AT_FDCWD, TOP "/dir/z", RENAME_EXCHANGE);
    show_events("exchange", fd);
    (void)renameat2(AT_FDCWD, TOP "/dir/y", AT_FDCWD, TOP "/dir/z", RENAME_NOREPLACE);
    show_events("refused", fd);
    (void)rename(TOP "/dir/y", TOP "/dir/z");
    show_events("replace", fd);
    (void)chmod(TOP "/dir/z", 0600);
    show_events("chmod what replaced", fd);
    (void)rename(TOP "/dir/sub", TOP "/dir/moved");
    show_events("rename a directory", fd);
    write_file(TOP "/dir/moved/x", "1");
    show_events("in it", fd);
    (void)unlink(TOP "/dir/moved/x");
    (void)rmdir(TOP "/dir/moved");
    show_events("remove it", fd);
    (void)unlink(TOP "/dir/z");
    show_events("remove z", fd);
    show("its watch went too", inotify_rm_watch(fd, 5));
    (void)rename(TOP "/dir", TOP "/dir2");
    show_events("rename the top", fd);
    (void)rename(TOP "/dir2", TOP "/dir");
    (void)mkdir(TOP "/dir/empty", 0755);
    (void)mkdir(TOP "/dir/empty2", 0755);
    show("watch empty2", inotify_add_watch(fd, TOP "/dir/empty2", IN_ALL_EVENTS));
    (void)rename(TOP "/dir/empty", TOP "/dir/empty2");
    show_events("replace a directory", fd);
    (void)rmdir(TOP "/dir/empty2");
    show_events("and remove it", fd);
}

static void test_flags(int fd)
{
    int f, wd;

    write_file(TOP "/dir/file", "1");
    wd = inotify_add_watch(fd, TOP "/dir/file", IN_OPEN | IN_CLOSE_NOWRITE | IN_ONESHOT);
    show("oneshot", wd);
    (void)close(open(TOP "/dir/file", O_RDONLY));
    show_events("once", fd);
    show("is gone", inotify_rm_watch(fd, wd));
    wd = inotify_add_watch(fd, TOP "/dir/file", IN_OPEN);
    show("add more", inotify_add_watch(fd, TOP "/dir/file", IN_CLOSE_NOWRITE | IN_MASK_ADD) - wd);
    (void)close(open(TOP "/dir/file", O_RDONLY));
    show_events("both", fd);
    show("replace", inotify_add_watch(fd, TOP "/dir/file", IN_CLOSE_NOWRITE) - wd);
    (void)close(open(TOP "/dir/file", O_RDONLY));
    show_events("only the second", fd);
    show("remove", inotify_rm_watch(fd, wd));
    show_events("ignored", fd);
    show_ok("excl", wd = inotify_add_watch(fd, TOP "/dir", IN_ALL_EVENTS | IN_EXCL_UNLINK));
    f = open(TOP "/dir/file", O_RDWR);
    (void)unlink(TOP "/dir/file");
    (void)write(f, "1", 1);
    (void)close(f);
    show_events("not after the unlink", fd);
    write_file(TOP "/dir/file", "1");
    show_events("but before", fd);
    f = open(TOP "/dir/file", O_RDWR);
    show("through a descriptor", inotify_add_watch(fd, "/proc/self/fd/99", IN_OPEN));
    {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f);
        show_ok("through a descriptor", inotify_add_watch(fd, path, IN_OPEN));
    }
    (void)unlink(TOP "/dir/file");
    (void)close(f);
    show_events("seen", fd);
    show_ok("in the image", inotify_add_watch(fd, "/etc", IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE));
    (void)close(open("/etc/passwd", O_RDONLY));
    show_events("read there", fd);
    show_ok("a device", inotify_add_watch(fd, "/dev/null", IN_OPEN | IN_MODIFY | IN_CLOSE));
    f = open("/dev/null", O_WRONLY);
    (void)write(f, "1", 1);
    (void)close(f);
    show_events("written to", fd);
    show_ok("proc", inotify_add_watch(fd, "/proc/self", IN_CREATE));
}

/* Two instances see the same; one that is closed sees nothing. */
static void test_several(void)
{
    int a = inotify_init1(IN_NONBLOCK), b = inotify_init1(IN_NONBLOCK), c = inotify_init1(IN_NONBLOCK), n;
    char buf[64];

    (void)inotify_add_watch(a, TOP "/dir", IN_CREATE | IN_DELETE);
    (void)inotify_add_watch(b, TOP "/dir", IN_CREATE);
    (void)inotify_add_watch(c, TOP "/dir", IN_CREATE);
    (void)close(c);
    if (fork() == 0) {
        write_file(TOP "/dir/child", "1");
        (void)unlink(TOP "/dir/child");
        _exit(0);
    }
    (void)wait(NULL);
    show("FIONREAD", (ioctl(a, FIONREAD, &n), n));
    show("one event", read(a, buf, 63));
    show("the other", read(a, buf, 63));
    show("no more", read(a, buf, 63));
    show_events("b", b);
    (void)close(a);
    (void)close(b);
    for (n = 0; n < 200 && (a = inotify_init()) >= 0; n++)
        ;
    show("too many", a);
    (void)closefrom(3);
}

static void test_overflow(void)
{
    int fd = inotify_init1(IN_NONBLOCK), f, n, events = 0, overflows = 0;
    char buf[65536] __attribute__((aligned(8)));
    long got;

    (void)inotify_add_watch(fd, TOP "/dir", IN_MODIFY | IN_ATTRIB | IN_CREATE);
    f = open(TOP "/dir/file", O_RDWR | O_CREAT, 0644);
    for (int i = 0; i < 10000; i++) {
        (void)write(f, "1", 1);
        (void)fchmod(f, 0600);
    }
    show("FIONREAD", (ioctl(fd, FIONREAD, &n), n));
    while ((got = read(fd, buf, sizeof(buf))) > 0)
        for (long at = 0; at < got;) {
            const struct inotify_event *e = (const void *)(buf + at);
            events++;
            if (e->mask & IN_Q_OVERFLOW) {
                overflows++;
                show("its number is -1", e->wd == -1);
                show("its length", e->len);
            }
            at += (long)(sizeof(*e) + e->len);
        }
    show("events", events);
    show("overflows", overflows);
    (void)fchmod(f, 0644);
    show_events("goes on", fd);
    (void)close(f);
    (void)unlink(TOP "/dir/file");
    (void)close(fd);
}

int main(void)
{
    int fd;

    if (mkdir(TOP, 0755) < 0 || mkdir(TOP "/dir", 0755) < 0)
        return 1;
    write_file(TOP "/file", "text");
    write_file(TOP "/secret", "text");
    (void)chmod(TOP "/secret", 0);
    (void)symlink("loop", TOP "/loop");
    (void)symlink("file", TOP "/link");
    test_errors();
    test_waiting();
    fd = inotify_init1(IN_NONBLOCK);
    test_files(fd);
    (void)close(fd);
    fd = inotify_init1(IN_NONBLOCK);
    show("watch", inotify_add_watch(fd, TOP "/dir", IN_ALL_EVENTS));
    test_names(fd);
    (void)close(fd);
    fd = inotify_init1(IN_NONBLOCK);
    test_flags(fd);
    (void)close(fd);
    test_several();
    test_overflow();
    return 0;
}
