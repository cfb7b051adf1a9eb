/*
 * Stands in for ironclaw-cell: speaks cell/abi/layout.h with the warden, well or badly, as its first word
 * says. A static program; what it does without a filter of its own shows what the envelope leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cell/abi/layout.h"

static uint8_t *memory;
static struct cell_header *header;

static struct cell_stream *stream(unsigned i)
{
    return (struct cell_stream *)(void *)(memory + CELL_OFF_STREAMS) + i;
}

static uint8_t *ring(unsigned i, unsigned direction)
{
    return memory + CELL_OFF_RINGS + (i * 2 + direction) * (size_t)CELL_RING_SIZE;
}

static void ring_doorbell(void)
{
    uint64_t one = 1;

    if (atomic_exchange(&header->doorbell_armed, 0))
        (void)!write(CELL_FD_DOORBELL, &one, sizeof(one));
}

static void notify(unsigned i)
{
    atomic_fetch_or(&header->dirty[i / 64], 1ULL << (i % 64));
    ring_doorbell();
}

/* Sleeps until the warden bumps word 0 from `seen`, at most a tenth of a second. */
static void wait_irq(uint32_t seen)
{
    struct timespec t = {.tv_nsec = 100000000};

    (void)syscall(SYS_futex, memory + CELL_OFF_WAKES, FUTEX_WAIT, seen, &t, NULL, 0);
}

static uint32_t irq(void)
{
    return atomic_load((_Atomic uint32_t *)(void *)(memory + CELL_OFF_WAKES));
}

/* All of it, or until the reader went away. */
static bool say(unsigned i, const void *data, size_t len)
{
    struct cell_stream *s = stream(i);
    const uint8_t *p = data;

    atomic_store(&s->wake, CELL_WAKE_IRQ + 1);
    while (len > 0) {
        uint32_t seen = irq(), tail = atomic_load(&s->tx_tail),
                 room = CELL_RING_SIZE - (tail - atomic_load(&s->tx_head));
        uint32_t n = room < len ? room : (uint32_t)len;
        if (atomic_load(&s->tx_gone))
            return false;
        if (n == 0) {
            wait_irq(seen);
            continue;
        }
        for (uint32_t k = 0; k < n; k++)
            ring(i, 0)[(tail + k) % CELL_RING_SIZE] = p[k];
        atomic_store(&s->tx_tail, tail + n);
        notify(i);
        p += n;
        len -= n;
    }
    return true;
}

static void say_text(const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)say(0, text, strlen(text));
}

/* Bytes of the input; 0 at its end. */
static size_t hear(unsigned i, uint8_t *to, size_t cap)
{
    struct cell_stream *s = stream(i);

    atomic_store(&s->wake, CELL_WAKE_IRQ + 1);
    for (;;) {
        uint32_t seen = irq(), flags = atomic_load(&s->rx_flags), head = atomic_load(&s->rx_head),
                 n = atomic_load(&s->rx_tail) - head;
        if (n == 0 && flags)
            return 0;
        if (n == 0) {
            wait_irq(seen);
            continue;
        }
        n = n < cap ? n : (uint32_t)cap;
        for (uint32_t k = 0; k < n; k++)
            to[k] = ring(i, 1)[(head + k) % CELL_RING_SIZE];
        atomic_store(&s->rx_head, head + n);
        notify(i);
        return n;
    }
}

static void end(uint32_t state, uint32_t status)
{
    atomic_store(&header->status, status);
    atomic_store(&header->state, state);
    ring_doorbell();
    _exit(0);
}

static void leave(uint32_t state, const char *message)
{
    (void)snprintf(header->message, sizeof(header->message), "%s", message);
    end(state, 127 << 8);
}

/* ---- what it does */

static void echo(void)
{
    static uint8_t buf[5000];
    size_t n;

    while ((n = hear(0, buf, sizeof(buf))) > 0)
        if (!say(0, buf, n))
            end(CELL_EXITED, SIGPIPE);
    atomic_store(&stream(0)->tx_flags, CELL_END);
    notify(0);
    (void)say(1, "end of input\n", 13);
    end(CELL_EXITED, 5 << 8);
}

static void flood(void)
{
    static uint8_t buf[10000];

    for (;;)
        if (!say(0, buf, sizeof(buf)))
            end(CELL_EXITED, SIGPIPE);
}

/* The workload ends while others of the cell go on writing. */
static void flood_at_exit(void)
{
    if (fork() == 0)
        flood();
    usleep(300000);
    end(CELL_EXITED, 3 << 8);
}

static void tell_signals(void)
{
    say_text("ready\n");
    for (;;) {
        uint32_t seen = irq();
        uint64_t set = atomic_exchange(&header->signals, 0);
        for (int sig = 1; sig <= 64; sig++)
            if (set >> (sig - 1) & 1)
                say_text("signal %d\n", sig);
        if (set >> (SIGTERM - 1) & 1)
            end(CELL_EXITED, SIGTERM);
        wait_irq(seen);
    }
}

/* What the host left in reach. */
static void look_around(void)
{
    struct rlimit files;
    int fds = 0, sig = 0;
    bool caps = false;

    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            say_text("fd %d\n", fd), fds++;
    (void)getrlimit(RLIMIT_NOFILE, &files);
    for (int cap = 0; cap < 64; cap++)
        caps = caps || prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
    (void)prctl(PR_GET_PDEATHSIG, &sig);
    say_text("descriptors %d of %d, a new one: %s\n", fds, (int)files.rlim_cur,
             strerror(dup(3) < 0 ? errno : 0));
    say_text("image writable: %s\n",
             mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, 3, 0) == MAP_FAILED ? "no" : "yes");
    say_text("memory can shrink: %s\n", ftruncate(4, 4096) < 0 ? "no" : "yes");
    say_text("files: %s %s\n", open("/", O_RDONLY) < 0 ? "no" : "yes",
             open("/proc", O_RDONLY) < 0 ? "no" : "yes");
    say_text("socket: %s\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? "no" : "yes");
    say_text("uid %d pid %d no_new_privs %d bounding %s dies with the warden: %s, signals it: %s\n",
             (int)getuid(), (int)getppid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), caps ? "full" : "empty",
             sig == SIGKILL ? "yes" : "no", kill(1, SIGTERM) < 0 ? "no" : "yes");
    end(CELL_EXITED, 0);
}

/* Nonsense all over what the warden reads, for a while. */
static void scribble(unsigned seed)
{
    for (unsigned long round = 0; round < 3000000; round++) {
        size_t at;
        seed = seed * 1103515245 + 12345;
        at = seed >> 3 & 0x1fffc;
        if (at >= offsetof(struct cell_header, state) && at < offsetof(struct cell_header, state) + 4)
            continue;
        seed = seed * 1103515245 + 12345;
        atomic_store((_Atomic uint32_t *)(void *)(memory + at), seed % 5 ? seed : seed % 6);
        if (round % 64 == 0)
            ring_doorbell();
    }
    end(CELL_EXITED, 9 << 8);
}

/* As many streams as there are, to ports that do not exist. */
static void connect_all(void)
{
    unsigned refused = 0;

    for (unsigned i = CELL_STREAM_FIRST_FREE; i < CELL_STREAMS; i++) {
        stream(i)->port = i % 4;
        atomic_store(&stream(i)->wake, CELL_WAKE_IRQ + 1);
        atomic_store(&stream(i)->state, CELL_CONNECT);
        notify(i);
    }
    for (unsigned i = CELL_STREAM_FIRST_FREE; i < CELL_STREAMS; i++) {
        while (atomic_load(&stream(i)->state) == CELL_CONNECT)
            wait_irq(irq());
        refused += atomic_load(&stream(i)->state) == CELL_REFUSED && stream(i)->error == ECONNREFUSED;
        atomic_store(&stream(i)->state, CELL_CLOSING);
        notify(i);
    }
    for (unsigned i = CELL_STREAM_FIRST_FREE; i < CELL_STREAMS; i++)
        while (atomic_load(&stream(i)->state) != CELL_FREE)
            usleep(1000);
    say_text("%u refused\n", refused);
    end(CELL_EXITED, 0);
}

/* Orphans, which pid 1 has to reap. */
static void orphans(void)
{
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() == 0)
                _exit(0);
            _exit(0);
        }
        if (child < 0) {
            say_text("fork: %s after %d\n", strerror(errno), i);
            end(CELL_EXITED, 1 << 8);
        }
        (void)waitpid(child, NULL, 0);
    }
    say_text("all forked\n");
    end(CELL_EXITED, 0);
}

static void perform(const char *what, const char *argument)
{
    if (!strcmp(what, "echo"))
        echo();
    if (!strcmp(what, "exit"))
        end(CELL_EXITED, (uint32_t)strtoul(argument, NULL, 0));
    if (!strcmp(what, "flood"))
        flood();
    if (!strcmp(what, "flood-at-exit"))
        flood_at_exit();
    if (!strcmp(what, "signals"))
        tell_signals();
    if (!strcmp(what, "look"))
        look_around();
    if (!strcmp(what, "scribble"))
        scribble((unsigned)strtoul(argument, NULL, 0));
    if (!strcmp(what, "connect"))
        connect_all();
    if (!strcmp(what, "orphans"))
        orphans();
    if (!strcmp(what, "panic")) {
        (void)say(1, "last words\n", 11);
        leave(CELL_PANICKED, "something \x1b[31mbroke\n");
    }
    if (!strcmp(what, "noexec"))
        leave(CELL_NOEXEC, "cannot execute it");
    if (!strcmp(what, "state"))
        end((uint32_t)strtoul(argument, NULL, 0), 0);
    if (!strcmp(what, "sleep"))
        for (;;)
            (void)pause();
    if (!strcmp(what, "die")) {
        (void)say(0, "before\n", 7);
        (void)signal(SIGABRT, SIG_DFL);
        (void)kill(getpid(), (int)strtoul(argument, NULL, 0));
    }
    _exit(4);
}

int main(void)
{
    const char *words;

    memory = mmap(NULL, CELL_OFF_HEAP, PROT_READ | PROT_WRITE, MAP_SHARED, CELL_FD_MEMORY, 0);
    header = (struct cell_header *)(void *)memory;
    if (memory == MAP_FAILED || header->magic != CELL_MAGIC || header->abi != CELL_ABI)
        _exit(3);
    while (!atomic_load(&header->activated))
        (void)usleep(200);
    words = (const char *)memory + CELL_OFF_BOOT;
    if (!strcmp(words, "early-panic"))
        leave(CELL_PANICKED, "no memory");
    if (!strcmp(words, "early-death"))
        _exit(6);
    atomic_store(&header->state, CELL_RUNNING);
    ring_doorbell();
    perform(words, header->argc > 1 ? words + strlen(words) + 1 : "");
}
