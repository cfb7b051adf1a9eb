/*
 * files.h - what passes between a cell and its file server (src/files) about the directories of the host that
 * it may see: the workspace and the mounts. The server tells at the start what is there, names without
 * contents. The cell asks for the contents of a file when it is opened, and tells what it changes without
 * waiting. Both go the same way and are dealt with in order, so what is fetched has all changes told before.
 *
 * One record: a header of fixed size, then `name_length` bytes of name, then `data_length` bytes of data.
 * Whatever does not fit these bounds ends the stream. Each side treats the other's records as hostile input.
 */
#pragma once
#include <stdint.h>

enum {
    FILES_NAME_MAX = 255,
    FILES_DATA_MAX = 65536,
    FILES_ROOTS = 33, /* the workspace and SANDBOX_MOUNTS_MAX */
    FILES_MAGIC = 0x53454c46,
};
#define FILES_SIZE_MAX (1ULL << 40) /* of a file whose contents can be had */

enum files_op {
    /* server -> cell, at the start: each root, its nodes (a directory before what is in it) */
    FILES_ROOT = 1, /* root; mode: the kind and permissions of the root itself; size: 1 if writable; parent:
                       of a root that is a file, its size; data: where it is mounted */
    FILES_NODE = 2, /* ino, parent, name, mode, size, mtime; of a symbolic link data is the target */
    FILES_LOADED = 4,
    /* later */
    FILES_DATA = 3,   /* ino, size: offset, data: a piece of what was asked for first and is not complete */
    FILES_SYNCED = 5, /* ino: of the FILES_SYNC */
    FILES_FAILED = 6, /* mode: errno; a change could not be made on the host: the root is out of step */
    FILES_FETCHED =
        7, /* ino, size, mtime: the file is complete, what was in no piece is zeros; or mode: errno */

    /* cell -> server. A root's own ino is FILES_ROOT_INO; nodes of the server's keep its numbers, new ones
       have the cell's. */
    FILES_CREATE = 16,   /* ino, parent, name, mode; of a symbolic link data is the target */
    FILES_LINK = 17,     /* ino, parent, name */
    FILES_REMOVE = 18,   /* parent, name: a file or an empty directory */
    FILES_RENAME = 19,   /* parent, name; ino: new parent; data: new name; mode: 1 to exchange the two */
    FILES_WRITE = 20,    /* ino, size: offset, data */
    FILES_TRUNCATE = 21, /* ino, size */
    FILES_MODE = 22,     /* ino, mode */
    FILES_TIME = 23,     /* ino, mtime */
    FILES_SYNC = 24,     /* ino: any number, answered with FILES_SYNCED when everything before is on disk */
    FILES_FETCH = 25, /* ino, size: most bytes that the cell has room for. Answered with FILES_DATA as often
                         as it takes, and FILES_FETCHED */
};

enum { FILES_ROOT_INO = 1, FILES_CELL_INO = 1ULL << 32 }; /* from there on numbers are the cell's */

struct files_record {
    uint32_t magic;
    uint16_t op, root;
    uint64_t ino, parent, size;
    int64_t mtime_sec;
    uint32_t mtime_nsec, mode;
    uint32_t name_length, data_length;
};

_Static_assert(sizeof(struct files_record) == 56, "no holes, the same for both sides");
