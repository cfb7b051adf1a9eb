/*
 * A model server for the benchmark, on the host's loopback. It answers every request with a stream of events
 * in the OpenAI format; the text of each is "t" and the nanosecond at which it was sent. It serves one
 * connection after the other and reads a request only as far as its end can be told: both its clients are
 * known.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

enum { REQUEST_MAX = 65536 };

/* Reads one request with its body. */
static bool read_request(int fd)
{
    static char text[REQUEST_MAX];
    size_t len = 0, need = SIZE_MAX;

    while (len < need && len + 1 < sizeof(text)) {
        ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);
        const char *end, *length;
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = 0;
        end = strstr(text, "\r\n\r\n");
        length = end ? strcasestr(text, "\r\ncontent-length:") : NULL;
        if (end)
            need = (size_t)(end + 4 - text) + (length ? strtoul(length + 17, NULL, 10) : 0);
    }
    return len >= need;
}

static bool send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static void answer(const struct stream_server *s, int fd)
{
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    static const char end[] = "data: [DONE]\n\n";
    char event[256];

    if (!read_request(fd) || !send_all(fd, head, sizeof(head) - 1))
        return;
    for (unsigned i = 0; i < s->chunks; i++) {
        if (s->gap_us)
            (void)usleep(s->gap_us);
        (void)io_format(event, sizeof(event),
                        "data: "
                        "{\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{"
                        "\"content\":\"t%llu \"}}]}\n\n",
                        (unsigned long long)io_monotonic_ns());
        if (!send_all(fd, event, strlen(event)))
            return;
    }
    (void)send_all(fd, end, sizeof(end) - 1);
}

static void *serve(void *arg)
{
    const struct stream_server *s = arg;
    int fd;

    while ((fd = accept(s->socket, NULL, NULL)) >= 0) {
        answer(s, fd);
        (void)close(fd);
    }
    return NULL;
}

int stream_start(struct stream_server *s, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    pthread_t thread;

    *s = (struct stream_server){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (s->socket < 0 || bind(s->socket, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s->socket, 16) < 0 ||
        getsockname(s->socket, (struct sockaddr *)&a, &len) < 0)
        return err_sys(e, errno, "cannot start a model server on the loopback");
    s->port = ntohs(a.sin_port);
    if (pthread_create(&thread, NULL, serve, s) != 0)
        return err_set(e, EAGAIN, "cannot start the thread of the model server");
    s->thread = (unsigned long)thread;
    return 0;
}

void stream_stop(struct stream_server *s)
{
    (void)shutdown(s->socket, SHUT_RDWR); /* accept() returns */
    (void)pthread_join((pthread_t)s->thread, NULL);
    (void)close(s->socket);
}
