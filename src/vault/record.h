/*
 * record.h - one sealed record of a session's queue, as pure functions over bytes.
 *
 * A record is bound to its place: session, direction, sequence number, kind and the hash of the record before
 * it are associated data of the XChaCha20-Poly1305 seal, so it opens nowhere else. Its own hash covers the
 * same head and the sealed bytes; the next record takes that hash as `prev`, which makes the queue a chain.
 *
 *   sealed  = u8 version, u8 direction, u64 seq (LE), nonce (24), ciphertext, tag (16)
 *   plain   = u64 time, u64 consumed, u64 reply_to, u8 has_idem, idem (16, only if has_idem), text
 *   hash    = BLAKE2b-256("ironclaw record 1" || head || sealed)
 *
 * direction and seq stand in clear as well so that a record moved to another row or file is named as such
 * rather than as an altered one; both are authenticated.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECORD_KEY = 32,
    RECORD_HASH = 32,
    RECORD_IDEM = 16,
    RECORD_CLEAR = 1 + 1 + 8,
    RECORD_OVERHEAD =
        RECORD_CLEAR + 24 + 16 + 24 + 1 + RECORD_IDEM, /* the most that sealing adds to the text */
};

/* Inbound: from the user to the agent. Outbound: what the agent appended. */
enum direction { DIRECTION_IN, DIRECTION_OUT, DIRECTION_COUNT };
enum record_kind { RECORD_MESSAGE = 1, RECORD_QUESTION = 2, RECORD_NOTICE = 3 };

/* What can be wrong with a session's data at rest; each is reported by name, never tolerated. */
enum damage {
    DAMAGE_NONE,
    DAMAGE_WRONG_KEY,      /* the session key, or what proves it, does not open */
    DAMAGE_MISSING,        /* a file of the session is not there */
    DAMAGE_TRUNCATED,      /* a file is shorter than it says it is */
    DAMAGE_FILE,           /* SQLite finds the file malformed */
    DAMAGE_WRONG_FILE,     /* the file belongs to another session or direction */
    DAMAGE_RECORD_ALTERED, /* a record does not authenticate */
    DAMAGE_CHAIN_BROKEN,   /* records are missing, moved or reordered */
    DAMAGE_ROLLED_BACK,    /* the file is older than what was acknowledged */
    DAMAGE_ANCHOR,         /* the anchor slot itself is missing or forged */
    DAMAGE_COUNT
};
const char *damage_name(enum damage d); /* "wrong-key", "truncated", ...; "none" */

struct record_head {
    const char *session;
    enum direction direction;
    uint64_t seq; /* from 1, without gaps */
    uint32_t kind;
    unsigned char prev[RECORD_HASH]; /* all zero for the first record */
};

struct record_body {
    uint64_t time;     /* ms since the epoch */
    uint64_t consumed; /* outbound: inbound messages up to this number are handled (never decreases) */
    uint64_t reply_to; /* outbound: the inbound message this one answers; 0 none */
    bool has_idem;
    unsigned char idem[RECORD_IDEM]; /* inbound: digest of the client's idempotency key */
    const char *text;                /* borrowed; not NUL-terminated */
    size_t text_len;
};

/*
 * Seals. Returns a malloc'ed buffer (caller frees; it holds no plain text), its length in *len, its hash in
 * `hash`.
 */
unsigned char *record_seal(const unsigned char key[RECORD_KEY], const struct record_head *h,
                           const struct record_body *b, size_t *len, unsigned char hash[RECORD_HASH]);

/*
 * Opens. On DAMAGE_NONE *plain is a malloc'ed buffer that body->text points into (record_plain_free() it) and
 * hash is the record's hash. On anything else *plain is NULL.
 */
enum damage record_open(const unsigned char key[RECORD_KEY], const struct record_head *h,
                        const unsigned char *sealed, size_t len, struct record_body *body,
                        unsigned char **plain, unsigned char hash[RECORD_HASH]);

/* Wipes and frees; text_len as in the body. Accepts NULL. */
void record_plain_free(unsigned char *plain, const struct record_body *b);
