/*
 * frame.h - the queue port's framing as a pure state machine: u32 big-endian length, then that many bytes of
 * JSON.
 *
 * The caller reads straight into the room that frame_room() offers, never more than the frame at hand needs.
 * Memory grows with what was received, not with what a length claims: a connection that announces 256 KiB and
 * sends nothing costs nothing.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEAD = 4, FRAME_MAX = 262144 };

enum frame_state {
    FRAME_MORE, /* not complete yet */
    FRAME_DONE, /* frame->body holds frame->len bytes */
    FRAME_BAD   /* the length is 0 or above FRAME_MAX; the stream cannot be trusted any more */
};

struct frame {
    uint8_t head[FRAME_HEAD];
    uint8_t *body; /* owned */
    size_t have;   /* bytes received, head included */
    size_t cap;    /* allocated for body */
    uint32_t len;  /* valid once the head is complete */
};

/* Where the next bytes go, and how many fit (at least 1 while the state is FRAME_MORE). */
uint8_t *frame_room(struct frame *f, size_t *room);

/* Notes that `n` bytes (at most the room) were placed there. */
enum frame_state frame_got(struct frame *f, size_t n);

/* Frees the body and starts over. */
void frame_reset(struct frame *f);
