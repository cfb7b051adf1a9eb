#include "base/fdpass.h"

#include <string.h>

void fdpass_attach(struct msghdr *msg, struct fdpass *room, const int *fds, int n)
{
    struct cmsghdr *c;
    size_t bytes = sizeof(int) * (size_t)n;

    if (n <= 0)
        return;
    memset(room, 0, sizeof(*room));
    msg->msg_control = room->u.buf;
    msg->msg_controllen = CMSG_SPACE(bytes);
    c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(c), fds, bytes);
}

void fdpass_expect(struct msghdr *msg, struct fdpass *room)
{
    msg->msg_control = room->u.buf;
    msg->msg_controllen = sizeof(room->u.buf);
}

int fdpass_take(struct msghdr *msg, int *fds)
{
    int n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        /* One such message per datagram, as large as the room: the kernel cuts and says MSG_CTRUNC. */
        n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), sizeof(int) * (size_t)n);
    }
    return n;
}
