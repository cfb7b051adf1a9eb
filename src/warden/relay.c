#include "warden/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "warden/warden.h"

/* One write after poll(2) said "writable" takes this much from a pipe without blocking (pipe(7), PIPE_BUF).
 * The descriptors are the caller's: nobody makes them non-blocking. */
enum { CHUNK = 4096 };

static void wake(_Atomic uint32_t *word)
{
    if (word)
        (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void notify(const struct relay *r, unsigned i)
{
    wake(stream_wake_word(&r->memory, i));
}

void relay_init(struct relay *r, uint8_t *base, bool ports, int in, int out, int error)
{
    memset(r, 0, sizeof(*r));
    r->memory.base = base;
    r->ports = ports;
    for (unsigned i = 0; i < CELL_STREAMS; i++)
        r->channels[i].in = r->channels[i].out = -1;
    r->channels[CELL_STREAM_CONSOLE] = (struct channel){.in = in, .out = out, .used = true};
    r->channels[CELL_STREAM_ERROR] = (struct channel){.in = -1, .out = error, .used = true};
    stream_set_state(&r->memory, CELL_STREAM_CONSOLE, CELL_OPEN);
    stream_set_state(&r->memory, CELL_STREAM_ERROR, CELL_OPEN);
}

/* ---- one channel */

static void out_gone(struct relay *r, unsigned i)
{
    r->channels[i].out_ended = true;
    r->channels[i].stalled = false;
    stream_set_tx_gone(&r->memory, i);
    notify(r, i);
}

/* The cell broke the rules: it gets nothing more on this stream. */
static void reset(struct relay *r, unsigned i)
{
    r->channels[i].in_ended = true;
    stream_add_rx_flags(&r->memory, i, CELL_RESET);
    out_gone(r, i);
}

/* Output of the cell. `ready`: poll said that the host takes something. */
static void move_out(struct relay *r, unsigned i, bool ready)
{
    struct channel *c = &r->channels[i];
    struct iovec v[2];
    ssize_t pending, n;

    if (c->out_ended)
        return;
    pending = ring_pending(&r->memory, i, c->tx_head, v);
    if (pending < 0) {
        reset(r, i);
        return;
    }
    if (pending == 0) {
        c->stalled = false;
        if (stream_tx_ended(&r->memory, i) && c->is_socket) {
            c->out_ended = true;
            (void)shutdown(c->out, SHUT_WR);
        }
        return;
    }
    if (!ready && !c->is_socket) {
        c->stalled = true; /* ask poll first */
        return;
    }
    if (v[0].iov_len > CHUNK && !c->is_socket)
        v[0].iov_len = CHUNK;
    n = c->is_socket ? send(c->out, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                     : write(c->out, v[0].iov_base, v[0].iov_len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->stalled = true;
        return;
    }
    if (n < 0) {
        out_gone(r, i);
        return;
    }
    c->tx_head += (uint32_t)n;
    stream_set_tx_head(&r->memory, i, c->tx_head);
    c->stalled = n < pending;
    notify(r, i);
}

static bool has_room(const struct relay *r, unsigned i)
{
    struct iovec v[2];

    return ring_room(&r->memory, i, r->channels[i].rx_tail, v) > 0;
}

static void move_in(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];
    struct iovec v[2];
    ssize_t room = ring_room(&r->memory, i, c->rx_tail, v), n;

    if (room < 0) {
        reset(r, i);
        return;
    }
    if (room == 0)
        return;
    n = readv(c->in, v, v[1].iov_len ? 2 : 1);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        c->rx_tail += (uint32_t)n;
        stream_set_rx_tail(&r->memory, i, c->rx_tail);
    } else {
        c->in_ended = true;
        stream_add_rx_flags(&r->memory, i, n < 0 && errno == ECONNRESET ? CELL_RESET : CELL_END);
    }
    notify(r, i);
}

/* ---- connections */

static void release(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];

    if (c->is_socket && c->in >= 0)
        (void)close(c->in);
    *c = (struct channel){.in = -1, .out = -1};
    stream_set_state(&r->memory, i, CELL_FREE);
}

static void open_connection(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    uint32_t port = stream_port(&r->memory, i);
    const char *path = port == CELL_PORT_QUEUE ? WARDEN_QUEUE : port == CELL_PORT_MODEL ? WARDEN_MODEL : NULL;
    int fd;

    if (!path || !r->ports) {
        stream_refuse(&r->memory, i, ECONNREFUSED);
        notify(r, i);
        return;
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        int code = errno == EAGAIN ? ECONNREFUSED : errno;
        if (fd >= 0)
            (void)close(fd);
        stream_refuse(&r->memory, i, code);
        notify(r, i);
        return;
    }
    *c = (struct channel){.in = fd, .out = fd, .is_socket = true, .used = true};
    stream_set_state(&r->memory, i, CELL_OPEN);
    notify(r, i);
}

/* The cell changed something about this stream. */
static void take_change(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];
    struct iovec v[2];

    if (i < CELL_STREAM_FIRST_FREE) {
        move_out(r, i, false);
        return;
    }
    switch (stream_state(&r->memory, i)) {
    case CELL_CONNECT:
        if (!c->used)
            open_connection(r, i);
        break;
    case CELL_OPEN:
        if (c->used)
            move_out(r, i, true);
        break;
    case CELL_CLOSING:
        if (!c->used) { /* it was refused */
            stream_set_state(&r->memory, i, CELL_FREE);
            break;
        }
        c->in_ended = true;
        move_out(r, i, true);
        if (c->out_ended || ring_pending(&r->memory, i, c->tx_head, v) <= 0)
            release(r, i);
        break;
    default:
        break;
    }
}

/* ---- all of them */

unsigned relay_prepare(struct relay *r, struct pollfd *fds)
{
    r->npoll = 0;
    for (unsigned i = 0; i < CELL_STREAMS; i++) {
        const struct channel *c = &r->channels[i];
        if (!c->used)
            continue;
        if (c->in >= 0 && !c->in_ended && has_room(r, i)) {
            r->index[r->npoll] = (unsigned short)i;
            fds[r->npoll++] = (struct pollfd){.fd = c->in, .events = POLLIN};
        }
        if (c->out >= 0 && !c->out_ended && c->stalled) {
            r->index[r->npoll] = (unsigned short)i;
            fds[r->npoll++] = (struct pollfd){.fd = c->out, .events = POLLOUT};
        }
    }
    return r->npoll;
}

void relay_serve(struct relay *r, const struct pollfd *fds)
{
    uint64_t dirty[CELL_STREAMS / 64];

    for (unsigned k = 0; k < r->npoll; k++) {
        unsigned i = r->index[k];
        struct channel *c = &r->channels[i];
        if (!fds[k].revents || !c->used)
            continue;
        if (fds[k].events & POLLOUT) {
            move_out(r, i, true);
            if (stream_state(&r->memory, i) == CELL_CLOSING)
                take_change(r, i);
        } else if (fds[k].fd == c->in) {
            move_in(r, i);
        }
    }
    streams_take_dirty(&r->memory, dirty);
    for (unsigned w = 0; w < CELL_STREAMS / 64; w++)
        for (; dirty[w]; dirty[w] &= dirty[w] - 1)
            take_change(r, w * 64 + (unsigned)__builtin_ctzll(dirty[w]));
}

void relay_flush(struct relay *r)
{
    for (unsigned i = 0; i < CELL_STREAMS; i++) {
        struct channel *c = &r->channels[i];
        struct iovec v[2];
        while (c->used && !c->out_ended && c->out >= 0 && ring_pending(&r->memory, i, c->tx_head, v) > 0) {
            struct pollfd p = {.fd = c->out, .events = POLLOUT};
            if (poll(&p, 1, c->is_socket ? 1000 : -1) <= 0 && errno != EINTR)
                break;
            move_out(r, i, true);
        }
    }
}
