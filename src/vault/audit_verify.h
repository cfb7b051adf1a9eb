/*
 * audit_verify.h - checks an audit.log offline, with nothing but the Ed25519 public key.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

enum audit_fault {
    AUDIT_OK,
    AUDIT_EDITED,        /* a line does not match its own hash, or the next line's */
    AUDIT_DROPPED,       /* one or more lines are missing */
    AUDIT_REORDERED,     /* lines stand in another order */
    AUDIT_BAD_SIGNATURE, /* a checkpoint was not signed with this key */
    AUDIT_TORN,          /* the last line is incomplete (repaired by the next start of the vault) */
};
const char *
audit_fault_name(enum audit_fault f); /* "ok", "edited", "dropped", "reordered", "bad-signature", "torn" */

struct audit_report {
    enum audit_fault fault;
    uint64_t line;        /* the first bad line, from 1; 0 when all is well */
    uint64_t records;     /* good lines, checkpoints included */
    uint64_t checkpoints; /* with a good signature */
    uint64_t
        unsigned_tail; /* records after the last checkpoint: vouched for by the chain only; not a fault */
};

/*
 * Verifies `path`. public_key: 32 bytes, or NULL to read them (hex) from the file "audit.pub" beside it.
 * Returns 0 with the report filled (also when a fault was found), -1 with e when a file cannot be read.
 */
int audit_verify_file(const char *path, const unsigned char *public_key, struct audit_report *report,
                      struct err *e);
