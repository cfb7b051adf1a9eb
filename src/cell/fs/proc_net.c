/*
 * /proc/net: the sockets of the cell, in the form of Linux (proc_pid_net(5)). Columns about timers, windows
 * and addresses in the kernel hold what they hold of a socket at rest, for a reader without privileges.
 */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/stat.h>
#include <linux/un.h>

#include "cell/base/text.h"
#include "cell/fs/procfs.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

#define FILE(n, f)                                                                                           \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .show = (f)                                                     \
    }
#define FIXED(n, t)                                                                                          \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .fixed = (t)                                                    \
    }

/* Column "st" of TCP and UDP, and of unix sockets (unix(7) calls them by the names of struct socket's state).
 */
enum {
    ESTABLISHED = 1,
    SYN_SENT = 2,
    FIN_WAIT = 5,
    CLOSED = 7,
    CLOSE_WAIT = 8,
    LAST_ACK = 9,
    LISTENING = 10
};
enum { UNCONNECTED = 1, CONNECTED = 3, ACCEPTS = 0x10000 };
enum { TCP_WIDTH = 149, UDP_WIDTH = 127 }; /* of a line, filled up with spaces; IPv6 has none */

static int state_of(const struct socket *s)
{
    bool other_ended = s->peer_gone || (s->peer && s->peer->shut_write);

    if (s->type == SOCK_DGRAM_)
        return s->state == SOCKET_CONNECTED ? ESTABLISHED : CLOSED;
    switch (s->state) {
    case SOCKET_LISTENING:
        return LISTENING;
    case SOCKET_CONNECTING:
        return SYN_SENT;
    case SOCKET_CONNECTED:
        if (s->shut_write)
            return other_ended ? LAST_ACK : FIN_WAIT;
        return other_ended ? CLOSE_WAIT : ESTABLISHED;
    default:
        return CLOSED;
    }
}

/* "0100007F:1F90": words of the address as they lie in memory, the port as a number. */
static void add_address(struct text *t, const struct socket *s, bool peer)
{
    struct address a;
    u32 words[4] = {0};
    u16 port;
    size_t n = s->domain == AF_INET ? 1 : 4;

    s->family->name(s, peer, &a);
    if (s->domain == AF_INET)
        memcpy(words, a.bytes + offsetof(struct sockaddr_in, sin_addr), 4);
    else
        memcpy(words, a.bytes + offsetof(struct sockaddr_in6, sin6_addr), 16);
    memcpy(&port, a.bytes + offsetof(struct sockaddr_in, sin_port), 2); /* the same place in both */
    for (size_t i = 0; i < n; i++)
        text_add(t, "%08X", words[i]);
    text_add(t, ":%02X%02X ", port & 0xff, port >> 8);
}

static void add_inet(struct text *t, const struct socket *s, unsigned number)
{
    bool stream = s->type == SOCK_STREAM_, listening = s->state == SOCKET_LISTENING;
    size_t start = t->len, width = stream ? TCP_WIDTH : UDP_WIDTH;

    text_add(t, stream ? "%4u: " : "%5u: ", number);
    add_address(t, s, false);
    add_address(t, s, true);
    text_add(t, "%02X %08X:%08X 00:00000000 00000000 %5u        0 %lu ", (unsigned)state_of(s), 0U,
             listening ? s->naccepted : (u32)s->queued, CELL_UID, s->number);
    if (!stream)
        text_add(t, "2 0000000000000000 0");
    else
        text_add(t, "1 0000000000000000 %s", listening ? "100 0 0 10 0" : "20 0 0 10 -1");
    if (s->domain == AF_INET)
        text_add(t, "%*s", (int)(width - MIN(width, t->len - start)), "");
    text_add(t, "\n");
}

/* Those of one family and type. Linux tells of listening ones first, and of TCP none that only have a name.
 */
static void show_inet(struct text *t, int domain, int type)
{
    unsigned n = 0;

    for (int listening = 1; listening >= 0; listening--)
        list_for_each(node, inet_sockets())
        {
            const struct socket *s = list_entry(node, struct socket, in_family);
            if (s->domain == domain && s->type == type && (s->state == SOCKET_LISTENING) == listening &&
                (type == SOCK_DGRAM_ || s->state != SOCKET_NEW))
                add_inet(t, s, n++);
        }
}

#define COLUMNS "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
#define HEAD_V4 "  sl  local_address rem_address   " COLUMNS
#define HEAD_V6 "  sl  local_address                         remote_address                        " COLUMNS
#define DGRAMS  " ref pointer drops"

static void show_tcp(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%-*s\n", TCP_WIDTH, HEAD_V4);
    show_inet(t, AF_INET, SOCK_STREAM_);
}

static void show_tcp6(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%s\n", HEAD_V6);
    show_inet(t, AF_INET6, SOCK_STREAM_);
}

static void show_udp(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%-*s\n", UDP_WIDTH, " " HEAD_V4 DGRAMS);
    show_inet(t, AF_INET, SOCK_DGRAM_);
}

static void show_udp6(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%s\n", HEAD_V6 DGRAMS);
    show_inet(t, AF_INET6, SOCK_DGRAM_);
}

/* A path ends with a 0 of its own; a name without one begins with a 0, which is shown as @. */
static void add_name(struct text *t, const struct address *a)
{
    size_t at = offsetof(struct sockaddr_un, sun_path), end = a->length;

    if (a->bytes[at] != 0)
        end--;
    text_add(t, " ");
    for (; at < end; at++)
        text_add(t, "%c", a->bytes[at] ? a->bytes[at] : '@');
}

static void show_unix(const struct proc_subject *subject, struct text *t)
{
    (void)subject;
    text_add(t, "Num       RefCount Protocol Flags    Type St Inode Path\n");
    list_for_each(node, unix_sockets())
    {
        const struct socket *s = list_entry(node, struct socket, in_all);
        bool connected = s->state == SOCKET_CONNECTED;
        if (s->state == SOCKET_DEAD)
            continue;
        text_add(t, "0000000000000000: %08X 00000000 %08X %04X %02X %5lu", connected ? 3U : 2U,
                 s->state == SOCKET_LISTENING ? (unsigned)ACCEPTS : 0U, (unsigned)s->type,
                 (unsigned)(connected ? CONNECTED : UNCONNECTED), s->number);
        if (s->bound)
            add_name(t, &s->local);
        text_add(t, "\n");
    }
}

const struct proc_entry proc_net_entries[] = {
    FIXED("dev", "Inter-|   Receive                                                |  Transmit\n"
                 " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
                 "drop fifo colls "
                 "carrier compressed\n"
                 "    lo:       0       0    0    0    0     0          0         0        0       0    0    "
                 "0    0     0  "
                 "     0          0\n"),
    FILE("tcp", show_tcp),
    FILE("udp", show_udp),
    FIXED("raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
                 "inode ref pointer "
                 "drops\n"),
    FILE("tcp6", show_tcp6),
    FILE("udp6", show_udp6),
    FILE("unix", show_unix),
    FIXED("netlink",
          "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"),
    FIXED("packet", "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"),
    FIXED("arp", "IP address       HW type     Flags       HW address            Mask     Device\n"),
    FIXED("route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"),
    FIXED("ipv6_route", ""),
    FIXED("if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n"),
    FIXED("sockstat", "sockets: used 0\n"),
    {0},
};
