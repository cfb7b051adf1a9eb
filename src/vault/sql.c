#include "vault/sql.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/io.h"

void sql_init(void)
{
    unsigned char seed[8];

    /* Lookaside costs 48 KiB for every connection; sessions open two each. */
    (void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    (void)sqlite3_initialize();
    sqlite3_randomness(sizeof(seed), seed);
}

int sql_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return EBADMSG;
    case SQLITE_CONSTRAINT:
        return EEXIST;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_CANTOPEN:
        return ENOENT;
    case SQLITE_NOMEM:
        return ENOMEM;
    default:
        return EIO;
    }
}

int sql_error(sqlite3 *db, struct err *e, const char *doing)
{
    int rc = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    int code = sql_errno(rc);
    const char *path = db ? sqlite3_db_filename(db, "main") : NULL;
    const char *advice = code == ENOSPC ? " (free some space on that file system)" : "";

    return err_set(e, code ? code : EIO, "%s in the database %s failed: %s%s", doing,
                   path && *path ? path : "(unnamed)", db ? sqlite3_errmsg(db) : "out of memory", advice);
}

static int bind_all(sqlite3_stmt *st, const char *fmt, va_list ap)
{
    int rc = SQLITE_OK;

    for (int i = 1; *fmt && rc == SQLITE_OK; i++, fmt++) {
        if (*fmt == 's') {
            rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        } else if (*fmt == 'i') {
            rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
        } else {
            const void *p = va_arg(ap, const void *);
            size_t len = va_arg(ap, size_t);
            rc = p ? sqlite3_bind_blob64(st, i, p, len, SQLITE_TRANSIENT) : sqlite3_bind_null(st, i);
        }
    }
    return rc;
}

static sqlite3_stmt *vprepare(sqlite3 *db, struct err *e, const char *sql, const char *fmt, va_list ap)
{
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK || bind_all(st, fmt, ap) != SQLITE_OK) {
        (void)sql_error(db, e, "preparing a statement");
        (void)sqlite3_finalize(st);
        return NULL;
    }
    return st;
}

sqlite3_stmt *sql_prepare(sqlite3 *db, struct err *e, const char *sql, const char *fmt, ...)
{
    va_list ap;
    sqlite3_stmt *st;

    va_start(ap, fmt);
    st = vprepare(db, e, sql, fmt, ap);
    va_end(ap);
    return st;
}

int sql_step(sqlite3_stmt *st, struct err *e)
{
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    return sql_error(sqlite3_db_handle(st), e, sqlite3_stmt_readonly(st) ? "reading" : "writing");
}

int sql_run(sqlite3 *db, struct err *e, const char *sql, const char *fmt, ...)
{
    va_list ap;
    CLEANUP_STMT sqlite3_stmt *st = NULL;
    int rc;

    va_start(ap, fmt);
    st = vprepare(db, e, sql, fmt, ap);
    va_end(ap);
    if (!st)
        return -1;
    while ((rc = sql_step(st, e)) > 0)
        ;
    return rc < 0 ? -1 : sqlite3_changes(db);
}

int sql_int(sqlite3 *db, struct err *e, int64_t missing, int64_t *out, const char *sql, const char *fmt, ...)
{
    va_list ap;
    CLEANUP_STMT sqlite3_stmt *st = NULL;
    int rc;

    va_start(ap, fmt);
    st = vprepare(db, e, sql, fmt, ap);
    va_end(ap);
    if (!st || (rc = sql_step(st, e)) < 0)
        return -1;
    *out = rc > 0 && sqlite3_column_type(st, 0) != SQLITE_NULL ? sqlite3_column_int64(st, 0) : missing;
    return 0;
}

const char *sql_text(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);

    return text ? text : "";
}

sqlite3 *sql_open(const char *path, int cache_kib, bool create, int *rc, struct err *e)
{
    sqlite3 *db = NULL;
    char pragma[64];
    int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX;

    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK)
        goto failed;
    (void)sqlite3_extended_result_codes(db, 1);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)io_format(pragma, sizeof(pragma), "PRAGMA cache_size=-%d", cache_kib);
    /* Exclusive locking keeps the WAL index on the heap: no shared-memory file, and no second writer by
     * mistake. */
    if (sqlite3_exec(db,
                     "PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;"
                     "PRAGMA cell_size_check=ON; PRAGMA foreign_keys=OFF",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, pragma, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=256",
                     NULL, NULL, NULL) != SQLITE_OK)
        goto failed;
    if (rc)
        *rc = SQLITE_OK;
    return db;
failed:
    if (rc)
        *rc = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    (void)sql_error(db, e, "opening");
    (void)sqlite3_close_v2(db);
    return NULL;
}
