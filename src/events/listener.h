/*
 * listener.h - the host's end of a filter that reports what it refuses (seccomp_unotify(2)).
 *
 * Every report is answered with the errno that the plain filter would have given. Nothing here can let a call
 * through: there is no SECCOMP_USER_NOTIF_FLAG_CONTINUE, no value but an error, no look into the caller's
 * memory. When the descriptor is closed, also by the death of its holder, the kernel answers ENOSYS.
 */
#pragma once
#include <stdint.h>

struct denial {
    int nr;
    uint32_t arch; /* AUDIT_ARCH_* */
    uint64_t args[6];
    int error; /* what it was answered, a positive errno */
};

/* Prepares a listener just received: faster hand-over where the kernel can. */
void listener_adopt(int fd);

/*
 * Takes one report and answers it. Call it when poll says that there is one. Returns 1 with *d, 0 when the
 * caller was gone already, -1 when there is nobody left to listen to: close the descriptor.
 */
int listener_answer(int fd, struct denial *d);
