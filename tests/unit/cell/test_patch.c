/*
 * Call sites become jumps: real code in real pages, patched as if it had trapped, and then run. What would be
 * the kernel's entry adds 1000 to the number and goes back.
 */
#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/unistd.h>
#include <linux/mman.h>

#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/insn.h"
#include "cell/arch/x86_64/patch.h"
#include "cell/base/text.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

#include <setjmp.h>
#include <cmocka.h>

enum { PAGES = 4, SIZE = PAGES * 4096, SLED = 0xf8 /* clc: an instruction wherever one begins to read */ };
#define BASE 0x40000000UL

__asm__(".text\n.globl cell_entry\ncell_entry: add $1000, %rax\njmp *%rcx\n");

static struct vma area;
static struct mm mm;
static struct process process;
static struct thread thread = {.process = &process};
static u8 before[SIZE];

struct thread *current(void)
{
    return &thread;
}

/* Nothing but the program's code may be looked at. */
int copy_from_user(void *dst, const void *src, size_t n)
{
    u64 p = (u64)(uintptr_t)src;

    if (p < area.start || p > area.end || n > area.end - p)
        return -EFAULT;
    memcpy(dst, src, n);
    return 0;
}

static u8 *code(u64 offset)
{
    return (u8 *)(BASE + offset);
}

static void set_writable(bool writable)
{
    assert_int_equal(host_mprotect((void *)BASE, SIZE, PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0)),
                     0);
}

static int make_code(void **state)
{
    (void)state;
    assert_int_equal(host_mmap((void *)BASE, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
                     BASE);
    memset(code(0), SLED, SIZE);
    area =
        (struct vma){.start = BASE, .end = BASE + SIZE, .prot = PROT_READ | PROT_EXEC, .flags = MAP_PRIVATE};
    mm = (struct mm){.areas = &area, .count = 1};
    process = (struct process){.mm = &mm, .nthreads = 1};
    patch_init();
    assert_true(mm.patching);
    return 0;
}

static int drop_code(void **state)
{
    (void)state;
    assert_int_equal(host_munmap((void *)BASE, SIZE), 0);
    assert_int_equal(host_munmap((void *)PATCH_SLOTS, PATCH_END - PATCH_SLOTS), 0);
    return 0;
}

#define PUT(offset, ...) put((offset), (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
static void put(u64 offset, const u8 *bytes, size_t n)
{
    memcpy(code(offset), bytes, n);
}

#define SYSCALL      0x0f, 0x05
#define RET          0xc3
#define NOP7         0x0f, 0x1f, 0x80, 0, 0, 0, 0
#define NOP8         0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
#define NOP9         0x66, NOP8
#define NOP10        0x66, 0x2e, NOP8
#define MOV_EAX(nr)  0xb8, (nr), 0, 0, 0
#define MOV_RAX(nr)  0x48, 0xc7, 0xc0, (nr), 0, 0, 0
#define ADD_EAX_5    0x83, 0xc0, 0x05
#define COMPARE      0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff
#define SETA_AL_ZERO 0x0f, 0x97, 0xc0, 0x0f, 0xb6, 0xc0

/* As if the `syscall` at `offset` had trapped: is it a jump now? If not, nothing has changed at all. */
static bool trap(u64 offset, u64 nr)
{
    struct regs *r = &thread.arch.regs;
    bool changed;
    u8 byte;

    memcpy(before, code(0), SIZE);
    set_writable(false);
    r->rip = BASE + offset + 2;
    r->orig_rax = nr;
    patch_site(&thread);
    if (memcmp(before, code(0), SIZE) == 0) /* once is no reason yet */
        patch_site(&thread);
    changed = memcmp(before, code(0), SIZE) != 0;
    for (u64 page = 0; page < SIZE; page += PAGE)
        assert_int_equal(host_getrandom(code(page), 1, 0), -EFAULT); /* as protected as it was */
    set_writable(true);
    byte = *code(offset);
    assert_int_equal(changed, byte != 0x0f);
    if (byte == 0xeb || !changed)
        assert_int_equal(r->rip, BASE + offset + 2);
    return changed;
}

/* Runs what stands there, up to a ret. */
static u64 run(u64 offset, u64 rax)
{
    u64 result = rax;

    __asm__ volatile("lea -128(%%rsp), %%rsp; call *%1; lea 128(%%rsp), %%rsp"
                     : "+a"(result)
                     : "r"(BASE + offset)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

static bool patched(u64 offset, u64 nr)
{
    return trap(offset, nr) && run(offset, nr) == nr + 1000;
}

static void a_site_with_its_number_becomes_a_jump(void **state)
{
    (void)state;
    PUT(0x100, MOV_EAX(39), SYSCALL, RET);
    assert_true(trap(0x105, 39));
    assert_int_equal(*code(0x100), 0xff);
    assert_int_equal(run(0x100, 0), 1039);
    PUT(0x200, MOV_RAX(40), SYSCALL, RET);
    (void)trap(0x207, 40);
    assert_int_equal(run(0x200, 0), 1040);
}

static void a_comparison_moves_with_its_site(void **state)
{
    (void)state;
    PUT(0x100, SYSCALL, COMPARE, SETA_AL_ZERO, RET);
    assert_true(trap(0x100, 39));
    assert_int_equal(run(0x100, 7), 0);
    assert_int_equal(run(0x100, (u64)-1010), 1); /* -10: an error */
}

static void a_bare_site_jumps_to_the_gap_behind_its_function(void **state)
{
    (void)state;
    PUT(0x100, SYSCALL, ADD_EAX_5, RET, NOP10);
    assert_true(trap(0x100, 39));
    assert_int_equal(run(0x100, 39), 1044);
    assert_int_equal(run(0x100, 56), 1061); /* whatever the number is the next time */
    assert_memory_equal(code(0x102), before + 0x102, 4);
    assert_int_equal(*code(0x110), SLED);
}

static void a_bare_site_jumps_to_the_gap_in_front_of_its_function(void **state)
{
    (void)state;
    PUT(0xf7, RET, NOP8);
    PUT(0x100, SYSCALL, RET);
    assert_true(patched(0x100, 39));
    assert_int_equal(*code(0x100), 0xeb);
}

static void int3_and_nops_of_all_makers_are_gaps(void **state)
{
    static const u8 fill[][15] = {
        {0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc},
        {NOP8, 0x0f, 0x1f, 0x40, 0x00},
        {0x66, 0x66, NOP10},
        {NOP10, 0x66, 0x90},
        {NOP9, 0x0f, 0x1f, 0x00},
    };

    (void)state;
    for (u64 i = 0; i < ARRAY_LEN(fill); i++) {
        u64 at = 0x200 * (i + 1);
        PUT(at + 1, SYSCALL, RET);
        put(at + 4, fill[i], 12);
        assert_true(patched(at + 1, 39));
    }
}

static void seven_bytes_up_to_a_boundary_of_eight_are_a_gap(void **state)
{
    (void)state;
    PUT(0x10a, SYSCALL);
    PUT(0x110, RET, NOP7);
    assert_true(trap(0x10a, 39));
    assert_int_equal(run(0x10a, 39), 1039);
    PUT(0x200, RET, NOP7);
    PUT(0x210, SYSCALL, RET);
    assert_true(patched(0x210, 39));
    PUT(0x301, SYSCALL, RET, NOP8, SLED); /* nor the boundary before */
    assert_false(trap(0x301, 39));
}

static void what_is_not_certainly_a_gap_is_left_alone(void **state)
{
#define CASE(...)                                                                                            \
    {                                                                                                        \
        sizeof((const u8[]){__VA_ARGS__}),                                                                   \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define TIMES13(x) (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x)
    static const struct {
        size_t n;
        u8 bytes[14];
    } behind[] = {
        CASE(RET),                           /* none */
        CASE(RET, NOP10),                    /* not up to the boundary */
        CASE(RET, TIMES13(0x90)),            /* places for a tracer */
        CASE(RET, TIMES13(0)),               /* data */
        CASE(0x89, 0xc3, NOP10, 0x66, 0x90), /* mov, in front of a loop */
        CASE(0x05, 0, 0, 0, 0xc3, NOP9),     /* add, likewise */
        CASE(0xe8, 0, 0, 0, 0, NOP9),        /* a call comes back */
        CASE(0x74, 0xfe, NOP10, 0x66, 0x90), /* and so may jz */
        CASE(SLED, SLED, SLED, SLED, SLED, SLED, SLED, RET, 0x66, 0x0f, 0x1f, 0x44, 0, 0), /* too short */
        CASE(0x06, RET, NOP10, 0x66, 0x90),                                                /* what is this? */
    };

    (void)state;
    for (u64 i = 0; i < ARRAY_LEN(behind); i++) {
        u64 at = 0x200 * (i + 1);
        PUT(at, SYSCALL);
        put(at + 2, behind[i].bytes, behind[i].n);
        if (trap(at, 39))
            fail_msg("case %lu", i);
    }
}

static void a_gap_that_begins_at_a_boundary_may_be_a_function(void **state)
{
    (void)state;
    PUT(0x10d, SYSCALL, RET, NOP8, NOP8);
    assert_false(trap(0x10d, 39));
}

static void in_front_every_reading_has_to_end_with_the_ret(void **state)
{
    (void)state;
    PUT(0xf4, 0x89, 0xc3, NOP10); /* the ret is the tail of a mov */
    PUT(0x100, SYSCALL, RET);
    assert_false(trap(0x100, 39));
    /* add $0x05050505,%eax, if one begins to read at the right byte of five. */
    PUT(0x277, RET, NOP8);
    memset(code(0x277 - 60), 0x05, 60);
    PUT(0x280, SYSCALL, RET);
    assert_false(trap(0x280, 39));
    /* In front of the code's beginning nothing is known. */
    PUT(0x37, RET, NOP8);
    PUT(0x40, SYSCALL, RET);
    assert_false(trap(0x40, 39));
    PUT(0x47, RET, NOP8);
    PUT(0x50, SYSCALL, RET);
    assert_true(patched(0x50, 39));
}

static void a_long_gap_serves_two_sites_and_no_third(void **state)
{
    (void)state;
    PUT(0x100, SYSCALL, RET, SYSCALL, RET, SYSCALL, RET);
    PUT(0x120, RET, NOP10, 0x0f, 0x1f, 0x44, 0x00, 0x00);
    assert_true(patched(0x100, 39));
    assert_true(patched(0x103, 40));
    assert_false(trap(0x106, 41));
    assert_int_equal(run(0x100, 1), 1001);
    assert_int_equal(run(0x103, 2), 1002);
}

static void a_gap_is_as_near_as_a_short_jump_reaches(void **state)
{
    (void)state;
    PUT(0x0f8, RET, NOP7); /* 0xf9 + 128 - 2 = 0x177 */
    PUT(0x178, SYSCALL, RET);
    assert_false(trap(0x178, 39));
    PUT(0x177, SYSCALL, RET);
    assert_true(patched(0x177, 39));

    PUT(0x300, SYSCALL, RET);
    PUT(0x380, RET, NOP10, 0x0f, 0x1f, 0x44, 0x00, 0x00);
    assert_true(patched(0x300, 39)); /* by 127 bytes */
    PUT(0x500, SYSCALL, RET);
    PUT(0x581, RET, NOP10, 0x0f, 0x1f, 0x40, 0x00);
    assert_false(trap(0x500, 39)); /* by 128 */
}

static void a_site_is_patched_the_second_time(void **state)
{
    struct regs *r = &thread.arch.regs;

    (void)state;
    PUT(0x0100, MOV_EAX(39), SYSCALL, RET);
    memcpy(before, code(0), SIZE);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(before, code(0), SIZE);
        r->rip = BASE + 0x0107;
        r->orig_rax = 39;
        patch_site(&thread);
        assert_int_equal(r->rip, BASE + 0x0107);
    }
    assert_memory_not_equal(before, code(0), SIZE);
}

static void a_site_across_two_pages_needs_a_process_with_one_thread(void **state)
{
    (void)state;
    PUT(0x0fff, SYSCALL, RET);
    PUT(0x1002, NOP10, 0x0f, 0x1f, 0x40, 0x00);
    process.nthreads = 2;
    assert_false(trap(0x0fff, 39));
    process.nthreads = 1;
    assert_true(patched(0x0fff, 39));
}

static void a_site_between_two_cache_words_does_not(void **state)
{
    (void)state;
    PUT(0x1007, SYSCALL, RET);
    PUT(0x1017, RET, NOP8);
    process.nthreads = 2;
    assert_true(patched(0x1007, 39));
    /* Nor does one of a longer form, if there is a gap. */
    PUT(0x1203, MOV_EAX(39), SYSCALL, RET);
    PUT(0x1217, RET, NOP8);
    (void)trap(0x1208, 39);
    assert_int_equal(*code(0x1208), 0xeb);
    assert_int_equal(run(0x1203, 0), 1039);
}

static void a_gap_may_lie_in_another_page_but_the_own_comes_first(void **state)
{
    (void)state;
    PUT(0x0ff0, SYSCALL, RET);
    PUT(0x1007, RET, NOP8);
    assert_true(patched(0x0ff0, 39));
    PUT(0x1ff0, SYSCALL, RET);
    PUT(0x1fd7, RET, NOP8);
    PUT(0x2007, RET, NOP8);
    assert_true(patched(0x1ff0, 39));
    assert_memory_equal(code(0x2007), before + 0x2007, 9);
}

static void a_gap_may_end_where_the_code_ends(void **state)
{
    (void)state;
    PUT(SIZE - 11, SYSCALL, RET, NOP8);
    assert_true(patched(SIZE - 11, 39));
    /* Nor is anything behind the end looked at. */
    PUT(0x100, SYSCALL, RET, NOP10, 0x0f, 0x1f, 0x00);
    area.end = BASE + 0x102;
    assert_false(trap(0x100, 39));
    PUT(0x2e7, RET, NOP8);
    PUT(0x300, SYSCALL, RET);
    area.end = BASE + 0x302;
    assert_true(patched(0x300, 39));
}

static void the_first_bytes_of_a_mapping_may_be_a_site(void **state)
{
    (void)state;
    PUT(0, SYSCALL, RET);
    PUT(7, RET, NOP8);
    assert_true(patched(0, 39));
}

static void nops_behind_a_patched_site_are_no_gap(void **state)
{
    (void)state;
    PUT(0x104, SYSCALL, NOP10, RET); /* the program comes by here */
    PUT(0x117, RET, NOP8);
    assert_true(patched(0x104, 39));
    PUT(0x121, SYSCALL, RET, SLED);
    assert_false(trap(0x121, 39));

    PUT(0x1ff, MOV_EAX(39), SYSCALL, NOP10, RET);
    (void)trap(0x204, 39);
    assert_int_equal(*code(0x1ff), 0xff);
    PUT(0x220, SYSCALL, RET);
    assert_false(trap(0x220, 39));
    assert_int_equal(run(0x1ff, 0), 1039);
    assert_int_equal(run(0x104, 5), 1005);
}

static void a_site_without_a_gap_is_not_searched_again(void **state)
{
    (void)state;
    PUT(0x100, SYSCALL, RET);
    assert_false(trap(0x100, 39));
    PUT(0x103, NOP10, 0x0f, 0x1f, 0x00);
    assert_false(trap(0x100, 39));
}

static void calls_that_need_all_registers_patch_nothing(void **state)
{
    static const u64 never[] = {__NR_clone,        __NR_fork,   __NR_vfork,
                                __NR_rt_sigreturn, __NR_execve, __NR_execveat};

    (void)state;
    PUT(0x100, SYSCALL, RET, NOP10, 0x0f, 0x1f, 0x00);
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        assert_false(trap(0x100, never[i]));
}

static void code_that_is_shared_or_not_code_is_left_alone(void **state)
{
    (void)state;
    PUT(0x100, SYSCALL, RET, NOP10, 0x0f, 0x1f, 0x00);
    area.flags = MAP_SHARED;
    assert_false(trap(0x100, 39));
    area.flags = MAP_PRIVATE;
    area.prot = PROT_READ;
    assert_false(trap(0x100, 39));
}

static u64 rewound(u64 rip)
{
    thread.arch.regs.rip = rip;
    patch_rewind(&thread);
    return thread.arch.regs.rip;
}

static void a_thread_on_its_way_in_stands_at_the_site(void **state)
{
    u64 pad = BASE + 0x103, trampoline;
    u32 slot;

    (void)state;
    PUT(0x100, SYSCALL, RET, NOP10, 0x0f, 0x1f, 0x00);
    assert_int_equal(patch_call_of(&thread, BASE + 0x102), BASE + 0x100);
    assert_true(patched(0x100, 39));
    memcpy(&slot, code(0x106), sizeof(slot));
    memcpy(&trampoline, (const void *)(uintptr_t)slot, sizeof(trampoline));
    assert_int_equal(rewound(pad), BASE + 0x100);
    assert_int_equal(rewound(trampoline), BASE + 0x100);
    assert_int_equal(rewound(trampoline + 10), BASE + 0x100);
    assert_int_equal(rewound(BASE + 0x100), BASE + 0x100);
    assert_int_equal(rewound(BASE + 0x102), BASE + 0x102);
    assert_int_equal(rewound(BASE + 0x103 + 1), BASE + 0x103 + 1);
    assert_int_equal(patch_call_of(&thread, BASE + 0x102), BASE + 0x100);
    /* Other forms have no instruction to go back to. */
    PUT(0x200, MOV_EAX(39), SYSCALL, RET);
    (void)trap(0x205, 39);
    assert_int_equal(patch_call_of(&thread, BASE + 0x207), (u64)(uintptr_t)cell_entry);
    assert_int_equal(rewound(BASE + 0x200), BASE + 0x200);
}

static void lengths_of_instructions(void **state)
{
    static const struct {
        size_t length;
        enum insn kind;
        u8 bytes[INSN_MAX + 1];
    } cases[] = {
        {1, INSN_GOES_ON, {0x55}},
        {1, INSN_ENDS, {0xc3}},
        {3, INSN_ENDS, {0xc2, 8, 0}},
        {2, INSN_ENDS, {0xf3, 0xc3}},
        {2, INSN_ENDS, {0xeb, 0}},
        {5, INSN_ENDS, {0xe9}},
        {6, INSN_ENDS, {0xf2, 0xe9}},
        {2, INSN_ENDS, {0xff, 0xe0}},
        {7, INSN_ENDS, {0xff, 0x24, 0xc5}},
        {2, INSN_GOES_ON, {0xff, 0xd0}},
        {5, INSN_GOES_ON, {0xe8}},
        {8, INSN_GOES_ON, {0x66, 0x66, 0x48, 0xe8}},
        {0, INSN_UNKNOWN, {0x66, 0xe8}},
        {2, INSN_GOES_ON, {0x74, 0}},
        {6, INSN_GOES_ON, {0x0f, 0x84}},
        {10, INSN_GOES_ON, {0x48, 0xb8}},
        {5, INSN_GOES_ON, {0xb8}},
        {4, INSN_GOES_ON, {0x66, 0xb8}},
        {9, INSN_GOES_ON, {0xa1}},
        {6, INSN_GOES_ON, {0x67, 0xa1}},
        {7, INSN_GOES_ON, {0x48, 0x8b, 0x05}},
        {8, INSN_GOES_ON, {0x48, 0x8b, 0x04, 0x25}},
        {5, INSN_GOES_ON, {0x48, 0x8b, 0x44, 0x24, 8}},
        {2, INSN_GOES_ON, {0xf6, 0xd0}},
        {3, INSN_GOES_ON, {0xf6, 0xc0, 1}},
        {6, INSN_GOES_ON, {0xf7, 0xc0}},
        {5, INSN_GOES_ON, {0x66, 0xf7, 0xc0}},
        {7, INSN_GOES_ON, {0x48, 0xf7, 0xc0}},
        {4, INSN_GOES_ON, {0xc8}},
        {4, INSN_GOES_ON, {0xf3, 0x0f, 0x1e, 0xfa}},
        {5, INSN_GOES_ON, {0x66, 0x0f, 0x38, 0x00, 0xc0}},
        {6, INSN_GOES_ON, {0x66, 0x0f, 0x3a, 0x0f, 0xc0, 1}},
        {3, INSN_GOES_ON, {0xc5, 0xf8, 0x77}},
        {5, INSN_GOES_ON, {0xc5, 0xf9, 0x70, 0xc0, 1}},
        {5, INSN_GOES_ON, {0xc4, 0xe2, 0x7d, 0x18, 0xc0}},
        {6, INSN_GOES_ON, {0xc4, 0xe3, 0x7d, 0x06, 0xc0, 1}},
        {6, INSN_GOES_ON, {0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc0}},
        {7, INSN_GOES_ON, {0x62, 0xf3, 0xfd, 0x48, 0x3b, 0xc0, 1}},
        {2, INSN_GOES_ON, {0x0f, 0x05}},
        {0, INSN_INVALID, {0x06}},
        {0, INSN_INVALID, {0x9a}},
        {0, INSN_UNKNOWN, {0xd5}},
        {0, INSN_UNKNOWN, {0x8f, 0xe8, 0x78, 0xc2}},
        {0,
         INSN_UNKNOWN,
         {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = 0;
        enum insn kind = insn_decode(cases[i].bytes, sizeof(cases[i].bytes), &n);
        if (kind != cases[i].kind || n != cases[i].length)
            fail_msg("case %zu: kind %d, length %zu", i, kind, n);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(insn_decode(cases[i].bytes, cut, &n), INSN_UNKNOWN);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_code, drop_code)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_site_with_its_number_becomes_a_jump),
        TEST(a_comparison_moves_with_its_site),
        TEST(a_bare_site_jumps_to_the_gap_behind_its_function),
        TEST(a_bare_site_jumps_to_the_gap_in_front_of_its_function),
        TEST(int3_and_nops_of_all_makers_are_gaps),
        TEST(seven_bytes_up_to_a_boundary_of_eight_are_a_gap),
        TEST(what_is_not_certainly_a_gap_is_left_alone),
        TEST(a_gap_that_begins_at_a_boundary_may_be_a_function),
        TEST(in_front_every_reading_has_to_end_with_the_ret),
        TEST(a_long_gap_serves_two_sites_and_no_third),
        TEST(a_gap_is_as_near_as_a_short_jump_reaches),
        TEST(a_site_is_patched_the_second_time),
        TEST(a_site_across_two_pages_needs_a_process_with_one_thread),
        TEST(a_site_between_two_cache_words_does_not),
        TEST(a_gap_may_lie_in_another_page_but_the_own_comes_first),
        TEST(a_gap_may_end_where_the_code_ends),
        TEST(the_first_bytes_of_a_mapping_may_be_a_site),
        TEST(nops_behind_a_patched_site_are_no_gap),
        TEST(a_site_without_a_gap_is_not_searched_again),
        TEST(calls_that_need_all_registers_patch_nothing),
        TEST(code_that_is_shared_or_not_code_is_left_alone),
        TEST(a_thread_on_its_way_in_stands_at_the_site),
        cmocka_unit_test(lengths_of_instructions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
