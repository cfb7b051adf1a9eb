/*
 * procfs.h - /proc and /sys: trees of tables whose files are made of text when they are read.
 */
#pragma once
#include "cell/fs/inode.h"

struct file;
struct process;
struct text;
struct thread;

/* What a file is about; NULL where it is about nobody. */
struct proc_subject {
    struct process *process;
    struct thread *thread;
    int fd;
};

/* One name. A directory has `entries`, or the functions that list it; a file `show` or `fixed`; a link
 * `link`. */
struct proc_entry {
    const char *name;
    unsigned mode; /* with the type */
    const char *fixed;
    void (*show)(const struct proc_subject *s, struct text *t);
    int (*write)(const struct proc_subject *s, const char *data, size_t n); /* NULL: cannot be written */
    long (*link)(const struct proc_subject *s, char *buf, size_t cap);
    int (*follow)(const struct proc_subject *s,
                  struct link_target *out); /* instead of walking what link says */
    const struct proc_entry *entries;       /* ended by one without a name */
    /* Names that are numbers: processes, threads, descriptors. The next one >= n, or -1. */
    int (*next)(const struct proc_subject *s, int n);
    const struct proc_entry *numbered; /* what each of them is */
    bool by_thread, by_fd;             /* what the number means; else a process */
};

int procfs_root(struct super *super, struct inode **out);
int sysfs_root(struct super *super, struct inode **out);

/* proc_file.c: the root of a tree. */
int proc_tree_root(struct super *super, const struct proc_entry *root, struct inode **out);
/* The number of the process whose directory /proc/PID an open file is; 0: it is something else. */
int proc_directory_pid(const struct file *f);

extern const struct proc_entry proc_pid_entry;     /* proc_pid.c: the directory of a process */
extern const struct proc_entry proc_sys_entries[]; /* proc_sys.c */
extern const struct proc_entry proc_net_entries[]; /* proc_net.c */
void proc_show_mounts(const struct proc_subject *s, struct text *t);
