/*
 * keys.h - the key hierarchy: one master key, everything else sealed under it.
 *
 *   master.key (32 random bytes, or wrapped under a passphrase)
 *     |- audit.key     Ed25519 seed, signs checkpoints of audit.log; public half in <state>/audit.pub (hex)
 *     |- sealing.key   X25519 pair: clients seal provider keys to its public half, only the vault opens them
 *     |- session keys  256 bits each, sealed in sessions/<id>/session.key
 *     |- provider keys sealed in registry.db
 *     `- subkeys       derived by purpose (anchors)
 *
 * Sealing is XChaCha20-Poly1305 with a random nonce and a purpose string as associated data, so that one
 * sealed key put in the place of another does not open. What is in use lives in one sodium_malloc() area:
 * locked, guarded, out of core dumps, wiped by keys_close().
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    KEY_BYTES = 32,
    SEAL_OVERHEAD = 24 + 16, /* XChaCha20-Poly1305 nonce and tag */
    KEY_SLOTS = 8,           /* session keys in use at once (queue_store.c's open databases) */
    PASSPHRASE_MAX = 1024,   /* bytes */
};

struct keys;

/*
 * Allocates the locked area. Called before seal_process(), which may forbid mlock(2).
 */
struct keys *keys_new(void);

/*
 * Loads, or on the very first start creates, all keys. state_fd: the state directory. passphrase_fd: -1 or a
 * descriptor whose contents (a trailing newline is dropped) unlock master.key; empty means none.
 * Errors: wrong passphrase, passphrase missing or not expected, damaged or missing files; one sentence each.
 */
int keys_load(struct keys *k, int state_fd, int passphrase_fd, struct err *e);

/* Wipes and frees. Accepts NULL. */
void keys_close(struct keys *k);

/* out needs len + SEAL_OVERHEAD bytes. */
void keys_seal(const struct keys *k, const char *purpose, const void *plain, size_t len, unsigned char *out);

/* `in` is len bytes; out needs len - SEAL_OVERHEAD. Returns 0, or -1 when it was not sealed here for this
 * purpose. */
int keys_unseal(const struct keys *k, const char *purpose, const unsigned char *in, size_t len,
                unsigned char *out);

/* A subkey of the master key for `purpose`. */
void keys_derive(const struct keys *k, const char *purpose, unsigned char out[KEY_BYTES]);

/* Ed25519 detached signature with the audit key (64 bytes), and its public key (32 bytes). */
void keys_sign(const struct keys *k, const void *data, size_t len, unsigned char signature[64]);
const unsigned char *keys_audit_public(const struct keys *k);

/* The X25519 public key for crypto_box_seal(), and the opening of such a box (out: len - 48 bytes). */
const unsigned char *keys_sealing_public(const struct keys *k);
int keys_open_box(const struct keys *k, const unsigned char *box, size_t len, unsigned char *out);

/* Locked room for session key number `slot` (0 to KEY_SLOTS - 1). */
unsigned char *keys_slot(struct keys *k, unsigned slot);
