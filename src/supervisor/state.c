/*
 * The state directory (mode 0700): made, claimed by a lock, given to the vault's uid, stale leftovers
 * removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "supervisor/supervisor.h"

int state_open(struct supervisor *s, struct err *e)
{
    CLEANUP_CLOSE int dir = -1;
    CLEANUP_CLOSE int lock = -1;
    struct stat st;
    uid_t vault_uid =
        s->root ? (uid_t)json_integer_value(json_object_get(s->config, "uid_base")) + 1 : geteuid();

    if (io_mkdirs(AT_FDCWD, s->state_dir, 0700, e) < 0)
        return -1;
    dir = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || fstat(dir, &st) < 0)
        return err_sys(e, errno, "cannot open the state directory %s", s->state_dir);
    if (st.st_uid != geteuid() && st.st_uid != vault_uid)
        return err_set(e, EPERM, "the state directory %s belongs to uid %u; choose another with --state-dir",
                       s->state_dir, st.st_uid);
    lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return err_sys(e, errno, "cannot open %s/lock", s->state_dir);
    if (flock(lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, EBUSY,
                       "another 'ironclaw up' runs on %s; stop it first or choose another --state-dir",
                       s->state_dir);
    if (fchmod(dir, 0700) < 0 || (s->root && fchown(dir, vault_uid, vault_uid) < 0))
        return err_sys(e, errno, "cannot make %s private", s->state_dir);
    if (unlinkat(dir, "api.sock", 0) < 0 && errno != ENOENT)
        return err_sys(e, errno, "cannot remove the stale %s/api.sock", s->state_dir);
    s->lock = TAKE_FD(lock);
    return 0;
}
