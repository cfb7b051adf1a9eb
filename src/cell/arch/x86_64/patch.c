#include "cell/arch/x86_64/patch.h"

#include <asm/mman.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/arch/x86_64/pad.h"
#include "cell/base/text.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum {
    TRAMPOLINE = 32,
    RESUME = 17, /* length of the longest first part of a trampoline */
    SLOTS = PATCH_SLOTS_SIZE / 8,
    FIRST_SLOT = 3,
    FIRST_PAD = SLOTS / 2,
    SYSCALL = 2,
    CACHE_LINE = 64,
    MISSES = PATCH_MISSES_SIZE / 16, /* one half of the page each */
    SEEN = MISSES
};

#define TRAMPOLINES (PATCH_SLOTS + PATCH_SLOTS_SIZE)
/* The first slot holds the address of cell_entry for the trampolines' last jump; then come the number of the
 * next slot for jumps in place of a site, and of the next one for jumps in pads. */
#define ENTRY_SLOT PATCH_SLOTS
#define NEXT_SLOT  ((u64 *)(PATCH_SLOTS + 8))
#define NEXT_PAD   ((u64 *)(PATCH_SLOTS + 16))
/* Sites without a pad, each at its place by address, so that nobody looks for one at every call. Inverted: it
 * may still be patched in place. */
#define MISSED ((u64 *)(TRAMPOLINES + PATCH_TRAMPOLINES_SIZE))
/* Sites that trapped, likewise. Another site in the same place makes one wait for its third time. */
#define TRAPPED (MISSED + MISSES)

enum form { FORM_NONE, FORM_MOV, FORM_MOV64, FORM_CMP };

static const struct pad_slots slots = {PATCH_SLOTS, PATCH_SLOTS + PATCH_SLOTS_SIZE,
                                       PATCH_SLOTS + FIRST_PAD * 8UL};

void patch_init(void)
{
    void *at = (void *)PATCH_SLOTS;
    size_t size = PATCH_END - PATCH_SLOTS;
    struct mm *mm = current_process->mm;

    mm->patching = false;
    if (host_mmap(at, size, PROT_READ | PROT_WRITE | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,
                  0) != (long)PATCH_SLOTS)
        return;
    mm->patching = true;
    *(u64 *)ENTRY_SLOT = (u64)(uintptr_t)cell_entry;
    *NEXT_SLOT = FIRST_SLOT;
    *NEXT_PAD = FIRST_PAD;
}

/* Never those that start or replace a program's flow: they need all registers as they were. */
static bool is_patchable(u64 nr)
{
    return nr != __NR_clone && nr != __NR_fork && nr != __NR_vfork && nr != __NR_rt_sigreturn &&
           nr != __NR_execve && nr != __NR_execveat && nr < 512;
}

static enum form find_form(const u8 *before, const u8 *after, u64 nr)
{
    static const u8 cmp[] = {0x48, 0x3d};
    static const u8 tail[] = {0xf0, 0xff, 0xff};
    u32 immediate;

    /* Another number than the one called: the `syscall` was reached by a jump, or these are not its operands.
     */
    memcpy(&immediate, before + 3, 4);
    if (before[2] == 0xb8 && immediate == nr)
        return FORM_MOV;
    if (before[0] == 0x48 && before[1] == 0xc7 && before[2] == 0xc0 && immediate == nr)
        return FORM_MOV64;
    if (memcmp(after, cmp, 2) == 0 && (after[2] == 1 || after[2] == 0) && memcmp(after + 3, tail, 3) == 0)
        return FORM_CMP;
    return FORM_NONE;
}

/* mov $back,%rcx; jmp *ENTRY_SLOT */
static void write_entry(u8 *p, u64 back)
{
    u32 entry_slot = (u32)ENTRY_SLOT;

    *p++ = 0x48;
    *p++ = 0xb9;
    memcpy(p, &back, 8);
    p += 8;
    *p++ = 0xff;
    *p++ = 0x24;
    *p++ = 0x25;
    memcpy(p, &entry_slot, 4);
}

/* mov $nr,%eax and the entry, or the entry, and `back:` cmp; jmp site+8. Returns where the program goes on.
 */
static u64 write_trampoline(u8 *t, enum form form, u32 nr, u64 back)
{
    if (form == FORM_CMP) {
        back = (u64)(uintptr_t)t + RESUME;
        write_entry(t, back);
        return back;
    }
    t[0] = 0xb8;
    memcpy(t + 1, &nr, 4);
    write_entry(t + 5, back);
    return back;
}

/* The second part of a FORM_CMP trampoline: the moved cmp and the way back, in the next trampoline's place.
 */
static void write_resume(u8 *p, const u8 *after, u64 site_end)
{
    memcpy(p, after, 6);
    p += 6;
    *p++ = 0xff; /* jmp *0(%rip) */
    *p++ = 0x25;
    memset(p, 0, 4);
    memcpy(p + 4, &site_end, 8);
}

/* The area that holds addr, if programs run in it and what is written there stays with this process. */
static const struct vma *code_area(const struct mm *mm, u64 addr)
{
    for (u32 i = 0; i < mm->count; i++) {
        const struct vma *v = &mm->areas[i];
        if (addr >= v->start && addr < v->end)
            return (v->prot & PROT_EXEC) && v->flags == MAP_PRIVATE ? v : NULL;
    }
    return NULL;
}

static bool unprotect(u64 start, u64 end)
{
    start = PAGE_DOWN(start);
    return host_mprotect((void *)start, PAGE_UP(end) - start, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static void protect(u64 start, u64 end, const struct vma *v)
{
    start = PAGE_DOWN(start);
    (void)host_mprotect((void *)start, PAGE_UP(end) - start, (int)v->prot);
}

static bool store(const struct vma *v, u64 site, const u8 *code, size_t n, bool alone)
{
    if (site < v->start || v->end - site < n || (!alone && site / 8 != (site + n - 1) / 8) ||
        !unprotect(site, site + n))
        return false;
    if (site / 8 == (site + n - 1) / 8) {
        u64 word = *(volatile u64 *)(site & ~7UL);
        memcpy((u8 *)&word + site % 8, code, n);
        *(volatile u64 *)(site & ~7UL) = word;
    } else {
        memcpy((void *)site, code, n);
    }
    protect(site, site + n, v);
    return true;
}

static void make_jump(u8 *jump, u32 slot)
{
    jump[0] = 0xff;
    jump[1] = 0x24;
    jump[2] = 0x25;
    memcpy(jump + 3, &slot, sizeof(slot));
}

/* Seven bytes or more around the `syscall`, in its place. */
static bool patch_in_place(struct thread *t, const struct vma *v, enum form form, const u8 *after)
{
    struct regs *r = &t->arch.regs;
    u64 call = r->rip - SYSCALL, back = form == FORM_CMP ? r->rip + 6 : r->rip, resume;
    u64 site = form == FORM_MOV ? call - 5 : form == FORM_MOV64 ? call - 7 : call;
    size_t n = form == FORM_MOV ? 7 : form == FORM_MOV64 ? 9 : 8, places = form == FORM_CMP ? 2 : 1;
    u32 slot = (u32)(PATCH_SLOTS + *NEXT_SLOT * 8);
    u8 *trampoline = (u8 *)(TRAMPOLINES + *NEXT_SLOT * TRAMPOLINE);
    u8 jump[9] = {[7] = 0x66, 0x90};

    if (*NEXT_SLOT > FIRST_PAD - places)
        return false;
    resume = write_trampoline(trampoline, form, (u32)r->orig_rax, back);
    if (form == FORM_CMP) {
        jump[7] = 0x90;
        write_resume(trampoline + RESUME, after, back);
    }
    *(u64 *)(uintptr_t)slot = (u64)(uintptr_t)trampoline;
    make_jump(jump, slot);
    if (!store(v, site, jump, n, t->process->nthreads == 1))
        return false;
    *NEXT_SLOT += places;
    r->rip = resume;
    return true;
}

/* First the pad, then one store for the site: whoever comes by finds the old or the new instruction. */
static void store_jump(const struct pad *pad, u32 slot, u64 site)
{
    u16 jump = (u16)(0xeb | (pad->jump - site - SYSCALL) << 8);

    memset((void *)pad->start, 0xcc, pad->end - pad->start);
    make_jump((u8 *)pad->jump, slot);
    __asm__ volatile("xchgw %0, %1" : "+r"(jump), "+m"(*(u16 *)site) : : "memory");
}

/* Two bytes in place of the `syscall`, the rest in a pad nearby. False: there is none. */
static bool patch_by_pad(const struct vma *v, u64 site)
{
    u8 bytes[2 * PAD_AHEAD];
    struct code code = {bytes, MAX(v->start, site - MIN(site, (u64)PAD_AHEAD)),
                        MIN(v->end, site + PAD_AHEAD)};
    u32 slot = (u32)(PATCH_SLOTS + *NEXT_PAD * 8);
    u8 *trampoline = (u8 *)(TRAMPOLINES + *NEXT_PAD * TRAMPOLINE);
    struct pad pad;
    u64 start, end;

    if (*NEXT_PAD >= SLOTS || copy_from_user(bytes, (void *)code.start, code.end - code.start) < 0 ||
        !pad_find(&code, site, &slots, &pad))
        return false;
    start = MIN(site, pad.start);
    end = MAX(site + SYSCALL, pad.end);
    if (!unprotect(start, end))
        return false;
    write_entry(trampoline, site + SYSCALL);
    *(u64 *)(uintptr_t)slot = (u64)(uintptr_t)trampoline;
    store_jump(&pad, slot, site);
    protect(start, end, v);
    ++*NEXT_PAD;
    return true;
}

/* Another thread was faster: behind the old `syscall` may now be the middle of a jump. */
static void follow_patch(struct regs *r)
{
    u32 slot;

    if (copy_from_user(&slot, (void *)(r->rip + 1), sizeof(slot)) == 0 && slot >= slots.first &&
        slot < slots.first_pad)
        r->rip = *(u64 *)(uintptr_t)slot + RESUME;
}

void patch_site(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    struct mm *mm = t->process->mm;
    u64 call = r->rip - SYSCALL, *missed = &MISSED[call % MISSES], *trapped = &TRAPPED[call % SEEN], low,
        high;
    u8 around[7 + SYSCALL + 6] = {0}, *site = around + 7, *after = site + SYSCALL;
    const struct vma *v;
    enum form form;
    bool alone = t->process->nthreads == 1;

    if (!mm->patching || *missed == call)
        return;
    if (*trapped != call) {
        *trapped = call;
        return;
    }
    if (!is_patchable(r->orig_rax) || !(v = code_area(mm, call)))
        return;
    low = MAX(v->start, call - 7);
    high = MIN(v->end, r->rip + 6);
    if (high < r->rip || copy_from_user(site - (call - low), (void *)low, high - low) < 0)
        return;
    if (site[0] == 0xff && site[1] == 0x24)
        follow_patch(r);
    if (site[0] != 0x0f)
        return; /* patched by another thread: in the other forms the way back is the same */
    form = find_form(around, after, r->orig_rax);
    if (form != FORM_NONE && patch_in_place(t, v, form, after))
        return;
    /* Should the process come to have one thread only, those that failed for that are looked at again. */
    if (*missed == ~call || (!alone && call / CACHE_LINE != (call + 1) / CACHE_LINE))
        return;
    if (!patch_by_pad(v, call))
        *missed = form == FORM_NONE ? call : ~call;
}

bool patch_fix(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    u8 code[9];

    if (!t->process->mm->patching || copy_from_user(code, (void *)(r->rip - 7), sizeof(code)) < 0)
        return false;
    if (code[2] == 0xff && code[3] == 0x24 && code[4] == 0x25 && code[7] == 0x06 && code[8] == 0x06) {
        r->rip -= 5;
        return true;
    }
    return false;
}

/* The site whose jump in a pad leads to this trampoline, or 0. */
static u64 site_of(u64 trampoline)
{
    u64 n = (trampoline - TRAMPOLINES) / TRAMPOLINE, back;

    if (trampoline < TRAMPOLINES || n < FIRST_PAD || n >= MIN(*NEXT_PAD, (u64)SLOTS))
        return 0;
    memcpy(&back, (const void *)(TRAMPOLINES + n * TRAMPOLINE + 2), sizeof(back));
    return back - SYSCALL;
}

void patch_rewind(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    u8 bytes[PAD_JUMP];
    const struct code code = {bytes, r->rip, r->rip + PAD_JUMP};
    u64 site = 0;
    u32 slot;

    if (!t->process->mm->patching)
        return;
    if (r->rip >= TRAMPOLINES && r->rip < TRAMPOLINES + PATCH_TRAMPOLINES_SIZE) {
        site = site_of(r->rip);
    } else if (copy_from_user(bytes, (void *)r->rip, sizeof(bytes)) == 0) {
        slot = pad_slot(&code, r->rip, &slots);
        if (slot >= slots.first_pad && slot % 8 == 0)
            site = site_of(*(u64 *)(uintptr_t)slot);
    }
    if (site)
        r->rip = site;
}

u64 patch_call_of(const struct thread *t, u64 back)
{
    const u64 entry = (u64)(uintptr_t)cell_entry;
    u8 site[SYSCALL], bytes[PAD_JUMP];
    struct code code = {bytes, 0, 0};

    if (copy_from_user(site, (void *)(back - SYSCALL), sizeof(site)) < 0)
        return entry;
    if (site[0] == 0x0f && site[1] == 0x05)
        return back - SYSCALL;
    code.start = back + (u64)(s64)(int8_t)site[1];
    code.end = code.start + PAD_JUMP;
    if (site[0] == 0xeb && t->process->mm->patching &&
        copy_from_user(bytes, (void *)code.start, sizeof(bytes)) == 0 &&
        pad_slot(&code, code.start, &slots) >= slots.first_pad)
        return back - SYSCALL;
    return entry;
}
