/*
 * Family 10: take everything: processes, memory of every kind, disk, inodes, processor, descriptors, the
 * host's log.
 *
 * What is taken is given back when the attack's process group is killed. Each attempt is bounded a little
 * above the sandbox's limits, so that a host without limits survives the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

enum {
    FORKS_MAX = 600,
    HOLD_MS = 1200, /* long enough for the host to look */
    CHILD_MS = 8000,
    MIB = 1 << 20,
    FLOOD_MIB = 48,
    DISK_MIB = 96,
    INODES_MAX = 4000,
    PIPES_MAX = 4000,
};

static void hold(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&t, NULL);
}

/* ---- processes ---- */

static void fork_bomb(const struct order *o)
{
    int made = 0, error = 0;
    bool gentle = order_number(o, "gentle") != 0;

    while (made < FORKS_MAX) {
        pid_t pid = fork();
        if (pid < 0) {
            error = errno;
            break;
        }
        if (pid == 0 && gentle) {
            hold(HOLD_MS);
            _exit(0);
        }
        if (pid == 0) {
            for (;;) /* every one of them goes on trying */
                if (fork() < 0)
                    hold(20);
        }
        made++;
    }
    hold(HOLD_MS);
    errno = error;
    stepf("fork", error ? -1 : made, "%d processes made", made);
    if (!error)
        claim("%d processes were made and none was refused", made);
    /* The rest of the group is killed when this process ends. */
}

/* ---- memory: each kind in a child that is killed or refused ---- */

static int anonymous(void *arg)
{
    size_t limit = *(const size_t *)arg;

    for (size_t got = 0; got < limit; got += MIB) {
        char *m = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED)
            return 1;
        memset(m, 1, MIB);
    }
    return 0;
}

static int temporary(void *arg)
{
    static const char *const places[] = {"/tmp/fill", "/dev/shm/fill"};
    size_t limit = *(const size_t *)arg, got = 0;
    char *block = malloc(MIB);

    for (size_t i = 0; block && i < 2; i++) {
        int fd = open(places[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        memset(block, 2, MIB);
        while (fd >= 0 && got < limit && write(fd, block, MIB) == MIB)
            got += MIB;
    }
    free(block);
    return got < limit;
}

/* One page in every 2 MiB: as much page table as memory. */
static int page_tables(void *arg)
{
    size_t limit = *(const size_t *)arg;

    for (size_t got = 0; got < limit; got += 8192) {
        char *m = mmap(NULL, (size_t)2 * MIB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED)
            return 1;
        *m = 1;
    }
    return 0;
}

static int pipes(void *arg)
{
    size_t limit = *(const size_t *)arg, got = 0;
    char block[65536];

    memset(block, 3, sizeof(block));
    for (int i = 0; i < PIPES_MAX && got < limit; i++) {
        int ends[2];
        ssize_t n;
        if (pipe2(ends, O_NONBLOCK) < 0)
            return 1;
        (void)fcntl(ends[1], F_SETPIPE_SZ, MIB);
        while ((n = write(ends[1], block, sizeof(block))) > 0)
            got += (size_t)n;
    }
    return got < limit;
}

static int sockets(void *arg)
{
    size_t limit = *(const size_t *)arg, got = 0;
    int size = 64 * MIB;
    char block[65536];

    memset(block, 4, sizeof(block));
    for (int i = 0; i < PIPES_MAX && got < limit; i++) {
        int ends[2];
        ssize_t n;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0)
            return 1;
        (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        while ((n = send(ends[0], block, sizeof(block), MSG_NOSIGNAL)) > 0)
            got += (size_t)n;
    }
    return got < limit;
}

/* "bytes": how much to take. Where the limit ends the whole sandbox, the host orders less than it here and
 * the full amount in a session that it can spare. */
static void memory(const struct order *o)
{
    static const struct {
        const char *name;
        int (*take)(void *arg);
    } kinds[] = {{"anonymous", anonymous},
                 {"tmpfs", temporary},
                 {"page-tables", page_tables},
                 {"pipes", pipes},
                 {"sockets", sockets}};
    size_t bytes = (size_t)order_number(o, "bytes");
    bool over = order_number(o, "over") != 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        int status = in_child(kinds[i].take, &bytes, CHILD_MS);
        errno = status == 1 ? ENOSPC : ENOMEM;
        stepf(kinds[i].name, over && status != 0 ? -1 : status, "%s",
              status == 0     ? "all of it"
              : status == 1   ? "refused"
              : status == 124 ? "slowed down"
                              : "killed");
        if (over && status == 0)
            claim("%zu bytes of %s were taken, more than the limit", bytes, kinds[i].name);
        (void)unlink("/tmp/fill");
        (void)unlink("/dev/shm/fill");
    }
}

/* ---- disk ---- */

static void disk(const struct order *o)
{
    char *block = calloc(1, MIB), path[64];
    int fd = open("/workspace/fill", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    unsigned got = 0, files = 0;

    (void)o;
    while (block && fd >= 0 && got < DISK_MIB && write(fd, block, MIB) == MIB)
        got++;
    stepf("fill", got < DISK_MIB ? -1 : (long)got, "%u MiB written", got);
    fact("mib", "%u", got);
    (void)close(fd);
    (void)unlink("/workspace/fill");
    (void)mkdir("/workspace/many", 0700);
    for (; files < INODES_MAX; files++) {
        (void)snprintf(path, sizeof(path), "/workspace/many/%u", files);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        (void)close(fd);
    }
    stepf("inodes", files < INODES_MAX ? -1 : (long)files, "%u files made", files);
    fact("files", "%u", files);
    for (unsigned i = 0; i < files; i++) {
        (void)snprintf(path, sizeof(path), "/workspace/many/%u", i);
        (void)unlink(path);
    }
    (void)rmdir("/workspace/many");
    free(block);
}

/* ---- processor ---- */

static int spin(void *arg)
{
    uint64_t until = now_ms() + *(const unsigned *)arg;
    volatile unsigned long n = 0;

    while (now_ms() < until)
        for (int i = 0; i < 100000; i++)
            n++;
    return 0;
}

static void processor(const struct order *o)
{
    unsigned ms = 2 * HOLD_MS;
    struct rusage u;
    pid_t pids[8];

    (void)o;
    for (size_t i = 0; i < 8; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(spin(&ms));
    }
    step("nice", setpriority(PRIO_PROCESS, 0, -20));
    for (size_t i = 0; i < 8; i++)
        if (pids[i] > 0)
            (void)waitpid(pids[i], NULL, 0);
    (void)getrusage(RUSAGE_CHILDREN, &u);
    stepf("spin", 8, "%ld ms of processor in %u ms",
          (long)(u.ru_utime.tv_sec * 1000 + u.ru_utime.tv_usec / 1000), ms);
    fact("cpu_ms", "%ld", (long)(u.ru_utime.tv_sec * 1000 + u.ru_utime.tv_usec / 1000));
    fact("wall_ms", "%u", ms);
}

/* ---- descriptors ---- */

static int take_descriptors(void *arg)
{
    struct rlimit all = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    int *made = arg;

    if (setrlimit(RLIMIT_NOFILE, &all) == 0)
        *made = -1; /* raised what nobody may raise */
    if (getrlimit(RLIMIT_NOFILE, &all) == 0) {
        all.rlim_cur = all.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &all);
    }
    while (*made >= 0 && *made < 200000 && open("/dev/null", O_RDONLY) >= 0)
        ++*made;
    hold(200);
    return 0;
}

static void descriptors_(const struct order *o)
{
    int *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    (void)o;
    if (made == MAP_FAILED)
        return;
    status = in_child(take_descriptors, made, CHILD_MS);
    stepf("open", *made, "%d descriptors, child ended with %d", *made, status);
    if (*made < 0)
        claim("the limit of descriptors was raised");
    fact("descriptors", "%d", *made);
}

/* ---- the host's log ---- */

static void output(const struct order *o)
{
    char *block = malloc(MIB);
    size_t got = 0;

    (void)o;
    if (!block)
        return;
    memset(block, 'x', MIB);
    for (int fd = 1; fd <= 2; fd++)
        for (int i = 0; i < FLOOD_MIB / 2; i++) {
            ssize_t n = write(fd, block, MIB);
            got += n > 0 ? (size_t)n : 0;
        }
    stepf("flood", (long)(got / MIB), "%zu bytes written", got);
    fact("mib", "%zu", got / MIB);
    free(block);
}

const struct inside_attack inside_resources[] = {
    {"res.processes", fork_bomb},
    {"res.memory", memory},
    {"res.disk", disk},
    {"res.processor", processor},
    {"res.descriptors", descriptors_},
    {"res.output", output},
    {NULL, NULL},
};
