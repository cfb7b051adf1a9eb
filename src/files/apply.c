/*
 * Changes that a cell made, made on the host. Every path is resolved below its root by the kernel, which
 * follows no link on the way (openat2(2)): whatever else happens to the tree meanwhile, nothing outside of it
 * is touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/weaken.h"
#include "files/files.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1U << 1) /* renameat2(2) */
#endif

enum { PERMISSIONS = 0777 }; /* no set-uid, set-gid or sticky bit leaves a cell */

static int open_beneath(int root, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NOFOLLOW | (flags & O_PATH ? 0 : O_NONBLOCK),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};

    if (weakened("files-beneath"))
        return openat(root, path, (int)how.flags & ~O_NOFOLLOW);
    return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/*
 * Not by path: between a look at it and its use somebody else who may write to the directory could put a link
 * in its way. `handle`: what the path led to. -1 with errno.
 */
static int change_mode(int root, const char *path, int handle, mode_t mode)
{
    CLEANUP_CLOSE int fd = -1;

    if (syscall(SYS_fchmodat2, handle, "", mode, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno != ENOSYS)
        return -1;
    fd = open_beneath(root, path, O_RDONLY);
    if (fd < 0 && errno == EACCES)
        fd = open_beneath(root, path, O_WRONLY);
    if (fd >= 0)
        return fchmod(fd, mode);
    /* An old kernel, and a file that even its owner may not open: what remains is that our root is empty. */
    return errno == EACCES ? fchmodat(root, path, mode, 0) : -1;
}

/* The directory with this number. -1 with errno. */
static int open_directory(const struct server *s, unsigned root, uint64_t ino)
{
    char path[TABLE_PATH];

    if (!table_path(s->table, root, ino, path, sizeof(path))) {
        errno = ENOENT;
        return -1;
    }
    return open_beneath(s->roots[root].fd, path, O_PATH | O_DIRECTORY);
}

static void forget(struct server *s)
{
    if (s->cached >= 0)
        (void)close(s->cached);
    s->cached = -1;
}

/* The mode of a file may keep its owner out, who can change it: for a moment it does not. */
static int open_unlocked(int root, const char *path, int flags)
{
    CLEANUP_CLOSE int handle = open_beneath(root, path, O_PATH);
    struct stat st;
    int fd = -1;

    if (handle < 0 || fstat(handle, &st) < 0 || !S_ISREG(st.st_mode) ||
        change_mode(root, path, handle, 0600) < 0) {
        errno = EACCES;
        return -1;
    }
    fd = open_beneath(root, path, flags);
    if (fd >= 0)
        (void)fchmod(fd, st.st_mode & PERMISSIONS);
    return fd;
}

int files_open(const struct server *s, unsigned root, uint64_t ino, int flags)
{
    const struct root *place = &s->roots[root];
    CLEANUP_CLOSE int fd = -1;
    char path[TABLE_PATH];
    struct stat st;

    if (place->is_file && ino == FILES_ROOT_INO) {
        fd = dup(place->fd);
    } else if (!table_path(s->table, root, ino, path, sizeof(path))) {
        errno = ENOENT;
    } else {
        fd = open_beneath(place->fd, path, flags);
        if (fd < 0 && errno == EACCES && place->writable)
            fd = open_unlocked(place->fd, path, flags);
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = ESTALE;
        return -1;
    }
    return TAKE_FD(fd);
}

/* A regular file, open for writing; borrowed. */
static int open_file(struct server *s, unsigned root, uint64_t ino)
{
    int fd;

    if (s->cached >= 0 && s->cached_root == root && s->cached_ino == ino)
        return s->cached;
    forget(s);
    fd = files_open(s, root, ino, O_RDWR);
    if (fd < 0)
        return -1;
    s->cached = fd;
    s->cached_root = root;
    s->cached_ino = ino;
    return fd;
}

static int create(struct server *s, const struct files_record *r, const char *name, const char *data)
{
    CLEANUP_CLOSE int dir = open_directory(s, r->root, r->parent);
    char entry[FILES_NAME_MAX + 1], target[4096];
    mode_t mode = r->mode & PERMISSIONS;
    int rc;

    if (dir < 0)
        return errno;
    if (r->ino < FILES_CELL_INO)
        return EINVAL;
    memcpy(entry, name, r->name_length);
    entry[r->name_length] = 0;
    if (S_ISDIR(r->mode)) {
        rc = mkdirat(dir, entry, mode | 0700);
    } else if (S_ISLNK(r->mode)) {
        if (r->data_length == 0 || r->data_length >= sizeof(target) || memchr(data, 0, r->data_length))
            return EINVAL;
        memcpy(target, data, r->data_length);
        target[r->data_length] = 0;
        rc = symlinkat(target, dir, entry);
    } else if (S_ISREG(r->mode)) {
        rc = openat(dir, entry, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (rc >= 0) {
            (void)fchmod(rc, mode);
            forget(s);
            s->cached = rc;
            s->cached_root = r->root;
            s->cached_ino = r->ino;
            rc = 0;
        }
    } else {
        return 0; /* sockets and FIFOs live in the cell alone */
    }
    if (rc < 0)
        return errno;
    return table_add(s->table, r->root, r->ino, r->parent, name, r->name_length) ? 0 : ENOMEM;
}

static int add_link(struct server *s, const struct files_record *r, const char *name)
{
    CLEANUP_CLOSE int dir = open_directory(s, r->root, r->parent);
    char entry[FILES_NAME_MAX + 1], path[TABLE_PATH];

    if (dir < 0)
        return errno;
    if (!table_path(s->table, r->root, r->ino, path, sizeof(path)))
        return ENOENT;
    memcpy(entry, name, r->name_length);
    entry[r->name_length] = 0;
    {
        /* The last component of the old path by its directory, which is opened beneath the root. */
        char *slash = strrchr(path, '/');
        CLEANUP_CLOSE int from = -1;
        if (slash)
            *slash = 0;
        from = open_beneath(s->roots[r->root].fd, slash ? path : ".", O_PATH | O_DIRECTORY);
        if (from < 0 || linkat(from, slash ? slash + 1 : path, dir, entry, 0) < 0)
            return errno;
    }
    return table_add(s->table, r->root, r->ino, r->parent, name, r->name_length) ? 0 : ENOMEM;
}

static int remove_entry(struct server *s, const struct files_record *r, const char *name)
{
    CLEANUP_CLOSE int dir = open_directory(s, r->root, r->parent);
    char entry[FILES_NAME_MAX + 1];

    if (table_find(s->table, r->root, r->parent, name, r->name_length) == 0)
        return 0; /* a socket or the like: never was on the host */
    if (dir < 0)
        return errno;
    memcpy(entry, name, r->name_length);
    entry[r->name_length] = 0;
    if (unlinkat(dir, entry, 0) < 0 && (errno != EISDIR || unlinkat(dir, entry, AT_REMOVEDIR) < 0) &&
        errno != ENOENT)
        return errno;
    table_remove(s->table, r->root, r->parent, name, r->name_length);
    return 0;
}

static int rename_entry(struct server *s, const struct files_record *r, const char *name,
                        const char *new_name)
{
    CLEANUP_CLOSE int from = open_directory(s, r->root, r->parent);
    CLEANUP_CLOSE int to = open_directory(s, r->root, r->ino);
    char old_entry[FILES_NAME_MAX + 1], new_entry[FILES_NAME_MAX + 1];
    uint64_t ino = table_find(s->table, r->root, r->parent, name, r->name_length), other;
    bool exchange = r->mode == 1;

    if (!table_valid_name(new_name, r->data_length))
        return EINVAL;
    if (ino == 0)
        return 0;
    if (from < 0 || to < 0)
        return errno;
    memcpy(old_entry, name, r->name_length);
    old_entry[r->name_length] = 0;
    memcpy(new_entry, new_name, r->data_length);
    new_entry[r->data_length] = 0;
    if (syscall(SYS_renameat2, from, old_entry, to, new_entry, exchange ? RENAME_EXCHANGE : 0) < 0)
        return errno;
    other = table_find(s->table, r->root, r->ino, new_name, r->data_length);
    table_remove(s->table, r->root, r->parent, name, r->name_length);
    table_remove(s->table, r->root, r->ino, new_name, r->data_length);
    if (exchange && other && !table_add(s->table, r->root, other, r->parent, name, r->name_length))
        return ENOMEM;
    return table_add(s->table, r->root, ino, r->ino, new_name, r->data_length) ? 0 : ENOMEM;
}

static int write_data(struct server *s, const struct files_record *r, const char *data)
{
    int fd = open_file(s, r->root, r->ino);
    size_t done = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : errno; /* removed while it was open */
    while (done < r->data_length) {
        ssize_t n = pwrite(fd, data + done, r->data_length - done, (off_t)(r->size + done));
        if (n < 0)
            return errno;
        done += (size_t)n;
    }
    return 0;
}

static int set_mode(struct server *s, const struct files_record *r)
{
    char path[TABLE_PATH];
    CLEANUP_CLOSE int fd = -1;
    struct stat st;

    if (s->roots[r->root].is_file)
        return r->ino != FILES_ROOT_INO                                  ? 0
               : fchmod(s->roots[r->root].fd, r->mode & PERMISSIONS) < 0 ? errno
                                                                         : 0;
    if (!table_path(s->table, r->root, r->ino, path, sizeof(path)))
        return 0;
    fd = open_beneath(s->roots[r->root].fd, path, O_PATH);
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno;
    if (S_ISLNK(st.st_mode))
        return 0;
    return change_mode(s->roots[r->root].fd, path, fd, r->mode & PERMISSIONS) < 0 ? errno : 0;
}

static int set_time(struct server *s, const struct files_record *r)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = r->mtime_sec, .tv_nsec = (long)r->mtime_nsec}};
    char path[TABLE_PATH];
    CLEANUP_CLOSE int fd = -1;

    if (s->roots[r->root].is_file)
        return r->ino == FILES_ROOT_INO && futimens(s->roots[r->root].fd, times) < 0 ? errno : 0;
    if (!table_path(s->table, r->root, r->ino, path, sizeof(path)))
        return 0;
    fd = open_beneath(s->roots[r->root].fd, path, O_PATH);
    return fd < 0 || utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? errno : 0;
}

int files_apply(struct server *s, const struct files_record *r, const char *name, const char *data)
{
    int fd;

    if (!s->roots[r->root].writable)
        return EROFS;
    switch (r->op) {
    case FILES_CREATE:
        return create(s, r, name, data);
    case FILES_LINK:
        return add_link(s, r, name);
    case FILES_REMOVE:
        return remove_entry(s, r, name);
    case FILES_RENAME:
        return rename_entry(s, r, name, data);
    case FILES_WRITE:
        return write_data(s, r, data);
    case FILES_TRUNCATE:
        fd = open_file(s, r->root, r->ino);
        return fd < 0 ? (errno == ENOENT ? 0 : errno) : ftruncate(fd, (off_t)r->size) < 0 ? errno : 0;
    case FILES_MODE:
        return set_mode(s, r);
    case FILES_TIME:
        return set_time(s, r);
    case FILES_SYNC:
        return s->cached >= 0 && fsync(s->cached) < 0 ? errno : 0;
    default:
        return EINVAL;
    }
}

bool files_valid(const struct files_record *r)
{
    bool named =
        r->op == FILES_CREATE || r->op == FILES_LINK || r->op == FILES_REMOVE || r->op == FILES_RENAME;

    return r->magic == FILES_MAGIC && r->op >= FILES_CREATE && r->op <= FILES_FETCH &&
           r->root < FILES_ROOTS && r->name_length <= FILES_NAME_MAX && r->data_length <= FILES_DATA_MAX &&
           (named || r->name_length == 0) && r->mtime_nsec < 1000000000 &&
           r->size <= INT64_MAX - FILES_DATA_MAX;
}
