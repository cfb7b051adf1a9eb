/*
 * relay.h - carrying bytes between the cell's streams and the host's descriptors. Nothing blocks: the host's
 * descriptors belong to others too and stay in the mode they are in, so a write waits for poll(2) and takes
 * no more than what that promises.
 */
#pragma once
#include <poll.h>
#include <stdbool.h>

#include "warden/streams.h"

enum { RELAY_POLL = 2 * CELL_STREAMS, RELAY_RETRY_MS = 20 };

/* The host's end of one stream. */
struct channel {
    int in,
        out; /* where the cell's input comes from, where its output goes; -1: closed or none. May be one */
    bool used;
    bool is_socket; /* a connection to a port: ours to close, and it never blocks */
    bool in_ended, out_ended;
    bool stalled; /* there is output, and poll(2) is to say when the host takes it */
    bool waiting; /* for room among the connections that the port has not accepted yet */
    uint32_t tx_head, rx_tail;
};

struct relay {
    struct cell_memory memory;
    struct channel channels[CELL_STREAMS];
    bool ports, terminal;
    unsigned nwaiting;
    unsigned npoll;
    unsigned short index[RELAY_POLL]; /* which channel a pollfd belongs to */
};

/* `base`: at least CELL_OFF_HEAP bytes of the memory file. `files`: the file server's socket, or -1. The
 * console leads nowhere yet. */
void relay_init(struct relay *r, uint8_t *base, bool ports, bool terminal, int files);
/* The console's descriptors, once they are known; of a terminal all three are its slave. */
void relay_set_console(struct relay *r, int in, int out, int error);
/* Fills what to wait for, in fds[RELAY_POLL]; returns how many. */
unsigned relay_prepare(struct relay *r, struct pollfd *fds);
/* A connection waits for its turn: come back after RELAY_RETRY_MS. */
bool relay_retries(const struct relay *r);
/* After poll: moves what there is. Also takes what the cell asks for (connections, data, ends). */
void relay_serve(struct relay *r, const struct pollfd *fds);
/* The workload has ended: what it had written goes out to the last byte, however long the host's reader
 * takes, or, without `patient`, as long as that reader takes something every second. What the rest of the
 * cell goes on writing is not waited for. */
void relay_flush(struct relay *r, bool patient);
