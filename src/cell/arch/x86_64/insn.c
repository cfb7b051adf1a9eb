/*
 * Intel SDM, volume 2: prefixes, opcode, ModRM, SIB, displacement, immediate. The length depends on the
 * opcode by way of three questions: is there a ModRM byte, how long is the immediate, does it exist at all.
 */
#include "cell/arch/x86_64/insn.h"

#include "cell/base/text.h"

enum {
    M = 0x01, /* ModRM */
    B = 0x02, /* 1 byte */
    W = 0x04, /* 2 bytes */
    Z = 0x08, /* 2 or 4 bytes, by the operand size */
    V = 0x10, /* 2, 4 or 8 bytes */
    A = 0x20, /* an address: 8 or 4 bytes */
    D = 0x40, /* 4 bytes relative to here */
    X = 0x80, /* not an opcode, or none that is known here */
};

/* clang-format off */
static const u8 one_byte[256] = {
#define ARITHMETIC M, M, M, M, B, Z
    ARITHMETIC, X, X, ARITHMETIC, X, X,                         /* 00; 0f leads to the next table */
    ARITHMETIC, X, X, ARITHMETIC, X, X,                         /* 10 */
    ARITHMETIC, X, X, ARITHMETIC, X, X,                         /* 20; prefixes are taken off before */
    ARITHMETIC, X, X, ARITHMETIC, X, X,                         /* 30 */
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,             /* 40: REX */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,             /* 50 */
    X, X, X, M, X, X, X, X, Z, M | Z, B, M | B, 0, 0, 0, 0,     /* 60 */
    B, B, B, B, B, B, B, B, B, B, B, B, B, B, B, B,             /* 70 */
    M | B, M | Z, X, M | B, M, M, M, M, M, M, M, M, M, M, M, M, /* 80 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, X, 0, 0, 0, 0, 0,             /* 90 */
    A, A, A, A, 0, 0, 0, 0, B, Z, 0, 0, 0, 0, 0, 0,             /* a0 */
    B, B, B, B, B, B, B, B, V, V, V, V, V, V, V, V,             /* b0 */
    M | B, M | B, W, 0, X, X, M | B, M | Z, W | B, 0, W, 0, 0, B, X, 0, /* c0 */
    M, M, M, M, X, X, X, 0, M, M, M, M, M, M, M, M,             /* d0 */
    B, B, B, B, B, B, B, B, D, D, X, B, 0, 0, 0, 0,             /* e0 */
    X, 0, X, X, 0, 0, M, M, 0, 0, 0, 0, 0, 0, M, M,             /* f0 */
#undef ARITHMETIC
};

static const u8 two_bytes[256] = {
    M, M, M, M, X, 0, 0, 0, 0, 0, X, 0, X, M, X, X,             /* 00 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* 10 */
    X, X, X, X, X, X, X, X, M, M, M, M, M, M, M, M,             /* 20 */
    0, 0, 0, 0, 0, 0, X, X, X, X, X, X, X, X, X, X,             /* 30; 38 and 3a lead on */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* 40 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* 50 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* 60 */
    M | B, M | B, M | B, M | B, M, M, M, 0, X, X, X, X, M, M, M, M, /* 70 */
    D, D, D, D, D, D, D, D, D, D, D, D, D, D, D, D,             /* 80 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* 90 */
    0, 0, 0, M, M | B, M, X, X, 0, 0, 0, M, M | B, M, M, M,     /* a0 */
    M, M, M, M, M, M, M, M, M, M, M | B, M, M, M, M, M,         /* b0 */
    M, M, M | B, M, M | B, M | B, M | B, M, 0, 0, 0, 0, 0, 0, 0, 0, /* c0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* d0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* e0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,             /* f0 */
};
/* clang-format on */

/* Never again an opcode: what is left of 16-bit times. The others may yet become one. */
static bool is_invalid(u8 opcode)
{
    static const u8 old[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f,
                             0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xea};

    return memchr(old, opcode, sizeof(old)) != NULL;
}

struct reader {
    const u8 *p;
    size_t n, at;
    bool operand16, address32, wide, other_prefix;
};

/* Bytes that were read over the end are 0; the caller looks at `at` in the end. */
static u8 next(struct reader *r)
{
    u8 b = r->at < r->n ? r->p[r->at] : 0;

    r->at++;
    return b;
}

static u8 take_prefixes(struct reader *r)
{
    for (;;) {
        u8 b = next(r);
        switch (b) {
        case 0x66:
            r->operand16 = true;
            break;
        case 0x67:
            r->address32 = true;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
            break;
        case 0xf0:
        case 0xf2:
        case 0xf3:
            r->other_prefix = true;
            break;
        default:
            return b;
        }
        if (r->at > INSN_MAX)
            return b;
    }
}

static u8 take_modrm(struct reader *r)
{
    u8 modrm = next(r), mod = modrm >> 6, rm = modrm & 7, sib;

    if (mod == 3)
        return modrm;
    if (rm == 4) {
        sib = next(r);
        if (mod == 0 && (sib & 7) == 5)
            r->at += 4;
    } else if (mod == 0 && rm == 5) {
        r->at += 4;
    }
    r->at += mod == 1 ? 1 : mod == 2 ? 4 : 0;
    return modrm;
}

static void take_immediate(struct reader *r, u8 form)
{
    if (form & B)
        r->at += 1;
    if (form & W)
        r->at += 2;
    if (form & Z)
        r->at += r->operand16 && !r->wide ? 2 : 4;
    if (form & V)
        r->at += r->wide ? 8 : r->operand16 ? 2 : 4;
    if (form & A)
        r->at += r->address32 ? 4 : 8;
    if (form & D)
        r->at += 4;
}

/* Of the maps behind 0f: 1 is two_bytes, 2 (38) and 3 (3a) are regular, 5 and 6 exist behind EVEX only. */
static u8 form_of(u8 map, u8 opcode)
{
    return map == 1 ? two_bytes[opcode] : map == 3 ? M | B : M;
}

/* VEX and EVEX: the map stands in the prefix. */
static u8 take_vector_form(struct reader *r, u8 first)
{
    u8 map = 1, b = next(r);

    if (first == 0xc4) {
        map = b & 0x1f;
        (void)next(r);
    } else if (first == 0x62) {
        map = b & 7;
        r->at += 2;
        if (b & 8)
            return X;
    }
    if (r->operand16 || r->other_prefix || map == 0 || map == 4 || map > (first == 0x62 ? 6 : 3))
        return X;
    return form_of(map, next(r));
}

enum insn insn_decode(const u8 *p, size_t n, size_t *length)
{
    struct reader r = {.p = p, .n = n};
    u8 opcode = take_prefixes(&r), modrm = 0, form;
    bool escaped = false, rex = (opcode & 0xf0) == 0x40;

    if (rex) {
        r.wide = opcode & 8;
        opcode = next(&r);
    }
    if (r.at > n || r.at > INSN_MAX)
        return INSN_UNKNOWN;
    if (opcode == 0x0f) {
        escaped = true;
        opcode = next(&r);
        if (opcode == 0x38 || opcode == 0x3a)
            form = form_of(opcode == 0x38 ? 2 : 3, next(&r));
        else
            form = two_bytes[opcode];
    } else if (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62) {
        form = rex ? X : take_vector_form(&r, opcode);
    } else if (is_invalid(opcode)) {
        return INSN_INVALID;
    } else {
        form = one_byte[opcode];
    }
    /* With a 16-bit operand size makers of processors do not agree on the length of a jump. */
    if ((form & X) || ((form & D) && r.operand16 && !r.wide))
        return INSN_UNKNOWN;
    if (form & M)
        modrm = take_modrm(&r);
    if (!escaped && (opcode & 0xfe) == 0xf6 && (modrm & 0x30) == 0) /* test; the others have no immediate */
        form |= opcode & 1 ? Z : B;
    if (!escaped && opcode == 0x8f && (modrm & 0x38))
        return INSN_UNKNOWN; /* XOP */
    take_immediate(&r, form);
    if (r.at > n || r.at > INSN_MAX)
        return INSN_UNKNOWN;
    *length = r.at;
    if (!escaped && (opcode == 0xc3 || opcode == 0xc2 || opcode == 0xe9 || opcode == 0xeb ||
                     (opcode == 0xff && (modrm & 0x38) == 0x20)))
        return INSN_ENDS;
    return INSN_GOES_ON;
}

size_t insn_nop(const u8 *p, size_t n)
{
    /* Without leading 66s. Alone, 0f 1f 44 00 00 is also what tracers put at the start of functions. */
    static const struct {
        u8 length, bytes[9];
    } nops[] = {
        {1, {0x90}},
        {3, {0x0f, 0x1f, 0x00}},
        {4, {0x0f, 0x1f, 0x40, 0x00}},
        {5, {0x0f, 0x1f, 0x44, 0x00, 0x00}},
        {7, {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00}},
        {8, {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}},
        {9, {0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}},
    };
    size_t prefixes = 0;

    while (prefixes < n && prefixes < INSN_MAX - 1 && p[prefixes] == 0x66)
        prefixes++;
    for (size_t i = 0; i < ARRAY_LEN(nops); i++)
        if (prefixes + nops[i].length <= MIN(n, (size_t)INSN_MAX) &&
            memcmp(p + prefixes, nops[i].bytes, nops[i].length) == 0)
            return prefixes + nops[i].length;
    return 0;
}
