#include "sessions/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"

enum { FIRST_ROOM = 4096 };

uint8_t *frame_room(struct frame *f, size_t *room)
{
    size_t got;

    if (f->have < FRAME_HEAD) {
        *room = FRAME_HEAD - f->have;
        return f->head + f->have;
    }
    got = f->have - FRAME_HEAD;
    if (got == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : FIRST_ROOM;
        f->cap = cap < f->len ? cap : f->len;
        f->body = x_realloc(f->body, f->cap);
    }
    *room = f->cap - got;
    return f->body + got;
}

enum frame_state frame_got(struct frame *f, size_t n)
{
    f->have += n;
    if (f->have < FRAME_HEAD)
        return FRAME_MORE;
    if (f->have == FRAME_HEAD) {
        f->len =
            (uint32_t)f->head[0] << 24 | (uint32_t)f->head[1] << 16 | (uint32_t)f->head[2] << 8 | f->head[3];
        return f->len == 0 || f->len > FRAME_MAX ? FRAME_BAD : FRAME_MORE;
    }
    return f->have - FRAME_HEAD == f->len ? FRAME_DONE : FRAME_MORE;
}

void frame_reset(struct frame *f)
{
    free(f->body);
    memset(f, 0, sizeof(*f));
}
