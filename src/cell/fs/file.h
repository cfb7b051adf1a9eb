/*
 * file.h - open files and the table of descriptors. Everything that a descriptor can stand for (a file of the
 * image, a pipe, a socket, an epoll set) is a struct file with operations. The kernel lock is held in all of
 * them.
 */
#pragma once
#include "cell/base/list.h"
#include "cell/base/types.h"

struct file;
struct inode;
struct dentry;
struct poll_table;
struct text;
struct thread;
struct process;
struct iovec;

/* Where in the tree: which mount's dentry. fs/path.h */
struct path {
    struct dentry *dentry;
};

struct file_ops {
    const char
        *name; /* shown in /proc/PID/fd: "pipe", "socket", "anon_inode:[eventpoll]"; NULL: has a path */
    /* Bytes moved, 0 at the end, or -errno. `pos` is where; the operation advances it (files without a
     * position ignore it). O_NONBLOCK is in f->flags. NULL: -EINVAL. */
    long (*read)(struct file *f, USER void *buf, size_t len, u64 *pos);
    long (*write)(struct file *f, USER const void *buf, size_t len, u64 *pos);
    /* Vectors that must move as one (datagrams, atomic pipe writes); NULL: one read or write after the other.
     */
    long (*readv)(struct file *f, const struct iovec *iov, unsigned n);
    long (*writev)(struct file *f, const struct iovec *iov, unsigned n);
    long (*ioctl)(struct file *f, unsigned cmd, unsigned long arg); /* NULL: -ENOTTY */
    /* POLLIN | POLLOUT | ... that hold now; with pt != NULL also poll_add() every queue whose wake may change
     * that. NULL: always readable and writable. */
    unsigned (*poll)(struct file *f, struct poll_table *pt);
    long (*seek)(struct file *f, s64 offset, int whence);         /* NULL: -ESPIPE */
    long (*getdents)(struct file *f, USER void *buf, size_t len); /* struct linux_dirent64; NULL: -ENOTDIR */
    /* Maps [offset, offset+len) at exactly addr (host mmap with MAP_FIXED; the range is free to overwrite).
     * prot, flags as in mmap(2). 0 or -errno. NULL: -ENODEV. */
    int (*map)(struct file *f, unsigned long addr, size_t len, int prot, int flags, u64 offset);
    int (*sync)(struct file *f);                      /* NULL: 0 */
    void (*flush)(struct file *f, struct process *p); /* a descriptor of p was closed; NULL: nothing */
    void (*release)(struct file *f); /* the last reference went; f itself is freed by the caller */
    void (*fdinfo)(const struct file *f, struct text *t); /* its own lines of /proc/PID/fdinfo; NULL: none */
    /* open(2) of /proc/PID/fd/N where that is a file without a path: a new file, as flags say. NULL: -ENXIO
     * for sockets, the same file for all others. */
    int (*reopen)(struct file *f, unsigned flags, struct file **out);
};

struct file {
    const struct file_ops *ops;
    struct inode *inode;   /* what fstat shows; NULL only for files made by file_create_anon */
    struct dentry *dentry; /* NULL: has no path */
    unsigned flags; /* O_ACCMODE, O_APPEND, O_NONBLOCK, O_PATH, O_ASYNC ... as open(2), without O_CLOEXEC */
    unsigned refs;
    u64 pos;
    void *priv; /* of the operations */
    unsigned
        anon_mode; /* st_mode shown without an inode (S_IFIFO | 0600, S_IFSOCK | 0777, 0600 for others) */
    u64 anon_ino;  /* st_ino shown then */
    struct list epolls; /* epoll items that watch this file (ipc/epoll.c) */
    bool mapped;        /* counted in inode->mapped */
    bool counted;       /* in inode->opens */
};

/* A file without a path: pipe, socket, eventfd ... One reference, the caller's. NULL: out of memory. */
struct file *file_create_anon(const struct file_ops *ops, void *priv, unsigned flags, unsigned mode);
void file_get(struct file *f);
void file_put(struct file *f);

/* The path or name as /proc shows it: "/etc/passwd", "pipe:[12]". Its length, cut to cap; ended by 0. */
size_t file_describe(const struct file *f, char *buf, size_t cap);
/* The end of a line of /proc/PID/maps: spaces and the path. */
void mm_format_file(const struct file *f, struct text *t);

/* ---- descriptors of the calling thread's process */

enum { FD_MAX = 65536 };

struct fd_table; /* shared by threads, copied by fork */
struct fd_table *fd_table_create(void);
struct fd_table *fd_table_copy(struct fd_table *t);
void fd_table_put(struct fd_table *t, struct process *owner); /* closes everything */
void fd_table_close_on_exec(struct fd_table *t, struct process *owner);

/* The file behind fd, borrowed while the kernel lock is held and the thread does not sleep; else file_get it.
 * NULL: -EBADF. O_PATH files only through fd_file_any. */
struct file *fd_file(int fd);
struct file *fd_file_any(int fd);
/* Lowest free descriptor >= min gets f (the reference moves into the table on success). -EMFILE, -ENOMEM. */
int fd_install(struct file *f, int min, bool cloexec);
int fd_close(int fd);
/* In another process's table (procfs, SCM_RIGHTS): NULL if there is none. */
struct file *fd_file_of(struct fd_table *t, int fd);
/* The next open descriptor >= fd, or -1. */
int fd_next(struct fd_table *t, int fd);

/* ---- waiting for readiness: ipc/poll.c */

/* Who wants to know embeds this and says what registering with a queue means: poll(2) puts its thread there
 * (ipc/poll.c), epoll a callback of its item (ipc/epoll.c). */
struct waitq;
struct poll_table {
    void (*add)(struct poll_table *pt, struct waitq *q);
};

/* For file_ops.poll: the caller of poll wants to be woken when q is. pt NULL is fine. */
struct waitq;
void poll_add(struct poll_table *pt, struct waitq *q);
