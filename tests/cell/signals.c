/* Handlers, masks, alternate stacks, restart, queues, faults, sigsuspend, sigwait, siglongjmp. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "show.h"

static volatile int count, last_code, last_value;
static volatile int order[16];
static void *volatile fault_address;
static sigjmp_buf jump;
static char alt_stack[65536];
static volatile int on_alt;

static void note(int sig)
{
    order[count++ % 16] = sig;
}

static void note_info(int sig, siginfo_t *info, void *context)
{
    (void)context;
    order[count++ % 16] = sig;
    last_code = info->si_code;
    last_value = info->si_value.sival_int;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    char here;

    (void)sig, (void)context;
    fault_address = info->si_addr;
    last_code = info->si_code;
    on_alt = &here >= alt_stack && &here < alt_stack + sizeof(alt_stack);
    siglongjmp(jump, 1);
}

static void skip(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)sig, (void)info;
    count++;
    u->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
}

static void handle(int sig, void (*fn)(int), int flags)
{
    struct sigaction a = {.sa_handler = fn, .sa_flags = flags};

    (void)sigaction(sig, &a, NULL);
}

static void handle_info(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = {.sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO};

    (void)sigaction(sig, &a, NULL);
}

static void test_masks(void)
{
    sigset_t set, pending, old;

    handle(SIGUSR1, note, 0);
    handle(SIGUSR2, note, 0);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGUSR2);
    (void)sigprocmask(SIG_BLOCK, &set, &old);
    (void)raise(SIGUSR2);
    (void)raise(SIGUSR1);
    (void)raise(SIGUSR1);
    show("none yet", count);
    (void)sigpending(&pending);
    show("pending USR1", sigismember(&pending, SIGUSR1));
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    show("delivered", count);
    printf("order %d %d\n", order[0], order[1]);
    show("block KILL", sigaction(SIGKILL, &(struct sigaction){.sa_handler = note}, NULL));
    show("no such signal", sigaction(65, &(struct sigaction){.sa_handler = note}, NULL));
    count = 0;
    handle(SIGUSR1, note, (int)SA_RESETHAND);
    (void)raise(SIGUSR1);
    show("once", signal(SIGUSR1, SIG_IGN) == SIG_DFL);
    (void)raise(SIGUSR1);
    show("ignored", count);
}

static void test_queue(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec soon = {0, 1000000};

    count = 0;
    handle_info(SIGRTMIN + 1, note_info, 0);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGRTMIN + 1);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 3; i++)
        show("sigqueue", sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i}));
    show("sigwaitinfo", sigwaitinfo(&set, &info) == SIGRTMIN + 1);
    printf("first value %d code %d\n", info.si_value.sival_int, info.si_code);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("then %d, last value %d code %d\n", count, last_value, last_code);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    show("sigtimedwait", sigtimedwait(&set, &info, &soon));
}

static void test_faults(void)
{
    stack_t s = {.ss_sp = alt_stack, .ss_size = sizeof(alt_stack)}, old;
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int zero = 0;

    show("sigaltstack", sigaltstack(&s, NULL));
    show("sigaltstack small", sigaltstack(&(stack_t){.ss_sp = alt_stack, .ss_size = 100}, NULL));
    handle_info(SIGSEGV, on_fault, SA_ONSTACK);
    if (sigsetjmp(jump, 1) == 0)
        page[5] = 1;
    printf("fault at +%ld code %d on alternate stack %d\n", (long)((char *)fault_address - page), last_code,
           on_alt);
    if (sigsetjmp(jump, 1) == 0)
        *(volatile int *)16 = 1;
    printf("fault at %ld code %d\n", (long)fault_address, last_code);
    handle_info(SIGFPE, on_fault, 0);
    if (sigsetjmp(jump, 1) == 0)
        zero = 1 / zero;
    printf("division code %d on alternate stack %d\n", last_code, on_alt);
    handle_info(SIGILL, skip, 0);
    count = 0;
    __asm__ volatile("ud2");
    show("stepped over", count);
    (void)sigaltstack(NULL, &old);
    show("not on it", old.ss_flags);
}

static void test_interruption(void)
{
    int fds[2];
    char c;
    struct timespec t = {5, 0}, left = {0};
    struct itimerval alarm_soon = {.it_value = {0, 20000}};
    sigset_t none;

    if (pipe(fds) < 0)
        return;
    count = 0;
    handle(SIGALRM, note, 0);
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("read", read(fds[0], &c, 1));
    show("alarms", count);
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("nanosleep", nanosleep(&t, &left));
    show("seconds left", left.tv_sec);
    handle(SIGALRM, note, SA_RESTART);
    if (fork() == 0) {
        struct timespec later = {0, 80000000};
        (void)nanosleep(&later, NULL);
        (void)write(fds[1], "y", 1);
        _exit(0);
    }
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("restarted read", read(fds[0], &c, 1));
    show("alarms", count);
    (void)wait(NULL);
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    (void)sigemptyset(&none);
    show("sigsuspend", sigsuspend(&none));
    handle(SIGCHLD, note, 0);
    count = 0;
    if (fork() == 0)
        _exit(0);
    while (wait(NULL) < 0 && errno == EINTR)
        ;
    show("SIGCHLD", count > 0);
}

static volatile double kept;
static void use_vectors(int sig)
{
    (void)sig;
    count++;
    kept = kept * 1.5 + 2;
}

/* Vector registers survive a handler that uses them, at any point of a loop. */
static void test_registers(void)
{
    struct itimerval fast = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
    double sum = 0, expected = 0;
    int bad = 0;

    count = 0;
    handle(SIGALRM, use_vectors, SA_RESTART);
    (void)setitimer(ITIMER_REAL, &fast, NULL);
    for (int round = 0; round < 400 || (count < 20 && round < 200000); round++) {
        sum = 0;
        for (int i = 0; i < 20000; i++)
            sum += i * 0.25;
        expected = 20000.0 * 19999 / 2 * 0.25;
        bad += sum != expected;
    }
    (void)setitimer(ITIMER_REAL, &off, NULL);
    show("wrong sums", bad);
    show("many handlers", count >= 20);
}

static void *send_to_main(void *main_thread)
{
    (void)pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
    return NULL;
}

static void test_threads(void)
{
    pthread_t self = pthread_self(), t;
    sigset_t set, old;
    int sig = 0;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)pthread_sigmask(SIG_BLOCK, &set, &old);
    handle(SIGUSR1, note, 0);
    (void)pthread_create(&t, NULL, send_to_main, &self);
    show("sigwait", sigwait(&set, &sig));
    show("is USR1", sig == SIGUSR1);
    (void)pthread_join(t, NULL);
}

int main(void)
{
    test_masks();
    test_queue();
    test_faults();
    test_interruption();
    test_registers();
    test_threads();
    return 0;
}
