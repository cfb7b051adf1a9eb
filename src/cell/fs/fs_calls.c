/*
 * The table of calls on files.
 */
#include <asm/errno.h>
#include <asm/unistd.h>

#include "cell/fs/calls.h"

static FS_CALL(nothing)
{
    return 0;
}

static FS_CALL(not_permitted)
{
    return -EPERM;
}

#define CALL(name, fn)                                                                                       \
    {                                                                                                        \
        __NR_##name, SYS_LOCKED, #name, fn                                                                   \
    }
#define SAME(name) CALL(name, sys_##name)

const struct syscall fs_calls[] = {
    SAME(read),
    SAME(write),
    SAME(pread64),
    SAME(pwrite64),
    SAME(readv),
    SAME(writev),
    SAME(preadv),
    SAME(pwritev),
    SAME(preadv2),
    SAME(pwritev2),
    SAME(lseek),
    SAME(getdents),
    SAME(getdents64),
    SAME(open),
    SAME(openat),
    SAME(openat2),
    SAME(creat),
    SAME(memfd_create),
    SAME(chdir),
    SAME(fchdir),
    SAME(getcwd),
    SAME(umask),
    SAME(stat),
    SAME(fstat),
    SAME(lstat),
    SAME(newfstatat),
    SAME(statx),
    SAME(access),
    SAME(faccessat),
    SAME(faccessat2),
    SAME(readlink),
    SAME(readlinkat),
    SAME(statfs),
    SAME(fstatfs),
    SAME(mkdir),
    SAME(mkdirat),
    SAME(mknod),
    SAME(mknodat),
    SAME(symlink),
    SAME(symlinkat),
    SAME(link),
    SAME(linkat),
    SAME(rmdir),
    SAME(unlink),
    SAME(unlinkat),
    SAME(rename),
    SAME(renameat),
    SAME(renameat2),
    SAME(chmod),
    SAME(fchmod),
    SAME(fchmodat),
    SAME(chown),
    SAME(fchown),
    SAME(lchown),
    SAME(fchownat),
    SAME(utime),
    SAME(utimes),
    SAME(futimesat),
    SAME(utimensat),
    SAME(truncate),
    SAME(ftruncate),
    SAME(fallocate),
    SAME(fadvise64),
    SAME(setxattr),
    SAME(lsetxattr),
    SAME(fsetxattr),
    SAME(getxattr),
    SAME(lgetxattr),
    SAME(fgetxattr),
    SAME(listxattr),
    SAME(llistxattr),
    SAME(flistxattr),
    SAME(removexattr),
    SAME(lremovexattr),
    SAME(fremovexattr),
    SAME(close),
    SAME(close_range),
    SAME(dup),
    SAME(dup2),
    SAME(dup3),
    SAME(fcntl),
    SAME(flock),
    SAME(ioctl),
    SAME(sendfile),
    SAME(copy_file_range),
    SAME(splice),
    SAME(tee),
    SAME(fsync),
    CALL(fdatasync, sys_fsync),
    CALL(syncfs, sys_fsync),
    CALL(sync, nothing),
    CALL(sync_file_range, nothing),
    CALL(readahead, nothing),
    CALL(chroot, not_permitted),
    CALL(mount, not_permitted),
    CALL(umount2, not_permitted),
    CALL(pivot_root, not_permitted),
    {0},
};

const struct syscall ipc_calls[] = {
    SAME(pipe),
    SAME(pipe2),
    {0},
};
