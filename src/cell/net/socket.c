/*
 * Life of a socket and its face as a file.
 */
#include "cell/net/socket.h"

#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/ioctls.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

static const struct family *const families[] = {&unix_family, &inet_family, &inet6_family, &netlink_family};

struct socket *socket_create(int domain, int type, int protocol, int *error)
{
    struct socket *s;

    *error = -EAFNOSUPPORT;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (families[i]->number != domain)
            continue;
        *error = -ENOMEM;
        if (!(s = kmalloc(sizeof(*s))))
            return NULL;
        s->family = families[i];
        s->domain = domain;
        s->type = type;
        s->protocol = protocol;
        s->refs = 1;
        s->send_buffer = s->receive_buffer = SOCKET_BUFFER;
        list_init(&s->queue);
        list_init(&s->accepted);
        list_init(&s->in_accept);
        list_init(&s->in_family);
        list_init(&s->in_all);
        waitq_init(&s->event);
        *error = s->family->create(s);
        if (*error < 0) {
            kfree(s);
            return NULL;
        }
        return s;
    }
    return NULL;
}

void socket_get(struct socket *s)
{
    s->refs++;
}

void socket_put(struct socket *s)
{
    if (--s->refs > 0)
        return;
    socket_drop_messages(s);
    list_del(&s->in_all);
    waitq_release(&s->event); /* whoever polls a socket that had us for a peer */
    kfree(s->extra);
    kfree(s);
}

void socket_join(struct socket *a, struct socket *b)
{
    a->peer = b;
    b->peer = a;
    socket_get(a);
    socket_get(b);
    a->state = b->state = SOCKET_CONNECTED;
    a->peer_pid = b->peer_pid = current_process->pid;
}

int socket_enqueue(struct socket *listener, struct socket *client)
{
    struct socket *s;
    int error;

    if (listener->naccepted > listener->backlog)
        return -EAGAIN;
    s = socket_create(client->domain, client->type, client->protocol, &error);
    if (!s)
        return error;
    s->domain = listener->domain;
    s->family = listener->family;
    s->local = listener->local;
    s->bound = listener->bound;
    s->no_delay = listener->no_delay;
    s->packet = listener->packet;
    s->pass_credentials = listener->pass_credentials;
    socket_join(s, client);
    client->peer_pid = listener->peer_pid;
    list_add_tail(&listener->accepted, &s->in_accept);
    listener->naccepted++;
    waitq_wake(&listener->event);
    return 0;
}

static void leave_peer(struct socket *s)
{
    struct socket *peer = s->peer;

    s->peer = NULL;
    if (!peer)
        return;
    if (peer->peer == s) {
        peer->peer = NULL;
        peer->peer_gone = true;
        /* What we had not read is lost: our peer is told (tcp(7), unix(7)). */
        if (!list_empty(&s->queue) && s->type != SOCK_DGRAM_)
            peer->error = ECONNRESET;
        waitq_wake(&peer->event);
        socket_put(s);
    }
    socket_put(peer);
}

/* The last descriptor is gone. */
static void close_socket(struct socket *s)
{
    list_for_each_safe(n, &s->accepted)
    {
        struct socket *waiting = list_entry(n, struct socket, in_accept);
        list_del(n);
        if (waiting->peer)
            waiting->peer->error = ECONNRESET;
        close_socket(waiting);
    }
    s->state = SOCKET_DEAD;
    list_del(&s->in_family);
    leave_peer(s);
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the file's own reference is still there
    if (s->stream)
        stream_close(s->stream);
    s->stream = NULL;
    if (s->family->release)
        s->family->release(s);
    socket_drop_messages(s);
    waitq_wake(&s->event);
    socket_put(s);
}

static long file_transfer(struct file *f, const struct iovec *iov, unsigned n, bool send)
{
    struct transfer t = {.iov = iov, .niov = n, .nonblocking = f->flags & O_NONBLOCK};
    long rc;

    for (unsigned i = 0; i < n; i++)
        t.length += iov[i].iov_len;
    rc = send ? socket_send(f->priv, &t) : socket_receive(f->priv, &t);
    scm_free(t.scm);
    return rc;
}

static long socket_readv(struct file *f, const struct iovec *iov, unsigned n)
{
    return file_transfer(f, iov, n, false);
}

static long socket_writev(struct file *f, const struct iovec *iov, unsigned n)
{
    return file_transfer(f, iov, n, true);
}

static long socket_read(struct file *f, USER void *buf, size_t len, u64 *pos)
{
    const struct iovec v = {buf, len};

    (void)pos;
    return file_transfer(f, &v, 1, false);
}

static long socket_write(struct file *f, USER const void *buf, size_t len, u64 *pos)
{
    const struct iovec v = {(void *)(uintptr_t)buf, len};

    (void)pos;
    return file_transfer(f, &v, 1, true);
}

static unsigned poll_file(struct file *f, struct poll_table *pt)
{
    return socket_poll(f->priv, pt);
}

static long socket_ioctl(struct file *f, unsigned cmd, unsigned long arg)
{
    struct socket *s = f->priv;

    if (cmd == FIONREAD)
        return s->state == SOCKET_LISTENING ? -EINVAL : put_user_u32((void *)arg, (u32)socket_readable(s));
    if (cmd == TIOCOUTQ)
        return put_user_u32((void *)arg, s->peer ? (u32)s->peer->queued : 0);
    return inet_ioctl(s, cmd, arg);
}

static void release_file(struct file *f)
{
    close_socket(f->priv);
}

static const struct file_ops socket_ops = {
    .name = "socket",
    .read = socket_read,
    .write = socket_write,
    .readv = socket_readv,
    .writev = socket_writev,
    .poll = poll_file,
    .ioctl = socket_ioctl,
    .release = release_file,
};

struct file *socket_file(struct socket *s, unsigned flags)
{
    struct file *f = file_create_anon(&socket_ops, s, O_RDWR | flags, S_IFSOCK | 0777);

    if (!f)
        close_socket(s);
    else
        s->number = f->anon_ino;
    return f;
}

struct socket *socket_of(int fd, struct file **file, int *error)
{
    struct file *f = fd_file(fd);

    *error = f ? -ENOTSOCK : -EBADF;
    if (!f || f->ops != &socket_ops)
        return NULL;
    *file = f;
    return f->priv;
}
