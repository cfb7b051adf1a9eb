#include "warden/activate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "walls/handover.h"
#include "warden/warden.h"

_Static_assert((int)WARDEN_ACTIVATION_FDS <= (int)FDPASS_MAX, "they come with one message");

static ssize_t receive(struct warden_activation *a, int *fds, int *nfds)
{
    struct iovec iov = {.iov_base = a, .iov_len = sizeof(*a)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;
    ssize_t n;

    *nfds = 0;
    fdpass_expect(&msg, &room);
    do {
        n = recvmsg(WARDEN_FD_CONTROL, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        *nfds = fdpass_take(&msg, fds);
    return n;
}

static int read_strings(uint8_t *to, int fd, uint32_t length, struct err *e)
{
    uint32_t at = 0;

    if (length > CELL_BOOT_SIZE)
        return err_set(e, E2BIG, "the command and its environment are longer than 2 MiB");
    while (at < length) {
        ssize_t n = pread(fd, to + at, length - at, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, EIO, "the warden cannot read the command");
        at += (uint32_t)n;
    }
    return 0;
}

int warden_activate(struct relay *r, struct err *e)
{
    struct cell_header *h = cell_header(&r->memory);
    struct warden_activation a;
    int fds[FDPASS_MAX], nfds;
    ssize_t n = receive(&a, fds, &nfds);

    if (n <= 0)
        return 0;
    if (n != (ssize_t)sizeof(a) || a.kind != CONTROL_ACTIVATE ||
        nfds != (r->terminal ? 1 : WARDEN_ACTIVATION_FDS))
        return err_set(e, EPROTO, "the warden was told something that it does not know");
    if (read_strings(r->memory.base + CELL_OFF_BOOT, fds[0], a.length, e) < 0)
        return -1;
    h->argc = a.argc;
    h->envc = a.envc;
    h->boot_length = a.length;
    atomic_store(&h->activated, 1);
    (void)syscall(SYS_futex, &h->activated, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    /* It runs; what follows need not be waited for. */
    if (r->terminal)
        relay_set_console(r, 0, 1, 2);
    else
        relay_set_console(r, fds[1], fds[2], fds[3]);
    (void)close(fds[0]);
    return 1;
}
