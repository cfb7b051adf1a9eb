#include "bench/inside/loops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 64, FILE_BYTES = 4096, TOUCH_PAGES = 256, CPU_STEPS = 20000 };

uint64_t loops_now(void)
{
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
        loops_die("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void loops_die(const char *what)
{
    (void)fprintf(stderr, "ironclaw-bench-inside: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* One unit of arithmetic that no compiler can shorten: xorshift64 (Marsaglia, 2003) from a fixed seed; its
 * end is known. */
static void cpu(uint64_t n, const char *tree, const char *directory)
{
    static uint64_t expected;

    (void)tree;
    (void)directory;
    while (n--) {
        uint64_t x = 88172645463325252U;
        for (int i = 0; i < CPU_STEPS; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        if (expected && x != expected)
            loops_die("cpu: the same computation gave another result");
        expected = x;
    }
}

static void getppid_(uint64_t n, const char *tree, const char *directory)
{
    long parent = syscall(SYS_getppid);

    (void)tree;
    (void)directory;
    while (n--)
        if (syscall(SYS_getppid) != parent)
            loops_die("getppid");
}

/* Names all entries below `path` and asks for the attributes of each. */
static unsigned walk_tree(const char *path)
{
    char name[1024];
    DIR *dir = opendir(path);
    const struct dirent *d;
    unsigned count = 0;

    if (!dir)
        loops_die(path);
    while ((d = readdir(dir))) {
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        if (snprintf(name, sizeof(name), "%s/%s", path, d->d_name) >= (int)sizeof(name) ||
            lstat(name, &st) < 0)
            loops_die("lstat");
        count += 1 + (S_ISDIR(st.st_mode) ? walk_tree(name) : 0);
    }
    (void)closedir(dir);
    return count;
}

static void walk(uint64_t n, const char *tree, const char *directory)
{
    static unsigned expected;

    (void)directory;
    while (n--) {
        unsigned count = walk_tree(tree);
        if (count < 100 || (expected && count != expected))
            loops_die("walk: the tree has another number of entries");
        expected = count;
    }
}

static void file_name(char *out, size_t cap, const char *directory, unsigned i)
{
    if (snprintf(out, cap, "%s/bench-%u", directory, i) >= (int)cap)
        loops_die("the path is too long");
}

static void files_prepare(const char *tree, const char *directory)
{
    char name[512], data[FILE_BYTES];

    (void)tree;
    for (unsigned i = 0; i < FILES; i++) {
        int fd;
        file_name(name, sizeof(name), directory, i);
        memset(data, (int)('a' + i % 26), sizeof(data));
        fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, data, sizeof(data)) != FILE_BYTES || close(fd) < 0)
            loops_die(name);
    }
}

static void files(uint64_t n, const char *tree, const char *directory)
{
    (void)tree;
    for (uint64_t i = 0; i < n; i++) {
        char name[512], data[FILE_BYTES];
        int fd;
        file_name(name, sizeof(name), directory, (unsigned)(i % FILES));
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, data, sizeof(data)) != FILE_BYTES ||
            data[17] != (char)('a' + i % FILES % 26) || close(fd) < 0)
            loops_die(name);
    }
}

static void files_finish(const char *directory)
{
    char name[512];

    for (unsigned i = 0; i < FILES; i++) {
        file_name(name, sizeof(name), directory, i);
        (void)unlink(name);
    }
}

/* Two processes, one byte to and fro. */
static void pingpong(uint64_t n, const char *tree, const char *directory)
{
    int to[2], from[2];
    pid_t pid;
    char byte;
    int status;

    (void)tree;
    (void)directory;
    if (pipe(to) < 0 || pipe(from) < 0 || (pid = fork()) < 0)
        loops_die("pipe");
    if (pid == 0) {
        (void)close(to[1]);
        while (read(to[0], &byte, 1) == 1)
            if (write(from[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    (void)close(to[0]);
    for (uint64_t i = 0; i < n; i++) {
        byte = (char)i;
        if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1 || byte != (char)i)
            loops_die("pipe round trip");
    }
    (void)close(to[1]);
    (void)close(from[0]);
    (void)close(from[1]);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        loops_die("pipe peer");
}

static void spawn(uint64_t n, const char *tree, const char *directory)
{
    char self[512];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    (void)tree;
    (void)directory;
    if (len <= 0)
        loops_die("/proc/self/exe");
    self[len] = 0;
    while (n--) {
        pid_t pid = fork();
        int status;
        if (pid == 0) {
            (void)execl(self, self, "exit", "42", (char *)NULL);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 42)
            loops_die("fork, exec, wait");
    }
}

static const size_t page = 4096, touched = (size_t)TOUCH_PAGES * 4096;

static void touch(uint64_t n, const char *tree, const char *directory)
{
    (void)tree;
    (void)directory;
    while (n--) {
        volatile char *m = mmap(NULL, touched, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED)
            loops_die("mmap");
        for (size_t i = 0; i < TOUCH_PAGES; i++) {
            if (m[i * page] != 0)
                loops_die("mmap: not zero");
            m[i * page] = 1;
        }
        if (munmap((void *)(uintptr_t)m, touched) < 0)
            loops_die("munmap");
    }
}

static void *thread_main(void *arg)
{
    return arg;
}

static void threads(uint64_t n, const char *tree, const char *directory)
{
    (void)tree;
    (void)directory;
    while (n--) {
        pthread_t t;
        void *result = NULL;
        if (pthread_create(&t, NULL, thread_main, &n) != 0 || pthread_join(t, &result) != 0 || result != &n)
            loops_die("thread");
    }
}

/* One process, an epoll set over eight unix stream sockets, one of them ready each time. */
static void epolls(uint64_t n, const char *tree, const char *directory)
{
    enum { PAIRS = 8 };
    int pairs[PAIRS][2], ep = epoll_create1(EPOLL_CLOEXEC);

    (void)tree;
    (void)directory;
    if (ep < 0)
        loops_die("epoll_create1");
    for (unsigned i = 0; i < PAIRS; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]) < 0 ||
            epoll_ctl(ep, EPOLL_CTL_ADD, pairs[i][0], &ev) < 0)
            loops_die("epoll_ctl");
    }
    for (uint64_t k = 0; k < n; k++) {
        struct epoll_event ev;
        char byte = (char)k;
        if (write(pairs[k % PAIRS][1], &byte, 1) != 1 || epoll_wait(ep, &ev, 1, 5000) != 1 ||
            ev.data.u32 != k % PAIRS || read(pairs[ev.data.u32][0], &byte, 1) != 1 || byte != (char)k)
            loops_die("epoll round");
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        (void)close(pairs[i][0]);
        (void)close(pairs[i][1]);
    }
    (void)close(ep);
}

const struct loop loops[] = {
    {"cpu", cpu, NULL, NULL},       {"getppid", getppid_, NULL, NULL},
    {"walk", walk, NULL, NULL},     {"files", files, files_prepare, files_finish},
    {"pipe", pingpong, NULL, NULL}, {"spawn", spawn, NULL, NULL},
    {"touch", touch, NULL, NULL},   {"thread", threads, NULL, NULL},
    {"epoll", epolls, NULL, NULL},
};
const size_t nloops = sizeof(loops) / sizeof(*loops);
