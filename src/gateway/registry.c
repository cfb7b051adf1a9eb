#include "gateway/registry.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "vault/sql.h"

enum { CACHE_KIB = 128, SCHEMA_VERSION = 2 };

/*
 * changes.audited is the last state that stands in the audit log: when it differs from `state`, the process
 * died in between and the record is written at the next start. sessions.phase: creating, ready, removing;
 * anything but ready is finished or undone at the next start.
 */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE agents(name TEXT PRIMARY KEY, revision INTEGER NOT NULL, document TEXT NOT NULL,"
    " updated INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE changes(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, agent "
    "TEXT NOT NULL,"
    " state TEXT NOT NULL, audited TEXT NOT NULL DEFAULT '', submitted_by TEXT NOT NULL, submitter TEXT NOT "
    "NULL,"
    " submitted_at INTEGER NOT NULL, reason TEXT NOT NULL, document TEXT NOT NULL, before TEXT, after TEXT,"
    " verdicts TEXT NOT NULL, decided_by TEXT, decider TEXT, decided_at INTEGER, comment TEXT, error TEXT);"
    "CREATE INDEX changes_by_state ON changes(state, number);"
    "CREATE TABLE sessions(id TEXT PRIMARY KEY, agent TEXT NOT NULL, uid_index INTEGER NOT NULL UNIQUE,"
    " created INTEGER NOT NULL, phase TEXT NOT NULL, desired INTEGER NOT NULL, calls INTEGER NOT NULL "
    "DEFAULT 0,"
    " tokens_in INTEGER NOT NULL DEFAULT 0, tokens_out INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE tokens(id TEXT PRIMARY KEY, name TEXT NOT NULL, scope INTEGER NOT NULL, lookup INTEGER NOT "
    "NULL,"
    " hash BLOB NOT NULL UNIQUE, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER) WITHOUT ROWID;"
    "CREATE INDEX tokens_by_lookup ON tokens(lookup);"
    "CREATE TABLE providers(name TEXT PRIMARY KEY, sealed BLOB NOT NULL, updated INTEGER NOT NULL) WITHOUT "
    "ROWID;"
    "PRAGMA user_version=1;"
    "COMMIT;";

static const char schema_2[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE audit_owed(number INTEGER PRIMARY KEY, type TEXT NOT NULL, fields TEXT NOT NULL);"
    "CREATE INDEX changes_by_submitter ON changes(submitter, submitted_at);"
    "PRAGMA user_version=2;"
    "COMMIT;";

sqlite3 *registry_open(const char *root, struct err *e)
{
    CLEANUP_FREE char *path = x_asprintf("%s/registry.db", root);
    sqlite3 *db = sql_open(path, CACHE_KIB, true, NULL, e);
    int64_t version = 0;

    if (!db)
        return NULL;
    if (sql_int(db, e, 0, &version, "PRAGMA user_version", "") < 0)
        goto failed;
    if ((version < 1 && sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK) ||
        (version < 2 && sqlite3_exec(db, schema_2, NULL, NULL, NULL) != SQLITE_OK)) {
        (void)sql_error(db, e, "creating the tables");
        goto failed;
    }
    if (version > SCHEMA_VERSION) {
        (void)err_set(e, EINVAL, "registry.db was written by a newer version (schema %lld); use that version",
                      (long long)version);
        goto failed;
    }
    return db;
failed:
    (void)sqlite3_close_v2(db);
    return NULL;
}

int registry_begin(sqlite3 *db, struct err *e)
{
    return sql_run(db, e, "BEGIN IMMEDIATE", "") < 0 ? -1 : 0;
}

int registry_end(sqlite3 *db, int rc, struct err *e)
{
    if (rc == 0 && sql_run(db, e, "COMMIT", "") >= 0)
        return 0;
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

int registry_meta_get(sqlite3 *db, const char *key, int64_t *value, struct err *e)
{
    return sql_int(db, e, 0, value, "SELECT value FROM meta WHERE key = ?", "s", key);
}

int registry_meta_set(sqlite3 *db, const char *key, int64_t value, struct err *e)
{
    return sql_run(db, e,
                   "INSERT INTO meta VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                   "si", key, value) < 0
               ? -1
               : 0;
}

void registry_new_id(const char *prefix, char dst[24])
{
    unsigned char raw[8];
    char hex[17];

    io_random(raw, sizeof(raw));
    io_hex(hex, raw, sizeof(raw));
    (void)io_format(dst, 24, "%s%s", prefix, hex);
}
