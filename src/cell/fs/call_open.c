/*
 * open and what is about a process's place in the tree.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/openat2.h>

#include "cell/base/text.h"
#include "cell/fs/calls.h"
#include "cell/fs/path.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum {
    OPEN_KNOWN = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | FASYNC |
                 O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |
                 __O_TMPFILE,
};

static long install(struct file *f, unsigned flags)
{
    long fd = fd_install(f, 0, (flags & O_CLOEXEC) != 0);

    if (fd < 0)
        file_put(f);
    return fd;
}

static long do_open(u64 dirfd, u64 path, u64 open_flags, u64 mode, unsigned walk)
{
    unsigned flags = (unsigned)open_flags & OPEN_KNOWN;
    struct file *f;
    long error;
    char *name;

    if (flags & O_PATH)
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    else
        flags |= O_LARGEFILE;
    if ((flags & __O_TMPFILE) &&
        ((flags & (O_TMPFILE | O_CREAT)) != O_TMPFILE || (flags & O_ACCMODE) == O_RDONLY))
        return -EINVAL;
    name = path_copy((const void *)path, false, &error);
    if (!name)
        return error;
    error = file_open((int)dirfd, name, flags, (unsigned)mode, walk, &f);
    path_free(name);
    return error < 0 ? error : install(f, flags);
}

FS_CALL(sys_open)
{
    return do_open((u64)AT_FDCWD, a1, a2, a3, 0);
}

FS_CALL(sys_openat)
{
    return do_open(a1, a2, a3, a4, 0);
}

FS_CALL(sys_creat)
{
    return do_open((u64)AT_FDCWD, a1, O_CREAT | O_WRONLY | O_TRUNC, a2, 0);
}

FS_CALL(sys_openat2)
{
    struct open_how how;
    unsigned walk = 0;
    u8 rest[64];

    if (a4 < sizeof(how))
        return -EINVAL;
    if (a4 > sizeof(how) + sizeof(rest))
        return -E2BIG;
    if (copy_from_user(&how, (const void *)a3, sizeof(how)) < 0 ||
        copy_from_user(rest, (const u8 *)a3 + sizeof(how), a4 - sizeof(how)) < 0)
        return -EFAULT;
    for (u64 i = 0; i < a4 - sizeof(how); i++)
        if (rest[i])
            return -E2BIG;
    if ((how.flags & ~(u64)OPEN_KNOWN) || (how.resolve & ~0x3fULL) || (how.mode & ~07777ULL) ||
        (how.mode && !(how.flags & (O_CREAT | __O_TMPFILE))) ||
        ((how.resolve & RESOLVE_BENEATH) && (how.resolve & RESOLVE_IN_ROOT)))
        return -EINVAL;
    if (how.resolve & RESOLVE_CACHED)
        return -EAGAIN;
    walk |= how.resolve & RESOLVE_NO_XDEV ? WALK_NO_XDEV : 0U;
    walk |= how.resolve & RESOLVE_NO_MAGICLINKS ? WALK_NO_MAGIC : 0U;
    walk |= how.resolve & RESOLVE_NO_SYMLINKS ? WALK_NO_LINKS : 0U;
    walk |= how.resolve & RESOLVE_BENEATH ? WALK_BENEATH : 0U;
    walk |= how.resolve & RESOLVE_IN_ROOT ? WALK_IN_ROOT : 0U;
    return do_open(a1, a2, how.flags, how.mode, walk);
}

FS_CALL(sys_memfd_create)
{
    enum { NAME_CAP = 250 };
    char name[NAME_CAP];
    struct file *f;
    long rc;

    if (a2 & ~(u64)(MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x18 /* MFD_NOEXEC_SEAL, MFD_EXEC */))
        return -EINVAL;
    rc = strncpy_from_user(name, (const char *)a1, sizeof(name));
    if (rc < 0)
        return rc == -ENAMETOOLONG ? -EINVAL : rc;
    rc = memfd_create_file(name, (unsigned)a2, &f);
    return rc < 0 ? rc : install(f, a2 & MFD_CLOEXEC ? O_CLOEXEC : 0U);
}

/* ---- place in the tree */

static long set_cwd(struct dentry *d)
{
    struct fs_context *c = &current_process->fs;
    long rc;

    if (!inode_is_dir(d->inode))
        return -ENOTDIR;
    rc = inode_permission(d->inode, MAY_EXEC);
    if (rc == 0) {
        dentry_get(d);
        dentry_put(c->cwd);
        c->cwd = d;
    }
    return rc;
}

FS_CALL(sys_chdir)
{
    struct link_target t;
    long rc = path_find_user(AT_FDCWD, (const char *)a1, WALK_FOLLOW | WALK_DIRECTORY, &t);

    if (rc == 0)
        rc = t.dentry ? set_cwd(t.dentry) : -ENOTDIR;
    link_target_put(&t);
    return rc;
}

FS_CALL(sys_fchdir)
{
    struct file *f = fd_file_any((int)a1);

    return !f ? -EBADF : f->dentry ? set_cwd(f->dentry) : -ENOTDIR;
}

FS_CALL(sys_getcwd)
{
    struct dentry *cwd = current_process->fs.cwd;
    char *path;
    long n;

    if (cwd->flags & DENTRY_DELETED)
        return -ENOENT;
    path = path_buffer();
    if (!path)
        return -ENOMEM;
    n = dentry_path(cwd, path, PATH_MAX_);
    if (n >= 0 && (u64)n + 1 > a2)
        n = -ERANGE;
    if (n >= 0)
        n = copy_to_user((void *)a1, path, (size_t)n + 1) < 0 ? -EFAULT : n + 1;
    path_free(path);
    return n;
}

FS_CALL(sys_umask)
{
    unsigned old = current_process->fs.umask;

    current_process->fs.umask = (unsigned)a1 & 0777;
    return (long)old;
}
