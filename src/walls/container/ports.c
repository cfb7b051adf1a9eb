/*
 * The sandbox's own loopback, and the listening sockets of its ports (docs/ports.md).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/weaken.h"
#include "walls/container/container.h"

enum { BACKLOG = 64 };

int container_loopback_up(struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &req) < 0)
        return err_sys(e, errno, "cannot bring the loopback interface up");
    return 0;
}

static int listen_unix(const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)io_format(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, 0666) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "cannot listen on %s", path);
    return TAKE_FD(fd);
}

static int listen_tcp(uint16_t port, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (weakened("network")) /* several sandboxes then share one loopback */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "cannot listen on 127.0.0.1:%u", port);
    return TAKE_FD(fd);
}

int container_open_ports(int fds[SANDBOX_PORTS], struct err *e)
{
    fds[0] = listen_unix("/run/ironclaw/queue.sock", e);
    fds[1] = fds[0] < 0 ? -1 : listen_tcp(PORT_QUEUE_TCP, e);
    fds[2] = fds[1] < 0 ? -1 : listen_unix("/run/ironclaw/model.sock", e);
    fds[3] = fds[2] < 0 ? -1 : listen_tcp(PORT_MODEL_TCP, e);
    return fds[3] < 0 ? -1 : 0; /* on failure the child exits, which closes the rest */
}
