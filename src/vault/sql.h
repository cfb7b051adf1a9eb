/*
 * sql.h - SQLite with bound parameters and our error object; the only way the vault's code talks to a
 * database.
 *
 * Parameters are given by a format string, one letter each: 's' const char * (NULL binds null), 'i' int64_t,
 * 'b' const void * and size_t (a blob). Statement text is always a literal: no SQL is ever assembled.
 */
#pragma once
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Library-wide settings (no lookaside, no memory statistics) and a seeded generator. Called once, before
 * seal_process(): afterwards /dev/urandom may be out of reach.
 */
void sql_init(void);

/*
 * Opens (or creates) the database at `path` for one process: write-ahead log, exclusive lock,
 * synchronous=FULL (a commit is on disk when it returns), a page cache of `cache_kib`. `writable_schema` and
 * attached code are off. Returns NULL with e; *rc (may be NULL) gets the extended SQLite code.
 */
sqlite3 *sql_open(const char *path, int cache_kib, bool create, int *rc, struct err *e);

/* Prepares and binds. NULL with e on failure. The caller finalizes (CLEANUP_STMT). */
sqlite3_stmt *sql_prepare(sqlite3 *db, struct err *e, const char *sql, const char *fmt, ...);

/* Prepares, binds, runs to the end. Returns the number of changed rows, or -1 with e. */
int sql_run(sqlite3 *db, struct err *e, const char *sql, const char *fmt, ...);

/* One step: 1 a row, 0 the end, -1 with e. */
int sql_step(sqlite3_stmt *st, struct err *e);

/* The first column of the first row as an integer; `missing` when there is none. -1 with e on failure. */
int sql_int(sqlite3 *db, struct err *e, int64_t missing, int64_t *out, const char *sql, const char *fmt, ...);

/* Column text, "" when null. Borrowed until the next step. */
const char *sql_text(sqlite3_stmt *st, int column);

/* Records the database's last error as a sentence with an errno: ENOSPC, EIO, EBADMSG (damaged), EEXIST
 * (constraint), EBUSY. */
int sql_error(sqlite3 *db, struct err *e, const char *doing);

/* The errno that stands for an SQLite result code. */
int sql_errno(int rc);

static inline void sql_finalize_(sqlite3_stmt **st)
{
    (void)sqlite3_finalize(*st);
}
#define CLEANUP_STMT __attribute__((cleanup(sql_finalize_)))
