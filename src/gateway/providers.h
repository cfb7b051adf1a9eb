/*
 * providers.h - the keys of model providers: sealed by the client to the vault's public key, stored sealed
 * under the master key in registry.db, given to upstream alone.
 */
#pragma once
#include <jansson.h>
#include <stddef.h>

#include "gateway/problem.h"

struct hub;

/* [{"name","kind","url","has_key"}]: those of the configuration and "mock". NULL with p. */
json_t *providers_list(struct hub *h, struct problem *p);
/* sealed_base64: crypto_box_seal() of the key. */
int providers_set(struct hub *h, const char *by, const char *name, const char *sealed_base64,
                  struct problem *p);
int providers_remove(struct hub *h, const char *by, const char *name, struct problem *p);
/* The key in `out` (at least PROVIDER_KEY_MAX bytes; the caller wipes it) and its length, or -1 with e. */
int providers_key(struct hub *h, const char *name, unsigned char *out, size_t *len, struct err *e);
