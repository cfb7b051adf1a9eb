#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/io.h"
#include "standby/standby.h"
#include "walls/cell/cell.h"
#include "walls/handover.h"

/* An answer is a wake-up away (some 50 us), or a few milliseconds until the next cell is built. Longer than
 * this, and the machine is so busy that it does not matter any more. */
enum { PATIENCE_MS = 50 };

static int reach(const struct sockaddr_un *a)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 || !standby_is_own_peer(fd))
        return -1;
    return TAKE_FD(fd);
}

static bool ask(int fd, const struct standby_key *k, const struct cell_command *c)
{
    struct standby_request r;
    struct iovec iov = {.iov_base = &r, .iov_len = sizeof(r)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;

    memset(&r, 0, sizeof(r));
    r.key = *k;
    r.command = c->message;
    fdpass_attach(&msg, &room, c->fds, c->nfds);
    return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(r);
}

static bool receive(int fd, struct standby_answer *a, int *fds)
{
    struct iovec iov = {.iov_base = a, .iov_len = sizeof(*a)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct fdpass room;
    ssize_t n;
    int nfds;

    if (poll(&p, 1, PATIENCE_MS) <= 0)
        (void)shutdown(fd, SHUT_RD); /* from here on no answer can come; one may have */
    fdpass_expect(&msg, &room);
    n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    nfds = n > 0 ? fdpass_take(&msg, fds) : 0;
    if (n == (ssize_t)sizeof(*a) && a->kind == STANDBY_TAKEN && nfds == STANDBY_FDS)
        return true;
    while (nfds > 0)
        (void)close(fds[--nfds]);
    return false;
}

int standby_take(const char *state, const struct sandbox_spec *spec, struct sandbox *s, char *text,
                 size_t cap, struct err *e)
{
    struct standby_key k;
    struct sockaddr_un address;
    struct standby_answer a;
    struct cell_command command;
    int fds[FDPASS_MAX];
    CLEANUP_CLOSE int fd = -1;
    bool taken;

    if (!standby_key(spec, &k) || !standby_address(state, &k, &address) || access(address.sun_path, F_OK) < 0)
        return 0;
    if (cell_command_open(&command, spec, e) < 0)
        return -1;
    /* All is made before the connection: it wakes a keeper, which would otherwise wait once more. */
    fd = reach(&address);
    taken = fd >= 0 && ask(fd, &k, &command) && receive(fd, &a, fds);
    cell_command_close(&command);
    if (!taken)
        return 0;
    *s = (struct sandbox)SANDBOX_INIT;
    s->pid = a.pid;
    s->control = fds[STANDBY_CONTROL];
    s->pidfd = fds[STANDBY_PIDFD];
    s->lease = TAKE_FD(fd);
    s->cgroup = a.cgroup;
    (void)io_format(text, cap, "%.*s", (int)sizeof(a.shortfall) - 1, a.shortfall);
    return 1;
}
