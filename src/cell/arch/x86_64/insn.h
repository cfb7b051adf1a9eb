/*
 * insn.h - how long instructions are. For code that compilers and assemblers make: what is not known is said
 * to be unknown, never guessed.
 */
#pragma once
#include "cell/base/types.h"

enum { INSN_MAX = 15 }; /* bytes of the longest instruction */

enum insn {
    INSN_UNKNOWN, /* or cut off by the end of what may be looked at */
    INSN_INVALID, /* no instruction of 64-bit code begins so */
    INSN_GOES_ON, /* the next one may follow in time as it does in memory: calls and conditional jumps too */
    INSN_ENDS,    /* ret, jmp: never from here to what lies behind */
};

/* The instruction at p, of which at most n bytes are looked at. *length is set for the last two. */
enum insn insn_decode(const u8 *p, size_t n, size_t *length);
/* Length of the do-nothing instruction at p, as assemblers fill gaps with, or 0. */
size_t insn_nop(const u8 *p, size_t n);
