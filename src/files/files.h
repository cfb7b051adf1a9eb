/*
 * files.h - ironclaw-files: the workspace and the mounts of one cell, on the host's side.
 *
 *     ironclaw-files N (r|w)TARGET*N
 *
 * Descriptor 0 is the stream to the cell; FILES_FIRST_ROOT + i is root i: a directory, or a regular file. It
 * runs as the sandbox's uid, can reach nothing but these roots, and ends when the stream does, with
 * everything applied.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "base/err.h"
#include "cell/abi/files.h"
#include "files/table.h"

enum { FILES_FIRST_ROOT = 10 };

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* since Linux 6.6 */
#endif

struct root {
    int fd;
    bool writable, is_file;
    const char *target;
};

struct server {
    struct root roots[FILES_ROOTS];
    unsigned nroots;
    struct table *table;
    uint64_t next_ino;
    /* The file that was written last stays open. */
    int cached;
    uint64_t cached_ino;
    unsigned cached_root;
};

/* Tells the cell what is there. -1: the stream broke, or the roots cannot be read (e). */
int files_load(struct server *s, struct err *e);
/* Answers FILES_FETCH. -1: the stream broke. */
int files_fetch(struct server *s, const struct files_record *r);
/* A regular file of a root, by its number; never blocks. A file that the sandbox owns but may not open is
 * opened all the same where changes are allowed: the cell has looked at its mode. -1 with errno, ESTALE if it
 * is something else by now. */
int files_open(const struct server *s, unsigned root, uint64_t ino, int flags);
/* Makes one change. `name` and `data` are bounded by the header, which has been checked. An errno, 0. */
int files_apply(struct server *s, const struct files_record *r, const char *name, const char *data);
/* Is the header within bounds, and from a cell? */
bool files_valid(const struct files_record *r);
int files_send(const struct files_record *r, const void *name, const void *data);
/* Two records at once, the first with data: whoever waits for the second is woken once. */
int files_send_two(const struct files_record *r, const void *data, const struct files_record *second);
/* False once nobody reads answers any more, though there may be records left to read. */
bool files_heard(void);
/* Landlock to the roots, a short list of system calls. */
int files_seal(struct server *s, struct err *e);
