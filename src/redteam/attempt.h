/*
 * attempt.h - what the hostile program says it tried: the record that crosses the queue, one line per item.
 *
 *   report NONCE ATTACK
 *   step NAME RETURN ERRNO [DETAIL]      one attempt: what the call returned, and errno if it failed
 *   fact KEY VALUE                       something it saw
 *   claim SENTENCE                       it believes that this got through
 *   proof NAME HEX                       bytes that it read
 *   end done | timeout | killed N | exit N | unknown
 *
 * The record comes from a hostile program: it proves that an attack was tried, and can only ever add to a
 * verdict, never excuse one. Both sides build from this header; the parser is the host's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum {
    ATTEMPT_NAME_MAX = 63,       /* of a step, fact or proof; io_valid_name() */
    ATTEMPT_NONCE_LEN = 16,      /* hex digits */
    ATTEMPT_LINES_MAX = 4096,    /* more make the record invalid */
    ATTEMPT_TEXT_MAX = 180 << 10 /* bytes of one record */
};

struct attempt_step {
    const char *name, *detail; /* detail is "" when there is none */
    long ret;
    int error; /* errno, 0 when the call succeeded */
};

struct attempt_pair {
    const char *key, *value; /* fact: key and value; proof: name and hex; claim: "" and the sentence */
};

/* All strings lie in `text`. */
struct attempt {
    char *text;
    const char *nonce, *attack, *end;
    bool complete; /* it ended with "end done": nothing cut it short */
    struct attempt_step *steps;
    size_t nsteps;
    struct attempt_pair *facts, *claims, *proofs;
    size_t nfacts, nclaims, nproofs;
};

/* Takes a record apart; `text` (len bytes) is copied. Returns 0, or -1 with e and nothing to free. */
int attempt_parse(struct attempt *a, const char *text, size_t len, struct err *e);
void attempt_free(struct attempt *a);

/* The step of that name, the first if there are several; NULL if it was not tried. */
const struct attempt_step *attempt_step_find(const struct attempt *a, const char *name);
/* The value of a fact, NULL if it is not there. */
const char *attempt_fact(const struct attempt *a, const char *key);
/* The value of a fact as a number; `missing` if it is not there or no decimal number. */
long attempt_number(const struct attempt *a, const char *key, long missing);

/* True if `secret` stands in `text`, or in the bytes of one of the record's proofs. */
bool attempt_leaks(const struct attempt *a, const char *secret);
