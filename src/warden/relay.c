#include "warden/relay.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "warden/warden.h"

enum {
    /* One write after poll(2) said "writable" takes this much from a pipe without blocking (pipe(7),
     * PIPE_BUF). */
    CHUNK = 4096,
    /* Then the others have their turn. */
    ROUNDS = 16,
    IMPATIENCE_MS = 1000,
};

static void notify(const struct relay *r, unsigned i)
{
    _Atomic uint32_t *word = stream_wake_word(&r->memory, i);

    if (word)
        (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void relay_init(struct relay *r, uint8_t *base, bool ports, bool terminal, int files)
{
    memset(r, 0, sizeof(*r));
    r->memory.base = base;
    r->ports = ports;
    r->terminal = terminal;
    for (unsigned i = 0; i < CELL_STREAMS; i++)
        r->channels[i].in = r->channels[i].out = -1;
    relay_set_console(r, -1, -1, -1);
    stream_set_state(&r->memory, CELL_STREAM_CONSOLE, CELL_OPEN);
    stream_set_state(&r->memory, CELL_STREAM_ERROR, CELL_OPEN);
    if (files >= 0) {
        r->channels[CELL_STREAM_FILES] =
            (struct channel){.in = files, .out = files, .is_socket = true, .used = true};
        stream_set_state(&r->memory, CELL_STREAM_FILES, CELL_OPEN);
    }
}

void relay_set_console(struct relay *r, int in, int out, int error)
{
    r->channels[CELL_STREAM_CONSOLE] = (struct channel){.in = in, .out = out, .used = true};
    r->channels[CELL_STREAM_ERROR] = (struct channel){.in = -1, .out = error, .used = true};
}

/* ---- one channel */

/* Nobody takes the cell's output any more. */
static void out_gone(struct relay *r, unsigned i)
{
    r->channels[i].out_ended = true;
    r->channels[i].stalled = false;
    stream_set_tx_gone(&r->memory, i);
    notify(r, i);
}

static void close_connection(struct channel *c)
{
    if (c->is_socket && c->in >= 0)
        (void)close(c->in);
    if (c->is_socket)
        c->in = c->out = -1;
}

/* The cell broke the rules: this stream carries nothing more. */
static void reset(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];

    c->in_ended = true;
    close_connection(c);
    stream_add_rx_flags(&r->memory, i, CELL_RESET);
    out_gone(r, i);
}

/* The cell has no more to say, and all it said is written: readers on the host see the end. */
static void end_out(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];

    c->out_ended = true;
    if (c->is_socket)
        (void)shutdown(c->out, SHUT_WR);
    else if (!r->terminal)
        (void)close(c->out);
}

/* Output of the cell. `ready`: poll said that the host takes something. */
static void move_out(struct relay *r, unsigned i, bool ready)
{
    struct channel *c = &r->channels[i];

    for (int round = 0; round < ROUNDS && c->used && !c->out_ended; round++) {
        bool ended = stream_tx_ended(&r->memory, i); /* before the counters: the cell sets it after them */
        struct iovec v[2];
        ssize_t pending = ring_pending(&r->memory, i, c->tx_head, v), n;
        if (pending < 0) {
            reset(r, i);
            return;
        }
        c->stalled = pending > 0;
        if (pending == 0) {
            if (ended)
                end_out(r, i);
            return;
        }
        if (!ready && !c->is_socket)
            return;
        if (c->is_socket) {
            n = send(c->out, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            n = write(c->out, v[0].iov_base, v[0].iov_len < CHUNK ? v[0].iov_len : CHUNK);
            ready = false;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            out_gone(r, i);
            return;
        }
        c->tx_head += (uint32_t)n;
        stream_set_tx_head(&r->memory, i, c->tx_head);
        notify(r, i);
    }
}

static bool has_room(const struct relay *r, unsigned i)
{
    struct iovec v[2];

    return ring_room(&r->memory, i, r->channels[i].rx_tail, v) != 0; /* contradictions too: move_in resets */
}

/* Input for the cell; poll said that there is some, or its end. */
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
        stream_add_rx_flags(&r->memory, i, n < 0 && c->is_socket ? CELL_RESET : CELL_END);
    }
    notify(r, i);
}

/* ---- connections */

static void stop_waiting(struct relay *r, unsigned i)
{
    r->nwaiting -= r->channels[i].waiting ? 1 : 0;
    r->channels[i].waiting = false;
}

static void release(struct relay *r, unsigned i)
{
    close_connection(&r->channels[i]);
    r->channels[i] = (struct channel){.in = -1, .out = -1};
    stream_set_state(&r->memory, i, CELL_FREE);
}

static void open_connection(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    uint32_t port = stream_port(&r->memory, i);
    const char *path = port == CELL_PORT_QUEUE ? WARDEN_QUEUE : port == CELL_PORT_MODEL ? WARDEN_MODEL : NULL;
    int fd = -1, code = ECONNREFUSED;

    if (path && r->ports) {
        memcpy(a.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        code = fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? errno : 0;
    }
    if (code == EAGAIN) { /* a client of a socket of its own would block here (unix(7)) */
        (void)close(fd);
        r->nwaiting += c->waiting ? 0 : 1;
        c->waiting = true;
        return;
    }
    stop_waiting(r, i);
    if (code == 0) {
        *c = (struct channel){.in = fd, .out = fd, .is_socket = true, .used = true};
        stream_set_state(&r->memory, i, CELL_OPEN);
    } else {
        if (fd >= 0)
            (void)close(fd);
        stream_refuse(&r->memory, i, code);
    }
    notify(r, i);
}

/* What a stream without a connection can become. */
static void take_unused(struct relay *r, unsigned i)
{
    switch (stream_state(&r->memory, i)) {
    case CELL_CONNECT:
        open_connection(r, i);
        break;
    case CELL_CLOSING: /* it was refused, or given up while it waited */
        stop_waiting(r, i);
        stream_set_state(&r->memory, i, CELL_FREE);
        break;
    default:
        stop_waiting(r, i);
        break;
    }
}

/* The cell changed something about this stream. */
static void take_change(struct relay *r, unsigned i)
{
    struct channel *c = &r->channels[i];

    if (i < CELL_STREAM_FIRST_FREE) {
        move_out(r, i, false);
        return;
    }
    if (!c->used) {
        take_unused(r, i);
        return;
    }
    switch (stream_state(&r->memory, i)) {
    case CELL_OPEN:
        move_out(r, i, true);
        break;
    case CELL_CLOSING:
        c->in_ended = true;
        move_out(r, i, true);
        if (c->out_ended || !c->stalled)
            release(r, i);
        break;
    default: /* no way leads there from an open stream */
        release(r, i);
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
        /* The console is watched without output too: the reader of a pipe that went away is EPIPE at once. */
        if (c->out >= 0 && !c->out_ended && (c->stalled || !c->is_socket)) {
            r->index[r->npoll] = (unsigned short)i;
            fds[r->npoll++] = (struct pollfd){.fd = c->out, .events = c->stalled ? POLLOUT : 0};
        }
    }
    return r->npoll;
}

bool relay_retries(const struct relay *r)
{
    return r->nwaiting > 0;
}

static void serve_one(struct relay *r, unsigned i, const struct pollfd *p)
{
    struct channel *c = &r->channels[i];

    if (p->events & POLLIN) {
        if (p->fd == c->in && !c->in_ended)
            move_in(r, i);
    } else if (p->events & POLLOUT) {
        move_out(r, i, true);
        if (i >= CELL_STREAM_FIRST_FREE && stream_state(&r->memory, i) != CELL_OPEN)
            take_change(r, i);
    } else if (p->revents & (POLLERR | POLLHUP) && !c->out_ended) {
        out_gone(r, i);
    }
}

void relay_serve(struct relay *r, const struct pollfd *fds)
{
    uint64_t dirty[CELL_STREAMS / 64];

    for (unsigned k = 0; k < r->npoll; k++)
        if (fds[k].revents && r->channels[r->index[k]].used)
            serve_one(r, r->index[k], &fds[k]);
    for (unsigned i = 0; i < CELL_STREAMS && r->nwaiting > 0; i++)
        if (r->channels[i].waiting)
            take_change(r, i);
    streams_take_dirty(&r->memory, dirty);
    for (unsigned w = 0; w < CELL_STREAMS / 64; w++)
        for (; dirty[w]; dirty[w] &= dirty[w] - 1)
            take_change(r, w * 64 + (unsigned)__builtin_ctzll(dirty[w]));
}

void relay_flush(struct relay *r, bool patient)
{
    for (unsigned i = 0; i < CELL_STREAMS; i++) {
        struct channel *c = &r->channels[i];
        struct iovec v[2];
        ssize_t left = c->used && !c->out_ended ? ring_pending(&r->memory, i, c->tx_head, v) : 0;
        while (left > 0 && !c->out_ended) {
            struct pollfd p = {.fd = c->out, .events = POLLOUT};
            uint32_t before = c->tx_head;
            int n = poll(&p, 1, patient && i < CELL_STREAM_FIRST_FREE ? -1 : IMPATIENCE_MS);
            if (n == 0 && i >= CELL_STREAM_FIRST_FREE)
                return; /* one such second for all the ports: the others came first */
            if (n == 0 || (n < 0 && errno != EINTR))
                break;
            move_out(r, i, n > 0);
            left -= (ssize_t)(c->tx_head - before);
        }
    }
}
