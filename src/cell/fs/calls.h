/*
 * calls.h - the system calls on files, by family. The table is in fs_calls.c.
 */
#pragma once
#include "cell/proc/syscall.h"

/* A call that leaves arguments unused need not say so. */
#define FS_CALL(name)                                                                                        \
    long name(__attribute__((unused)) u64 a1, __attribute__((unused)) u64 a2,                                \
              __attribute__((unused)) u64 a3, __attribute__((unused)) u64 a4,                                \
              __attribute__((unused)) u64 a5, __attribute__((unused)) u64 a6)

/* call_rw.c */
FS_CALL(sys_read);
FS_CALL(sys_write);
FS_CALL(sys_pread64);
FS_CALL(sys_pwrite64);
FS_CALL(sys_readv);
FS_CALL(sys_writev);
FS_CALL(sys_preadv);
FS_CALL(sys_pwritev);
FS_CALL(sys_preadv2);
FS_CALL(sys_pwritev2);
FS_CALL(sys_lseek);
FS_CALL(sys_getdents);
FS_CALL(sys_getdents64);

/* call_open.c */
FS_CALL(sys_open);
FS_CALL(sys_openat);
FS_CALL(sys_openat2);
FS_CALL(sys_creat);
FS_CALL(sys_memfd_create);
FS_CALL(sys_chdir);
FS_CALL(sys_fchdir);
FS_CALL(sys_getcwd);
FS_CALL(sys_umask);

/* call_stat.c */
FS_CALL(sys_stat);
FS_CALL(sys_fstat);
FS_CALL(sys_lstat);
FS_CALL(sys_newfstatat);
FS_CALL(sys_statx);
FS_CALL(sys_access);
FS_CALL(sys_faccessat);
FS_CALL(sys_faccessat2);
FS_CALL(sys_readlink);
FS_CALL(sys_readlinkat);
FS_CALL(sys_statfs);
FS_CALL(sys_fstatfs);

/* call_name.c */
FS_CALL(sys_mkdir);
FS_CALL(sys_mkdirat);
FS_CALL(sys_mknod);
FS_CALL(sys_mknodat);
FS_CALL(sys_symlink);
FS_CALL(sys_symlinkat);
FS_CALL(sys_link);
FS_CALL(sys_linkat);
FS_CALL(sys_rmdir);
FS_CALL(sys_unlink);
FS_CALL(sys_unlinkat);

/* call_rename.c */
FS_CALL(sys_rename);
FS_CALL(sys_renameat);
FS_CALL(sys_renameat2);

/* call_attr.c */
FS_CALL(sys_chmod);
FS_CALL(sys_fchmod);
FS_CALL(sys_fchmodat);
FS_CALL(sys_chown);
FS_CALL(sys_fchown);
FS_CALL(sys_lchown);
FS_CALL(sys_fchownat);
FS_CALL(sys_utime);
FS_CALL(sys_utimes);
FS_CALL(sys_futimesat);
FS_CALL(sys_utimensat);
FS_CALL(sys_truncate);
FS_CALL(sys_ftruncate);
FS_CALL(sys_fallocate);
FS_CALL(sys_fsync);
FS_CALL(sys_fadvise64);

/* call_xattr.c */
FS_CALL(sys_setxattr);
FS_CALL(sys_lsetxattr);
FS_CALL(sys_fsetxattr);
FS_CALL(sys_getxattr);
FS_CALL(sys_lgetxattr);
FS_CALL(sys_fgetxattr);
FS_CALL(sys_listxattr);
FS_CALL(sys_llistxattr);
FS_CALL(sys_flistxattr);
FS_CALL(sys_removexattr);
FS_CALL(sys_lremovexattr);
FS_CALL(sys_fremovexattr);

/* call_fd.c */
FS_CALL(sys_close);
FS_CALL(sys_close_range);
FS_CALL(sys_dup);
FS_CALL(sys_dup2);
FS_CALL(sys_dup3);
FS_CALL(sys_fcntl);
FS_CALL(sys_flock);
FS_CALL(sys_ioctl);
FS_CALL(sys_pipe);
FS_CALL(sys_pipe2);

/* call_copy.c */
FS_CALL(sys_sendfile);
FS_CALL(sys_copy_file_range);
FS_CALL(sys_splice);
FS_CALL(sys_tee);
