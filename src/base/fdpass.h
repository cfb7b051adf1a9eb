/*
 * fdpass.h - descriptors as ancillary data of a unix socket message (SCM_RIGHTS, unix(7)).
 */
#pragma once
#include <sys/socket.h>

enum { FDPASS_MAX = 4 };

/* Room for the control message; must live as long as the msghdr it was given to. */
struct fdpass {
    union {
        char buf[CMSG_SPACE(sizeof(int) * FDPASS_MAX)];
        struct cmsghdr align;
    } u;
};

/* For sendmsg(): attaches n (at most FDPASS_MAX) descriptors; nothing when n is 0. The caller keeps its own.
 */
void fdpass_attach(struct msghdr *msg, struct fdpass *room, const int *fds, int n);

/* For recvmsg(): offers room. */
void fdpass_expect(struct msghdr *msg, struct fdpass *room);

/* After recvmsg(): stores the descriptors that came, now the caller's, in fds[FDPASS_MAX]; returns how many.
 */
int fdpass_take(struct msghdr *msg, int *fds);
