/*
 * Connections to the host: the queue and the model.
 */
#include <asm/errno.h>
#include <asm/fcntl.h>

#include "cell/abi/layout.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/ipc/stream.h"
#include "cell/net/net.h"

/* The same numbers as in walls/wall.h, which is the host's. */
enum { QUEUE_TCP = 8470, MODEL_TCP = 8471 };

int port_of_path(const char *path)
{
    if (!(HEADER->flags & CELL_BOOT_PORTS))
        return -1;
    if (strcmp(path, "/run/ironclaw/queue.sock") == 0)
        return CELL_PORT_QUEUE;
    return strcmp(path, "/run/ironclaw/model.sock") == 0 ? CELL_PORT_MODEL : -1;
}

int port_of_tcp(u16 port)
{
    if (!(HEADER->flags & CELL_BOOT_PORTS))
        return -1;
    return port == QUEUE_TCP ? CELL_PORT_QUEUE : port == MODEL_TCP ? CELL_PORT_MODEL : -1;
}

int port_connect(struct socket *s, int port, bool nonblocking, u64 deadline)
{
    struct waiter w;
    int rc = stream_open((u32)port, &s->stream), connected, sleep = 0;

    if (rc < 0)
        return rc;
    s->state = SOCKET_CONNECTING;
    if (nonblocking)
        return -EINPROGRESS;
    stream_wait(s->stream, &w);
    while ((connected = stream_connected(s->stream)) == -EINPROGRESS && sleep == 0)
        sleep = thread_sleep(deadline);
    waitq_del(&w);
    if (connected == 0) {
        s->state = SOCKET_CONNECTED;
        return 0;
    }
    stream_close(s->stream);
    s->stream = NULL;
    s->state = SOCKET_NEW;
    return connected != -EINPROGRESS ? connected : sleep == -ETIMEDOUT ? -EAGAIN : sleep;
}
