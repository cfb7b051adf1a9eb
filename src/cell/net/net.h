/*
 * net.h - what the files of net/ share besides sockets themselves.
 */
#pragma once
#include "cell/net/socket.h"

/* Ports of the host that unix sockets with these names and loopback TCP lead to (docs/ports.md): an enum
 * cell_port, or -1. */
int port_of_path(const char *path);
int port_of_tcp(u16 port);
/* Makes `s` a connection to a port of the host, or gives up with -EAGAIN at the deadline: while the port has
 * more connections than it accepts, one waits (unix(7)). 0, -EINPROGRESS, or -errno. */
int port_connect(struct socket *s, int port, bool nonblocking, u64 deadline);

/* SIOCGIF...: there is one interface, lo. -ENOTTY for others. */
long inet_ioctl(struct socket *s, unsigned cmd, unsigned long arg);
/* For /proc/net: of both families those that have a port (socket.in_family), all unix ones (socket.in_all).
 */
struct list *inet_sockets(void);
struct list *unix_sockets(void);
void net_init(void);
void unix_init(void);
void inet_init(void);

/* Waits on the accept queue of `listener` for room, then enqueues `client`. */
int socket_connect_to(struct socket *client, struct socket *listener, bool nonblocking);

/* calls.c: one more control message, as much of it as there is room for. */
void control_put(struct control *c, int level, int type, const void *data, size_t n);

/* packet.c: of IPPROTO_IP and IPPROTO_IPV6; false: not an option of this kind. */
void packet_init(struct packet_options *o);
bool packet_get_option(const struct socket *s, int level, int name, int *value);
int packet_set_option(struct socket *s, int level, int name, int value);
/* What is not given yet comes from the sender's options. */
void packet_stamp(const struct socket *s, struct packet *p, const u8 to[16]);
int packet_take(const struct socket *s, struct packet *p, bool to_v4, const struct cmsg *c, const u8 *data);
void packet_give(const struct socket *s, const struct packet *p, struct control *c);

/* What SO_PEERCRED and SCM_CREDENTIALS carry (unix(7)). */
struct ucred_ {
    s32 pid;
    u32 uid, gid;
};

/* options.c: in the table of calls.c. */
long sys_getsockopt(u64 fd, u64 level, u64 name, u64 to, u64 length, u64 f);
long sys_setsockopt(u64 fd, u64 level, u64 name, u64 from, u64 length, u64 f);
