/*
 * relay.h - carrying bytes between the cell's streams and the host's descriptors.
 */
#pragma once
#include <poll.h>
#include <stdbool.h>

#include "warden/streams.h"

enum { RELAY_POLL = 2 * CELL_STREAMS };

struct channel {
    int in,
        out; /* where the cell's input comes from, where its output goes; -1: closed or none. May be one */
    bool is_socket; /* of ours: closed when the stream ends */
    bool used;
    bool in_ended, out_ended;
    bool stalled; /* the host takes nothing now: wait for POLLOUT */
    uint32_t tx_head, rx_tail;
};

struct relay {
    struct cell_memory memory;
    struct channel channels[CELL_STREAMS];
    bool ports;
    unsigned npoll;
    unsigned short index[RELAY_POLL]; /* which channel a pollfd belongs to */
};

/* The console: input, output, error; -1 where there is none. A terminal: in == out, error -1. */
void relay_init(struct relay *r, uint8_t *base, bool ports, int in, int out, int error);
/* Fills what to wait for; returns how many. */
unsigned relay_prepare(struct relay *r, struct pollfd *fds);
/* After poll: moves what there is. Also takes what the cell asks for (connections, data, ends). */
void relay_serve(struct relay *r, const struct pollfd *fds);
/* The cell has ended: what it has written goes out to the last byte, or until the host's side refuses it. */
void relay_flush(struct relay *r);
