/*
 * fault_vfs.h - makes the n-th write, sync or truncation fail: a shim over SQLite's own VFS, and the same
 * counter behind anchors_io and audit_io.
 */
#pragma once
#include <stdbool.h>

/* Registers the shim as the default VFS; once, before any database is opened. */
void fault_install(void);
/* The n-th operation from now on fails with ENOSPC or EIO, and so do all after it. */
void fault_at(unsigned n, int code);
bool fault_fired(void);
void fault_clear(void);
/* Only audit.log fails, from now on and every time, until fault_clear(). */
void fault_audit(int code);
