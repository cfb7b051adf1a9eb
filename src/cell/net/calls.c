/*
 * The system calls of sockets: arguments in, transport, results out.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/socket.h>
#include <asm/unistd.h>
#include <linux/in.h>
#include <linux/net.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/stream.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"
#include "cell/proc/syscall.h"
#include "cell/proc/timer.h"

enum { IOV_MAX_ = 1024, SOCK_FLAGS = O_CLOEXEC | O_NONBLOCK, CONTROL_MAX = 8192, MMSG_MAX = 1024 };

/* What sendmsg(2) and recvmsg(2) take. */
struct message_header {
    u64 name;
    u32 namelen, pad1;
    u64 iov, iovlen, control, controllen;
    u32 flags, pad2;
};

static int take_address(u64 from, u64 length, struct address *a)
{
    memset(a, 0, sizeof(*a));
    if ((int)length < 0 || length > SOCKET_ADDRESS)
        return -EINVAL;
    a->length = (u32)length;
    return copy_from_user(a->bytes, (void *)from, length);
}

static int give_address(const struct address *a, u64 to, u64 length_at)
{
    u32 room;

    if (!to)
        return 0;
    if (get_user_u32(&room, (void *)length_at) < 0)
        return -EFAULT;
    if ((int)room < 0)
        return -EINVAL;
    return copy_to_user((void *)to, a->bytes, MIN(room, a->length)) < 0 ||
                   put_user_u32((void *)length_at, a->length) < 0
               ? -EFAULT
               : 0;
}

static long install(struct socket *s, u64 flags)
{
    struct file *f = socket_file(s, (unsigned)flags & O_NONBLOCK);
    int fd = f ? fd_install(f, 0, flags & O_CLOEXEC) : -ENOMEM;

    if (f && fd < 0)
        file_put(f);
    return fd;
}

static long sys_socket(u64 domain, u64 type, u64 protocol, u64 d, u64 e, u64 f)
{
    struct socket *s;
    int error;

    (void)d, (void)e, (void)f;
    if (type & ~(u64)(0xf | SOCK_FLAGS))
        return -EINVAL;
    s = socket_create((int)domain, (int)type & 0xf, (int)protocol, &error);
    return s ? install(s, type) : error;
}

static long sys_socketpair(u64 domain, u64 type, u64 protocol, u64 to, u64 e, u64 f)
{
    struct socket *a, *b;
    long first, second;
    int error;

    (void)e, (void)f;
    if (type & ~(u64)(0xf | SOCK_FLAGS))
        return -EINVAL;
    if (domain != AF_UNIX)
        return domain == AF_INET || domain == AF_INET6 ? -EOPNOTSUPP : -EAFNOSUPPORT;
    if (!(a = socket_create((int)domain, (int)type & 0xf, (int)protocol, &error)))
        return error;
    if (!(b = socket_create((int)domain, (int)type & 0xf, (int)protocol, &error))) {
        socket_put(a);
        return error;
    }
    socket_join(a, b);
    first = install(a, type);
    second = install(b, type); /* also when the first failed: this is what releases b */
    if (first < 0 || second < 0) {
        if (first >= 0)
            (void)fd_close((int)first);
        if (second >= 0)
            (void)fd_close((int)second);
        return first < 0 ? first : second;
    }
    if (put_user_u32((void *)to, (u32)first) < 0 || put_user_u32((void *)(to + 4), (u32)second) < 0) {
        (void)fd_close((int)first);
        (void)fd_close((int)second);
        return -EFAULT;
    }
    return 0;
}

static long sys_bind(u64 fd, u64 addr, u64 length, u64 d, u64 e, u64 f)
{
    struct address a;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);

    (void)d, (void)e, (void)f;
    if (!s)
        return error;
    if ((error = take_address(addr, length, &a)) < 0)
        return error;
    if (a.length < 2)
        return -EINVAL;
    return s->family->bind(s, &a);
}

static long sys_listen(u64 fd, u64 backlog, u64 c, u64 d, u64 e, u64 f)
{
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);

    (void)c, (void)d, (void)e, (void)f;
    if (!s)
        return error;
    if (s->type != SOCK_STREAM_ && s->type != SOCK_SEQPACKET_)
        return -EOPNOTSUPP;
    if ((s->state != SOCKET_NEW && s->state != SOCKET_LISTENING) || (!s->bound && !s->family->listen))
        return -EINVAL;
    if (s->family->listen && (error = s->family->listen(s)) < 0)
        return error;
    s->state = SOCKET_LISTENING;
    s->backlog = (u32)backlog > 4096 ? 4096 : (u32)backlog;
    s->peer_pid = current_process->pid;
    return 0;
}

static long accept_on(u64 fd, u64 addr, u64 length, u64 flags)
{
    struct file *file;
    struct waiter w;
    int error, rc = 0;
    struct socket *s = socket_of((int)fd, &file, &error), *next;
    struct address a;
    long new;

    if (flags & ~(u64)SOCK_FLAGS)
        return -EINVAL;
    if (!s)
        return error;
    if (s->state != SOCKET_LISTENING)
        return s->type == SOCK_DGRAM_ ? -EOPNOTSUPP : -EINVAL;
    if (list_empty(&s->accepted) && (file->flags & O_NONBLOCK))
        return -EAGAIN;
    file_get(file);
    waitq_add(&s->event, &w);
    while (list_empty(&s->accepted) && rc == 0 && !s->shut_read)
        rc = thread_sleep(s->receive_timeout ? monotonic_ns() + s->receive_timeout : NO_DEADLINE);
    waitq_del(&w);
    if (list_empty(&s->accepted)) {
        file_put(file);
        return rc == -ETIMEDOUT ? -EAGAIN : rc ? rc : -EINVAL;
    }
    next = list_entry(s->accepted.next, struct socket, in_accept);
    list_del(&next->in_accept);
    s->naccepted--;
    waitq_wake(&s->event);
    file_put(file);
    memset(&a, 0, sizeof(a));
    next->family->name(next, true, &a);
    new = install(next, flags);
    if (new >= 0 && addr && give_address(&a, addr, length) < 0) {
        (void)fd_close((int)new);
        return -EFAULT;
    }
    return new;
}

static long sys_accept(u64 fd, u64 addr, u64 length, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return accept_on(fd, addr, length, 0);
}

static long sys_accept4(u64 fd, u64 addr, u64 length, u64 flags, u64 e, u64 f)
{
    (void)e, (void)f;
    return accept_on(fd, addr, length, flags);
}

static long sys_connect(u64 fd, u64 addr, u64 length, u64 d, u64 e, u64 f)
{
    struct address a;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);
    long rc;

    (void)d, (void)e, (void)f;
    if (!s)
        return error;
    if ((error = take_address(addr, length, &a)) < 0)
        return error;
    if (a.length < 2)
        return -EINVAL;
    file_get(file);
    rc = s->family->connect(s, &a, file->flags & O_NONBLOCK);
    file_put(file);
    return rc;
}

static long get_name(u64 fd, u64 addr, u64 length, bool peer)
{
    struct address a;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);

    if (!s)
        return error;
    if (peer && s->state != SOCKET_CONNECTED && !s->peer)
        return -ENOTCONN;
    memset(&a, 0, sizeof(a));
    s->family->name(s, peer, &a);
    return addr ? give_address(&a, addr, length) : -EFAULT;
}

static long sys_getsockname(u64 fd, u64 addr, u64 length, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return get_name(fd, addr, length, false);
}

static long sys_getpeername(u64 fd, u64 addr, u64 length, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return get_name(fd, addr, length, true);
}

static long sys_sendto(u64 fd, u64 buf, u64 length, u64 flags, u64 addr, u64 addr_length)
{
    const struct iovec v = {(void *)buf, MIN(length, 0x7ffff000UL)};
    struct transfer t = {.iov = &v, .niov = 1, .length = v.iov_len, .flags = (unsigned)flags};
    struct address a;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);
    long rc;

    if (!s)
        return error;
    if (addr) {
        if ((error = take_address(addr, addr_length, &a)) < 0)
            return error;
        t.to = &a;
    }
    t.nonblocking = file->flags & O_NONBLOCK;
    file_get(file);
    rc = socket_send(s, &t);
    file_put(file);
    return rc;
}

static long sys_recvfrom(u64 fd, u64 buf, u64 length, u64 flags, u64 addr, u64 addr_length)
{
    const struct iovec v = {(void *)buf, MIN(length, 0x7ffff000UL)};
    struct transfer t = {.iov = &v, .niov = 1, .length = v.iov_len, .flags = (unsigned)flags};
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);
    long rc;

    if (!s)
        return error;
    t.nonblocking = file->flags & O_NONBLOCK;
    file_get(file);
    rc = socket_receive(s, &t);
    scm_free(t.scm);
    if (rc >= 0 && addr && s->type != SOCK_STREAM_ && give_address(&t.from, addr, addr_length) < 0)
        rc = -EFAULT;
    else if (rc >= 0 && addr && s->type == SOCK_STREAM_ && put_user_u32((void *)addr_length, 0) < 0)
        rc = -EFAULT;
    file_put(file);
    return rc;
}

/* ---- messages with vectors and control data */

static int take_vectors(const struct message_header *h, struct iovec **out, size_t *total)
{
    struct iovec *v;

    *total = 0;
    *out = NULL;
    if (h->iovlen > IOV_MAX_)
        return -EMSGSIZE;
    if (!(v = kmalloc((h->iovlen + 1) * sizeof(*v))))
        return -ENOMEM;
    if (copy_from_user(v, (void *)h->iov, h->iovlen * sizeof(*v)) < 0) {
        kfree(v);
        return -EFAULT;
    }
    for (u64 i = 0; i < h->iovlen; i++) {
        if ((s64)v[i].iov_len < 0 || *total + v[i].iov_len > 0x7ffff000UL) {
            kfree(v);
            return -EINVAL;
        }
        *total += v[i].iov_len;
    }
    *out = v;
    return 0;
}

/* More descriptors, behind those of an earlier control message. */
static int take_files(const u8 *data, size_t n, struct scm **out)
{
    u32 before = *out ? (*out)->nfiles : 0;
    struct scm *scm;

    if (before + n / 4 > SCM_FILES)
        return -EINVAL;
    if (!(scm = kmalloc(sizeof(*scm) + (before + n / 4) * sizeof(struct file *))))
        return -ENOMEM;
    for (u32 k = 0; k < before; k++)
        scm->files[scm->nfiles++] = (*out)->files[k];
    kfree(*out);
    *out = scm;
    for (size_t i = 0; i < n / 4; i++) {
        struct file *f;
        s32 fd;
        memcpy(&fd, data + i * 4, 4);
        f = fd_file(fd);
        if (!f)
            return -EBADF;
        file_get(f);
        scm->files[scm->nfiles++] = f;
    }
    return 0;
}

/* t->to is known; fills t->scm and t->packet. */
static int take_control(const struct socket *s, const struct message_header *h, struct transfer *t)
{
    size_t at = 0, n = h->controllen;
    u8 *data;
    int rc = 0;

    if (n == 0 || !h->control)
        return 0;
    if (n > CONTROL_MAX)
        return -ENOBUFS;
    if (!(data = kmalloc(n)))
        return -ENOMEM;
    if (copy_from_user(data, (void *)h->control, n) < 0)
        rc = -EFAULT;
    while (rc == 0 && at + sizeof(struct cmsg) <= n) {
        struct cmsg c;
        size_t payload;
        memcpy(&c, data + at, sizeof(c));
        if (c.length < sizeof(c) || c.length > n - at) {
            rc = -EINVAL;
            break;
        }
        payload = c.length - sizeof(c);
        if (c.level == SOL_SOCKET && c.type == 1 /* SCM_RIGHTS */) {
            if (payload % 4)
                rc = -EINVAL;
            else if (s->domain == AF_UNIX)
                rc = take_files(data + at + sizeof(c), payload, &t->scm);
        } else if (c.level == SOL_SOCKET && c.type == 2 /* SCM_CREDENTIALS */) {
            struct ucred_ u;
            if (payload != sizeof(u)) {
                rc = -EINVAL;
            } else {
                memcpy(&u, data + at + sizeof(c), sizeof(u));
                /* Nobody is somebody else. */
                if (u.uid != CELL_UID || u.gid != CELL_GID || u.pid != current_process->pid)
                    rc = -EPERM;
            }
        } else if (s->type == SOCK_DGRAM_ && s->family->take_control) {
            rc = s->family->take_control(s, t->to, &c, data + at + sizeof(c), &t->packet);
        }
        at += (c.length + 7) & ~7UL;
    }
    kfree(data);
    if (rc < 0) {
        scm_free(t->scm);
        t->scm = NULL;
    }
    return rc;
}

static long send_message(u64 fd, u64 msg, unsigned flags)
{
    struct message_header h;
    struct iovec *v;
    struct transfer t = {.flags = flags};
    struct address a;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);
    long rc;

    if (!s)
        return error;
    if (get_user(h, (void *)msg) < 0)
        return -EFAULT;
    if (h.name && h.namelen) {
        if ((error = take_address(h.name, h.namelen, &a)) < 0)
            return error;
        t.to = &a;
    }
    if ((error = take_vectors(&h, &v, &t.length)) < 0)
        return error;
    if ((error = take_control(s, &h, &t)) < 0) {
        kfree(v);
        return error;
    }
    t.iov = v;
    t.niov = (unsigned)h.iovlen;
    t.nonblocking = file->flags & O_NONBLOCK;
    file_get(file);
    rc = socket_send(s, &t);
    file_put(file);
    scm_free(t.scm);
    kfree(v);
    return rc;
}

void control_put(struct control *c, int level, int type, const void *data, size_t n)
{
    struct cmsg h = {.length = sizeof(h) + n, .level = level, .type = type};
    size_t whole = (h.length + 7) & ~7UL, room = c->room - c->used;

    if (room < sizeof(h)) {
        c->cut = true;
        return;
    }
    if (room < h.length) { /* what fits of it (recvmsg(2)) */
        c->cut = true;
        h.length = room;
    }
    if (copy_to_user((void *)(c->at + c->used), &h, sizeof(h)) < 0 ||
        copy_to_user((void *)(c->at + c->used + sizeof(h)), data, h.length - sizeof(h)) < 0)
        c->cut = true;
    c->used += MIN(whole, room);
}

/* As many descriptors as there is room for; the others are closed (unix(7)). */
static void give_files(struct control *c, struct scm *scm, bool cloexec)
{
    s32 fds[SCM_FILES];
    u32 n = 0, room = c->room > c->used + sizeof(struct cmsg)
                          ? (u32)((c->room - c->used - sizeof(struct cmsg)) / 4)
                          : 0;

    for (u32 i = 0; i < scm->nfiles && i < SCM_FILES; i++) {
        int fd = n < room ? fd_install(scm->files[i], 0, cloexec) : -1;
        if (fd < 0) {
            c->cut = true;
            continue;
        }
        scm->files[i] = NULL;
        fds[n++] = fd;
    }
    if (n > 0)
        control_put(c, SOL_SOCKET, 1, fds, (size_t)n * 4);
}

static long receive_message(u64 fd, u64 msg, unsigned flags)
{
    struct message_header h;
    struct iovec *v;
    struct transfer t = {.flags = flags};
    struct control c;
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);
    long rc;

    if (!s)
        return error;
    if (get_user(h, (void *)msg) < 0)
        return -EFAULT;
    if ((error = take_vectors(&h, &v, &t.length)) < 0)
        return error;
    t.iov = v;
    t.niov = (unsigned)h.iovlen;
    t.nonblocking = file->flags & O_NONBLOCK;
    file_get(file);
    rc = socket_receive(s, &t);
    kfree(v);
    if (rc >= 0) {
        c = (struct control){.at = h.control, .room = h.control ? h.controllen : 0};
        if (s->pass_credentials) {
            struct ucred_ u = {t.pid, CELL_UID, CELL_GID};
            control_put(&c, SOL_SOCKET, 2, &u, sizeof(u));
        }
        if (t.scm)
            give_files(&c, t.scm, flags & MSG_CMSG_CLOEXEC);
        if (t.has_packet && s->family->give_control)
            s->family->give_control(s, &t.packet, &c);
        h.flags = t.out_flags | (c.cut ? (u32)MSG_CTRUNC : 0);
        h.controllen = c.used;
        if (h.name && s->type != SOCK_STREAM_) {
            (void)copy_to_user((void *)h.name, t.from.bytes, MIN(h.namelen, t.from.length));
            h.namelen = t.from.length;
        } else {
            h.namelen = 0;
        }
        if (copy_to_user((void *)msg, &h, sizeof(h)) < 0)
            rc = -EFAULT;
    }
    scm_free(t.scm);
    file_put(file);
    return rc;
}

static long sys_sendmsg(u64 fd, u64 msg, u64 flags, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return send_message(fd, msg, (unsigned)flags);
}

static long sys_recvmsg(u64 fd, u64 msg, u64 flags, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return receive_message(fd, msg, (unsigned)flags);
}

enum { MMSGHDR = sizeof(struct message_header) + 8 };

static long sys_sendmmsg(u64 fd, u64 vector, u64 n, u64 flags, u64 e, u64 f)
{
    long done = 0, rc = 0;

    (void)e, (void)f;
    for (; (u64)done < MIN(n, (u64)MMSG_MAX); done++) {
        u64 at = vector + (u64)done * MMSGHDR;
        rc = send_message(fd, at, (unsigned)flags);
        if (rc < 0 || put_user_u32((void *)(at + sizeof(struct message_header)), (u32)rc) < 0)
            break;
    }
    return done ? done : rc;
}

static long sys_recvmmsg(u64 fd, u64 vector, u64 n, u64 flags_, u64 timeout, u64 f)
{
    unsigned flags = (unsigned)flags_ & ~(unsigned)MSG_WAITFORONE;
    u64 deadline;
    long done = 0, rc = deadline_from_user(timeout, &deadline);

    (void)f;
    if (rc < 0)
        return rc;
    for (; (u64)done < MIN(n, (u64)MMSG_MAX); done++) {
        u64 at = vector + (u64)done * MMSGHDR;
        rc = receive_message(fd, at, flags);
        if (rc < 0 || put_user_u32((void *)(at + sizeof(struct message_header)), (u32)rc) < 0)
            break;
        if (flags_ & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (deadline != NO_DEADLINE && monotonic_ns() >= deadline) {
            done++;
            break;
        }
    }
    return done ? done : rc;
}

static long sys_shutdown(u64 fd, u64 how, u64 c, u64 d, u64 e, u64 f)
{
    struct file *file;
    int error;
    struct socket *s = socket_of((int)fd, &file, &error);

    (void)c, (void)d, (void)e, (void)f;
    if (!s)
        return error;
    if (how > 2)
        return -EINVAL;
    if (s->state != SOCKET_CONNECTED && s->state != SOCKET_LISTENING)
        return -ENOTCONN;
    if (how != 0)
        s->shut_write = true;
    if (how != 1)
        s->shut_read = true;
    if (s->stream && how != 0)
        stream_end(s->stream);
    waitq_wake(&s->event);
    if (s->peer)
        waitq_wake(&s->peer->event);
    return 0;
}

void net_init(void)
{
    unix_init();
    inet_init();
}

const struct syscall net_calls[] = {
    {__NR_socket, SYS_LOCKED, "socket", sys_socket},
    {__NR_socketpair, SYS_LOCKED, "socketpair", sys_socketpair},
    {__NR_bind, SYS_LOCKED, "bind", sys_bind},
    {__NR_listen, SYS_LOCKED, "listen", sys_listen},
    {__NR_accept, SYS_LOCKED, "accept", sys_accept},
    {__NR_accept4, SYS_LOCKED, "accept4", sys_accept4},
    {__NR_connect, SYS_LOCKED, "connect", sys_connect},
    {__NR_getsockname, SYS_LOCKED, "getsockname", sys_getsockname},
    {__NR_getpeername, SYS_LOCKED, "getpeername", sys_getpeername},
    {__NR_sendto, SYS_LOCKED, "sendto", sys_sendto},
    {__NR_recvfrom, SYS_LOCKED, "recvfrom", sys_recvfrom},
    {__NR_sendmsg, SYS_LOCKED, "sendmsg", sys_sendmsg},
    {__NR_recvmsg, SYS_LOCKED, "recvmsg", sys_recvmsg},
    {__NR_sendmmsg, SYS_LOCKED, "sendmmsg", sys_sendmmsg},
    {__NR_recvmmsg, SYS_LOCKED, "recvmmsg", sys_recvmmsg},
    {__NR_shutdown, SYS_LOCKED, "shutdown", sys_shutdown},
    {__NR_getsockopt, SYS_LOCKED, "getsockopt", sys_getsockopt},
    {__NR_setsockopt, SYS_LOCKED, "setsockopt", sys_setsockopt},
    {0},
};
