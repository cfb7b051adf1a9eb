#include "cell/arch/x86_64/pad.h"

#include "cell/arch/x86_64/insn.h"
#include "cell/base/text.h"

enum {
    BOUNDARY = 16,
    SMALL_BOUNDARY = 8,
    SYSCALL = 2,
    BACK = 128,
    FORTH = 127,
    VOTES = INSN_MAX,
    RUN_UP = 64
};

static const u8 *at(const struct code *c, u64 addr)
{
    return c->bytes + (addr - c->start);
}

u32 pad_slot(const struct code *c, u64 addr, const struct pad_slots *slots)
{
    u32 slot;

    if (addr < c->start || addr > c->end || c->end - addr < PAD_JUMP ||
        memcmp(at(c, addr), "\xff\x24\x25", 3) != 0)
        return 0;
    memcpy(&slot, at(c, addr) + 3, sizeof(slot));
    return slot >= slots->first && slot < slots->end ? slot : 0;
}

/* Does the program come back behind this jmp, as we have put it there for a `syscall`? */
static bool is_patched_site(const struct code *c, u64 addr, const struct pad_slots *slots)
{
    u32 slot = pad_slot(c, addr, slots);

    if (*at(c, addr) == 0xeb) {
        u64 to = addr + SYSCALL + (u64)(s64)(int8_t)at(c, addr)[1];
        return to < c->start || to > c->end - PAD_JUMP /* who knows */ ||
               pad_slot(c, to, slots) >= slots->first_pad;
    }
    return slot && slot < slots->first_pad;
}

/* INSN_INVALID for what cannot be the true course. */
static enum insn decode(const struct code *c, u64 addr, const struct pad_slots *slots, size_t *length)
{
    enum insn kind = insn_decode(at(c, addr), c->end - addr, length);

    return kind == INSN_ENDS && is_patched_site(c, addr, slots) ? INSN_GOES_ON : kind;
}

/* Is all of start..end nops or int3? */
static bool is_filler(const struct code *c, u64 start, u64 end)
{
    if (*at(c, start) == 0xcc) {
        for (u64 a = start; a < end; a++)
            if (*at(c, a) != 0xcc)
                return false;
        return true;
    }
    for (unsigned single = 0; start < end;) {
        size_t n = insn_nop(at(c, start), end - start);
        /* No assembler fills with more than one of these. A row of them waits to be replaced by a tracer. */
        if (n == 0 || (n == 1 && single++ > 0))
            return false;
        start += n;
    }
    return true;
}

static bool is_room_up_to(const struct code *c, u64 start, u64 boundary, u64 site, struct pad *out)
{
    u64 end = (start + boundary - 1) & ~(boundary - 1), from = site + SYSCALL, low, high;

    if (start < c->start || end > c->end || end - start < PAD_JUMP)
        return false;
    low = MAX(start, from > BACK ? from - BACK : 0);
    high = MIN(end - PAD_JUMP, from + FORTH);
    if (low > high || !is_filler(c, start, end))
        return false;
    *out = (struct pad){start, end, low};
    return true;
}

/* What stands at `start`, behind the end of a piece of code: room for a jump that `site` reaches? */
static bool is_room(const struct code *c, u64 start, u64 site, struct pad *out)
{
    return is_room_up_to(c, start, BOUNDARY, site, out) || is_room_up_to(c, start, SMALL_BOUNDARY, site, out);
}

static bool is_one_page(u64 a, u64 b)
{
    return PAGE_DOWN(a) == PAGE_DOWN(b);
}

/* Keeps the first that was found, and the first in the site's own page. True: no need to go on. */
static bool keep(const struct pad *p, u64 site, struct pad *best)
{
    if (!best->jump || is_one_page(p->start, site))
        *best = *p;
    return is_one_page(p->start, site);
}

static bool find_behind(const struct code *c, u64 site, const struct pad_slots *slots, struct pad *best)
{
    u64 addr = site + SYSCALL;
    struct pad p;

    while (addr < c->end && addr <= site + SYSCALL + FORTH) {
        size_t n;
        enum insn kind = decode(c, addr, slots, &n);
        if (kind == INSN_UNKNOWN || kind == INSN_INVALID)
            return false;
        addr += n;
        if (kind == INSN_ENDS && is_room(c, addr, site, &p) && keep(&p, site, best))
            return true;
    }
    return false;
}

/* Followed from `addr`, does a piece of code end where `end` is? INSN_ENDS: it does. */
static enum insn follow(const struct code *c, u64 addr, u64 end, const struct pad_slots *slots)
{
    enum insn kind = INSN_UNKNOWN;

    while (addr < end) {
        size_t n;
        kind = decode(c, addr, slots, &n);
        if (kind == INSN_UNKNOWN || kind == INSN_INVALID)
            return kind;
        addr += n;
    }
    return addr == end ? kind : INSN_UNKNOWN;
}

static bool is_end_of_code(const struct code *c, u64 end, const struct pad_slots *slots)
{
    u64 first = end - RUN_UP;
    unsigned agree = 0;

    if (end < c->start + RUN_UP)
        return false;
    for (u64 addr = first; addr < first + VOTES; addr++) {
        enum insn kind = follow(c, addr, end, slots);
        if (kind == INSN_ENDS)
            agree++;
        else if (kind != INSN_INVALID)
            return false;
    }
    return agree > 0;
}

static bool find_in_front(const struct code *c, u64 site, const struct pad_slots *slots, struct pad *best)
{
    u64 end = site & ~(u64)(SMALL_BOUNDARY - 1), last = site + SYSCALL - MIN(site + SYSCALL, BACK);
    struct pad p;

    for (; end > last && end >= c->start + BOUNDARY; end -= SMALL_BOUNDARY)
        for (u64 start = end - BOUNDARY + 1; start <= end - PAD_JUMP; start++)
            if (is_room(c, start, site, &p) && is_end_of_code(c, start, slots) && keep(&p, site, best))
                return true;
    return false;
}

bool pad_find(const struct code *c, u64 site, const struct pad_slots *slots, struct pad *out)
{
    *out = (struct pad){0};
    if (find_behind(c, site, slots, out) || find_in_front(c, site, slots, out))
        return true;
    return out->jump != 0;
}
