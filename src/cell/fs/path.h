/*
 * path.h - from a path to what it names, and the file system as the rest of the kernel uses it. Kernel lock
 * held.
 */
#pragma once
#include "cell/base/types.h"
#include "cell/fs/dentry.h"
#include "cell/fs/file.h"
#include "cell/fs/inode.h"

struct cell_header;
struct fs_context;

/* ---- at boot (fs/mount.c) */

/* Mounts everything: the image, tmpfs, /dev, /proc, /sys. -errno: the image is not one. */
int fs_init(const struct cell_header *h);
/* The context of the first process: everything at the root. */
void fs_context_init(struct fs_context *c);
void fs_context_copy(struct fs_context *to, const struct fs_context *from);
void fs_context_put(struct fs_context *c);

/* ---- for the kernel's own use */

/* By a path of the kernel's, for reading. */
int fs_kernel_open(const char *path, struct file **out);
/* For exec: follows links, wants a regular file with permission to execute. `flags`: AT_EMPTY_PATH,
 * AT_SYMLINK_NOFOLLOW. */
int fs_open_exec(int dirfd, const char *path, int flags, struct file **out);
long file_read_kernel(struct file *f, void *buf, size_t len, u64 pos);
u64 file_size(const struct file *f);
/* file_ops.map, or -ENODEV. */
int file_map(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset);

/* A socket's name: makes the node (-EADDRINUSE if the name is taken). *out gets a reference, whose
 * inode.socket is `socket`; its owner sets that to NULL before it puts the reference. `path` is the kernel's.
 */
int fs_bind_socket(const char *path, unsigned mode, void *socket, struct inode **out);
/* -ECONNREFUSED: not a socket, or nobody has it. */
int fs_find_socket(const char *path, void **socket);

/* ---- paths of programs */

/* Copies a path in. A string to give back with path_free(), or NULL: *error is -EFAULT, -ENAMETOOLONG,
 * -ENOMEM. An empty path is -ENOENT unless `may_be_empty`. */
char *path_copy(USER const char *user, bool may_be_empty, long *error);
char *path_buffer(void); /* PATH_MAX_ bytes, not cleared; NULL: out of memory */
void path_free(char *path);

enum {
    WALK_FOLLOW = 1,    /* a symbolic link at the end, too */
    WALK_DIRECTORY = 2, /* anything else: -ENOTDIR */
    WALK_EMPTY = 4,     /* AT_EMPTY_PATH */
    WALK_NO_LINKS = 8,  /* openat2: RESOLVE_NO_SYMLINKS */
    WALK_NO_MAGIC = 16, /* RESOLVE_NO_MAGICLINKS */
    WALK_NO_XDEV = 32,  /* RESOLVE_NO_XDEV */
    WALK_BENEATH = 64,  /* RESOLVE_BENEATH */
    WALK_IN_ROOT = 128, /* RESOLVE_IN_ROOT */
    WALK_CREATE = 256,  /* for O_CREAT: a name with a slash behind it is -EISDIR, there or not */
};

/*
 * A walk goes to the directory of the last component, takes that component, and goes on if it is a link to
 * follow.
 *
 *     walk_begin(&w, dirfd, path, flags)
 *     walk_parent(&w)                      w.dir is the directory, w.last the name
 *     walk_last(&w, &found)                -ENOENT and w.missing: w.dir and w.last say what to make
 *     walk_end(&w)
 */
struct walk {
    struct dentry *dir, *root, *start; /* references */
    struct file *file; /* the end is an open file without a place (/proc/PID/fd/N); a reference */
    const char *rest, *last;
    size_t length; /* of the last name; 0: the path ends at dir itself */
    bool trailing; /* "name/" */
    bool missing;  /* -ENOENT of walk_last() means the last name, in dir: it could be made */
    unsigned flags, links;
    char *buffer; /* what a link said, and what came behind it */
};
int walk_begin(struct walk *w, int dirfd, const char *path, unsigned flags);
int walk_parent(struct walk *w);
/* The last component, links followed as the flags say. *out with a reference; or NULL, then w->file is the
 * end. */
int walk_last(struct walk *w, struct dentry **out);
void walk_end(struct walk *w);

/* All of it. *out: dentry or file, references. */
int path_find(int dirfd, const char *path, unsigned flags, struct link_target *out);
void link_target_put(struct link_target *t);
/* The same for a path of a program, when only the inode matters: -errno, or 0 and references. AT_* in
 * at_flags. */
int path_find_user(int dirfd, USER const char *path, unsigned flags, struct link_target *out);
/* The inode of what was found; NULL: a file without one. */
struct inode *link_target_inode(const struct link_target *t);

/* The file has a name from now on: what fstat(2) and /proc/PID/fd show. */
void file_set_place(struct file *f, struct dentry *d);
/* The same by a path of the kernel's; without effect if nothing is there. */
void file_set_path(struct file *f, const char *path);
/* A file of what a dentry names: permissions are checked, the inode is told. `flags` as open(2). */
int file_open_dentry(struct dentry *d, unsigned flags, struct file **out);
/* open(2) in full. `mode` for files made. */
int file_open(int dirfd, const char *path, unsigned flags, unsigned mode, unsigned walk_flags,
              struct file **out);
