/*
 * tokens.h - who may call the API: bearer tokens with a scope, stored as hashes.
 *
 * A token is "ict_" and 32 random bytes in base64url. registry.db holds BLAKE2b-256 of it; the first 8 bytes
 * of the hash find the row, the rest is compared in constant time. While no admin token was ever made, one
 * bootstrap token (in memory as a hash only) can be exchanged for the first; until then every other operation
 * is refused.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/problem.h"

enum scope { SCOPE_NONE, SCOPE_READ, SCOPE_OPERATOR, SCOPE_ADMIN };
const char *scope_name(enum scope s);

struct token_info {
    char id[24];
    char name[64];
    enum scope scope;
};

struct tokens {
    bool bootstrapped;
    unsigned char bootstrap_hash[32];
    unsigned wrong;         /* unknown tokens since the last audit record about them */
    uint64_t wrong_told_at; /* monotonic ns; 0 never */
};

struct hub;

/* Reads whether an admin exists; if not, makes the bootstrap token and announces it with daemon_notice(). */
int tokens_start(struct hub *h, struct err *e);

/* Whose token is it? -1 with p: 401 unknown, expired or revoked. */
int tokens_check(struct hub *h, const char *text, struct token_info *who, struct problem *p);

/* Exchanges the bootstrap token. Returns {"id","token","name","scope"}, or NULL with p. */
json_t *tokens_bootstrap(struct hub *h, const char *bootstrap, const char *name, struct problem *p);

/* As above for any scope; expires_s 0 = never. `by` is who asked. */
json_t *tokens_create(struct hub *h, const struct token_info *by, const char *name, const char *scope,
                      uint64_t expires_s, struct problem *p);

/* Idempotent; the last usable admin token cannot be revoked (409). */
int tokens_revoke(struct hub *h, const struct token_info *by, const char *id, struct problem *p);

/* [{"id","name","scope","created","expires","revoked"}] */
json_t *tokens_list(struct hub *h, struct problem *p);
