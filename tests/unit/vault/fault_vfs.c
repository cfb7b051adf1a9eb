#include "fault_vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "vault/anchors.h"
#include "vault/audit.h"

static struct {
    unsigned countdown; /* 0: off */
    int code;
    bool fired;
    bool audit; /* audit.log only */
} plan;

static sqlite3_vfs *real_vfs;
static sqlite3_vfs shim;

/* Our file object, followed in memory by the real one. */
struct file {
    sqlite3_file base;
    sqlite3_file *real;
};

static bool fails(void)
{
    if (plan.fired)
        return true;
    if (plan.countdown == 0 || --plan.countdown > 0)
        return false;
    plan.fired = true;
    return true;
}

void fault_at(unsigned n, int code)
{
    plan.countdown = n;
    plan.code = code;
    plan.fired = false;
}

bool fault_fired(void)
{
    return plan.fired;
}

void fault_clear(void)
{
    memset(&plan, 0, sizeof(plan));
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)f)->real;
}

static int f_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}

static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (fails()) {
        /* A full disk takes a part of what it is given. */
        if (n > 1)
            (void)real_of(f)->pMethods->xWrite(real_of(f), p, n / 2, at);
        return plan.code == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return fails() ? SQLITE_IOERR_TRUNCATE : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int f_sync(sqlite3_file *f, int flags)
{
    return fails() ? SQLITE_IOERR_FSYNC : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int f_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int f_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int f_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int f_check(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int f_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int f_sector(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int f_traits(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

/* Version 1: exclusive locking needs no shared memory. */
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_check,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_traits,
};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *out, int flags, int *got)
{
    struct file *f = (struct file *)out;
    int rc;

    (void)v;
    f->real = (sqlite3_file *)(f + 1);
    rc = real_vfs->xOpen(real_vfs, name, f->real, flags, got);
    f->base.pMethods = rc == SQLITE_OK ? &methods : NULL;
    return rc;
}

static ssize_t anchor_pwrite(int fd, const void *buf, size_t len, off_t at)
{
    if (fails()) {
        (void)!pwrite(fd, buf, len / 2, at); /* torn */
        errno = plan.code;
        return -1;
    }
    return pwrite(fd, buf, len, at);
}

static int anchor_sync(int fd)
{
    if (fails()) {
        errno = plan.code;
        return -1;
    }
    return fdatasync(fd);
}

void fault_audit(int code)
{
    fault_clear();
    plan.code = code;
    plan.audit = true;
}

static int audit_write(int fd, const void *buf, size_t len)
{
    if (plan.audit || fails()) {
        (void)io_write_all(fd, buf, len / 2);
        errno = plan.code;
        return -1;
    }
    return io_write_all(fd, buf, len);
}

void fault_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "fault";
    shim.pNext = NULL;
    shim.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    shim.xOpen = v_open;
    (void)sqlite3_vfs_register(&shim, 1);
    anchors_io.pwrite = anchor_pwrite;
    anchors_io.fdatasync = anchor_sync;
    audit_io.write_all = audit_write;
    audit_io.fdatasync = anchor_sync;
}
