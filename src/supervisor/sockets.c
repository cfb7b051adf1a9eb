/*
 * Where the API listens: a unix socket always, TCP only as configured and only with a certificate.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "supervisor/supervisor.h"

enum { BACKLOG = 128, PEM_MAX = 256 * 1024 };

int memfd_with(const char *name, const void *data, size_t len, struct err *e)
{
    CLEANUP_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || io_write_all(fd, data, len) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
        lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(e, errno, "cannot pass %s on", name);
    return TAKE_FD(fd);
}

static int open_api_socket(struct supervisor *s, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    if (!io_format(a.sun_path, sizeof(a.sun_path), "%s/api.sock", s->state_dir))
        return err_set(e, ENAMETOOLONG,
                       "%s/api.sock is longer than the %zu characters a unix socket may have; choose a "
                       "shorter --state-dir",
                       s->state_dir, sizeof(a.sun_path) - 1);
    mask = umask(0177); /* 0600 from its first moment */
    rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof(a));
    (void)umask(mask);
    if (rc < 0 || listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "cannot listen on %s", a.sun_path);
    s->api_socket = TAKE_FD(fd);
    return 0;
}

static int pem_memfd(const char *path, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;
    int fd;

    if (io_read_file(AT_FDCWD, path, PEM_MAX, &text, &len, e) < 0)
        return -1;
    fd = memfd_with("tls", text, len, e);
    explicit_bzero(text, len);
    return fd;
}

static int open_listener(const json_t *entry, struct listener *l, struct err *e)
{
    const char *address = json_string_value(json_object_get(entry, "address"));
    const char *certificate = json_string_value(json_object_get(entry, "certificate")),
               *key = json_string_value(json_object_get(entry, "key"));
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM},
                    *info = NULL;
    CLEANUP_CLOSE int fd = -1;
    char port[16];
    int one = 1, rc;

    *l = (struct listener){-1, -1, -1};
    if (!address || !certificate || !key)
        return err_set(e, EINVAL,
                       "a TCP listener needs an address, a certificate and a key: tokens never cross a "
                       "network in the clear");
    (void)io_format(port, sizeof(port), "%d", (int)json_integer_value(json_object_get(entry, "port")));
    rc = getaddrinfo(address, port, &hints, &info);
    if (rc != 0)
        return err_set(e, EINVAL, "listen: '%s' is not a numeric address: %s", address, gai_strerror(rc));
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        rc = err_sys(e, errno, "cannot listen on %s port %s", address, port);
    freeaddrinfo(info);
    if (rc < 0)
        return -1;
    l->socket = TAKE_FD(fd);
    l->certificate = pem_memfd(certificate, e);
    l->key = l->certificate < 0 ? -1 : pem_memfd(key, e);
    return l->key < 0 ? -1 : 0;
}

int sockets_open(struct supervisor *s, struct err *e)
{
    size_t i;
    json_t *entry;

    if (json_array_size(json_object_get(s->config, "listen")) > LISTENERS_MAX)
        return err_set(e, E2BIG, "listen: at most %d addresses", LISTENERS_MAX);
    json_array_foreach(json_object_get(s->config, "listen"), i, entry)
    {
        s->nlisteners = i + 1;
        if (open_listener(entry, &s->listeners[i], e) < 0)
            return -1;
    }
    return open_api_socket(s, e);
}

void sockets_close(struct supervisor *s)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

    for (size_t i = 0; i < s->nlisteners; i++) {
        (void)close(s->listeners[i].socket);
        (void)close(s->listeners[i].certificate);
        (void)close(s->listeners[i].key);
    }
    if (s->api_socket >= 0 && io_format(path, sizeof(path), "%s/api.sock", s->state_dir))
        (void)unlink(path);
}
