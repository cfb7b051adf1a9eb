/*
 * socket.h - sockets inside the cell. Both ends of every connection live here (unix, loopback TCP and UDP),
 * so one transport serves all of them: a queue of messages at the receiver. The exception is a connection to
 * a port of the host, which is a stream (ipc/stream.h). Kernel lock held.
 */
#pragma once
#include "cell/base/list.h"
#include "cell/proc/wait.h"

struct file;
struct inode;
struct iovec;
struct poll_table;
struct stream;
struct socket;

enum { SOCKET_BUFFER = 212992, SOCKET_ADDRESS = 128, SCM_FILES = 253, MESSAGE_MAX = 212960 };
/* There is no header of the kernel's for these: socket(2), send(2), recv(2), netdevice(7). */
enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16 };
enum {
    MSG_OOB = 1,
    MSG_PEEK = 2,
    MSG_CTRUNC = 8,
    MSG_TRUNC = 0x20,
    MSG_DONTWAIT = 0x40,
    MSG_WAITALL = 0x100,
    MSG_NOSIGNAL = 0x4000,
    MSG_WAITFORONE = 0x10000,
    MSG_CMSG_CLOEXEC = 0x40000000
};
enum { IFF_UP = 1, IFF_LOOPBACK = 8, IFF_RUNNING = 0x40, IFF_LOWER_UP = 0x10000 };
enum { SOCK_STREAM_ = 1, SOCK_DGRAM_ = 2, SOCK_RAW_ = 3, SOCK_SEQPACKET_ = 5 }; /* socket(2) */

enum socket_state { SOCKET_NEW, SOCKET_LISTENING, SOCKET_CONNECTING, SOCKET_CONNECTED, SOCKET_DEAD };

struct address {
    u32 length;
    u8 bytes[SOCKET_ADDRESS];
};

/* Descriptors and the sender's identity that travel with a message. */
struct scm {
    u32 nfiles;
    struct file *files[]; /* references */
};

/* What the headers of IP say of a datagram (packet.c). */
struct packet {
    u8 to[16]; /* IPv4 as ::ffff:a.b.c.d */
    u8 hops, tclass;
    bool hops_given, tclass_given; /* by a control message of the sender's; otherwise its options count */
};

/* What is set of it, and what is asked for: names as in ip(7) and ipv6(7). */
struct packet_options {
    int16_t ttl, hops; /* IP_TTL, IPV6_UNICAST_HOPS; -1: the default */
    u8 tos, tclass;
    bool receive_ttl, receive_tos, receive_info4;
    bool receive_hops, receive_tclass, receive_info6;
};

/* A control message as the ABI lays it out: its length counts this head. */
struct cmsg {
    u64 length;
    s32 level, type;
};

/* The caller's room for control messages. */
struct control {
    u64 at, room, used;
    bool cut; /* MSG_CTRUNC */
};

/* What waits to be received. Of a stream: a piece, read from `start`. */
struct message {
    struct list node;
    u32 start, end, capacity;
    int pid; /* of the sender */
    struct scm *scm;
    struct address *from; /* of datagrams of a bound sender, or NULL */
    struct packet packet; /* of datagrams of IP */
    u8 data[];
};

struct family {
    int number;
    /* Fills in what is the family's; -EPROTONOSUPPORT and the like. */
    int (*create)(struct socket *s);
    int (*bind)(struct socket *s, const struct address *a);
    int (*connect)(struct socket *s, const struct address *a, bool nonblocking);
    /* Where a datagram goes: borrowed, or NULL and *error. */
    struct socket *(*find)(struct socket *s, const struct address *a, int *error);
    void (*name)(const struct socket *s, bool peer, struct address *out);
    void (*release)(struct socket *s);
    /* Own options; -ENOPROTOOPT. */
    int (*get_option)(struct socket *s, int level, int name, int *value);
    int (*set_option)(struct socket *s, int level, int name, int value);
    int (*listen)(struct socket *s); /* may be NULL */
    /* Datagrams go to the kernel itself; NULL: to another socket. */
    int (*request)(struct socket *s, const u8 *data, size_t n);
    /* Control messages of datagrams; NULL: none but those of SOL_SOCKET. One that is sent to `to` (NULL: to
     * the peer), data of c->length - sizeof(*c) bytes: -EINVAL and the like. */
    int (*take_control)(const struct socket *s, const struct address *to, const struct cmsg *c,
                        const u8 *data, struct packet *p);
    /* Completes what travels with a datagram to `to`. */
    void (*stamp)(const struct socket *s, const struct address *to, struct packet *p);
    /* Puts down what the receiver asked for. */
    void (*give_control)(const struct socket *s, const struct packet *p, struct control *c);
};

struct socket {
    const struct family *family;
    int domain, type, protocol;
    enum socket_state state;
    unsigned refs;
    struct socket *peer;   /* reference; of a connected stream, or the default destination of datagrams */
    struct stream *stream; /* a connection to the host instead of a peer */
    struct list queue;     /* messages */
    size_t queued;         /* bytes in it */
    struct waitq event;
    bool shut_read, shut_write, peer_gone;
    bool was_reset; /* TCP: what was sent after the peer had gone is lost; only the next call is told */
    int error;      /* SO_ERROR */

    struct list accepted; /* of a listening one: sockets that wait for accept(2), socket.in_accept */
    struct list in_accept;
    unsigned backlog, naccepted;

    bool bound;
    struct address local, remote;
    int peer_pid;

    bool pass_credentials, reuse_address, reuse_port, keep_alive, broadcast, v6only;
    int send_buffer, receive_buffer, linger_on, linger_seconds, no_delay;
    u64 receive_timeout, send_timeout; /* ns; 0: none */
    struct packet_options packet;      /* of IP */

    struct list in_family; /* the family's list of bound sockets */
    struct list in_all;    /* of unix sockets: all there are */
    u64 number;            /* st_ino of its file; 0 before accept(2) */
    struct inode *inode;   /* of a unix socket with a path: reference */
    void *extra;           /* of the family */
};

extern const struct family unix_family, inet_family, inet6_family, netlink_family;

/* A socket with one reference, not a file yet. NULL and *error. */
struct socket *socket_create(int domain, int type, int protocol, int *error);
void socket_get(struct socket *s);
void socket_put(struct socket *s);
/* The socket behind a descriptor: -EBADF, -ENOTSOCK. */
struct socket *socket_of(int fd, struct file **file, int *error);
struct file *socket_file(struct socket *s, unsigned flags); /* takes the reference; NULL: it is gone */

/* Both are connected to each other now. */
void socket_join(struct socket *a, struct socket *b);
/* A new socket, connected to `client`, for the accept queue of `listener`. -EAGAIN: it is full. */
int socket_enqueue(struct socket *listener, struct socket *client);

/* transport.c: flags are MSG_*. Bytes or -errno. */
struct transfer {
    const struct iovec *iov;
    unsigned niov;
    size_t length;
    unsigned flags;
    bool nonblocking;
    const struct address *to; /* or NULL */
    struct scm *scm;          /* send: moves into the first message; receive: filled */
    struct packet packet;     /* datagrams of IP; send: what control messages gave; receive: filled */
    bool has_packet;          /* receive: a datagram came */
    struct address from;      /* receive */
    int pid;                  /* receive: of the sender */
    unsigned out_flags;       /* receive: MSG_TRUNC, MSG_CTRUNC */
};
long socket_send(struct socket *s, struct transfer *t);
long socket_receive(struct socket *s, struct transfer *t);
unsigned socket_poll(struct socket *s, struct poll_table *pt);
void socket_drop_messages(struct socket *s);
void scm_free(struct scm *scm);
size_t socket_readable(const struct socket *s);
/* A datagram made by the kernel (netlink). */
int socket_push(struct socket *s, const void *data, size_t n);
