/* Extended attributes: of files in memory, of other kinds, in each name space, up to every limit. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "show.h"

static char value[65537 + 1], names[70000];

static void get(const char *what, const char *path, const char *name)
{
    char buf[100];
    long n = getxattr(path, name, buf, sizeof(buf) - 1);

    if (n < 0) {
        show(what, n);
        return;
    }
    buf[n] = 0;
    show_text(what, buf);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted: each version of Linux has another order. */
static void list(const char *what, const char *path)
{
    char buf[1000], *sorted[50];
    long n = listxattr(path, buf, sizeof(buf));
    size_t count = 0;

    show(what, n);
    for (char *s = buf; n > 0 && s < buf + n && count < 50; s += strlen(s) + 1)
        sorted[count++] = s;
    qsort(sorted, count, sizeof(*sorted), compare);
    for (size_t i = 0; i < count; i++)
        show_text(" ", sorted[i]);
}

static void make(const char *path, int mode)
{
    (void)unlink(path);
    (void)close(open(path, O_RDWR | O_CREAT | O_TRUNC, mode));
}

static void test_values(void)
{
    char buf[100] = "untouched";

    make("/tmp/x", 0600);
    list("none", "/tmp/x");
    show("get none", getxattr("/tmp/x", "user.a", buf, 10));
    show("remove none", removexattr("/tmp/x", "user.a"));
    show("set", setxattr("/tmp/x", "user.a", "one", 3, 0));
    get("is", "/tmp/x", "user.a");
    show("size", getxattr("/tmp/x", "user.a", NULL, 0));
    show("too small", getxattr("/tmp/x", "user.a", buf, 2));
    show_text("buffer", buf);
    show("just fits", getxattr("/tmp/x", "user.a", buf, 3));
    show("set again", setxattr("/tmp/x", "user.a", "longer than before", 18, 0));
    get("is", "/tmp/x", "user.a");
    show("create", setxattr("/tmp/x", "user.a", "x", 1, XATTR_CREATE));
    show("replace", setxattr("/tmp/x", "user.a", "two", 3, XATTR_REPLACE));
    get("is", "/tmp/x", "user.a");
    show("replace none", setxattr("/tmp/x", "user.b", "x", 1, XATTR_REPLACE));
    show("create none", setxattr("/tmp/x", "user.b", "y", 1, XATTR_CREATE));
    show("both flags", setxattr("/tmp/x", "user.b", "y", 1, XATTR_CREATE | XATTR_REPLACE));
    show("both flags, none", setxattr("/tmp/x", "user.c", "y", 1, XATTR_CREATE | XATTR_REPLACE));
    show("bad flags", setxattr("/tmp/x", "user.c", "y", 1, 4));
    show("empty", setxattr("/tmp/x", "user.empty", "", 0, 0));
    show("empty is", getxattr("/tmp/x", "user.empty", buf, 10));
    show("no value", setxattr("/tmp/x", "user.null", NULL, 0, 0));
    show("no value is", getxattr("/tmp/x", "user.null", NULL, 10));
    show("bytes", setxattr("/tmp/x", "user.bytes", "a\0b\0", 4, 0));
    show("bytes are", getxattr("/tmp/x", "user.bytes", buf, 10));
    show("as set", memcmp(buf, "a\0b\0", 4));
    show("other case", getxattr("/tmp/x", "user.A", buf, 10));
    list("names", "/tmp/x");
    show("names' size", listxattr("/tmp/x", NULL, 0));
    show("names, too small", listxattr("/tmp/x", buf, 10));
    show("remove", removexattr("/tmp/x", "user.bytes"));
    show("remove again", removexattr("/tmp/x", "user.bytes"));
    list("names", "/tmp/x");
}

static void test_ways(void)
{
    int fd, path;

    make("/tmp/x", 0600);
    (void)unlink("/tmp/link");
    (void)symlink("x", "/tmp/link");
    fd = open("/tmp/x", O_RDONLY);
    path = open("/tmp/x", O_PATH);
    show("by descriptor", fsetxattr(fd, "user.fd", "f", 1, 0));
    show("through a link", setxattr("/tmp/link", "user.link", "l", 1, 0));
    show("not through it", lsetxattr("/tmp/x", "user.self", "s", 1, 0));
    list("all", "/tmp/link");
    show("flistxattr", flistxattr(fd, NULL, 0));
    show("fgetxattr", fgetxattr(fd, "user.link", names, 10));
    show("lgetxattr", lgetxattr("/tmp/x", "user.link", names, 10));
    show("fremovexattr", fremovexattr(fd, "user.link"));
    show("lremovexattr", lremovexattr("/tmp/x", "user.self"));
    list("left", "/tmp/x");
    show("O_PATH set", fsetxattr(path, "user.p", "p", 1, 0));
    show("O_PATH get", fgetxattr(path, "user.fd", names, 10));
    show("O_PATH list", flistxattr(path, names, 10));
    show("O_PATH remove", fremovexattr(path, "user.fd"));
    show("not open", fsetxattr(99, "user.p", "p", 1, 0));
    show("no file", setxattr("/tmp/none", "user.p", "p", 1, 0));
    show("no directory", getxattr("/tmp/none/x", "user.p", names, 1));
    show("through a file", listxattr("/tmp/x/y", names, 1));
    show("no path", setxattr("", "user.p", "p", 1, 0));
    (void)close(fd);
    (void)close(path);
}

static void test_kinds(void)
{
    int fds[2], fd;

    (void)mkdir("/tmp/dir", 0700);
    show("directory", setxattr("/tmp/dir", "user.d", "dir", 3, 0));
    get("of a directory", "/tmp/dir", "user.d");
    (void)unlink("/tmp/link");
    (void)symlink("dir", "/tmp/link");
    show("link", lsetxattr("/tmp/link", "user.l", "l", 1, 0));
    show("get of a link", lgetxattr("/tmp/link", "user.l", names, 1));
    show("list of a link", llistxattr("/tmp/link", NULL, 0));
    show("remove of a link", lremovexattr("/tmp/link", "user.l"));
    (void)unlink("/tmp/fifo");
    (void)mkfifo("/tmp/fifo", 0600);
    show("fifo", setxattr("/tmp/fifo", "user.f", "f", 1, 0));
    show("get of a fifo", getxattr("/tmp/fifo", "user.f", names, 1));
    show("remove of a fifo", removexattr("/tmp/fifo", "user.f"));
    show("list of a fifo", listxattr("/tmp/fifo", NULL, 0));
    (void)pipe(fds);
    show("pipe", fsetxattr(fds[0], "user.f", "f", 1, 0));
    show("get of a pipe", fgetxattr(fds[0], "user.f", names, 1));
    show("list of a pipe", flistxattr(fds[0], names, 10));
    show("other name of a pipe", fsetxattr(fds[0], "other.f", "f", 1, 0));
    show("device", setxattr("/dev/null", "user.f", "f", 1, 0));
    show("get of a device", getxattr("/dev/null", "user.f", names, 1));
    fd = (int)memfd_create("m", 0);
    show("memfd", fsetxattr(fd, "user.m", "mem", 3, 0));
    show("get of a memfd", fgetxattr(fd, "user.m", names, 10));
    (void)close(fd);
    show("get of proc", getxattr("/proc/self/status", "user.p", names, 10));
    show("image", setxattr("/etc/passwd", "user.i", "i", 1, 0));
    show("remove of the image", removexattr("/etc", "user.i"));
    show("get of the image", getxattr("/etc", "user.i", names, 10));
    show("list of the image", listxattr("/etc", NULL, 0));
}

static void test_name_spaces(void)
{
    make("/tmp/x", 0600);
    show("trusted", setxattr("/tmp/x", "trusted.t", "t", 1, 0));
    show("get trusted", getxattr("/tmp/x", "trusted.t", names, 1));
    show("remove trusted", removexattr("/tmp/x", "trusted.t"));
    show("security", setxattr("/tmp/x", "security.s", "s", 1, 0));
    show("get security", getxattr("/tmp/x", "security.s", names, 1));
    show("remove security", removexattr("/tmp/x", "security.s"));
    show("system", setxattr("/tmp/x", "system.s", "s", 1, 0));
    show("get system", getxattr("/tmp/x", "system.s", names, 1));
    show("other", setxattr("/tmp/x", "other.s", "s", 1, 0));
    show("get other", getxattr("/tmp/x", "other.s", names, 1));
    show("without a dot", setxattr("/tmp/x", "user", "s", 1, 0));
    show("nothing behind the dot", setxattr("/tmp/x", "user.", "s", 1, 0));
    show("get nothing", getxattr("/tmp/x", "user.", names, 1));
    show("remove nothing", removexattr("/tmp/x", "user."));
    show("no name", setxattr("/tmp/x", "", "s", 1, 0));
    show("get no name", getxattr("/tmp/x", "", names, 1));
    show("remove no name", removexattr("/tmp/x", ""));
}

static void test_limits(void)
{
    char name[300] = "user.", *s;
    long all, n, i;

    make("/tmp/x", 0600);
    memset(name + 5, 'n', 250);
    show("longest name", setxattr("/tmp/x", name, "x", 1, 0));
    show("get it", getxattr("/tmp/x", name, names, 1));
    name[255] = 'n';
    show("too long a name", setxattr("/tmp/x", name, "x", 1, 0));
    show("get it", getxattr("/tmp/x", name, names, 1));
    show("remove it", removexattr("/tmp/x", name));
    memset(value, 'v', sizeof(value));
    show("largest value", setxattr("/tmp/x", "user.large", value, 65536, 0));
    show("get it", getxattr("/tmp/x", "user.large", names, sizeof(names)));
    show("as set", memcmp(names, value, 65536));
    show("another", setxattr("/tmp/x", "user.large too", value, 65536, 0));
    show("too large a value", setxattr("/tmp/x", "user.larger", value, 65537, 0));
    show("too large and too long", setxattr("/tmp/x", name, value, 65537, 0));
    show("smaller", setxattr("/tmp/x", "user.large", value, 1, 0));
    show("size", getxattr("/tmp/x", "user.large", names, sizeof(names)));
    show("bad name", setxattr("/tmp/x", (char *)1, "x", 1, 0));
    show("bad value", setxattr("/tmp/x", "user.bad", (char *)1, 1, 0));
    show("bad buffer", getxattr("/tmp/x", "user.large", (char *)1, 10));
    show("bad list", listxattr("/tmp/x", (char *)1, 1000));
    show("bad path", setxattr((char *)1, "user.x", "x", 1, 0));
    show("not there", getxattr("/tmp/x", "user.bad", names, 1));
    make("/tmp/y", 0600);
    for (i = all = 0; i < 200; i++) {
        n = sprintf(name, "user.number-%03ld", i * 77 % 200);
        all += n + 1;
        if (setxattr("/tmp/y", name, name, (size_t)n, 0) < 0)
            show("many", -1);
    }
    show("many names", listxattr("/tmp/y", NULL, 0) - all);
    n = listxattr("/tmp/y", names, sizeof(names));
    for (s = names, i = 0; s < names + n; s += strlen(s) + 1, i++) {
        long size = getxattr("/tmp/y", s, value, sizeof(value));
        if (size < 0 || memcmp(s, value, (size_t)size) != 0 || s[size])
            show_text("not its value", s);
    }
    show("of them", i);
}

static void test_life(void)
{
    struct stat before, after;
    struct timespec pause = {0, 20000000};
    int fd;

    (void)unlink("/tmp/z");
    make("/tmp/x", 0600);
    (void)setxattr("/tmp/x", "user.a", "kept", 4, 0);
    (void)stat("/tmp/x", &before);
    (void)nanosleep(&pause, NULL);
    (void)setxattr("/tmp/x", "user.b", "b", 1, 0);
    (void)stat("/tmp/x", &after);
    show("mtime stays", after.st_mtim.tv_nsec - before.st_mtim.tv_nsec);
    show("ctime goes on", after.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
    show("rename", rename("/tmp/x", "/tmp/z"));
    get("moved along", "/tmp/z", "user.a");
    show("link", link("/tmp/z", "/tmp/x"));
    get("by the other name", "/tmp/x", "user.a");
    (void)close(open("/tmp/x", O_RDWR | O_TRUNC));
    get("cut", "/tmp/x", "user.a");
    (void)chmod("/tmp/x", 0640);
    get("other mode", "/tmp/x", "user.a");
    fd = open("/tmp/x", O_RDONLY);
    (void)unlink("/tmp/x");
    (void)unlink("/tmp/z");
    show("without a name", fgetxattr(fd, "user.a", names, 10));
    show("set without a name", fsetxattr(fd, "user.a", "new", 3, 0));
    make("/tmp/x", 0600);
    get("a new file", "/tmp/x", "user.a");
    (void)close(fd);
    (void)setxattr("/tmp/x", "user.a", "child", 5, 0);
    if (fork() == 0) {
        get("in a child", "/tmp/x", "user.a");
        show("child's", setxattr("/tmp/x", "user.c", "c", 1, 0));
        _exit(0);
    }
    (void)wait(NULL);
    get("by the child", "/tmp/x", "user.c");
}

static void test_permissions(void)
{
    int fd;

    make("/tmp/x", 0600);
    (void)setxattr("/tmp/x", "user.a", "a", 1, 0);
    (void)chmod("/tmp/x", 0400);
    show("set, read-only file", setxattr("/tmp/x", "user.a", "b", 1, 0));
    show("remove, read-only file", removexattr("/tmp/x", "user.a"));
    show("other name, read-only file", setxattr("/tmp/x", "other.a", "b", 1, 0));
    get("get, read-only file", "/tmp/x", "user.a");
    fd = open("/tmp/x", O_RDONLY);
    show("by descriptor", fsetxattr(fd, "user.a", "b", 1, 0));
    (void)chmod("/tmp/x", 0200);
    show("set, write-only file", setxattr("/tmp/x", "user.a", "b", 1, 0));
    show("get, write-only file", getxattr("/tmp/x", "user.a", names, 1));
    show("list, write-only file", listxattr("/tmp/x", NULL, 0));
    (void)close(fd);
    (void)mkdir("/tmp/dir", 0700);
    (void)chmod("/tmp/dir", 01777);
    show("own sticky directory", setxattr("/tmp/dir", "user.s", "s", 1, 0));
    (void)chmod("/tmp/dir", 0500);
    show("read-only directory", setxattr("/tmp/dir", "user.s", "s", 1, 0));
    show("file in it", getxattr("/tmp/dir/x", "user.s", names, 1));
    (void)chmod("/tmp/dir", 0600);
    show("closed directory", getxattr("/tmp/dir/x", "user.s", names, 1));
    (void)chmod("/tmp/dir", 0700);
}

static void test_told(void)
{
    char buf[4096];
    int fd = inotify_init1(IN_NONBLOCK);
    long n;

    make("/tmp/x", 0600);
    (void)inotify_add_watch(fd, "/tmp/x", IN_ALL_EVENTS);
    (void)setxattr("/tmp/x", "user.a", "a", 1, 0);
    (void)getxattr("/tmp/x", "user.a", buf, 10);
    (void)listxattr("/tmp/x", buf, 100);
    (void)removexattr("/tmp/x", "user.a");
    (void)removexattr("/tmp/x", "user.a");
    for (int set = 0; set < 2; set++) {
        n = read(fd, buf, sizeof(buf));
        show("told", n);
        for (long at = 0; at < n; at += (long)sizeof(struct inotify_event))
            show("event", (long)((struct inotify_event *)(buf + at))->mask);
        (void)setxattr("/tmp/x", "user.b", "b", 1, 0);
    }
    (void)close(fd);
}

int main(void)
{
    test_values();
    test_ways();
    test_kinds();
    test_name_spaces();
    test_limits();
    test_life();
    test_permissions();
    test_told();
    return 0;
}
