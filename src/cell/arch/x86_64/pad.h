/*
 * pad.h - room for a jump. Compilers and linkers fill the gap between the end of one piece of code and the
 * next boundary with instructions that nothing reaches. Seven bytes of such a gap hold a jump to
 * anywhere; a short jump, no longer than a `syscall`, leads there from 128 bytes around.
 *
 * A gap is used only if it is certain to be one:
 *   - it ends at a 16-byte boundary and is shorter than 16 bytes, so it does not begin at one; or it has 7
 * bytes up to one of 8, where gcc goes if it is more than 10 to the other;
 *   - it is filled with what assemblers, linkers and compilers fill with: a few long nops, or int3;
 *   - what stands in front of it is a ret or a jmp, and not the tail of another instruction. Behind the site
 *     instructions are followed from the `syscall`, where one is known to begin. In front of it they are
 *     followed from 15 addresses in a row, of which at least one is the beginning of one: all have to agree.
 *
 * Pure: works on a copy of the code.
 */
#pragma once
#include "cell/base/types.h"

enum {
    PAD_JUMP = 7,   /* bytes of ff 24 25 SLOT */
    PAD_AHEAD = 272 /* bytes of code around a site that are of use */
};

struct code {
    const u8 *bytes;
    u64 start, end; /* addresses */
};

/* The slots whose jumps stand in pads; jumps by other slots stand in place of a call site, and come back. */
struct pad_slots {
    u32 first, end;
    u32 first_pad;
};

struct pad {
    u64 start, end; /* all of it: it is written whole, int3 where the jump is not */
    u64 jump;       /* where the jump goes */
};

/* For the `syscall` at `site`. Pads whose pages are those of the site come first. */
bool pad_find(const struct code *code, u64 site, const struct pad_slots *slots, struct pad *out);
/* The slot of a jump at addr, as we write it, or 0. */
u32 pad_slot(const struct code *code, u64 addr, const struct pad_slots *slots);
