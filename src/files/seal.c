#include "base/cleanup.h"
#include "base/landlock.h"
#include "base/syscall_filter.h"
#include "base/weaken.h"
#include "files/files.h"

/* Files below the roots, the stream, memory for the table. */
static const int allowed[] = {
    SYS_read,         SYS_write,           SYS_ppoll,         SYS_writev,  SYS_pread64,
    SYS_pwrite64,     SYS_close,           SYS_openat2,       SYS_openat,  SYS_fstat,
    SYS_newfstatat,   SYS_getdents64,      SYS_readlinkat,    SYS_mkdirat, SYS_symlinkat,
    SYS_linkat,       SYS_unlinkat,        SYS_renameat2,     SYS_fchmod,  SYS_fchmodat,
    SYS_fchmodat2,    SYS_utimensat,       SYS_ftruncate,     SYS_fsync,   SYS_fcntl,
    SYS_dup,          SYS_lseek,           SYS_brk,           SYS_mmap,    SYS_munmap,
    SYS_mremap,       SYS_madvise,         SYS_mprotect,      SYS_exit,    SYS_exit_group,
    SYS_rt_sigreturn, SYS_restart_syscall, SYS_rt_sigprocmask};

int files_seal(struct server *s, struct err *e)
{
    struct landlock_path paths[FILES_ROOTS];

    for (unsigned i = 0; i < s->nroots; i++)
        paths[i] =
            (struct landlock_path){s->roots[i].fd, s->roots[i].writable ? LANDLOCK_WRITE : LANDLOCK_READ};
    if (!weakened("landlock") && landlock_restrict(paths, s->nroots, true, true, e) < 0)
        return -1;
    return weakened("relay-filter") ? 0 : syscall_filter_install(allowed, ARRAY_LEN(allowed), false, e);
}
