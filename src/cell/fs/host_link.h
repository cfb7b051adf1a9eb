/*
 * host_link.h - what the parts of host_files.h share: the stream to the file server and what waits on either
 * side of it.
 *
 *   host_files.c  what the cell tells; the one parser of what the server says
 *   host_load.c   what the server says at the start
 *   host_fetch.c  contents: asked for, kept, dropped
 *
 * The parser takes what there is and never waits, so any thread may drive it, and whoever waits for the
 * server does: a thread that wants a file's contents, or else pid 1, which the warden wakes. Both move the
 * queue on as well. So a server that is stuck with its answers and a cell that is stuck with what it tells
 * cannot wait for each other.
 */
#pragma once
#include "cell/abi/files.h"
#include "cell/fs/inode.h"
#include "cell/ipc/stream.h"

struct host_link {
    struct stream *stream;

    /* The cell's side: host_files.c */
    struct list queue; /* what is told and did not fit into the ring */
    size_t queued;     /* bytes of it */
    struct waitq room; /* the queue became shorter, or an answer came */
    u64 syncs, synced;
    int failed; /* errno: the host does not have all changes */
    bool loaded;
    bool ended; /* nothing more will be said by the server: it is gone, or does not make sense */

    /* The record that is being received. Complete: name and data are ended by 0. */
    size_t received; /* bytes of it */
    struct files_record r;
    char name[FILES_NAME_MAX + 1];
    u8 data[FILES_DATA_MAX + 1];

    /* host_fetch.c */
    struct list asked;        /* struct fetch, in the order of the answers to come */
    struct list unused;       /* inodes with contents that nobody has open, that longest unused first */
    u64 unused_bytes, budget; /* of their pages; more than `budget` is dropped */
};
extern struct host_link *host; /* NULL: no directories of the host. Set once at boot */

/* inode.host, of regular files of the host */
enum {
    HOST_ABSENT = 1,  /* no contents here: size and times are what was known last */
    HOST_CHANGED = 2, /* the cell told something about the contents */
    HOST_UNTIMED = 4, /* ... since when the host has not been told the time of it */
};

/* One record for the server, into the queue and as far as it goes. `i`: of which root. False: no memory. */
bool host_tell(const struct inode *i, struct files_record *r, const void *name, const void *data);
/* Takes what has come: 1: a record is complete (host->r); 0: it is not yet; -errno: there will be none. */
int host_receive(void);
/* Moves what can be moved both ways, without waiting, for a bounded time. */
void host_drive(void);
/* There is more that host_drive() could do at once. */
bool host_can_move(void);
/* Pid 1 is woken from now on when the host's side does something. host_drive() afterwards. */
void host_leave_to_init(void);

/* Answers about contents: host_fetch.c. False: nothing that we asked for. */
bool host_take_data(void);
bool host_take_fetched(void);
/* Nothing more will come: who waits gets EIO. */
void host_fetch_end(void);
void host_fetch_init(void);
