/*
 * server.h - a stand-in for the file server and the warden between it and the cell: a thread at the other end
 * of the rings, which has a few files and says what the test wants.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cell/abi/files.h"

enum { SERVER_FILES = 300, SERVER_LOG = 4096 };

struct server_file {
    const void *data; /* what FILES_FETCH is answered with; offset 0 */
    size_t length;    /* of data */
    unsigned times;   /* sent one after the other; 0: once */
    uint64_t size;    /* as the answer says */
    int64_t mtime;
    int error; /* the answer, instead */
};

/* Empty rings and a server that has nothing; the last one ends. */
void server_start(void);
void server_stop(void);
/* The file with this number, to be filled in. */
struct server_file *server_file(uint64_t ino);
/* Instead of answering FILES_FETCH, says what was prepared with server_say(). */
void server_keep_silent(void);

/* Puts a record into the ring as it is. */
void server_say(const struct files_record *r, const void *name, const void *data);
void server_say_bytes(const void *bytes, size_t n);
/* The server is gone. */
void server_end(void);

/* Waits until all that the cell told was taken; how many records that were, and the k-th of them. */
unsigned server_heard(void);
const struct files_record *server_record(unsigned k);
