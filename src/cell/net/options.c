/*
 * Options of sockets (socket(7)); those of a family are its own affair.
 */
#include <asm/errno.h>
#include <asm/socket.h>
#include <linux/in.h>

#include "cell/ipc/stream.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

static int get_socket_option(struct socket *s, int name, int *value)
{
    switch (name) {
    case SO_TYPE:
        *value = s->type;
        return 0;
    case SO_DOMAIN:
        *value = s->domain;
        return 0;
    case SO_PROTOCOL:
        *value = s->protocol;
        return 0;
    case SO_ERROR:
        if (s->stream && s->state == SOCKET_CONNECTING) {
            int rc = stream_connected(s->stream);
            if (rc == 0)
                s->state = SOCKET_CONNECTED;
            *value = rc == -EINPROGRESS ? 0 : -rc;
            return 0;
        }
        *value = s->error;
        s->error = 0;
        return 0;
    case SO_ACCEPTCONN:
        *value = s->state == SOCKET_LISTENING;
        return 0;
    case SO_REUSEADDR:
        *value = s->reuse_address;
        return 0;
    case SO_REUSEPORT:
        *value = s->reuse_port;
        return 0;
    case SO_KEEPALIVE:
        *value = s->keep_alive;
        return 0;
    case SO_BROADCAST:
        *value = s->broadcast;
        return 0;
    case SO_SNDBUF:
        *value = s->send_buffer;
        return 0;
    case SO_RCVBUF:
        *value = s->receive_buffer;
        return 0;
    case SO_PASSCRED:
        *value = s->pass_credentials;
        return 0;
    case SO_RCVLOWAT:
        *value = 1;
        return 0;
    case SO_DONTROUTE:
    case SO_OOBINLINE:
    case SO_PRIORITY:
    case SO_TIMESTAMP_OLD:
    case SO_MARK:
    case SO_INCOMING_CPU:
    case SO_ZEROCOPY:
        *value = 0;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static long give_bytes(const void *data, u32 n, u64 to, u64 length_at)
{
    u32 room;

    if (get_user_u32(&room, (void *)length_at) < 0)
        return -EFAULT;
    if ((int)room < 0)
        return -EINVAL;
    n = MIN(n, room);
    return copy_to_user((void *)to, data, n) < 0 || put_user_u32((void *)length_at, n) < 0 ? -EFAULT : 0;
}

long sys_getsockopt(u64 fd, u64 level, u64 name, u64 to, u64 length, u64 f)
{
    struct file *file;
    int error, value = 0;
    struct socket *s = socket_of((int)fd, &file, &error);

    (void)f;
    if (!s)
        return error;
    if (level != SOL_SOCKET) {
        error = s->family->get_option(s, (int)level, (int)name, &value);
        return error < 0 ? error : give_bytes(&value, sizeof(value), to, length);
    }
    if (name == SO_PEERCRED) {
        struct ucred_ u = {s->peer_pid, s->peer_pid ? CELL_UID : (u32)-1, s->peer_pid ? CELL_GID : (u32)-1};
        return give_bytes(&u, sizeof(u), to, length);
    }
    if (name == SO_LINGER) {
        const int linger[2] = {s->linger_on, s->linger_seconds};
        return give_bytes(linger, sizeof(linger), to, length);
    }
    if (name == SO_RCVTIMEO_OLD || name == SO_SNDTIMEO_OLD) {
        u64 ns = name == SO_RCVTIMEO_OLD ? s->receive_timeout : s->send_timeout;
        const s64 tv[2] = {(s64)(ns / 1000000000), (s64)(ns % 1000000000 / 1000)};
        return give_bytes(tv, sizeof(tv), to, length);
    }
    error = get_socket_option(s, (int)name, &value);
    return error < 0 ? error : give_bytes(&value, sizeof(value), to, length);
}

static int set_socket_option(struct socket *s, int name, int value)
{
    switch (name) {
    case SO_REUSEADDR:
        s->reuse_address = value != 0;
        return 0;
    case SO_KEEPALIVE:
        s->keep_alive = value != 0;
        return 0;
    case SO_BROADCAST:
        s->broadcast = value != 0;
        return 0;
    case SO_PASSCRED:
        s->pass_credentials = value != 0;
        return 0;
    case SO_SNDBUF: /* the kernel doubles what it is told (socket(7)) */
        s->send_buffer = MAX(MIN(value, SOCKET_BUFFER), 2304) * 2;
        return 0;
    case SO_RCVBUF:
        s->receive_buffer = MAX(MIN(value, SOCKET_BUFFER), 1152) * 2;
        return 0;
    case SO_REUSEPORT:
        s->reuse_port = value != 0;
        return 0;
    case SO_DONTROUTE:
    case SO_OOBINLINE:
    case SO_PRIORITY:
    case SO_RCVLOWAT:
    case SO_TIMESTAMP_OLD:
    case SO_INCOMING_CPU:
        return 0;
    case SO_MARK:
    case SO_DEBUG:
    case SO_SNDBUFFORCE:
    case SO_RCVBUFFORCE:
    case SO_BINDTODEVICE:
        return -EPERM;
    case SO_ATTACH_FILTER:
    case SO_ATTACH_BPF:
        return -EPERM;
    default:
        return -ENOPROTOOPT;
    }
}

long sys_setsockopt(u64 fd, u64 level, u64 name, u64 from, u64 length, u64 f)
{
    struct file *file;
    int error, value;
    struct socket *s = socket_of((int)fd, &file, &error);

    (void)f;
    if (!s)
        return error;
    if ((int)length < 0)
        return -EINVAL;
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO_OLD || name == SO_SNDTIMEO_OLD)) {
        s64 tv[2];
        u64 ns;
        if (length < sizeof(tv))
            return -EINVAL;
        if (get_user(tv, (void *)from) < 0)
            return -EFAULT;
        if (tv[1] < 0 || tv[1] >= 1000000)
            return -EDOM;
        ns = tv[0] < 0 || tv[0] > 0x1ffffffff ? 0 : (u64)tv[0] * 1000000000 + (u64)tv[1] * 1000;
        *(name == SO_RCVTIMEO_OLD ? &s->receive_timeout : &s->send_timeout) = ns;
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_LINGER) {
        int linger[2];
        if (length < sizeof(linger))
            return -EINVAL;
        if (get_user(linger, (void *)from) < 0)
            return -EFAULT;
        s->linger_on = linger[0];
        s->linger_seconds = linger[1];
        return 0;
    }
    if (length < 4 && level == SOL_SOCKET)
        return -EINVAL;
    if (length < 4 && level == IPPROTO_IPV6 && s->domain == AF_INET6)
        return -EINVAL;
    value = 0;
    if (length < 4 && level == IPPROTO_IP)
        length = MIN(length, 1UL); /* ip(7): a byte will do */
    if (copy_from_user(&value, (void *)from, MIN(length, sizeof(value))) < 0)
        return -EFAULT;
    return level == SOL_SOCKET ? set_socket_option(s, (int)name, value)
                               : s->family->set_option(s, (int)level, (int)name, value);
}
