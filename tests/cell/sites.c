/*
 * System call sites of many shapes, which the cell's kernel patches (src/cell/arch/x86_64/patch.c): what they
 * call is decided when they do it, and everything around them stays as it was.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "show.h"

extern char **__environ;

/* long site_call(nr, a, b, c, d, e): one bare site for all calls, with a gap behind it. */
__asm__(".text\n.p2align 4\n"
        "site_call: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n mov %r8, %r10\n"
        "mov %r9, %r8\n jmp site\n.p2align 4\n"
        "site_restorer: mov $15, %eax\n"
        "site: syscall\n"
        "site_end: ret\n .p2align 4\n ret\n .p2align 4\n");
long site_call(long nr, long a, long b, long c, long d, long e);
extern const char site[], site_end[], site_restorer[];

/* 16 functions that have not been called yet, for threads to meet in: each at another place in its 16 bytes.
 */
__asm__(".p2align 4\n"
        "fresh_sites:\n"
        ".set skip, 1\n"
        ".rept 16\n"
        ".p2align 4\n .skip skip, 0x90\n"
        "mov %edi, %eax\n syscall\n ret\n .p2align 4\n ret\n .p2align 4\n"
        ".set skip, skip % 5 + 1\n"
        ".endr\n");
extern const char fresh_sites[];
enum { FRESH = 16, FRESH_SIZE = 32, THREADS = 4, ROUNDS = 3000 };

/* uint64_t site_keeps(void): what of the red zone and of the registers a call changes, as bits. */
__asm__(".p2align 4\n"
        "site_keeps: push %rbx\n push %r12\n"
        "mov $39, %eax\n mov $1, %edi\n mov $2, %esi\n mov $3, %edx\n mov $4, %r10d\n mov $5, %r8d\n mov $6, "
        "%r9d\n"
        "mov $7, %ebx\n mov $8, %r12d\n movq $9, -8(%rsp)\n movq $10, -128(%rsp)\n"
        "cmp %eax, %eax\n"
        "syscall\n"
        "mov $0, %eax\n"
        "cmp $1, %rdi\n jne 1f\n cmp $2, %rsi\n jne 1f\n cmp $3, %rdx\n jne 1f\n cmp $4, %r10\n jne 1f\n"
        "cmp $5, %r8\n jne 1f\n cmp $6, %r9\n jne 1f\n cmp $7, %rbx\n jne 1f\n cmp $8, %r12\n jne 1f\n"
        "cmpq $9, -8(%rsp)\n jne 1f\n cmpq $10, -128(%rsp)\n jne 1f\n jmp 2f\n"
        "1: mov $1, %eax\n"
        "2: pop %r12\n pop %rbx\n ret\n .p2align 4\n ret\n .p2align 4\n");
long site_keeps(void);

static volatile int count;
static volatile long where;

static void note(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info;
    where = (long)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    count++;
}

static void handle(int sig, int flags)
{
    struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};

    (void)sigaction(sig, &a, NULL);
}

static void test_numbers(void)
{
    int status;

    for (int i = 0; i < 3; i++)
        show("number", site_call(SYS_getpid, 0, 0, 0, 0, 0) == getpid());
    show("another", site_call(SYS_write, 1, (long)"by the site\n", 12, 0, 0));
    show("error", -site_call(SYS_close, -1, 0, 0, 0, 0));
    show("keeps registers", site_keeps());
    show("and again", site_keeps());
    (void)fflush(stdout);
    if (site_call(SYS_fork, 0, 0, 0, 0, 0) == 0)
        (void)site_call(SYS_exit_group, site_call(SYS_getppid, 0, 0, 0, 0, 0) != getpid() ? 3 : 4, 0, 0, 0,
                        0);
    (void)wait(&status);
    show("fork", WEXITSTATUS(status));
    if (site_call(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0)
        (void)site_call(SYS_exit_group, 5, 0, 0, 0, 0);
    (void)wait(&status);
    show("clone", WEXITSTATUS(status));
}

static volatile int thread_ran;

static void thread(void)
{
    thread_ran = 1;
    (void)site_call(SYS_exit, 0, 0, 0, 0, 0);
}

/* The new thread goes on behind the site, with a stack of its own. */
static void test_thread(void)
{
    static uint64_t stack[4096];
    const long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

    stack[4095 - 8] = (uint64_t)(uintptr_t)thread; /* where its `ret` leads */
    show_ok("thread", site_call(SYS_clone, flags, (long)&stack[4095 - 8], 0, 0, 0));
    while (!thread_ran)
        (void)sched_yield();
    show("thread ran", thread_ran);
}

/* Where a handler sees the program stand: at the site if the call is to be done again, else behind it. */
static void test_interruption(void)
{
    struct itimerval soon = {.it_value = {0, 20000}};
    int fds[2];
    char c;

    (void)!pipe(fds);
    (void)!write(fds[1], "x", 1);
    show("read", site_call(SYS_read, fds[0], (long)&c, 1, 0, 0));
    handle(SIGALRM, 0);
    (void)setitimer(ITIMER_REAL, &soon, NULL);
    show("interrupted", -site_call(SYS_read, fds[0], (long)&c, 1, 0, 0));
    show("stands", where - (long)site);
    if (fork() == 0) {
        (void)usleep(80000);
        (void)!write(fds[1], "y", 1);
        _exit(0);
    }
    handle(SIGALRM, SA_RESTART);
    (void)setitimer(ITIMER_REAL, &soon, NULL);
    show("restarted", site_call(SYS_read, fds[0], (long)&c, 1, 0, 0));
    show("stands", where - (long)site);
    show("alarms", count);
    (void)wait(NULL);
}

struct kernel_action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    const char *restorer;
    uint64_t mask;
};

/* rt_sigreturn by a site that has made other calls: all registers and flags are those of before. */
static void test_return(void)
{
    struct kernel_action a = {note, SA_SIGINFO | 0x04000000, site_restorer, 0};
    struct itimerval often = {.it_value = {0, 1000}, .it_interval = {0, 1000}}, never = {{0, 0}, {0, 0}};
    long wrong = 0;

    (void)syscall(SYS_rt_sigaction, SIGALRM, &a, NULL, 8);
    count = 0;
    (void)setitimer(ITIMER_REAL, &often, NULL);
    while (count < 20 && !wrong) {
        long bad;
        __asm__ volatile("mov $1000000, %%ecx\n mov $0x5555, %%r11\n stc\n"
                         "1: jnc 2f\n lea -0x5555(%%r11), %%rax\n"
                         "lea -1(%%rcx), %%rcx\n jrcxz 3f\n jmp 1b\n"
                         "2: mov $1, %%eax\n"
                         "3:"
                         : "=a"(bad)
                         :
                         : "rcx", "r11", "cc", "memory");
        wrong += bad;
    }
    (void)setitimer(ITIMER_REAL, &never, NULL);
    show("registers after a handler", wrong);
}

static void *meet(void *barrier)
{
    long pid = getpid(), wrong = 0;

    for (int i = 0; i < FRESH; i++) {
        long (*call)(long) = (long (*)(long))(uintptr_t)(fresh_sites + i * FRESH_SIZE);
        (void)pthread_barrier_wait(barrier);
        for (int k = 0; k < ROUNDS; k++)
            wrong += call(SYS_getpid) != pid;
    }
    return (void *)wrong;
}

static void test_race(void)
{
    pthread_t t[THREADS];
    pthread_barrier_t barrier;
    long wrong = 0;

    (void)pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_create(&t[i], NULL, meet, &barrier);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        (void)pthread_join(t[i], &result);
        wrong += (long)result;
    }
    show("threads at fresh sites", wrong);
}

static void *block(void *fd)
{
    char c;

    for (;;)
        (void)!read(*(int *)fd, &c, 1);
    return NULL;
}

/* Where a cancelled thread stands is what libc looks at. */
static void test_cancel(void)
{
    long cancelled = 0;
    int fds[2];

    (void)!pipe(fds);
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        void *result;
        (void)pthread_create(&t, NULL, block, &fds[0]);
        if (i % 2)
            (void)usleep(i * 5);
        (void)pthread_cancel(t);
        (void)pthread_join(t, &result);
        cancelled += result == PTHREAD_CANCELED;
    }
    show("cancelled", cancelled);
}

int main(int argc, char **argv)
{
    char *again[] = {argv[0], (char *)"again", NULL};

    if (argc > 1) {
        show("executed", site_call(SYS_getpid, 0, 0, 0, 0, 0) == getpid());
        return 0;
    }
    test_numbers();
    test_thread();
    test_interruption();
    test_return();
    test_race();
    test_cancel();
    (void)site_call(SYS_execve, (long)"/proc/self/exe", (long)again, (long)__environ, 0, 0);
    return 1;
}
