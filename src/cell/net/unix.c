/*
 * AF_UNIX (unix(7)): names are paths or abstract; a path is found through its inode.
 */
#include <asm/errno.h>
#include <linux/stat.h>
#include <linux/un.h>

#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/fs/path.h"
#include "cell/mem/heap.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

enum {
    PATH_AT = offsetof(struct sockaddr_un, sun_path),
    PORT_ANSWERS_NS =
        50000000 /* a socket of Linux is connected at once or not; to the host's it takes a moment */
};

static struct list *bound; /* set once at boot; sockets with a name */
static struct list *all;   /* the same; for who asks which there are */
static u32 *next_auto;     /* autobind's counter */

static int unix_create(struct socket *s)
{
    if (s->type == SOCK_RAW_)
        s->type = SOCK_DGRAM_;
    if (s->type != SOCK_STREAM_ && s->type != SOCK_DGRAM_ && s->type != SOCK_SEQPACKET_)
        return -ESOCKTNOSUPPORT;
    if (s->protocol && s->protocol != AF_UNIX)
        return -EPROTONOSUPPORT;
    list_add_tail(all, &s->in_all);
    return 0;
}

/* The path in an address, ended by 0. -EINVAL: it is an abstract one, or none. */
static int path_of(const struct address *a, char out[UNIX_PATH_MAX + 1])
{
    size_t n = a->length - PATH_AT;

    if (a->length <= PATH_AT || a->bytes[PATH_AT] == 0)
        return -EINVAL;
    memcpy(out, a->bytes + PATH_AT, n);
    out[n] = 0;
    return 0;
}

static struct socket *find_abstract(const struct address *a, int type)
{
    list_for_each(n, bound)
    {
        struct socket *s = list_entry(n, struct socket, in_family);
        if (!s->inode && (type == 0 || s->type == type) && s->local.length == a->length &&
            memcmp(s->local.bytes, a->bytes, a->length) == 0)
            return s;
    }
    return NULL;
}

static void autobind(struct socket *s)
{
    struct address a = {.length = PATH_AT + 6};
    u16 family = AF_UNIX;

    memcpy(a.bytes, &family, 2);
    do
        (void)text_format((char *)a.bytes + PATH_AT + 1, 6, "%05x", ++*next_auto & 0xfffff);
    while (find_abstract(&a, 0));
    s->local = a;
}

static int unix_bind(struct socket *s, const struct address *a)
{
    char path[UNIX_PATH_MAX + 1];
    int rc;

    if (s->bound) {
        void *other;
        return path_of(a, path) == 0 && fs_find_socket(path, &other) == 0 ? -EADDRINUSE : -EINVAL;
    }
    if (a->length == PATH_AT) {
        autobind(s);
    } else if (path_of(a, path) == 0) {
        rc = fs_bind_socket(path, 0777 & ~current_process->fs.umask, s, &s->inode);
        if (rc < 0)
            return rc;
        s->local = *a;
        s->local.length = (u32)(PATH_AT + strlen(path) + 1);
    } else {
        if (find_abstract(a, s->type))
            return -EADDRINUSE;
        s->local = *a;
    }
    s->bound = true;
    list_add_tail(bound, &s->in_family);
    return 0;
}

static struct socket *unix_find(struct socket *s, const struct address *a, int *error)
{
    char path[UNIX_PATH_MAX + 1];
    struct socket *to;
    void *found;
    u16 family;

    memcpy(&family, a->bytes, 2);
    *error = -EINVAL;
    if (a->length <= PATH_AT || family != AF_UNIX)
        return NULL;
    if (path_of(a, path) == 0) {
        *error = fs_find_socket(path, &found);
        if (*error < 0)
            return NULL;
        to = found;
    } else {
        to = find_abstract(a, 0);
    }
    *error = !to ? -ECONNREFUSED : to->type != s->type ? -EPROTOTYPE : 0;
    return *error == 0 ? to : NULL;
}

int socket_connect_to(struct socket *client, struct socket *listener, bool nonblocking)
{
    struct waiter w;
    int rc, sleep = 0;

    if (listener->state != SOCKET_LISTENING)
        return -ECONNREFUSED;
    socket_get(listener);
    waitq_add(&listener->event, &w);
    for (;;) {
        rc = listener->state == SOCKET_LISTENING ? socket_enqueue(listener, client) : -ECONNREFUSED;
        if (rc != -EAGAIN || nonblocking || sleep < 0)
            break;
        sleep = thread_sleep(client->send_timeout ? monotonic_ns() + client->send_timeout : NO_DEADLINE);
    }
    waitq_del(&w);
    socket_put(listener);
    return rc == -EAGAIN && sleep < 0 ? sleep == -ETIMEDOUT ? -EAGAIN : sleep : rc;
}

static int unix_connect(struct socket *s, const struct address *a, bool nonblocking)
{
    char path[UNIX_PATH_MAX + 1];
    struct socket *to;
    u16 family;
    int error;

    memcpy(&family, a->bytes, 2);
    if (s->type == SOCK_DGRAM_ && a->length >= 2 && family == 0 /* AF_UNSPEC */) {
        if (s->peer)
            socket_put(s->peer);
        s->peer = NULL;
        s->state = SOCKET_NEW;
        return 0;
    }
    if (s->type != SOCK_DGRAM_ && s->state != SOCKET_NEW)
        return s->state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
    if (s->type == SOCK_STREAM_ && path_of(a, path) == 0 && port_of_path(path) >= 0)
        return port_connect(s, port_of_path(path), false,
                            nonblocking ? monotonic_ns() + PORT_ANSWERS_NS : NO_DEADLINE);
    to = unix_find(s, a, &error);
    if (!to)
        return error;
    s->remote = *a;
    if (s->type != SOCK_DGRAM_)
        return socket_connect_to(s, to, nonblocking);
    if (s->peer)
        socket_put(s->peer);
    socket_get(to);
    s->peer = to;
    s->state = SOCKET_CONNECTED;
    return 0;
}

static void unix_name(const struct socket *s, bool peer, struct address *out)
{
    const struct socket *of = peer ? s->peer : s;
    u16 family = AF_UNIX;

    if (of && of->bound) {
        *out = of->local;
        return;
    }
    if (peer && s->stream) {
        *out = s->remote;
        if (out->length)
            return;
    }
    out->length = 2;
    memcpy(out->bytes, &family, 2);
}

static void unix_release(struct socket *s)
{
    if (!s->inode)
        return;
    s->inode->socket = NULL;
    inode_put(s->inode);
    s->inode = NULL;
}

static int unix_get_option(struct socket *s, int level, int name, int *value)
{
    (void)s, (void)level, (void)name, (void)value;
    return -ENOPROTOOPT;
}

static int unix_set_option(struct socket *s, int level, int name, int value)
{
    (void)s, (void)level, (void)name, (void)value;
    return -ENOPROTOOPT;
}

const struct family unix_family = {
    .number = AF_UNIX,
    .create = unix_create,
    .bind = unix_bind,
    .connect = unix_connect,
    .find = unix_find,
    .name = unix_name,
    .release = unix_release,
    .get_option = unix_get_option,
    .set_option = unix_set_option,
};

struct list *unix_sockets(void)
{
    return all;
}

void unix_init(void)
{
    bound = kmalloc(sizeof(*bound));
    all = kmalloc(sizeof(*all));
    next_auto = kmalloc(sizeof(*next_auto));
    list_init(bound);
    list_init(all);
}
