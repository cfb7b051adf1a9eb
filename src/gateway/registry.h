/*
 * registry.h - registry.db: agents, changes, sessions, tokens, providers. Written by the gateway only.
 */
#pragma once
#include <sqlite3.h>
#include <stdint.h>

#include "base/err.h"

/* Opens or creates <root>/registry.db. NULL with e. */
sqlite3 *registry_open(const char *root, struct err *e);

/* One transaction around several statements; end() commits, or rolls back when `ok` is false or the commit
 * fails. */
int registry_begin(sqlite3 *db, struct err *e);
int registry_end(sqlite3 *db, int rc, struct err *e);

/* Small persistent facts. A missing one reads as 0. */
int registry_meta_get(sqlite3 *db, const char *key, int64_t *value, struct err *e);
int registry_meta_set(sqlite3 *db, const char *key, int64_t value, struct err *e);

/* A fresh identifier: prefix and 16 hex digits of randomness ("c-3f..."); dst needs 24 bytes, the prefix at
 * most 4. */
void registry_new_id(const char *prefix, char dst[24]);
