#include "events/listener.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "walls/container/seccomp.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS      SECCOMP_IOW(4, __u64) /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

void listener_adopt(int fd)
{
    /* The value itself, not a pointer to it. */
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

int listener_answer(int fd, struct denial *d)
{
    /* A newer kernel's structs may be longer (SECCOMP_GET_NOTIF_SIZES); it wants them zeroed. */
    union {
        struct seccomp_notif report;
        char room[512];
    } in;
    union {
        struct seccomp_notif_resp answer;
        char room[256];
    } out;

    memset(&in, 0, sizeof(in));
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &in) < 0)
        return errno == ENOENT || errno == EINTR ? 0 : -1;
    memset(&out, 0, sizeof(out));
    out.answer.id = in.report.id;
    out.answer.error = -SECCOMP_REFUSED;
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &out) < 0 && errno != ENOENT)
        return -1;
    d->nr = in.report.data.nr;
    d->arch = in.report.data.arch;
    for (int i = 0; i < 6; i++)
        d->args[i] = in.report.data.args[i];
    d->error = SECCOMP_REFUSED;
    return 1;
}
