/*
 * One datagram of the container's init to the keeper: a letter, then text (handover.h and CONTROL_EXIT).
 */
#include <string.h>

#include "walls/gvisor/gvisor.h"
#include "walls/handover.h"

void gvisor_printable(char *dst, size_t cap, const char *src, size_t len)
{
    size_t n = len < cap - 1 ? len : cap - 1;

    for (size_t i = 0; i < n; i++)
        dst[i] = (unsigned char)src[i] < 0x20 || src[i] == 0x7f ? '?' : src[i];
    dst[n] = 0;
}

void gvisor_message_parse(const char *data, size_t len, struct gvisor_message *m)
{
    memset(m, 0, sizeof(*m));
    if (len == 0)
        return;
    switch (data[0]) {
    case CONTROL_READY:
        m->kind = len == 1 ? MESSAGE_READY : MESSAGE_INVALID;
        break;
    case CONTROL_ERROR:
        m->kind = MESSAGE_ERROR;
        gvisor_printable(m->text, sizeof(m->text), data + 1, strnlen(data + 1, len - 1));
        break;
    case CONTROL_EXIT:
        m->kind = len == 2 ? MESSAGE_EXIT : MESSAGE_INVALID;
        m->code = len == 2 ? (unsigned char)data[1] : 0;
        break;
    default:
        break;
    }
}
