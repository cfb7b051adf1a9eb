/*
 * audit_format.h - one line of audit.log, as the writer makes it and the offline verifier reads it.
 *
 *   {"seq":7,"time":1700000000000,"type":"change.approved",...,"prev":"<64 hex>","hash":"<64 hex>"}
 *
 * `hash` is BLAKE2b-256 over the line's own bytes without the member `hash` (that is, up to and including the
 * value of `prev`, then "}"). `prev` is the hash of the line before; 64 zeros in the first. The order of
 * members is fixed: seq first, prev and hash last, so nothing depends on how JSON is written elsewhere.
 *
 * A checkpoint is a line of type "checkpoint" with `signature`: Ed25519 over
 * "ironclaw audit checkpoint 1 <seq> <time> <prev>". Through prev it commits to everything before it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AUDIT_LINE_MAX = 16 * 1024, /* bytes, newline included */
    AUDIT_HASH_HEX = 64,
    AUDIT_SIGNED_MAX = 256,
};

/* Lower-case hex BLAKE2b-256 of `body` with "}" after it; dst needs AUDIT_HASH_HEX + 1 bytes. */
void audit_line_hash(const char *body, size_t len, char *dst);

/* What a checkpoint signs, as text; returns its length. */
size_t audit_signed_text(uint64_t seq, uint64_t time, const char *prev, char dst[AUDIT_SIGNED_MAX]);

/*
 * Splits a line (without newline): *body_len gets the number of bytes before `,"hash":"`, `hash` and `prev`
 * the 64 hex digits with NUL, *seq the number. False if the line does not have this shape.
 */
bool audit_line_split(const char *line, size_t len, size_t *body_len, char *hash, char *prev, uint64_t *seq);
