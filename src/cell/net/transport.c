/*
 * Moving bytes: into the receiver's queue, out of one's own.
 */
#include <asm/errno.h>
#include <asm/signal.h>
#include <linux/poll.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/net/socket.h"
#include "cell/proc/process.h"

enum { PIECE = 16384 - (int)sizeof(struct message) };

/* A walk over the caller's vectors. */
struct cursor {
    const struct iovec *iov;
    unsigned niov;
    size_t offset;
};

static size_t piece_at(struct cursor *c, u8 **at)
{
    while (c->niov > 0 && c->offset == c->iov->iov_len) {
        c->iov++;
        c->niov--;
        c->offset = 0;
    }
    if (c->niov == 0)
        return 0;
    *at = (u8 *)c->iov->iov_base + c->offset;
    return c->iov->iov_len - c->offset;
}

/* Returns how much was copied before an address was wrong. */
static size_t copy_in(struct cursor *c, u8 *to, size_t n)
{
    size_t done = 0;

    while (done < n) {
        u8 *from = NULL;
        size_t part = piece_at(c, &from), missing;
        if (part == 0)
            break;
        part = MIN(part, n - done);
        missing = copy_user_partial(to + done, from, part);
        c->offset += part - missing;
        done += part - missing;
        if (missing)
            break;
    }
    return done;
}

static size_t copy_out(struct cursor *c, const u8 *from, size_t n)
{
    size_t done = 0;

    while (done < n) {
        u8 *to = NULL;
        size_t part = piece_at(c, &to), missing;
        if (part == 0)
            break;
        part = MIN(part, n - done);
        missing = copy_user_partial(to, from + done, part);
        c->offset += part - missing;
        done += part - missing;
        if (missing)
            break;
    }
    return done;
}

void scm_free(struct scm *scm)
{
    if (!scm)
        return;
    for (u32 i = 0; i < scm->nfiles; i++)
        if (scm->files[i])
            file_put(scm->files[i]);
    kfree(scm);
}

static struct message *message_create(size_t capacity)
{
    struct message *m = kmalloc(sizeof(*m) + capacity);

    if (m) {
        m->capacity = (u32)capacity;
        m->pid = current_process->pid;
    }
    return m;
}

static void message_free(struct message *m)
{
    scm_free(m->scm);
    kfree(m->from);
    kfree(m);
}

void socket_drop_messages(struct socket *s)
{
    list_for_each_safe(n, &s->queue)
    {
        list_del(n);
        message_free(list_entry(n, struct message, node));
    }
    s->queued = 0;
}

static void push(struct socket *to, struct message *m)
{
    list_add_tail(&to->queue, &m->node);
    to->queued += m->end;
    waitq_wake(&to->event);
}

int socket_push(struct socket *s, const void *data, size_t n)
{
    struct message *m = message_create(n);

    if (!m)
        return -ENOMEM;
    memcpy(m->data, data, n);
    m->end = (u32)n;
    m->pid = 0;
    if ((m->from = kmalloc(sizeof(*m->from))))
        s->family->name(s, true, m->from);
    push(s, m);
    return 0;
}

static u64 deadline_of(u64 timeout)
{
    return timeout ? monotonic_ns() + timeout : NO_DEADLINE;
}

static int sleep_on(struct socket *of, u64 deadline)
{
    struct waiter w;
    int rc;

    if (!of)
        return -ENOTCONN;
    waitq_add(&of->event, &w);
    rc = thread_sleep(deadline);
    waitq_del(&w);
    return rc == -ETIMEDOUT ? -EAGAIN : rc;
}

/* For something that the host does: it may have done it while we looked. */
static int sleep_on_host(struct stream *s, bool (*ready)(const struct stream *), u64 deadline)
{
    struct waiter w;
    int rc = 0;

    stream_wait(s, &w);
    if (!ready(s))
        rc = thread_sleep(deadline);
    waitq_del(&w);
    return rc == -ETIMEDOUT ? -EAGAIN : rc;
}

static long broken_pipe(const struct transfer *t)
{
    if (!(t->flags & MSG_NOSIGNAL))
        signal_self(SIGPIPE);
    return -EPIPE;
}

/* ---- streams */

static bool can_append(const struct socket *to, const struct transfer *t)
{
    const struct message *last;

    if (list_empty(&to->queue) || t->scm)
        return false;
    last = list_entry(to->queue.prev, struct message, node);
    return last->end < last->capacity && !last->scm && last->pid == current_process->pid;
}

/* One piece, as much as there is room for. */
static long send_piece(struct socket *to, struct transfer *t, struct cursor *c, size_t n)
{
    struct message *m;
    size_t done;

    if (can_append(to, t)) {
        m = list_entry(to->queue.prev, struct message, node);
        done = copy_in(c, m->data + m->end, MIN(n, (size_t)(m->capacity - m->end)));
        m->end += (u32)done;
        to->queued += done;
        waitq_wake(&to->event);
        return done ? (long)done : -EFAULT;
    }
    n = MIN(n, (size_t)PIECE);
    if (!(m = message_create(n < 1900 ? 2032 - sizeof(*m) : n)))
        return -ENOMEM;
    done = copy_in(c, m->data, n);
    if (done == 0) {
        message_free(m);
        return -EFAULT;
    }
    m->end = (u32)done;
    m->scm = t->scm;
    t->scm = NULL;
    push(to, m);
    return (long)done;
}

static long send_to_host(struct socket *s, struct transfer *t, struct cursor *c, size_t n)
{
    u8 *from = NULL;
    size_t part = piece_at(c, &from);
    long rc;

    (void)t;
    rc = stream_write(s->stream, from, MIN(part, n));
    if (rc > 0)
        c->offset += (size_t)rc;
    return rc;
}

static bool is_full(const struct socket *s)
{
    return s->queued >= (size_t)s->receive_buffer;
}

static bool has_room(const struct socket *s)
{
    return s->stream ? stream_writable(s->stream) : s->peer && !is_full(s->peer);
}

static long send_stream(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    u64 deadline = deadline_of(s->send_timeout);
    size_t done = 0;
    long rc = 0;

    if (s->error) {
        rc = -s->error;
        s->error = 0;
        return rc;
    }
    if (s->state != SOCKET_CONNECTED)
        return s->state == SOCKET_DEAD || s->domain != AF_UNIX ? broken_pipe(t) : -ENOTCONN;
    do {
        if (s->peer_gone && s->domain != AF_UNIX && !s->was_reset && !s->shut_write) {
            s->was_reset = true;
            return (long)t->length;
        }
        if (s->shut_write || s->peer_gone || (s->peer && s->peer->shut_read)) {
            rc = done ? 0 : broken_pipe(t);
            break;
        }
        if (!has_room(s)) {
            if (t->nonblocking || (t->flags & MSG_DONTWAIT)) {
                rc = -EAGAIN;
                break;
            }
            rc =
                s->stream ? sleep_on_host(s->stream, stream_writable, deadline) : sleep_on(s->peer, deadline);
            if (rc < 0)
                break;
            continue;
        }
        if (t->length == done)
            break;
        rc = s->stream ? send_to_host(s, t, &c, t->length - done)
                       : send_piece(s->peer, t, &c, t->length - done);
        if (rc == -EAGAIN && s->stream)
            continue;
        if (rc == -EPIPE)
            rc = done ? 0 : broken_pipe(t);
        if (rc <= 0)
            break;
        done += (size_t)rc;
        rc = 0;
    } while (done < t->length);
    return done ? (long)done : rc;
}

static long receive_from_host(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    size_t done = 0;
    long rc = 0;

    while (done < t->length) {
        u8 *to = NULL;
        size_t part = piece_at(&c, &to);
        if (part == 0)
            break;
        rc = stream_read(s->stream, to, part);
        if (rc <= 0)
            break;
        c.offset += (size_t)rc;
        done += (size_t)rc;
    }
    return done ? (long)done : rc;
}

/* Room was made: for those who wait for it on our queue, and for those who poll the peer. Whether a packet
 * has room depends on its length. */
static void tell_of_room(struct socket *s, bool was_full)
{
    waitq_wake(&s->event);
    if (s->peer && (s->type == SOCK_STREAM_ ? was_full && !is_full(s) : s->type == SOCK_SEQPACKET_))
        waitq_wake(&s->peer->event);
}

/* What is there, at most t->length bytes, not past a message with descriptors. 0: nothing is there. */
static long take_stream(struct socket *s, struct transfer *t, struct cursor *c, size_t wanted)
{
    size_t done = 0;
    bool was_full = is_full(s);

    list_for_each_safe(n, &s->queue)
    {
        struct message *m = list_entry(n, struct message, node);
        size_t part = MIN(wanted - done, (size_t)(m->end - m->start)), got;
        if (m->scm && (done > 0 || t->scm))
            break;
        got = copy_out(c, m->data + m->start, part);
        if (got == 0 && part > 0)
            return done ? (long)done : -EFAULT;
        t->pid = m->pid;
        done += got;
        if (t->flags & MSG_PEEK) {
            if (m->scm || done == wanted)
                break;
            continue;
        }
        if (m->scm) {
            t->scm = m->scm;
            m->scm = NULL;
        }
        m->start += (u32)got;
        s->queued -= got;
        if (m->start == m->end) {
            list_del(n);
            message_free(m);
        }
        if (done == wanted || got < part || t->scm)
            break;
    }
    if (done && !(t->flags & MSG_PEEK))
        tell_of_room(s, was_full);
    return (long)done;
}

static bool at_end(const struct socket *s)
{
    if (s->type == SOCK_DGRAM_)
        return s->shut_read;
    return s->shut_read || s->peer_gone || (s->peer && s->peer->shut_write);
}

static long receive_stream(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    u64 deadline = deadline_of(s->receive_timeout);
    size_t done = 0;
    long rc = 0;

    if (s->state != SOCKET_CONNECTED && list_empty(&s->queue)) {
        if (s->error) {
            rc = -s->error;
            s->error = 0;
            return rc;
        }
        return s->state == SOCKET_DEAD ? 0 : s->domain == 1 ? -EINVAL : -ENOTCONN;
    }
    for (;;) {
        if (s->stream) {
            rc = receive_from_host(s, t);
            if (rc != -EAGAIN)
                return rc;
        } else {
            rc = take_stream(s, t, &c, t->length - done);
            if (rc < 0)
                break;
            done += (size_t)rc;
            if (t->length == 0 || (done > 0 && (!(t->flags & MSG_WAITALL) || done == t->length || t->scm)))
                break;
            if (at_end(s)) {
                rc = 0;
                if (s->error && done == 0) {
                    rc = -s->error;
                    s->error = 0;
                }
                break;
            }
        }
        if (t->nonblocking || (t->flags & MSG_DONTWAIT)) {
            rc = -EAGAIN;
            break;
        }
        rc = s->stream ? sleep_on_host(s->stream, stream_readable, deadline) : sleep_on(s, deadline);
        if (rc < 0)
            break;
    }
    return done ? (long)done : rc;
}

/* ---- datagrams and sequenced packets */

/* To the kernel: netlink. */
static long send_request(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    u8 *data;
    long rc;

    if (t->length > 65536)
        return -EMSGSIZE;
    if (!(data = kmalloc(t->length + 1)))
        return -ENOMEM;
    rc = copy_in(&c, data, t->length) == t->length ? s->family->request(s, data, t->length) : -EFAULT;
    kfree(data);
    return rc < 0 ? rc : (long)t->length;
}

static long send_datagram(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    u64 deadline = deadline_of(s->send_timeout);
    struct socket *to = s->peer;
    struct message *m;
    int error = 0;

    if (s->error) {
        error = -s->error;
        s->error = 0;
        return error;
    }
    if (s->shut_write)
        return broken_pipe(t);
    if (t->length > MESSAGE_MAX)
        return -EMSGSIZE;
    if (t->to && s->type == SOCK_DGRAM_) {
        to = s->family->find(s, t->to, &error);
        if (!to)
            return error == -ECONNREFUSED && s->domain != 1 ? (long)t->length : error;
    }
    if (s->type == SOCK_SEQPACKET_ && s->state != SOCKET_CONNECTED)
        return -ENOTCONN;
    if (!to)
        return s->type == SOCK_SEQPACKET_ || s->peer_gone
                   ? (s->type == SOCK_SEQPACKET_ ? broken_pipe(t) : -ECONNREFUSED)
               : s->domain == 1 ? -ENOTCONN
                                : -EDESTADDRREQ;
    if (s->peer_gone && to == s->peer)
        return s->type == SOCK_SEQPACKET_ ? broken_pipe(t) : -ECONNREFUSED;
    socket_get(to);
    while (to->queued > 0 && to->queued + t->length > (size_t)to->receive_buffer && error == 0 &&
           !to->shut_read) {
        if (s->domain != 1) { /* UDP: it is lost */
            socket_put(to);
            return (long)t->length;
        }
        error = t->nonblocking || (t->flags & MSG_DONTWAIT) ? -EAGAIN : sleep_on(to, deadline);
    }
    if (error == 0 && (to->shut_read || to->state == SOCKET_DEAD))
        error = to->state == SOCKET_DEAD ? -ECONNREFUSED : (int)broken_pipe(t);
    m = error == 0 ? message_create(t->length) : NULL;
    if (!m || copy_in(&c, m->data, t->length) != t->length) {
        if (m)
            message_free(m);
        socket_put(to);
        return error < 0 ? error : m ? -EFAULT : -ENOMEM;
    }
    if (s->bound && (m->from = kmalloc(sizeof(*m->from))))
        s->family->name(s, false, m->from);
    if (s->family->stamp) {
        m->packet = t->packet;
        s->family->stamp(s, t->to, &m->packet);
    }
    m->end = (u32)t->length;
    m->scm = t->scm;
    t->scm = NULL;
    push(to, m);
    socket_put(to);
    return (long)t->length;
}

static long receive_datagram(struct socket *s, struct transfer *t)
{
    struct cursor c = {t->iov, t->niov, 0};
    u64 deadline = deadline_of(s->receive_timeout);
    struct message *m;
    bool was_full;
    size_t n;
    int rc = 0;

    if (s->type == SOCK_SEQPACKET_ && s->state != SOCKET_CONNECTED && list_empty(&s->queue))
        return -ENOTCONN;
    while (list_empty(&s->queue)) {
        if (s->error) {
            rc = -s->error;
            s->error = 0;
            return rc;
        }
        if (s->shut_read || (s->type == SOCK_SEQPACKET_ && at_end(s)))
            return 0;
        if (t->nonblocking || (t->flags & MSG_DONTWAIT))
            return -EAGAIN;
        if ((rc = sleep_on(s, deadline)) < 0)
            return rc;
    }
    m = list_entry(s->queue.next, struct message, node);
    n = MIN((size_t)m->end, t->length);
    if (copy_out(&c, m->data, n) != n)
        return -EFAULT;
    if (m->end > t->length)
        t->out_flags |= MSG_TRUNC;
    t->pid = m->pid;
    t->packet = m->packet;
    t->has_packet = true;
    if (m->from)
        t->from = *m->from;
    n = t->flags & MSG_TRUNC ? m->end : n;
    if (t->flags & MSG_PEEK)
        return (long)n;
    t->scm = m->scm;
    m->scm = NULL;
    was_full = is_full(s);
    list_del(&m->node);
    s->queued -= m->end;
    message_free(m);
    tell_of_room(s, was_full);
    return (long)n;
}

long socket_send(struct socket *s, struct transfer *t)
{
    if (t->flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (s->family->request)
        return send_request(s, t);
    return s->type == SOCK_STREAM_ ? send_stream(s, t) : send_datagram(s, t);
}

long socket_receive(struct socket *s, struct transfer *t)
{
    if (t->flags & MSG_OOB)
        return s->type == SOCK_STREAM_ ? -EINVAL : -EOPNOTSUPP;
    return s->type == SOCK_STREAM_ ? receive_stream(s, t) : receive_datagram(s, t);
}

size_t socket_readable(const struct socket *s)
{
    if (s->stream)
        return stream_available(s->stream);
    if (s->type == SOCK_STREAM_)
        return s->queued;
    return list_empty(&s->queue) ? 0 : list_entry(s->queue.next, struct message, node)->end;
}

unsigned socket_poll(struct socket *s, struct poll_table *pt)
{
    unsigned mask = 0;

    if (s->stream) {
        mask = stream_poll(s->stream, pt);
        if (s->state == SOCKET_CONNECTING && mask)
            s->state = stream_connected(s->stream) == 0 ? SOCKET_CONNECTED : SOCKET_CONNECTING;
        return mask;
    }
    poll_add(pt, &s->event);
    if (s->state == SOCKET_LISTENING)
        return list_empty(&s->accepted) ? 0 : POLLIN | POLLRDNORM;
    /* Room is made where the data goes. Of a connection our peer tells us; another's datagrams do not. */
    if (s->peer && s->type == SOCK_DGRAM_)
        poll_add(pt, &s->peer->event);
    if (s->error)
        mask |= POLLERR;
    if (!list_empty(&s->queue) || at_end(s))
        mask |= POLLIN | POLLRDNORM;
    if (at_end(s) && s->type != SOCK_DGRAM_)
        mask |= POLLRDHUP;
    if (s->type != SOCK_DGRAM_ &&
        (s->state == SOCKET_DEAD || s->peer_gone || (s->shut_read && s->shut_write)))
        mask |= POLLHUP;
    if (s->state == SOCKET_NEW && s->type == SOCK_STREAM_)
        mask |= POLLHUP | POLLOUT | POLLWRNORM;
    else if (s->peer_gone || has_room(s) || (s->type == SOCK_DGRAM_ && !s->peer))
        mask |= POLLOUT | POLLWRNORM;
    return mask;
}
