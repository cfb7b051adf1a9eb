/*
 * The HTTP model port: any bytes on a connection, through libmicrohttpd, the allowlist, the mock provider and
 * back. The audit notice is the oracle: whatever was answered 2xx was one of the allowed paths.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "modelproxy/call.h"
#include "modelproxy/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct proxy *the_proxy;
static struct sockaddr_un port;

void proxy_notice(struct proxy *p, struct wire_out *body)
{
    struct wire_in in = wire_in_init(body->buf, body->len);
    char session[64], provider[64], method[32], path[160];
    uint32_t status;

    (void)p;
    wire_get_str(&in, session, sizeof(session));
    wire_get_str(&in, provider, sizeof(provider));
    wire_get_str(&in, method, sizeof(method));
    wire_get_str(&in, path, sizeof(path));
    status = wire_get_u32(&in);
    if (in.failed || (status >= 200 && status < 300 && !allow_path(path)))
        abort();
    wire_out_free(body);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    session_sweep(arg);
}

static int listener(const struct sockaddr_un *a, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (const struct sockaddr *)a, len) < 0 || listen(fd, 16) < 0)
        abort();
    return fd;
}

static void start(void)
{
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(port);
    struct err e = ERR_INIT;
    int fds[2];

    the_proxy = x_calloc(1, sizeof(*the_proxy));
    the_proxy->d.base = event_base_new();
    the_proxy->d.config = json_object();
    the_proxy->notices_tail = &the_proxy->notices;
    the_proxy->script = mock_script_new(NULL, &e);
    the_proxy->sweep = event_new(the_proxy->d.base, -1, EV_PERSIST, on_sweep, the_proxy);
    the_proxy->unpause = event_new(the_proxy->d.base, -1, 0, on_sweep, the_proxy);
    fds[0] =
        listener(&any, sizeof(sa_family_t)); /* autobind: an abstract name of the kernel's choice (unix(7)) */
    fds[1] = listener(&any, sizeof(sa_family_t));
    if (getsockname(fds[0], (struct sockaddr *)&port, &len) < 0 || http_port_start(the_proxy, &e) < 0 ||
        session_register(the_proxy, "s-fuzz", "mock", "", 0, 8, 0, 0, fds, &e) < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char answer[4096];
    int fd;

    if (!the_proxy)
        start();
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&port, sizeof(sa_family_t) + 6) < 0)
        abort();
    (void)!send(fd, data, size, MSG_NOSIGNAL);
    for (int i = 0; i < 30; i++) {
        (void)event_base_loop(the_proxy->d.base, EVLOOP_NONBLOCK);
        while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
            continue;
    }
    (void)shutdown(fd, SHUT_WR);
    (void)event_base_loop(the_proxy->d.base, EVLOOP_NONBLOCK);
    (void)close(fd);
    for (int i = 0; i < 50 && the_proxy->conns_count > 0; i++) {
        session_sweep(the_proxy);
        (void)event_base_loop(the_proxy->d.base, EVLOOP_NONBLOCK);
    }
    if (the_proxy->conns_count > 0)
        abort(); /* a connection outlived its client */
    return 0;
}
