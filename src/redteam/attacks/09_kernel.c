/*
 * Family 9: the kernel's own surface. Every system call number is entered with several sets of arguments,
 * each in a child of its own with a watchdog; what answers anything but EPERM or ENOSYS, or does not kill, is
 * reachable.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

enum {
    NUMBERS = 1024,
    SETS = 4,
    STUCK_US = 30000,
    STUCK_KILL_MS = 600,
    TRIES = 6,
    STUCK_TRIES = 3, /* or between the call and its return: what really waits does so each time */
    OLD_NUMBERS = 512,
    FUTURE = 512,
    BATCH = 64,
    X32_BIT = 0x40000000
};

enum outcome { UNTRIED, REFUSED, ABSENT, ANSWERED, STUCK, CRASHED, KILLED };

/* Filled by the children. */
struct slot {
    volatile int entered, returned;
    volatile long result;
};

static const char *const set_names[SETS] = {"zeros", "ones", "minus", "memory"};

static long enter(long number, int set, char *memory)
{
    long m = (long)(uintptr_t)memory;

    switch (set) {
    case 0:
        return syscall(number, 0L, 0L, 0L, 0L, 0L, 0L);
    case 1:
        return syscall(number, 1L, 1L, 1L, 1L, 1L, 1L);
    case 2:
        return syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
    default:
        return syscall(number, m, m, 64L, m, m, 64L);
    }
}

static long enter_old(long number)
{
    long rc = -1;

#if defined(__x86_64__)
    /* The 32-bit entry; the registers have the same names there. */
    __asm__ volatile("int $0x80"
                     : "=a"(rc)
                     : "a"(number), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    if (rc < 0 && rc > -4096) {
        errno = (int)-rc;
        rc = -1;
    }
#else
    (void)number;
    errno = ENOSYS;
#endif
    return rc;
}

/* One entry in a child, natively with `set` or through the 32-bit entry. */
static enum outcome try_once(struct slot *s, long number, int set, bool old)
{
    const struct itimerval limit = {.it_value = {.tv_usec = STUCK_US}};
    int status = 0;
    pid_t pid;

    s->entered = s->returned = 0;
    pid = fork();
    if (pid == 0) {
        /* Not in the stack: a call that writes to it must not spoil what we report. */
        char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pid_t self = getpid();
        long rc;
        /* The default action ends the child; a mask or handler from before would not. */
        (void)signal(SIGALRM, SIG_DFL);
        (void)setitimer(ITIMER_REAL, &limit, NULL);
        s->entered = 1;
        rc = old ? enter_old(number) : enter(number, set, memory);
        if (rc == 0 && syscall(SYS_getpid) != self)
            _exit(0); /* the call made a process: this is it */
        s->result = rc < 0 ? -errno : rc;
        s->returned = 1;
        _exit(0);
    }
    if (pid < 0)
        return UNTRIED;
    /* A call may have switched its timer off, or stopped the child: kill what is left after a while. */
    for (uint64_t until = now_ms() + STUCK_KILL_MS;;) {
        pid_t got = waitpid(pid, &status, WNOHANG | WUNTRACED);
        if (got == pid && !WIFSTOPPED(status))
            break;
        if (now_ms() >= until || (got == pid && WIFSTOPPED(status))) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return s->entered ? STUCK : UNTRIED;
        }
        (void)usleep(50);
    }
    if (!s->entered)
        return UNTRIED;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGSYS ? KILLED : WTERMSIG(status) == SIGALRM ? STUCK : CRASHED;
    if (!s->returned)
        return ANSWERED; /* exit and its kind */
    return s->result == -EPERM ? REFUSED : s->result == -ENOSYS ? ABSENT : ANSWERED;
}

/* On a busy host a child's time may be up before it got to its call, or there is no process left for it. */
static enum outcome try_number(struct slot *s, long number, int set, bool old)
{
    enum outcome got = UNTRIED;

    for (int i = 0; i < TRIES && (got == UNTRIED || (got == STUCK && i < STUCK_TRIES)); i++) {
        if (i > 0)
            (void)usleep(STUCK_US);
        got = try_once(s, number, set, old);
    }
    return got;
}

/* Wait for a child as try_number() does; true if it ended by itself with status 0. */
static bool ended_well(pid_t pid)
{
    int status = 0;

    for (uint64_t until = now_ms() + 1000;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (now_ms() >= until) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return false;
        }
        (void)usleep(200);
    }
}

/* Numbers that no kernel of today has: a call that is refused or absent does nothing, so one child can try
 * many. True if all of them were; else each has to be tried alone. */
static bool all_absent(struct slot *s, long first, long n)
{
    pid_t pid;

    s->returned = 0;
    pid = fork();
    if (pid == 0) {
        for (long number = first; number < first + n; number++)
            for (int set = 0; set < SETS; set++) {
                static char memory[64];
                if (enter(number, set, memory) != -1 || (errno != ENOSYS && errno != EPERM))
                    _exit(1);
                s->returned++;
            }
        _exit(0);
    }
    return pid > 0 && ended_well(pid) && s->returned == n * SETS;
}

static bool is_reachable(enum outcome o)
{
    return o == ANSWERED || o == STUCK || o == CRASHED;
}

/* "0-20,22,..." in lines of a length that a record takes. */
static void tell_list(const char *key, const bool *set, int n)
{
    char line[600] = "";
    size_t used = 0;

    for (int i = 0; i < n; i++) {
        int last = i;
        if (!set[i])
            continue;
        while (last + 1 < n && set[last + 1])
            last++;
        if (used > 560) {
            fact(key, "%s", line);
            used = 0;
        }
        used += (size_t)snprintf(line + used, sizeof(line) - used, last > i ? "%s%d-%d" : "%s%d",
                                 used ? "," : "", i, last);
        i = last;
    }
    if (used)
        fact(key, "%s", line);
}

static void calls(const struct order *o)
{
    static bool reachable[NUMBERS], killed[NUMBERS];
    struct slot *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned count = 0, untried = 0, absent[SETS] = {0};
    long first = order_number(o, "first"), n = order_number(o, "count");

    (void)signal(SIGHUP, SIG_IGN);
    for (long number = first; number < first + n && number < NUMBERS; number++) {
        if (number >= FUTURE && number % BATCH == 0 && all_absent(s, number, BATCH)) {
            number += BATCH - 1;
            continue;
        }
        for (int set = 0; set < SETS; set++) {
            enum outcome got = try_number(s, number, set, false);
            reachable[number] = reachable[number] || is_reachable(got);
            killed[number] = killed[number] || got == KILLED;
            untried += got == UNTRIED;
            absent[set] += got == ABSENT;
        }
    }
    for (int i = 0; i < NUMBERS; i++)
        count += reachable[i];
    for (int set = 0; set < SETS; set++)
        fact(set_names[set], "%u answered ENOSYS", absent[set]);
    tell_list("reachable", reachable, NUMBERS);
    tell_list("killed", killed, NUMBERS);
    fact("count", "%u", count);
    fact("untried", "%u", untried);
    stepf("sweep", (long)n, "%ld numbers from %ld, %u reachable", n, first, count);
}

static void foreign_entries(const struct order *o)
{
    static bool reachable[OLD_NUMBERS + 64];
    struct slot *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned old = 0, beyond = 0, x32 = 0;

    (void)o;
    for (long i = 0; i < OLD_NUMBERS; i++) {
        /* Where the kernel has no such entry the instruction itself is the crash. */
        enum outcome got = try_number(s, i, 0, true);
        reachable[i] = got == ANSWERED || got == STUCK;
        old += reachable[i];
        /* A kernel of the wall's own may take the instruction for another spelling of its native entry, with
         * the same numbers and the same filter. It is a way around the filter if it gives more than that. */
        beyond += reachable[i] && !is_reachable(try_number(s, i, 0, false));
    }
    tell_list("reachable-32-bit", reachable, OLD_NUMBERS);
    stepf("int80", (long)old, "%u calls through the 32-bit entry", old);
    memset(reachable, 0, sizeof(reachable));
    for (long i = 0; i < OLD_NUMBERS + 48; i++)
        x32 += (reachable[i] = is_reachable(try_number(s, i | X32_BIT, 0, false)));
    tell_list("reachable-x32", reachable, OLD_NUMBERS + 48);
    stepf("x32", (long)x32, "%u calls with the x32 bit", x32);
    fact("served-32-bit", "%u", old);
    if (beyond)
        claim("%u calls that are refused otherwise are served through the 32-bit entry", beyond);
    if (x32)
        claim("%u x32 calls are served", x32);
}

static void tried(const char *name, long rc)
{
    step(name, rc);
    if (rc >= 0)
        claim("the kernel facility '%s' was given", name);
}

/* The facilities from which most kernel exploits start, each with arguments that would work. */
static void facilities(const struct order *o)
{
    char room[256] = {0};
    struct {
        uint32_t type, key_size, value_size, max_entries, flags;
        char rest[64];
    } map = {.type = 2, .key_size = 4, .value_size = 4, .max_entries = 1};
    struct {
        uint32_t type, size;
        uint64_t config, period, sample, format, flags;
        char rest[80];
    } perf = {.type = 1, .size = 112, .flags = 1};

    (void)o;
    tried("io-uring", syscall(425, 1, room));
    tried("bpf-map", syscall(SYS_bpf, 0, &map, sizeof(map)));
    tried("perf", syscall(SYS_perf_event_open, &perf, 0, -1, -1, 0));
    tried("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
    tried("userfaultfd-user", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
#ifdef SYS_modify_ldt
    tried("modify-ldt", syscall(SYS_modify_ldt, 1, room, 16UL));
    tried("iopl", syscall(SYS_iopl, 3));
    tried("ioperm", syscall(SYS_ioperm, 0, 1, 1));
#endif
    tried("finit-module", syscall(SYS_finit_module, 0, "", 0));
    tried("init-module", syscall(SYS_init_module, room, sizeof(room), ""));
    tried("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    tried("swapon", syscall(SYS_swapon, "/tmp/swap", 0));
    tried("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* CAD off, the harmless one */, NULL));
    tried("acct", syscall(SYS_acct, "/tmp/acct"));
    tried("quotactl", syscall(SYS_quotactl, 0x800002 << 8, NULL, 0, NULL));
    tried("settimeofday", syscall(SYS_settimeofday, NULL, (int[2]){0, 0}));
    tried("sethostname", syscall(SYS_sethostname, "owned", 5));
    tried("kcmp", syscall(SYS_kcmp, getpid(), getppid(), 0, 1, 1));
    tried("fanotify", syscall(SYS_fanotify_init, 0, O_RDONLY));
    tried("lookup-dcookie", syscall(212, 0L, room, sizeof(room)));
    tried("move-pages", syscall(SYS_move_pages, getppid(), 0, NULL, NULL, NULL, 0));
    tried("dumpable", prctl(PR_SET_DUMPABLE, 2, 0, 0, 0)); /* only the kernel may set 2 */
}

static void kernel_log(const struct order *o)
{
    char buf[512];
    long n = syscall(SYS_syslog, 3, buf, sizeof(buf));

    (void)o;
    step("syslog", n);
    if (n > 0)
        claim("read %ld bytes of the kernel's log", n);
    step("size", syscall(SYS_syslog, 10, NULL, 0));
    (void)try_read("kmsg", "/dev/kmsg");
    (void)try_read("proc-kmsg", "/proc/kmsg");
}

const struct inside_attack inside_kernel[] = {
    {"kernel.calls", calls},
    {"kernel.foreign-entries", foreign_entries},
    {"kernel.facilities", facilities},
    {"kernel.log", kernel_log},
    {NULL, NULL},
};
