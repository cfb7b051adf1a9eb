/*
 * standby.h - cells that stand ready: `ironclaw run --standby N` keeps N of them, built as far as a cell can
 * be before it is known what it will run, and every `ironclaw run` of the same user, image and limits takes
 * one instead of building its own (docs/cell.md, "Ready cells").
 *
 *   server.c    the command: a keeper for each cell, another one as soon as a cell is taken
 *   keeper.c    the parent of one cell: builds it, hands it to one client, cleans up after it
 *   client.c    in `ironclaw run`: asks, and becomes the host side of what it is given
 *   protocol.c  which cells fit, where they are asked for
 *
 * One SOCK_SEQPACKET connection is one lease: a request with what to run, an answer with the cell's control
 * socket and pidfd, then nothing; the cell ends with the client, or the client with the cell. A cell serves
 * one run and is never reused. The keeper tells the cell only after its answer was taken into the client's
 * queue, and a client that gives up closes that queue first and looks into it then: no command runs twice.
 */
#pragma once
#include <sys/un.h>

#include "walls/wall.h"
#include "warden/warden.h"

enum { STANDBY_MAX = 256 };

/* What must be equal for a cell to fit. Compared as bytes: zeroed before it is filled. */
struct standby_key {
    char version[32]; /* of ironclaw: what follows is laid out by it */
    uint64_t memory_bytes, image_device, image_inode;
    uint32_t cpu_milli, pids;
    uint32_t asked; /* which limits the user named, a bit each */
    uint32_t none;  /* no holes: 0 */
    char rootfs[512];
};

struct standby_request {
    struct standby_key key;
    struct warden_activation command; /* its descriptors come with it: walls/cell/cell.h */
};

enum { STANDBY_TAKEN = 'Y', STANDBY_NONE = 'N' };

struct standby_answer {
    uint32_t kind;
    int32_t pid; /* of the warden, in the keeper's pid namespace */
    struct cgroup cgroup;
    char shortfall[256]; /* wall_ops.shortfall, asked by the keeper */
};
enum { STANDBY_CONTROL, STANDBY_PIDFD, STANDBY_FDS }; /* that come with STANDBY_TAKEN */

/* The key of cells for `spec`: its rootfs and limits. False where there is none (the image is gone). */
bool standby_key(const struct sandbox_spec *spec, struct standby_key *k);
/* The socket for such cells, below `state`. False if the path is too long for one. */
bool standby_address(const char *state, const struct standby_key *k, struct sockaddr_un *a);
/* Is the process at the other end of the connection this user's? */
bool standby_is_own_peer(int fd);

/*
 * Takes a ready cell for `spec` if there is one, and makes it run that. Returns 1, with *s like after
 * wall_ops.start (handover_wait, then handover_destroy) and one line about the host's shortfall in `text`; 0
 * if there is none and the caller has to build its own; -1 with e if the cell could not be told what to run.
 */
int standby_take(const char *state, const struct sandbox_spec *spec, struct sandbox *s, char *text,
                 size_t cap, struct err *e);

/* `ironclaw run --standby N`: returns the exit status once it was told to end. `spec`: as for
 * cell_prepare(), without id and uid. `uid_base`: a cell's uid is that and the pid of its keeper. */
int standby_serve(const char *state, const struct sandbox_spec *spec, unsigned count, uint32_t uid_base);

/* In a keeper: `server` is its parent, `listener` and `events` (a pipe to the server) are inherited. */
struct standby_event {
    int32_t pid;
    uint32_t kind; /* STANDBY_READY, STANDBY_LEFT */
};
enum { STANDBY_READY = 'R', STANDBY_LEFT = 'L' /* taken: another is needed */ };
void standby_keep(pid_t server, int listener, int events, const struct sandbox_spec *spec,
                  const struct standby_key *key) __attribute__((noreturn));
