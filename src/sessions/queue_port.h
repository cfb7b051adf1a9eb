/*
 * queue_port.h - serves the queue port of one session: two listening sockets, up to 16 connections, frames in
 * order.
 *
 * A connection handles one request at a time and is not read from while it waits, answers or is over its
 * rate: what a sandbox can make us hold is bounded by 16 frames and 16 answers.
 */
#pragma once
#include <event2/event.h>

#include "sessions/queue_request.h"

enum { QUEUE_CONNECTIONS_MAX = 16 };

struct queue_port;

/* Takes both listening descriptors. backend and ctx must outlive the port. */
struct queue_port *queue_port_new(struct event_base *base, int unix_fd, int tcp_fd,
                                  const struct queue_backend *b, void *ctx);
/* Closes everything; may be called from within a backend function (the rest is then deferred). Accepts NULL.
 */
void queue_port_free(struct queue_port *p);

/* A message came in: answers those who wait for one. */
void queue_port_wake(struct queue_port *p);
