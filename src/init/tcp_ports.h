/*
 * tcp_ports.h - the ports on loopback TCP, where no listening socket can be handed out of the sandbox: under
 * an OCI runtime, pid 1 of the container accepts on 127.0.0.1 and passes the bytes on to the port's unix
 * socket.
 */
#pragma once
#include <poll.h>
#include <stddef.h>

#include "base/err.h"

enum { TCP_PORTS_CONNECTIONS = 128, TCP_PORTS_POLL = 2 + 2 * TCP_PORTS_CONNECTIONS };

/* Listens on both ports. */
int tcp_ports_open(struct err *e);
/* What to wait for, in fds[TCP_PORTS_POLL]; returns how many entries. */
size_t tcp_ports_prepare(struct pollfd *fds);
/* Does what poll said can be done. */
void tcp_ports_serve(const struct pollfd *fds, size_t n);
