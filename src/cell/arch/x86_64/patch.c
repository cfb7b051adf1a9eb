#include "cell/arch/x86_64/patch.h"

#include <asm/mman.h>
#include <linux/mman.h>

#include "cell/abi/layout.h"
#include "cell/arch/x86_64/asm.h"
#include "cell/arch/x86_64/host.h"
#include "cell/base/text.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum { TRAMPOLINE = 32, RESUME = 17, SLOTS = PATCH_SLOTS_SIZE / 8 };

#define TRAMPOLINES (PATCH_SLOTS + PATCH_SLOTS_SIZE)
/* The first slot holds the address of cell_entry for the trampolines' last jump, the second the number of
 * slots. */
#define ENTRY_SLOT PATCH_SLOTS
#define COUNT      ((u64 *)(PATCH_SLOTS + 8))
enum { FIRST_SLOT = 2 };

enum form { FORM_NONE, FORM_MOV, FORM_MOV64, FORM_CMP };

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
    *COUNT = FIRST_SLOT;
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

/* mov $nr,%eax; mov $back,%rcx; jmp *ENTRY_SLOT   or the same without the first, and: back: cmp; jmp site+8
 */
static u64 write_trampoline(u8 *t, enum form form, u32 nr, u64 back)
{
    u8 *p = t;
    u64 resume = back;
    u32 entry_slot = (u32)ENTRY_SLOT;

    if (form != FORM_CMP) {
        *p++ = 0xb8;
        memcpy(p, &nr, 4);
        p += 4;
    } else {
        back = (u64)(uintptr_t)t + RESUME;
        resume = back;
    }
    *p++ = 0x48;
    *p++ = 0xb9;
    memcpy(p, &back, 8);
    p += 8;
    *p++ = 0xff;
    *p++ = 0x24;
    *p++ = 0x25;
    memcpy(p, &entry_slot, 4);
    return resume;
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

static bool store(u64 site, const u8 *code, size_t n, bool alone)
{
    u64 page = PAGE_DOWN(site), end = PAGE_UP(site + n);
    int prot = mm_prot_at(current_process->mm, site);

    if (prot < 0 || !(prot & PROT_EXEC) || (!alone && site / 8 != (site + n - 1) / 8))
        return false;
    if (host_mprotect((void *)page, end - page, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        return false;
    if (site / 8 == (site + n - 1) / 8) {
        u64 word = *(volatile u64 *)(site & ~7UL);
        memcpy((u8 *)&word + site % 8, code, n);
        *(volatile u64 *)(site & ~7UL) = word;
    } else {
        memcpy((void *)site, code, n);
    }
    (void)host_mprotect((void *)page, end - page, prot);
    return true;
}

void patch_site(struct thread *t)
{
    struct regs *r = &t->arch.regs;
    struct mm *mm = t->process->mm;
    u8 before[9], after[6], jump[9] = {0xff, 0x24, 0x25, 0, 0, 0, 0, 0x66, 0x90};
    u64 call = r->rip - 2, site, back, resume;
    u32 nr = 0, slot;
    enum form form;
    size_t n, places;
    u8 *trampoline;

    if (!mm->patching || !is_patchable(r->orig_rax) ||
        copy_from_user(before, (void *)(call - 7), sizeof(before)) < 0 ||
        copy_from_user(after, (void *)r->rip, 6) < 0 || mm_prot_at(mm, call) < 0)
        return;
    if (before[7] == 0xff && before[8] == 0x24) {
        /* Another thread was faster; behind the old `syscall` is now the middle of a jump. */
        if (copy_from_user(&slot, (void *)(call + 3), 4) == 0 && slot >= PATCH_SLOTS &&
            slot < PATCH_SLOTS + PATCH_SLOTS_SIZE)
            r->rip = *(u64 *)(uintptr_t)slot + RESUME;
        return;
    }
    if (before[7] != 0x0f)
        return; /* likewise, and there the way back is the same */
    form = find_form(before, after, r->orig_rax);
    nr = (u32)r->orig_rax;
    places = form == FORM_CMP ? 2 : 1;
    if (form == FORM_NONE || *COUNT + places > SLOTS)
        return;
    slot = (u32)(PATCH_SLOTS + *COUNT * 8);
    trampoline = (u8 *)(TRAMPOLINES + *COUNT * TRAMPOLINE);
    site = form == FORM_MOV ? call - 5 : form == FORM_MOV64 ? call - 7 : call;
    n = form == FORM_MOV ? 7 : form == FORM_MOV64 ? 9 : 8;
    if (form == FORM_CMP)
        jump[7] = 0x90;
    back = form == FORM_CMP ? r->rip + 6 : r->rip;
    resume = write_trampoline(trampoline, form, nr, back);
    if (form == FORM_CMP)
        write_resume(trampoline + RESUME, after, back);
    *(u64 *)(uintptr_t)slot = (u64)(uintptr_t)trampoline;
    memcpy(jump + 3, &slot, 4);
    if (!store(site, jump, n, t->process->nthreads == 1))
        return;
    *COUNT += places;
    r->rip = resume;
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
