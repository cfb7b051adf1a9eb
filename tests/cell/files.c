/* Files and directories on tmpfs and on the image: every common call and its documented errors. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "show.h"

static void show_stat(const char *path)
{
    struct stat s;

    if (lstat(path, &s) < 0) {
        show(path, -1);
        return;
    }
    printf("%s: mode %o nlink %lu size %ld uid %u\n", path, s.st_mode,
           S_ISDIR(s.st_mode) ? 0UL : (unsigned long)s.st_nlink, S_ISDIR(s.st_mode) ? 0L : (long)s.st_size,
           s.st_uid);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_dir(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char *names[200];
    int n = 0;

    if (!d) {
        show(path, -1);
        return;
    }
    while (n < 200 && (e = readdir(d))) {
        if (asprintf(&names[n], "%s/%d", e->d_name, e->d_type) < 0)
            return;
        n++;
    }
    (void)closedir(d);
    qsort(names, (size_t)n, sizeof(names[0]), by_name);
    printf("%s:", path);
    for (int i = 0; i < n; i++)
        printf(" %s", names[i]);
    printf("\n");
}

static void test_open(void)
{
    char long_name[300], buf[16];
    int fd;

    memset(long_name, 'n', 299);
    long_name[299] = 0;
    show("open nothing", open("none", O_RDONLY));
    show_ok("create", fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    show("again", open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    show_stat("a");
    show("write", write(fd, "hello world", 11));
    show("lseek", lseek(fd, 6, SEEK_SET));
    show("read", read(fd, buf, 16));
    show("at the end", read(fd, buf, 16));
    show("lseek before", lseek(fd, -1, SEEK_SET));
    show("lseek badly", lseek(fd, 0, 99));
    show("lseek end", lseek(fd, 5, SEEK_END));
    show("write behind", write(fd, "x", 1));
    show_stat("a");
    show("hole reads as", pread(fd, buf, 5, 11));
    printf("bytes %d %d\n", buf[0], buf[4]);
    show("SEEK_DATA", lseek(fd, 0, SEEK_DATA));
    show("truncate", ftruncate(fd, 5));
    show("truncate negative", ftruncate(fd, -1));
    show_stat("a");
    show("read bad pointer", read(fd, (void *)8, 4));
    show("read closed", read(98, buf, 1));
    show("write read-only", write(open("a", O_RDONLY), "x", 1));
    show("read write-only", read(open("a", O_WRONLY), buf, 1));
    show("open a directory to write", open(".", O_WRONLY));
    show("not a directory", open("a/b", O_RDONLY));
    show("want a directory", open("a", O_RDONLY | O_DIRECTORY));
    show("name too long", open(long_name, O_RDONLY));
    show("empty path", open("", O_RDONLY));
    show("bad path", open((char *)16, O_RDONLY));
    show_ok("append", fd = open("a", O_WRONLY | O_APPEND));
    show("lseek start", lseek(fd, 0, SEEK_SET));
    show("write", write(fd, "!", 1));
    show_stat("a");
    show_ok("O_TRUNC", open("a", O_WRONLY | O_TRUNC));
    show_stat("a");
    show_ok("O_PATH", fd = open("a", O_PATH));
    show("read of O_PATH", read(fd, buf, 1));
    show_ok("O_TMPFILE", fd = open(".", O_TMPFILE | O_RDWR, 0600));
    show("trailing slash", open("new/", O_CREAT | O_RDWR, 0600));
    show("dev null", write(open("/dev/null", O_WRONLY), "x", 1));
    show("dev zero", read(open("/dev/zero", O_RDONLY), buf, 4));
    show("dev full", write(open("/dev/full", O_WRONLY), "x", 1));
    show("urandom", read(open("/dev/urandom", O_RDONLY), buf, 4));
}

static void test_vectors(void)
{
    char one[4] = "", two[8] = "";
    struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defgh", 5}}, in[2] = {{one, 3}, {two, 7}};
    int fd = open("v", O_RDWR | O_CREAT, 0600);

    show("writev", writev(fd, out, 3));
    show("preadv", preadv(fd, in, 2, 0));
    printf("%s %s\n", one, two);
    show("too many", writev(fd, out, 100000));
    show("negative", preadv(fd, in, 2, -1));
    show("pwrite", pwrite(fd, "ZZ", 2, 1));
    show("pread", pread(fd, two, 4, 0));
    printf("%.4s\n", two);
    show("position", lseek(fd, 0, SEEK_CUR));
}

static void test_names(void)
{
    char buf[64];

    show("mkdir", mkdir("d", 0755));
    show("mkdir again", mkdir("d", 0755));
    show("mkdir below nothing", mkdir("none/d", 0755));
    show("mkdir below a file", mkdir("a/d", 0755));
    show("link", link("a", "d/hard"));
    show_stat("d/hard");
    show("link a directory", link("d", "e"));
    show("link over", link("a", "d/hard"));
    show("symlink", symlink("../a", "d/soft"));
    show_stat("d/soft");
    memset(buf, 0, sizeof(buf));
    show("readlink", readlink("d/soft", buf, sizeof(buf)));
    show_text("leads to", buf);
    show("readlink of a file", readlink("a", buf, sizeof(buf)));
    show("readlink short", readlink("d/soft", buf, 2));
    show("symlink to itself", symlink("loop", "loop"));
    show("loop", open("loop", O_RDONLY));
    show("NOFOLLOW", open("d/soft", O_RDONLY | O_NOFOLLOW));
    show("dangling create", symlink("made", "dangling"));
    show_ok("through it", open("dangling", O_CREAT | O_WRONLY, 0600));
    show_stat("made");
    show_dir("d");
    show("rmdir full", rmdir("d"));
    show("rmdir a file", rmdir("a"));
    show("rmdir dot", rmdir("d/."));
    show("unlink a directory", unlink("d"));
    show("unlink nothing", unlink("none"));
    show("rename over", rename("v", "d/hard"));
    show_stat("d/hard");
    show_stat("a");
    show("rename nothing", rename("none", "x"));
    show("rename into itself", rename("d", "d/x"));
    show("mkdir", mkdir("empty", 0700));
    show("rename a file over a directory", rename("a", "empty"));
    show("rename a directory over a file", rename("empty", "a"));
    show("rename a directory over an empty one", rename("d", "empty"));
    show_dir("empty");
    show("rename to the same", rename("a", "a"));
    show("renameat2 noreplace", renameat2(AT_FDCWD, "a", AT_FDCWD, "made", RENAME_NOREPLACE));
    show("renameat2 exchange", renameat2(AT_FDCWD, "a", AT_FDCWD, "empty", RENAME_EXCHANGE));
    show_stat("a");
    show_stat("empty");
    show("renameat2 both", renameat2(AT_FDCWD, "a", AT_FDCWD, "empty", RENAME_EXCHANGE | RENAME_NOREPLACE));
    show("unlinkat", unlinkat(AT_FDCWD, "a/soft", 0));
    show("unlinkat a file as a directory", unlinkat(AT_FDCWD, "a/hard", AT_REMOVEDIR));
    show("cross-device link", link("/tmp/t/made", "/dev/shm/made"));
    show("cross-device rename", rename("/tmp/t/made", "/dev/shm/made"));
    show_dir(".");
}

static void test_attributes(void)
{
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    struct stat s;
    struct statx x;

    show("chmod", chmod("empty", 04755));
    show_stat("empty");
    show("chmod nothing", chmod("none", 0600));
    show("chown to root", chown("empty", 0, 0));
    show("chown to self", chown("empty", getuid(), getgid()));
    show("utimensat", utimensat(AT_FDCWD, "empty", times, 0));
    (void)stat("empty", &s);
    printf("times %ld.%09ld %ld.%09ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec,
           s.st_mtim.tv_nsec);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = 1000000000;
    show("bad time", utimensat(AT_FDCWD, "empty", times, 0));
    show("statx", statx(AT_FDCWD, "empty", 0, STATX_BASIC_STATS, &x));
    printf("statx mode %o size %llu\n", x.stx_mode, (unsigned long long)x.stx_size);
    show("access", access("empty", R_OK | W_OK));
    show("access nothing", access("none", F_OK));
    show("access root", access("/etc/passwd", W_OK));
    show("chmod 0", chmod("empty", 0));
    show("unreadable", open("empty", O_RDONLY));
    show("umask", umask(077));
    show_ok("create", open("masked", O_CREAT | O_WRONLY, 0666));
    show_stat("masked");
    (void)umask(022);
    show("mkfifo", mkfifo("fifo", 0600));
    show_stat("fifo");
    show("mknod device", mknod("device", S_IFBLK | 0600, 0x0801));
    show("setuid bit stays ours", (chmod("masked", 0600), access("masked", X_OK)));
}

static void test_root(void)
{
    show("create in /", open("/new", O_CREAT | O_WRONLY, 0600));
    show("mkdir in /", mkdir("/newdir", 0700));
    show("unlink in /etc", unlink("/etc/passwd"));
    show("rename in /etc", rename("/etc/passwd", "/etc/group"));
    show("chmod in /etc", chmod("/etc/passwd", 0666));
    show("write to /etc", open("/etc/passwd", O_WRONLY));
    show("truncate /etc", truncate("/etc/passwd", 0));
    show_ok("read /etc", open("/etc/passwd", O_RDONLY));
    show("chroot", chroot("/tmp"));
}

static void test_descriptors(void)
{
    int fd = open("dup", O_CREAT | O_RDWR, 0600), copy;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};

    copy = dup(fd);
    (void)write(fd, "abc", 3);
    show("shared position", lseek(copy, 0, SEEK_CUR));
    show("dup2", dup2(fd, 50));
    show("dup2 same", dup2(50, 50));
    show("dup2 bad", dup2(99, 51));
    show("dup3 same", dup3(50, 50, 0));
    show("dup3", dup3(fd, 51, O_CLOEXEC));
    show("cloexec", fcntl(51, F_GETFD));
    show("F_SETFD", fcntl(51, F_SETFD, 0));
    show("cloexec", fcntl(51, F_GETFD));
    show("F_DUPFD", fcntl(fd, F_DUPFD, 60));
    show("F_GETFL", fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    show("F_SETFL", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    show("F_GETFL", fcntl(copy, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    show("close", close(50));
    show("close again", close(50));
    show("close_range", close_range(51, 60, 0));
    show("closed", fcntl(60, F_GETFD));
    show("lock", fcntl(fd, F_SETLK, &l));
    if (fork() == 0) {
        struct flock mine = l;
        show("locked for others", fcntl(fd, F_SETLK, &mine));
        (void)fcntl(fd, F_GETLK, &mine);
        printf("by parent %d type %d\n", mine.l_pid == getppid(), mine.l_type);
        show("beside it",
             fcntl(fd, F_SETLK,
                   &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5}));
        fflush(stdout);
        _exit(0);
    }
    (void)wait(NULL);
    show("flock", flock(fd, LOCK_EX));
    show("flock other", flock(open("dup", O_RDWR), LOCK_EX | LOCK_NB));
    show("flock badly", flock(fd, 77));
    show("fallocate", fallocate(fd, 0, 0, 8192));
    show("size", lseek(fd, 0, SEEK_END));
    show("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    show("copy_file_range",
         copy_file_range(fd, &(off_t){4096}, open("copy", O_CREAT | O_RDWR, 0600), NULL, 100, 0));
    show_stat("copy");
    show("fsync", fsync(fd));
    show("fsync bad", fsync(98));
}

static void test_directories(void)
{
    char cwd[PATH_MAX];
    int dir;

    show("chdir", chdir("/tmp/t/a"));
    show_text("cwd", getcwd(cwd, sizeof(cwd)));
    show("getcwd short", getcwd(cwd, 3) == NULL ? -1 : 0);
    show("chdir to a file", chdir("/etc/passwd"));
    show("chdir to nothing", chdir("none"));
    show("chdir up", chdir(".."));
    show_text("cwd", getcwd(cwd, sizeof(cwd)));
    dir = open("a", O_RDONLY | O_DIRECTORY);
    show("read a directory", read(dir, cwd, 10));
    show_ok("openat", openat(dir, "hard", O_RDONLY));
    show("openat up", openat(dir, "../none", O_RDONLY));
    show("openat bad", openat(97, "x", O_RDONLY));
    show("openat a file", openat(open("dup", O_RDONLY), "x", O_RDONLY));
    show("fchdir", fchdir(dir));
    show("mkdir", mkdir("gone", 0700));
    show("chdir", chdir("gone"));
    show("rmdir", rmdir("../gone"));
    show("in what is gone", open("x", O_CREAT | O_WRONLY, 0600));
    show("getcwd", getcwd(cwd, sizeof(cwd)) ? 0 : -1);
    show("chdir", chdir("/tmp/t"));
    for (int i = 0; i < 50; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "many/%02d", i);
        (void)mkdir("many", 0700);
        (void)close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    show_dir("many");
    show_dir("/dev/shm");
    show_dir("none");
}

int main(void)
{
    (void)umask(022);
    show("mkdir /tmp/t", mkdir("/tmp/t", 0755));
    show("chdir", chdir("/tmp/t"));
    test_open();
    test_vectors();
    test_names();
    test_attributes();
    test_root();
    test_descriptors();
    test_directories();
    return 0;
}
