/*
 * The policy is the table; cell_filter() turns it into BPF once, at boot. A line is one way in which one call
 * is allowed: all of its conditions hold. A call with several lines is allowed by any of them, a call without
 * a line by none.
 *
 * The program: the architecture, then the address of the instruction, then line after line. seccomp(2) gives
 * it the address behind the `syscall` instruction.
 */
#include "cell/boot/filter.h"

#include <asm/mman.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cell/abi/layout.h"

#define CONDITIONS 3
#define EXACT      (~0ULL)

struct condition {
    uint8_t argument;
    uint64_t mask, value; /* (argument & mask) == value */
};

struct line {
    uint16_t call;
    uint16_t n;
    struct condition when[CONDITIONS];
};

/* Flags that change where or how, not what, is mapped. */
#define MAP_PLACE     (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_POPULATE)
#define MAP_EITHER    (MAP_SHARED | MAP_PRIVATE)
#define WITHOUT(bits) (~(uint64_t)(bits))

#define ANY(call)                                                                                            \
    {                                                                                                        \
        (call), 0,                                                                                           \
        {                                                                                                    \
            {                                                                                                \
                0, 0, 0                                                                                      \
            }                                                                                                \
        }                                                                                                    \
    }
#define IF1(call, a)                                                                                         \
    {                                                                                                        \
        (call), 1,                                                                                           \
        {                                                                                                    \
            a                                                                                                \
        }                                                                                                    \
    }
#define IF2(call, a, b)                                                                                      \
    {                                                                                                        \
        (call), 2,                                                                                           \
        {                                                                                                    \
            a, b                                                                                             \
        }                                                                                                    \
    }
#define IF3(call, a, b, c)                                                                                   \
    {                                                                                                        \
        (call), 3,                                                                                           \
        {                                                                                                    \
            a, b, c                                                                                          \
        }                                                                                                    \
    }
#define IS(i, v)                                                                                             \
    {                                                                                                        \
        (i), EXACT, (uint64_t)(v)                                                                            \
    }
#define MASKED(i, m, v)                                                                                      \
    {                                                                                                        \
        (i), (m), (uint64_t)(v)                                                                              \
    }

#define PROTECTION(i) MASKED(i, WITHOUT(PROT_READ | PROT_WRITE | PROT_EXEC), 0)
#define FUTEX(op)     IF1(__NR_futex, MASKED(1, WITHOUT(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), op))

static const struct line policy[] = {
    FUTEX(FUTEX_WAIT_BITSET),
    FUTEX(FUTEX_WAKE),
    FUTEX(FUTEX_WAIT),
    FUTEX(FUTEX_WAKE_BITSET),
    FUTEX(FUTEX_CMP_REQUEUE),
    ANY(__NR_clock_gettime),
    IF2(__NR_write, IS(0, CELL_FD_DOORBELL), IS(2, 8)),
    ANY(__NR_rt_sigreturn),
    /* Nobody's memory, or one's own; the image, never shared and so never changed; the memory file. */
    IF2(__NR_mmap, PROTECTION(2), MASKED(3, WITHOUT(MAP_PLACE | MAP_EITHER | MAP_STACK), MAP_ANONYMOUS)),
    IF3(__NR_mmap, PROTECTION(2), MASKED(3, WITHOUT(MAP_PLACE), MAP_PRIVATE), IS(4, CELL_FD_IMAGE)),
    IF3(__NR_mmap, PROTECTION(2), MASKED(3, WITHOUT(MAP_PLACE | MAP_EITHER), 0), IS(4, CELL_FD_MEMORY)),
    ANY(__NR_munmap),
    IF1(__NR_mprotect, PROTECTION(2)),
    IF1(__NR_mremap, MASKED(3, WITHOUT(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP), 0)),
    IF1(__NR_madvise, IS(2, MADV_DONTNEED)),
    IF1(__NR_madvise, IS(2, MADV_REMOVE)),
    IF1(__NR_madvise, IS(2, MADV_FREE)),
    IF1(__NR_clone, IS(0, CELL_CLONE_FORK)),
    IF1(__NR_clone, IS(0, CELL_CLONE_THREAD)),
    ANY(__NR_exit),
    ANY(__NR_exit_group),
    ANY(__NR_rt_sigaction),
    ANY(__NR_rt_sigprocmask),
    ANY(__NR_sigaltstack),
    /* Is it alive? Come into the kernel. */
    IF1(__NR_tgkill, IS(2, CELL_SIGRTMIN_WAKE)),
    IF1(__NR_tgkill, IS(2, 0)),
    ANY(__NR_gettid),
    ANY(__NR_sched_yield),
    IF1(__NR_getrandom, IS(2, 0)),
    /* What the host makes of a wait with a timeout that was stopped and continued, or frozen. */
    ANY(__NR_restart_syscall),
};

enum {
    LINES = sizeof(policy) / sizeof(policy[0]),
    PROLOGUE = 10,
    LINE_MAX = 3 + 6 * CONDITIONS,
    PROGRAM_MAX = PROLOGUE + LINES * LINE_MAX + 1
};

static struct sock_filter program[PROGRAM_MAX];
static unsigned short length;

static void emit(uint16_t code, uint32_t k, unsigned yes, unsigned no)
{
    program[length++] = (struct sock_filter){code, (uint8_t)yes, (uint8_t)no, k};
}

static void load(size_t offset)
{
    emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(uint32_t action)
{
    emit(BPF_RET | BPF_K, action, 0, 0);
}

/* Goes on if equal, else jumps over `skip` instructions. */
static void equal(uint32_t value, unsigned skip)
{
    emit(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
}

static void half(size_t offset, uint64_t mask, uint64_t value, unsigned skip)
{
    load(offset);
    emit(BPF_ALU | BPF_AND | BPF_K, (uint32_t)mask, 0, 0);
    equal((uint32_t)value, skip);
}

/* The kernel is little endian on this architecture: the low half stands first. */
static void add_line(const struct line *l)
{
    unsigned left = 6U * l->n + 1; /* instructions of this line behind the look at the number */

    load(offsetof(struct seccomp_data, nr));
    equal(l->call, left);
    for (unsigned i = 0; i < l->n; i++) {
        const struct condition *c = &l->when[i];
        size_t at = offsetof(struct seccomp_data, args) + c->argument * sizeof(uint64_t);
        left -= 3;
        half(at, c->mask, c->value, left);
        left -= 3;
        half(at + 4, c->mask >> 32, c->value >> 32, left);
    }
    answer(SECCOMP_RET_ALLOW);
}

/* Negative controls, in a build of their own. */
#ifdef IRONCLAW_WEAKENED
#define is_weak(flag)                                                                                        \
    (((const struct cell_header *)(CELL_MEMORY + CELL_OFF_HEADER))->flags & (uint32_t)CELL_BOOT_##flag)
#else
#define is_weak(flag) 0
#endif

const struct sock_fprog *cell_filter(void)
{
    static struct sock_fprog filter;

    _Static_assert((CELL_TEXT & 0xffffffff) == 0 && CELL_TEXT_MAX <= 0xffffffff,
                   "the range is one upper half");
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    equal(AUDIT_ARCH_X86_64, 0 + 1);
    emit(BPF_JMP | BPF_JA, 1, 0, 0);
    answer(SECCOMP_RET_KILL_PROCESS); /* int $0x80, from wherever */
    load(offsetof(struct seccomp_data, instruction_pointer) + 4);
    equal((uint32_t)(CELL_TEXT >> 32), 2);
    load(offsetof(struct seccomp_data, instruction_pointer));
    emit(BPF_JMP | BPF_JGE | BPF_K, is_weak(WIDE_FILTER) ? UINT32_MAX : (uint32_t)CELL_TEXT_MAX, 0, 1);
    answer(SECCOMP_RET_TRAP); /* a program's: the kernel answers it */
    for (size_t i = 0; i < LINES; i++)
        add_line(&policy[i]);
    answer(is_weak(OPEN_FILTER) ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
    filter = (struct sock_fprog){length, program};
    return &filter;
}
