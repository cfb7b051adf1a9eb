/*
 * ironclaw-warden: pid 1 of a cell's pid namespace, and the host's side of its memory file. It starts the
 * cell, seals itself, carries bytes, passes signals on, and ends with the workload's status; its end takes
 * the cell with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/landlock.h"
#include "base/weaken.h"
#include "cell/abi/files.h"
#include "walls/handover.h"
#include "warden/activate.h"
#include "warden/relay.h"
#include "warden/seal.h"
#include "warden/warden.h"

struct children {
    pid_t cell, files; /* 0: none */
};

enum { CANNOT = 125 };

static void report(char kind, const char *text)
{
    char message[ERR_TEXT_MAX + 1];
    size_t len = strnlen(text, ERR_TEXT_MAX - 1);

    message[0] = kind;
    memcpy(message + 1, text, len);
    (void)send(WARDEN_FD_CONTROL, message, len + 1, MSG_NOSIGNAL);
}

static uint64_t now_ns(int clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static int fill_header(uint8_t *base, size_t size, char **argv, unsigned roots, struct err *e)
{
    struct cell_header *h = (struct cell_header *)(void *)(base + CELL_OFF_HEADER);
    struct stat image;

    if (fstat(WARDEN_FD_IMAGE, &image) < 0)
        return err_sys(e, errno, "cannot examine the image");
    h->magic = CELL_MAGIC;
    h->abi = CELL_ABI;
    h->memory_size = size;
    h->image_size = (uint64_t)image.st_size;
    h->flags = (strchr(argv[1], 't') ? CELL_BOOT_TERMINAL : 0U) |
               (strchr(argv[1], 'p') ? CELL_BOOT_PORTS : 0U) | (roots ? CELL_BOOT_FILES : 0U);
#ifdef IRONCLAW_WEAKENED
    h->flags |= (weakened("cell-filter") ? CELL_BOOT_OPEN_FILTER : 0U) |
                (weakened("cell-filter-address") ? CELL_BOOT_WIDE_FILTER : 0U);
#endif
    h->pids = (uint32_t)strtoul(argv[2], NULL, 10);
    h->cpus = (uint32_t)strtoul(argv[3], NULL, 10);
    h->memory_limit = strtoull(argv[4], NULL, 10);
    (void)snprintf(h->hostname, sizeof(h->hostname), "sandbox");
    h->boot_realtime_ns = now_ns(CLOCK_REALTIME);
    h->boot_monotonic_ns = now_ns(CLOCK_MONOTONIC);
    return 0;
}

/* The file server: the socket at descriptor 0, the roots where they are. */
static void become_files(int socket, char **specs, unsigned n)
{
    char *argv[FILES_ROOTS + 2] = {(char *)(uintptr_t) "ironclaw-files"}, *none[] = {NULL};

    for (unsigned i = 0; i < n; i++)
        argv[i + 1] = specs[i];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (dup2(socket, 0) < 0 || fcntl(WARDEN_FD_FILES, F_SETFD, FD_CLOEXEC) < 0)
        _exit(120);
    (void)syscall(SYS_close_range, 3U, (unsigned)WARDEN_FD_FILES - 1, 0U);
    (void)syscall(SYS_close_range, WARDEN_FIRST_ROOT + n, ~0U, 0U);
    (void)syscall(SYS_execveat, WARDEN_FD_FILES, "", argv, weaken_environment(none), AT_EMPTY_PATH);
    _exit(120);
}

/* Returns our end of the stream to it, or -1 with e. */
static int start_files(char **specs, unsigned n, pid_t *pid, struct err *e)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, errno, "the warden cannot create a socket for files");
    *pid = fork();
    if (*pid == 0)
        become_files(pair[1], specs, n);
    (void)close(pair[1]);
    for (unsigned i = 0; i < n; i++)
        (void)close(WARDEN_FIRST_ROOT + (int)i);
    (void)close(WARDEN_FD_FILES);
    return *pid < 0 ? err_sys(e, errno, "the warden cannot start the file server") : pair[0];
}

/* Descriptors 3, 4, 5 and nothing else; no environment; no terminal. Until its filter stands only our own
 * code runs in it, and the workload waits for its activation, which a sealed warden alone takes: so it need
 * not wait for that here. */
static void become_cell(void)
{
    char *argv[] = {(char *)(uintptr_t) "ironclaw-cell", NULL}, *envp[] = {NULL};
    const struct rlimit no_more = {0, 0}; /* what is open stays open */
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)setsid();
    if (dup2(WARDEN_FD_KERNEL, 16) < 0 || dup2(WARDEN_FD_DOORBELL, 17) < 0 ||
        dup2(WARDEN_FD_MEMORY, 18) < 0 || dup2(WARDEN_FD_IMAGE, CELL_FD_IMAGE) < 0 ||
        dup2(18, CELL_FD_MEMORY) < 0 || dup2(17, CELL_FD_DOORBELL) < 0 || fcntl(16, F_SETFD, FD_CLOEXEC) < 0)
        _exit(120);
    for (int fd = 0; fd < CELL_FD_IMAGE && !weakened("cell-descriptors"); fd++)
        (void)close(fd);
    if (!weakened("cell-descriptors"))
        (void)syscall(SYS_close_range, CELL_FD_DOORBELL + 1U, 15U, 0U);
    (void)syscall(SYS_close_range, 17U, ~0U, 0U);
    /* The one file is for the next call. Its system call filter leaves the cell no way to name a file at all,
     * nor to get another descriptor. */
    if ((weakened("no-new-privs") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) || /* its filter needs it */
        (!weakened("landlock") &&
         landlock_restrict(&(const struct landlock_path){16, LANDLOCK_READ}, 1, true, true, NULL) < 0) ||
        setrlimit(RLIMIT_NOFILE, &no_more) < 0)
        _exit(119);
    (void)syscall(SYS_execveat, 16, "", argv, envp, AT_EMPTY_PATH);
    _exit(120);
}

static void copy_window_size(struct cell_header *h)
{
    struct winsize w;

    if (ioctl(0, TIOCGWINSZ, &w) == 0)
        atomic_store(&h->winsize, (uint32_t)w.ws_row << 16 | w.ws_col);
}

/* Lines, echo and signals are made in the cell. */
static int take_terminal(struct err *e)
{
    struct termios t;

    if (setsid() < 0 && errno != EPERM)
        return err_sys(e, errno, "cannot start a session for the terminal");
    if (ioctl(0, TIOCSCTTY, 0) < 0 || tcgetattr(0, &t) < 0)
        return err_sys(e, errno, "cannot take the terminal");
    cfmakeraw(&t);
    /* Ours alone, unlike the caller's standard streams: a terminal may take less than poll(2) promises. */
    if (fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK) < 0)
        return err_sys(e, errno, "cannot set up the terminal");
    return tcsetattr(0, TCSANOW, &t) < 0 ? err_sys(e, errno, "cannot set up the terminal") : 0;
}

static void wake_irq(const struct cell_memory *m)
{
    (void)syscall(SYS_futex, irq_wake_word(m), FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Signals from the host only: the sender's pid shows as 0 here. What comes from inside is none of pid 1's
 * business. */
static void take_signal(struct relay *r, const struct signalfd_siginfo *info, bool terminal)
{
    struct cell_header *h = cell_header(&r->memory);

    if (terminal && info->ssi_signo == SIGWINCH) {
        copy_window_size(h);
    } else if (info->ssi_code == SI_USER && info->ssi_pid == 0) {
        atomic_fetch_or(&h->signals, 1ULL << (info->ssi_signo - 1));
    } else {
        return;
    }
    wake_irq(&r->memory);
}

/* How the cell's first process ended without having said why. */
static void describe_death(int status, char *out, size_t cap)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        (void)snprintf(out, cap, "the cell was killed by its system call filter");
    else if (WIFSIGNALED(status))
        (void)snprintf(out, cap, "the cell's kernel was killed by signal %d", WTERMSIG(status));
    else
        (void)snprintf(out, cap, "the cell's kernel did not start (status %d)", WEXITSTATUS(status));
}

/* What the cell changed of the host's files is the host's before we end. */
static void finish_files(struct relay *r, struct children *c)
{
    int socket = r->channels[CELL_STREAM_FILES].out;
    char answers[4096];
    ssize_t n;

    if (c->files <= 0)
        return;
    (void)shutdown(socket, SHUT_WR);
    do { /* nobody reads them any more, but the server must not wait for that */
        n = read(socket, answers, sizeof(answers));
    } while (n > 0 || (n < 0 && errno == EINTR));
    while (waitpid(c->files, NULL, 0) < 0 && errno == EINTR)
        ;
    c->files = 0;
}

/* Everything that ended: the cell's orphans come to pid 1. True once its first process is among it. */
static bool reap(struct children *c, int *status)
{
    bool ended = false;
    pid_t pid;
    int st;

    while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
        if (pid == c->files)
            c->files = 0;
        if (pid != c->cell)
            continue;
        *status = st;
        ended = true;
    }
    return ended;
}

/* All output is written, all files are: the host need not wait for our own end. */
static int tell_status(int status)
{
    const char message[2] = {CONTROL_EXIT, (char)status};

    (void)send(WARDEN_FD_CONTROL, message, sizeof(message), MSG_NOSIGNAL);
    return status;
}

/* The workload has ended, or could not be executed. */
static int end_workload(struct relay *r, struct children *c, uint32_t state)
{
    uint32_t word = atomic_load(&cell_header(&r->memory)->status);
    char text[ERR_TEXT_MAX];

    relay_flush(r, true);
    finish_files(r, c);
    if (state == CELL_NOEXEC) {
        cell_message(&r->memory, text, sizeof(text));
        report(CONTROL_ERROR, text);
    }
    return tell_status(word & 0x7f ? (int)(128 + (word & 0x7f)) : (int)(word >> 8 & 0xff));
}

/* The kernel has ended, with or without a word. */
static int end_kernel(struct relay *r, struct children *c, uint32_t state, int status)
{
    char text[ERR_TEXT_MAX];

    relay_flush(r, false);
    finish_files(r, c);
    if (state == CELL_PANICKED) {
        (void)snprintf(text, sizeof(text), "kernel panic in the cell: ");
        cell_message(&r->memory, text + strlen(text), sizeof(text) - strlen(text));
    } else if (state == CELL_KILLED) {
        (void)snprintf(text, sizeof(text), "the cell cannot go on: ");
        cell_message(&r->memory, text + strlen(text), sizeof(text) - strlen(text));
        report(CONTROL_ERROR, text);
        return tell_status(128 + SIGKILL);
    } else if (state > CELL_KILLED) {
        (void)snprintf(text, sizeof(text), "the cell's memory does not say what became of it");
    } else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        return tell_status(128 + SIGKILL); /* from the host: what for is said there */
    } else {
        describe_death(status, text, sizeof(text));
    }
    report(CONTROL_ERROR, text);
    return tell_status(CANNOT);
}

/* Returns the exit status once the cell has ended. */
static int supervise(struct relay *r, struct children *c, int signals, bool terminal)
{
    enum { SIGNALS, CONTROL, DOORBELL, RELAY };
    static struct pollfd fds[RELAY + RELAY_POLL];
    struct cell_header *h = cell_header(&r->memory);
    struct signalfd_siginfo info;
    bool ready = false, dead = false, activated = false;
    int status = 0;
    struct err e = ERR_INIT;

    for (;;) {
        unsigned n = relay_prepare(r, fds + RELAY);
        uint32_t state;
        uint64_t count;
        int rc, wait = relay_retries(r) ? RELAY_RETRY_MS : -1;
        fds[SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
        fds[CONTROL] = (struct pollfd){.fd = WARDEN_FD_CONTROL, .events = activated ? 0 : POLLIN};
        fds[DOORBELL] = (struct pollfd){.fd = WARDEN_FD_DOORBELL, .events = POLLIN};
        /* Armed first, looked at then: a change between the two rings. */
        atomic_store(&h->doorbell_armed, 1);
        state = atomic_load(&h->state);
        if (streams_any_dirty(&r->memory) || state > CELL_RUNNING || (!ready && state == CELL_RUNNING) ||
            dead)
            wait = 0;
        rc = poll(fds, RELAY + n, wait);
        atomic_store(&h->doorbell_armed, 0);
        if (rc < 0) {
            if (errno != EINTR)
                return CANNOT;
            continue;
        }
        if (fds[CONTROL].revents & (POLLHUP | POLLERR))
            return 128 + SIGKILL; /* the host side is gone: so are we */
        if (fds[CONTROL].revents & POLLIN) {
            rc = warden_activate(r, &e);
            if (rc < 0) {
                report(CONTROL_ERROR, e.text);
                return tell_status(CANNOT);
            }
            activated = rc > 0;
        }
        if (fds[DOORBELL].revents & POLLIN)
            (void)!read(WARDEN_FD_DOORBELL, &count, sizeof(count));
        /* Before what was typed after it: the program that reads that may ask for the new window size. */
        while (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            if (info.ssi_signo == SIGCHLD)
                dead = reap(c, &status) || dead;
            else
                take_signal(r, &info, terminal);
        }
        relay_serve(r, fds + RELAY);
        state = atomic_load(&h->state);
        if (!ready && (state == CELL_RUNNING || state == CELL_EXITED || state == CELL_NOEXEC)) {
            ready = true;
            report(CONTROL_READY, "");
        }
        if (state == CELL_EXITED || state == CELL_NOEXEC)
            return end_workload(r, c, state);
        if (state > CELL_RUNNING || dead)
            return end_kernel(r, c, state, status);
    }
}

int main(int argc, char **argv)
{
    static struct relay relay;
    struct err e = ERR_INIT;
    struct stat memory;
    sigset_t all;
    bool terminal = argc > 1 && strchr(argv[1], 't');
    uint8_t *base;
    struct children children = {0, 0};
    unsigned roots =
        argc >= WARDEN_FIXED_WORDS ? (unsigned)strtoul(argv[WARDEN_FIXED_WORDS - 1], NULL, 10) : 0;
    int signals, files = -1;

    if (argc < WARDEN_FIXED_WORDS || roots > FILES_ROOTS || (unsigned)argc != WARDEN_FIXED_WORDS + roots ||
        getpid() != 1 || fstat(WARDEN_FD_MEMORY, &memory) < 0) {
        (void)!write(2, "ironclaw-warden is started by the cell wall, not by hand\n", 57);
        return CANNOT;
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    /* Header, streams and rings; the heap behind them is none of our business. */
    base = mmap(NULL, CELL_OFF_HEAP, PROT_READ | PROT_WRITE, MAP_SHARED, WARDEN_FD_MEMORY, 0);
    signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (base == MAP_FAILED || signals < 0) {
        (void)err_sys(&e, errno, "the warden cannot map the cell's memory");
    } else if ((!terminal || take_terminal(&e) == 0) &&
               fill_header(base, (size_t)memory.st_size, argv, roots, &e) == 0 &&
               (roots == 0 ||
                (files = start_files(argv + WARDEN_FIXED_WORDS, roots, &children.files, &e)) >= 0)) {
        relay_init(&relay, base, strchr(argv[1], 'p') != NULL, terminal, files);
        if (terminal)
            copy_window_size(cell_header(&relay.memory));
        children.cell = fork();
        if (children.cell == 0)
            become_cell();
        (void)close(WARDEN_FD_IMAGE);
        (void)close(WARDEN_FD_MEMORY);
        (void)close(WARDEN_FD_KERNEL);
        if (children.cell < 0)
            (void)err_sys(&e, errno, "the warden cannot start the cell");
        else if (warden_seal(&e) == 0)
            return supervise(&relay, &children, signals, terminal);
    }
    report(CONTROL_ERROR, e.text);
    return CANNOT;
}
