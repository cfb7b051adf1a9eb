/*
 * The cell's filter in force on the running kernel: every number from both sides of the address check, tried
 * for real. A page at CELL_TEXT holds the two instructions that a call from the inside takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cell/abi/layout.h"
#include "cell/boot/filter.h"

enum { NUMBERS = 1024, TRAPPED = 42, RETURNED = 43, RESTORER = 64 /* offset in the page */ };

/* long call(nr, a, b, c): as syscall(2), and behind it what returns from a signal handler. */
static const uint8_t inside_call[] = {0x48, 0x89, 0xf8,                              /* mov %rdi,%rax */
                                      0x48, 0x89, 0xf7,                              /* mov %rsi,%rdi */
                                      0x48, 0x89, 0xd6,                              /* mov %rdx,%rsi */
                                      0x48, 0x89, 0xca,                              /* mov %rcx,%rdx */
                                      0x4d, 0x31, 0xd2,                              /* xor %r10,%r10 */
                                      0x4d, 0x31, 0xc0,                              /* xor %r8,%r8 */
                                      0x4d, 0x31, 0xc9,                              /* xor %r9,%r9 */
                                      0x0f, 0x05, 0xc3};                             /* syscall; ret */
static const uint8_t inside_restorer[] = {0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05}; /* rt_sigreturn */

/*
 * uretprobe and uprobe: the host's kernel passes these two by every filter (Linux 6.14), as its own probes
 * make them. Anybody else gets SIGILL or ENXIO for them, and nothing more.
 */
static bool is_beyond_filters(long nr)
{
    return nr == 335 || nr == 336;
}

typedef long (*call_fn)(long nr, long a, long b, long c);

static volatile unsigned trapped;

static call_fn inside(void)
{
    return (call_fn)(uintptr_t)CELL_TEXT;
}

/* The same from this program's text. Not syscall(2): errno is not to be touched with a filter in force. */
static long outside(long nr, long a, long b, long c)
{
    long result;

    __asm__ volatile("xor %%r10d, %%r10d\n xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r8", "r9", "r10", "r11", "memory");
    return result;
}

static void on_trap(int sig)
{
    (void)sig;
    trapped++;
}

static int map_page(void **state)
{
    uint8_t *page = mmap((void *)(uintptr_t)CELL_TEXT, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    (void)state;
    if (page == MAP_FAILED)
        return -1;
    memcpy(page, inside_call, sizeof(inside_call));
    memcpy(page + RESTORER, inside_restorer, sizeof(inside_restorer));
    return 0;
}

/* From here on only raw calls. */
static bool enter(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {on_trap, 0x04000000UL /* SA_RESTORER */, (void *)(uintptr_t)(CELL_TEXT + RESTORER), 0};

    (void)signal(SIGSEGV, SIG_DFL); /* the test library's handlers make calls */
    (void)signal(SIGILL, SIG_DFL);
    (void)signal(SIGBUS, SIG_DFL);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, 8) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, cell_filter()) == 0;
}

static void leave(int code)
{
    (void)inside()(SYS_exit_group, code, 0, 0);
}

static int status_of(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void every_call_of_program_code_is_trapped(void **state)
{
    pid_t pid = fork();
    int status;

    (void)state;
    if (pid == 0) {
        if (!enter())
            _exit(1);
        for (long nr = 0; nr < NUMBERS; nr++)
            if (!is_beyond_filters(nr))
                (void)outside(nr, 0, 0, 0);
        for (long nr = 0; nr < 512; nr++)
            (void)outside(nr | 0x40000000, 0, 0, 0);
        leave(trapped == NUMBERS - 2 + 512 ? TRAPPED : 2);
    }
    status = status_of(pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), TRAPPED);
}

/* Did the call, made from the kernel's text, get through to the host? */
static bool reaches(long nr, long a, long b, long c)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        if (!enter())
            _exit(1);
        (void)inside()(nr, a, b, c);
        leave(RETURNED);
    }
    status = status_of(pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        fail_msg("the filter could not be loaded");
    return true; /* returned, exited, or came back from a signal frame that there was not */
}

static void the_calls_that_reach_the_host_are_these(void **state)
{
    /* With no argument at all, or with the one in the second column. */
    static const struct {
        long nr, a, b, c;
    } expected[] = {{SYS_mprotect, 0, 0, 0},        {SYS_munmap, 0, 0, 0},
                    {SYS_rt_sigaction, 0, 0, 0},    {SYS_rt_sigprocmask, 0, 0, 0},
                    {SYS_rt_sigreturn, 0, 0, 0},    {SYS_sched_yield, 0, 0, 0},
                    {SYS_mremap, 0, 0, 0},          {SYS_exit, 0, 0, 0},
                    {SYS_gettid, 0, 0, 0},          {SYS_futex, 0, 0, 0},
                    {SYS_restart_syscall, 0, 0, 0}, {SYS_clock_gettime, 0, 0, 0},
                    {SYS_exit_group, 0, 0, 0},      {SYS_tgkill, 0, 0, 0},
                    {SYS_sigaltstack, 0, 0, 0},     {SYS_getrandom, 0, 0, 0}};
    static const struct {
        long nr, a, b, c;
    } with[] = {{SYS_write, CELL_FD_DOORBELL, 0, 8},
                {SYS_clone, CELL_CLONE_FORK, 0, 0},
                {SYS_madvise, 0, 0, MADV_DONTNEED}};
    size_t n = sizeof(expected) / sizeof(expected[0]), more = sizeof(with) / sizeof(with[0]), seen = 0;

    (void)state;
    for (long nr = 0; nr < NUMBERS; nr++) {
        bool listed = false, got = !is_beyond_filters(nr) && reaches(nr, 0, 0, 0);
        for (size_t i = 0; i < n; i++)
            listed = listed || expected[i].nr == nr;
        if (got != listed)
            fail_msg("call %ld %s the host", nr, got ? "reaches" : "does not reach");
        seen += got;
    }
    for (size_t i = 0; i < more; i++)
        assert_true(reaches(with[i].nr, with[i].a, with[i].b, with[i].c));
    assert_true(seen + more + 1 /* mmap takes more arguments */ <= 24);
}

static void the_doorbell_is_the_only_descriptor_that_can_be_written_to(void **state)
{
    (void)state;
    for (long fd = 0; fd < 16; fd++)
        assert_int_equal(reaches(SYS_write, fd, 0, 8), fd == CELL_FD_DOORBELL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_program_code_is_trapped),
        cmocka_unit_test(the_calls_that_reach_the_host_are_these),
        cmocka_unit_test(the_doorbell_is_the_only_descriptor_that_can_be_written_to),
    };

    return cmocka_run_group_tests(tests, map_page, NULL);
}
