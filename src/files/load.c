/*
 * What the cell gets to know of the host's files: at the start their names, by a walk over each root with a
 * bound on depth and number; later the contents of those that it asks for.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "files/files.h"

static int send_node(struct server *s, unsigned root, int dir, uint64_t parent, const char *name, int depth,
                     struct err *e);

static int send_entries(struct server *s, unsigned root, int fd, uint64_t ino, int depth, struct err *e)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *d;
    int rc = 0;

    if (!list) {
        if (copy >= 0)
            (void)close(copy);
        return errno == EACCES ? 0 : err_sys(e, errno, "cannot list a directory of the workspace");
    }
    while (rc == 0 && (d = readdir(list)))
        if (table_valid_name(d->d_name, strlen(d->d_name)))
            rc = send_node(s, root, fd, ino, d->d_name, depth + 1, e);
    (void)closedir(list);
    return rc;
}

/* One entry, and everything below it. A directory that cannot be read shows empty. */
static int send_node(struct server *s, unsigned root, int dir, uint64_t parent, const char *name, int depth,
                     struct err *e)
{
    struct files_record r = {
        .magic = FILES_MAGIC, .op = FILES_NODE, .root = (uint16_t)root, .parent = parent};
    CLEANUP_CLOSE int fd = -1;
    char target[4096];
    struct stat st;
    ssize_t n = 0;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(e, errno, "cannot examine %s in the workspace", name);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
        return 0;
    if (depth > TABLE_DEPTH - 2)
        return err_set(e, ELOOP, "the workspace is nested too deeply at %s", name);
    r.ino = ++s->next_ino;
    r.mode = st.st_mode;
    r.size = (uint64_t)st.st_size;
    r.mtime_sec = st.st_mtim.tv_sec;
    r.mtime_nsec = (uint32_t)st.st_mtim.tv_nsec;
    r.name_length = (uint32_t)strlen(name);
    if (S_ISLNK(st.st_mode)) {
        n = readlinkat(dir, name, target, sizeof(target));
        if (n <= 0)
            return 0;
        r.data_length = (uint32_t)n;
    }
    if (!table_add(s->table, root, r.ino, parent, name, r.name_length))
        return err_set(e, ENOSPC, "the workspace has more than %d files", TABLE_NODES);
    if (files_send(&r, name, target) < 0)
        return err_set(e, EPIPE, "the cell stopped reading its files");
    if (!S_ISDIR(st.st_mode))
        return 0;
    fd = openat(dir, name, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? 0 : send_entries(s, root, fd, r.ino, depth, e);
}

int files_load(struct server *s, struct err *e)
{
    struct files_record done = {.magic = FILES_MAGIC, .op = FILES_LOADED};

    s->next_ino = FILES_ROOT_INO;
    for (unsigned i = 0; i < s->nroots; i++) {
        struct root *root = &s->roots[i];
        struct stat st;
        struct files_record r = {.magic = FILES_MAGIC,
                                 .op = FILES_ROOT,
                                 .root = (uint16_t)i,
                                 .ino = FILES_ROOT_INO,
                                 .size = root->writable,
                                 .data_length = (uint32_t)strlen(root->target)};
        if (fstat(root->fd, &st) < 0)
            return err_sys(e, errno, "cannot examine %s", root->target);
        root->is_file = S_ISREG(st.st_mode);
        r.mode = st.st_mode;
        r.parent = root->is_file ? (uint64_t)st.st_size : 0;
        r.mtime_sec = st.st_mtim.tv_sec;
        r.mtime_nsec = (uint32_t)st.st_mtim.tv_nsec;
        if (files_send(&r, NULL, root->target) < 0)
            return err_set(e, EPIPE, "the cell stopped reading its files");
        if (!root->is_file && send_entries(s, i, root->fd, FILES_ROOT_INO, 0, e) < 0)
            return -1;
    }
    return files_send(&done, NULL, NULL) < 0 ? err_set(e, EPIPE, "the cell stopped reading its files") : 0;
}

/*
 * The pieces of a file, up to the size that it had when it was opened: one that grows all the time ends as
 * well. Holes are left out. `done` goes with the last piece.
 */
static int send_contents(const struct files_record *asked, int fd, struct files_record *done)
{
    static char data[FILES_DATA_MAX];
    uint64_t offset = 0, end = done->size;

    while (offset < end) {
        off_t next = lseek(fd, (off_t)offset, SEEK_DATA);
        struct files_record piece = {
            .magic = FILES_MAGIC, .op = FILES_DATA, .root = asked->root, .ino = asked->ino};
        ssize_t n;
        if (next < 0 && errno == ENXIO)
            break; /* a hole up to the end */
        if (next > (off_t)offset)
            offset = (uint64_t)next;
        if (offset >= end)
            break;
        n = pread(fd, data, end - offset < sizeof(data) ? end - offset : sizeof(data), (off_t)offset);
        if (n < 0)
            done->mode = (uint32_t)errno;
        if (n == 0)
            done->size = offset; /* it became shorter */
        if (n <= 0)
            break;
        if (!files_heard())
            return 0;
        piece.size = offset;
        piece.data_length = (uint32_t)n;
        offset += (uint64_t)n;
        if (offset == end)
            return files_send_two(&piece, data, done);
        if (files_send(&piece, NULL, data) < 0)
            return -1;
    }
    return files_send(done, NULL, NULL);
}

int files_fetch(struct server *s, const struct files_record *r)
{
    struct files_record done = {.magic = FILES_MAGIC, .op = FILES_FETCHED, .root = r->root, .ino = r->ino};
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    uint64_t stored;

    if (!files_heard())
        return 0; /* the cell has ended; what it changed before still counts */
    fd = files_open(s, r->root, r->ino, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        done.mode = (uint32_t)errno;
        return files_send(&done, NULL, NULL);
    }
    stored = (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size ? (uint64_t)st.st_blocks * 512
                                                                 : (uint64_t)st.st_size;
    done.size = (uint64_t)st.st_size;
    done.mtime_sec = st.st_mtim.tv_sec;
    done.mtime_nsec = (uint32_t)st.st_mtim.tv_nsec;
    done.mode = done.size > FILES_SIZE_MAX ? EFBIG : stored > r->size ? ENOSPC : 0;
    return done.mode ? files_send(&done, NULL, NULL) : send_contents(r, fd, &done);
}
