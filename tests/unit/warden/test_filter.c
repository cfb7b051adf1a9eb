/*
 * The cell's host system call filter, proved by interpreting it: every number from both sides of the address
 * check with many arguments, and the exact list of what gets through.
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

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "cell/abi/layout.h"
#include "cell/boot/filter.h"

#define INSIDE  (CELL_TEXT + 0x1234)
#define OUTSIDE 0x400123ULL
#define NO_FD   ((uint64_t)-1)

/* The verdict of a classic BPF program; the kernel has checked its jumps, we check them again. */
static uint32_t interpret(const struct sock_fprog *p, const struct seccomp_data *d)
{
    uint32_t a = 0;

    for (unsigned pc = 0; pc < p->len; pc++) {
        const struct sock_filter *f = &p->filter[pc];
        bool yes;
        switch (f->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(f->k % 4 == 0 && f->k + 4 <= sizeof(*d));
            memcpy(&a, (const char *)d + f->k, sizeof(a));
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= f->k;
            continue;
        case BPF_JMP | BPF_JA:
            pc += f->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            yes = a == f->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            yes = a >= f->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            yes = a > f->k;
            break;
        case BPF_RET | BPF_K:
            return f->k;
        default:
            fail_msg("instruction %u has the unknown code %#x", pc, f->code);
            return 0;
        }
        pc += yes ? f->jt : f->jf;
    }
    fail_msg("the program has no end");
    return 0;
}

static uint32_t verdict(uint64_t from, int nr, const uint64_t args[6])
{
    struct seccomp_data d = {.nr = nr, .arch = AUDIT_ARCH_X86_64, .instruction_pointer = from};

    memcpy(d.args, args, sizeof(d.args));
    return interpret(cell_filter(), &d);
}

static bool allowed(int nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    uint32_t v = verdict(INSIDE, nr, (const uint64_t[6]){a, b, c, d, e, 0});

    assert_true(v == SECCOMP_RET_ALLOW || v == SECCOMP_RET_KILL_PROCESS);
    return v == SECCOMP_RET_ALLOW;
}

/* Arguments that some call or other is allowed with, and some that none is. */
static const uint64_t tries[][6] = {
    {0, 0, 0, 0, 0, 0},
    {1, 1, 1, 1, 1, 1},
    {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL},
    {CELL_FD_DOORBELL, 0, 8, 0, 0, 0},
    {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NO_FD, 0},
    {0, 0, MADV_DONTNEED, 0, 0, 0},
    {SIGCHLD, 0, 0, 0, 0, 0},
    {CELL_CLONE_THREAD, 0, 0, 0, 0, 0},
    {0, 0, CELL_SIGRTMIN_WAKE, 0, 0, 0},
    {0, FUTEX_WAKE, 1, 0, 0, 0},
};

static const int reachable[] = {
    SYS_mmap,           SYS_munmap,        SYS_mprotect,    SYS_mremap,     SYS_madvise,
    SYS_futex,          SYS_clone,         SYS_exit,        SYS_exit_group, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn,  SYS_sigaltstack, SYS_tgkill,     SYS_gettid,
    SYS_sched_yield,    SYS_clock_gettime, SYS_write,       SYS_getrandom,  SYS_restart_syscall,
};

static bool is_reachable(int nr)
{
    for (size_t i = 0; i < ARRAY_LEN(reachable); i++)
        if (reachable[i] == nr)
            return true;
    return false;
}

static void exactly_these_calls_can_be_made_from_the_kernels_text(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(reachable) <= 24);
    for (int nr = 0; nr < 1024; nr++) {
        bool any = false;
        for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
            uint32_t v = verdict(INSIDE, nr, tries[i]);
            assert_true(v == SECCOMP_RET_ALLOW || v == SECCOMP_RET_KILL_PROCESS);
            any = any || v == SECCOMP_RET_ALLOW;
        }
        if (any != is_reachable(nr))
            fail_msg("call %d: %s", nr, any ? "reachable and not listed" : "listed and not reachable");
    }
}

static void no_call_of_program_code_reaches_the_host(void **state)
{
    static const uint64_t places[] = {0,
                                      1,
                                      OUTSIDE,
                                      CELL_TEXT - 1,
                                      CELL_TEXT - 0x100000000ULL,
                                      CELL_TEXT + CELL_TEXT_MAX,
                                      CELL_TEXT + CELL_TEXT_MAX + 1,
                                      CELL_TEXT + 0x100000000ULL,
                                      CELL_MEMORY,
                                      0x7fffffffe000ULL,
                                      CELL_TEXT & 0xffffffff,
                                      0xffffffffff600000ULL};

    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(places); p++)
        for (int nr = 0; nr < 1024; nr++)
            for (size_t i = 0; i < ARRAY_LEN(tries); i++)
                assert_int_equal(verdict(places[p], nr, tries[i]), SECCOMP_RET_TRAP);
}

static void foreign_entries_end_the_process(void **state)
{
    static const uint32_t arches[] = {AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0, ~0U};
    static const uint64_t from[] = {INSIDE, OUTSIDE};

    (void)state;
    for (size_t a = 0; a < ARRAY_LEN(arches); a++)
        for (size_t f = 0; f < 2; f++)
            for (int nr = 0; nr < 512; nr++) {
                struct seccomp_data d = {.nr = nr, .arch = arches[a], .instruction_pointer = from[f]};
                assert_int_equal(interpret(cell_filter(), &d), SECCOMP_RET_KILL_PROCESS);
            }
    for (int nr = 0; nr < 1024; nr++) { /* x32 */
        assert_int_equal(verdict(INSIDE, nr | 0x40000000, tries[0]), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(verdict(OUTSIDE, nr | 0x40000000, tries[0]), SECCOMP_RET_TRAP);
    }
}

static bool can_map(uint64_t prot, uint64_t flags, uint64_t fd)
{
    return allowed(SYS_mmap, 0, 4096, prot, flags, fd);
}

static void nothing_but_memory_and_the_two_files_can_be_mapped(void **state)
{
    (void)state;
    for (uint64_t prot = 0; prot <= 7; prot++) {
        assert_true(can_map(prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NO_FD));
        assert_true(can_map(prot, MAP_SHARED | MAP_ANONYMOUS, NO_FD));
        assert_true(can_map(prot, MAP_PRIVATE | MAP_FIXED, CELL_FD_IMAGE));
        assert_true(can_map(prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE, CELL_FD_MEMORY));
        assert_true(can_map(prot, MAP_SHARED | MAP_FIXED, CELL_FD_MEMORY));
    }
    for (uint64_t fd = 0; fd < 64; fd++)
        for (uint64_t kind = MAP_SHARED; kind <= MAP_SHARED_VALIDATE; kind++)
            if (fd != CELL_FD_IMAGE && fd != CELL_FD_MEMORY)
                assert_false(can_map(PROT_READ, kind, fd));
    /* An upper half that the kernel would not look at, or would. */
    assert_false(can_map(PROT_READ, MAP_PRIVATE, CELL_FD_IMAGE | 1ULL << 32));
    assert_false(can_map(1ULL << 32, MAP_PRIVATE | MAP_ANONYMOUS, NO_FD));
    assert_false(can_map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | 1ULL << 32, NO_FD));
    assert_false(can_map(PROT_READ | PROT_GROWSDOWN, MAP_PRIVATE | MAP_ANONYMOUS, NO_FD));
    for (int bit = 0; bit < 32; bit++) {
        uint64_t flag = 1ULL << bit;
        bool harmless = flag & (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE |
                                MAP_NORESERVE | MAP_POPULATE | MAP_STACK);
        assert_int_equal(can_map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | flag, NO_FD), harmless);
    }
    assert_false(can_map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, NO_FD));
}

static void the_doorbell_takes_eight_bytes_and_nothing_else_is_written_to(void **state)
{
    (void)state;
    for (uint64_t fd = 0; fd < 64; fd++)
        for (uint64_t n = 0; n < 64; n++)
            assert_int_equal(allowed(SYS_write, fd, 0, n, 0, 0), fd == CELL_FD_DOORBELL && n == 8);
    assert_false(allowed(SYS_write, CELL_FD_DOORBELL, 0, 8 | 1ULL << 32, 0, 0));
}

static void tasks_are_made_in_two_ways(void **state)
{
    (void)state;
    assert_true(allowed(SYS_clone, CELL_CLONE_THREAD, 0, 0, 0, 0));
    assert_true(allowed(SYS_clone, CELL_CLONE_FORK, 0, 0, 0, 0));
    for (int bit = 0; bit < 64; bit++) {
        assert_false(allowed(SYS_clone, CELL_CLONE_THREAD ^ 1ULL << bit, 0, 0, 0, 0));
        assert_false(allowed(SYS_clone, CELL_CLONE_FORK ^ 1ULL << bit, 0, 0, 0, 0));
    }
    assert_false(allowed(SYS_clone, CELL_CLONE_FORK | CLONE_NEWUSER, 0, 0, 0, 0));
}

static void futexes_wait_and_wake(void **state)
{
    static const int good[] = {FUTEX_WAIT, FUTEX_WAKE, FUTEX_CMP_REQUEUE, FUTEX_WAIT_BITSET,
                               FUTEX_WAKE_BITSET};

    (void)state;
    for (uint64_t op = 0; op < 2048; op++) {
        bool expected = false;
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
            expected = expected ||
                       (op & ~(uint64_t)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)) == (uint64_t)good[i];
        assert_int_equal(allowed(SYS_futex, 0, op, 0, 0, 0), expected);
    }
}

static void signals_of_the_host_call_a_thread_or_ask_for_it(void **state)
{
    (void)state;
    for (uint64_t sig = 0; sig < 128; sig++)
        assert_int_equal(allowed(SYS_tgkill, 1, 1, sig, 0, 0), sig == 0 || sig == CELL_SIGRTMIN_WAKE);
}

static void memory_is_advised_in_ways_that_change_only_memory(void **state)
{
    (void)state;
    for (uint64_t advice = 0; advice < 256; advice++)
        if (advice != MADV_DONTNEED && advice != MADV_FREE && advice != MADV_REMOVE)
            assert_false(allowed(SYS_madvise, 0, 4096, advice, 0, 0));
    for (uint64_t flags = 0; flags < 64; flags++)
        assert_int_equal(allowed(SYS_mremap, 0, 4096, 4096, flags, 0), flags <= 7);
    for (uint64_t prot = 0; prot < 64; prot++)
        assert_int_equal(allowed(SYS_mprotect, 0, 4096, prot, 0, 0), prot <= 7);
    assert_false(allowed(SYS_mprotect, 0, 4096, PROT_READ | PROT_GROWSUP, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_these_calls_can_be_made_from_the_kernels_text),
        cmocka_unit_test(no_call_of_program_code_reaches_the_host),
        cmocka_unit_test(foreign_entries_end_the_process),
        cmocka_unit_test(nothing_but_memory_and_the_two_files_can_be_mapped),
        cmocka_unit_test(the_doorbell_takes_eight_bytes_and_nothing_else_is_written_to),
        cmocka_unit_test(tasks_are_made_in_two_ways),
        cmocka_unit_test(futexes_wait_and_wake),
        cmocka_unit_test(signals_of_the_host_call_a_thread_or_ask_for_it),
        cmocka_unit_test(memory_is_advised_in_ways_that_change_only_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
