/*
 * AF_INET and AF_INET6 on loopback: TCP and UDP between programs of the cell. There is no packet and no
 * checksum: addresses and ports only say who finds whom. Every other address is unreachable.
 */
#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/sockios.h>

#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

/* Options of TCP (tcp(7)): linux/tcp.h does not stand beside our headers. */
enum {
    TCP_NODELAY = 1,
    TCP_MAXSEG = 2,
    TCP_CORK = 3,
    TCP_KEEPIDLE = 4,
    TCP_KEEPINTVL = 5,
    TCP_KEEPCNT = 6,
    TCP_DEFER_ACCEPT = 9,
    TCP_QUICKACK = 12,
    TCP_MD5SIG = 14,
    TCP_USER_TIMEOUT = 18,
    TCP_REPAIR = 19,
    TCP_FASTOPEN = 23,
    TCP_ULP = 31
};
enum { EPHEMERAL_FIRST = 32768, EPHEMERAL_LAST = 60999, PRIVILEGED = 1024 };

static struct list *bound; /* set once at boot */
static u16 *ephemeral;     /* the last one given */

/* An address in one form for both families: IPv4 as ::ffff:a.b.c.d. */
struct endpoint {
    u8 ip[16];
    u16 port; /* host order */
    bool any;
};

static const u8 mapped[12] = {[10] = 0xff, [11] = 0xff};

static u16 swap(u16 v)
{
    return (u16)(v << 8 | v >> 8);
}

static int parse(const struct socket *s, const struct address *a, struct endpoint *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    u16 family;
    static const u8 zero[16];

    if (a->length < 2)
        return -EINVAL;
    memcpy(&family, a->bytes, 2);
    memset(out, 0, sizeof(*out));
    if (family == AF_INET) {
        if (a->length < sizeof(v4))
            return -EINVAL;
        if (s->domain == AF_INET6)
            return -EINVAL;
        memcpy(&v4, a->bytes, sizeof(v4));
        memcpy(out->ip, mapped, 12);
        memcpy(out->ip + 12, &v4.sin_addr, 4);
        out->port = swap(v4.sin_port);
        out->any = v4.sin_addr.s_addr == 0;
        return 0;
    }
    if (family != AF_INET6 || s->domain != AF_INET6)
        return -EAFNOSUPPORT;
    if (a->length < 24 /* without sin6_scope_id, RFC 2133 */)
        return -EINVAL;
    memcpy(&v6, a->bytes, MIN((size_t)a->length, sizeof(v6)));
    memcpy(out->ip, &v6.sin6_addr, 16);
    out->port = swap(v6.sin6_port);
    out->any = memcmp(out->ip, zero, 16) == 0 ||
               (memcmp(out->ip, mapped, 12) == 0 && memcmp(out->ip + 12, zero, 4) == 0);
    return 0;
}

static bool is_v4(const struct endpoint *e)
{
    return memcmp(e->ip, mapped, 12) == 0;
}

static bool is_loopback(const struct endpoint *e)
{
    static const u8 one[16] = {[15] = 1};

    return is_v4(e) ? e->ip[12] == 127 : memcmp(e->ip, one, 16) == 0;
}

/* Where one goes who connects to "any": loopback of that family. */
static void any_to_loopback(struct endpoint *e)
{
    static const u8 v4[4] = {127, 0, 0, 1};

    if (!e->any)
        return;
    if (is_v4(e))
        memcpy(e->ip + 12, v4, 4);
    else
        e->ip[15] = 1;
    e->any = false;
}

static void format(const struct socket *s, const struct endpoint *e, struct address *out)
{
    memset(out, 0, sizeof(*out));
    if (s->domain == AF_INET) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = swap(e->port)};
        memcpy(&v4.sin_addr, e->ip + 12, 4);
        out->length = sizeof(v4);
        memcpy(out->bytes, &v4, sizeof(v4));
    } else {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = swap(e->port)};
        memcpy(&v6.sin6_addr, e->ip, 16);
        out->length = sizeof(v6);
        memcpy(out->bytes, &v6, sizeof(v6));
    }
}

struct inet {
    struct endpoint local, remote;
    bool from_any; /* bound to any address */
};

static struct inet *inet_of(const struct socket *s)
{
    return s->extra;
}

static int inet_create(struct socket *s)
{
    if (s->type == SOCK_RAW_)
        return -EPERM;
    if (s->type == SOCK_STREAM_  ? s->protocol && s->protocol != IPPROTO_TCP
        : s->type == SOCK_DGRAM_ ? s->protocol && s->protocol != IPPROTO_UDP && s->protocol != IPPROTO_UDPLITE
                                 : true)
        return s->type == SOCK_STREAM_ || s->type == SOCK_DGRAM_ ? -EPROTONOSUPPORT : -ESOCKTNOSUPPORT;
    if (s->protocol == 0)
        s->protocol = s->type == SOCK_STREAM_ ? IPPROTO_TCP : IPPROTO_UDP;
    s->extra = kmalloc(sizeof(struct inet));
    if (!s->extra)
        return -ENOMEM;
    if (s->domain == AF_INET)
        memcpy(inet_of(s)->local.ip, mapped, 12);
    inet_of(s)->local.any = true;
    packet_init(&s->packet);
    return 0;
}

static bool overlaps(const struct socket *s, const struct socket *other, const struct endpoint *e)
{
    const struct endpoint *o = &inet_of(other)->local;

    if (other->protocol != s->protocol || o->port != e->port)
        return false;
    if (o->any && (is_v4(o) ? is_v4(e) : !is_v4(e) || !other->v6only))
        return true;
    if (e->any && (is_v4(e) ? is_v4(o) : !is_v4(o) || !s->v6only))
        return true;
    return memcmp(o->ip, e->ip, 16) == 0;
}

/* With SO_REUSEADDR a port may be taken over from connections that were accepted on it, not from a listener.
 */
static bool is_taken(const struct socket *s, const struct endpoint *e)
{
    list_for_each(n, bound)
    {
        const struct socket *o = list_entry(n, struct socket, in_family);
        if (o != s && overlaps(s, o, e) && !(s->reuse_port && o->reuse_port) &&
            !(s->reuse_address && o->reuse_address &&
              (s->protocol == IPPROTO_UDP || o->state != SOCKET_LISTENING)))
            return true;
    }
    return false;
}

static int take_port(struct socket *s, struct endpoint *e)
{
    if (e->port == 0) {
        for (int i = 0; i <= EPHEMERAL_LAST - EPHEMERAL_FIRST; i++) {
            *ephemeral = *ephemeral < EPHEMERAL_FIRST || *ephemeral >= EPHEMERAL_LAST ? EPHEMERAL_FIRST
                                                                                      : (u16)(*ephemeral + 1);
            e->port = *ephemeral;
            if (!is_taken(s, e))
                break;
        }
    }
    if (is_taken(s, e) || (s->protocol == IPPROTO_TCP && port_of_tcp(e->port) >= 0))
        return -EADDRINUSE;
    inet_of(s)->local = *e;
    inet_of(s)->from_any = e->any;
    s->bound = true;
    list_add_tail(bound, &s->in_family);
    return 0;
}

static int inet_bind(struct socket *s, const struct address *a)
{
    struct endpoint e;
    int rc = parse(s, a, &e);

    if (rc < 0)
        return rc;
    if (s->bound)
        return -EINVAL;
    if (!e.any && !is_loopback(&e))
        return -EADDRNOTAVAIL;
    if (e.port && e.port < PRIVILEGED)
        return -EACCES;
    return take_port(s, &e);
}

static int inet_listen(struct socket *s)
{
    struct endpoint e = inet_of(s)->local;

    return s->bound ? 0 : take_port(s, &e);
}

static struct socket *find_endpoint(const struct socket *s, const struct endpoint *e, bool listening)
{
    struct socket *any = NULL;

    list_for_each(n, bound)
    {
        struct socket *o = list_entry(n, struct socket, in_family);
        const struct endpoint *l = &inet_of(o)->local;
        if (o->protocol != s->protocol || l->port != e->port || (listening && o->state != SOCKET_LISTENING))
            continue;
        if (memcmp(l->ip, e->ip, 16) == 0)
            return o;
        if (l->any && (is_v4(l) ? is_v4(e) : !is_v4(e) || !o->v6only))
            any = o;
    }
    return any;
}

static struct socket *inet_find(struct socket *s, const struct address *a, int *error)
{
    struct endpoint e;
    struct socket *to;

    *error = parse(s, a, &e);
    if (*error < 0)
        return NULL;
    any_to_loopback(&e);
    *error = -ENETUNREACH;
    if (!is_loopback(&e))
        return NULL;
    if (!s->bound) {
        struct endpoint l = inet_of(s)->local;
        if ((*error = take_port(s, &l)) < 0)
            return NULL;
    }
    to = find_endpoint(s, &e, false);
    /* A connected one takes only what its peer sends. */
    if (to && to->peer && to->peer != s)
        to = NULL;
    *error = to ? 0 : -ECONNREFUSED;
    return to;
}

static void set_local(struct socket *s, const struct endpoint *remote)
{
    struct inet *i = inet_of(s);

    i->remote = *remote;
    if (i->local.any) {
        memcpy(i->local.ip, remote->ip, 16);
        i->local.any = false;
    }
}

static int connect_stream(struct socket *s, const struct endpoint *e, bool nonblocking)
{
    struct socket *listener, *server;
    struct endpoint l = inet_of(s)->local;
    int rc;

    if (s->state != SOCKET_NEW)
        return s->state == SOCKET_CONNECTING ? -EALREADY : s->state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
    if (!is_loopback(e))
        return -ENETUNREACH;
    if (port_of_tcp(e->port) >= 0) {
        inet_of(s)->remote = *e;
        return port_connect(s, port_of_tcp(e->port), nonblocking, NO_DEADLINE);
    }
    listener = find_endpoint(s, e, true);
    if (!listener)
        return -ECONNREFUSED;
    if (!s->bound && (rc = take_port(s, &l)) < 0)
        return rc == -EADDRINUSE ? -EADDRNOTAVAIL : rc;
    set_local(s, e);
    rc = socket_connect_to(s, listener, nonblocking);
    if (rc < 0)
        return rc == -EAGAIN ? -ECONNREFUSED : rc;
    server = s->peer;
    if (server) {
        inet_of(server)->local = *e;
        inet_of(server)->remote = inet_of(s)->local;
        list_add_tail(bound, &server->in_family);
    }
    /* It is done already, but programs that do not wait expect to be told to come back (connect(2)). */
    return nonblocking ? -EINPROGRESS : 0;
}

static int inet_connect(struct socket *s, const struct address *a, bool nonblocking)
{
    struct endpoint e;
    struct socket *to;
    u16 family;
    int rc;

    memcpy(&family, a->bytes, 2);
    if (a->length >= 2 && family == 0 && s->type == SOCK_DGRAM_) {
        if (s->peer)
            socket_put(s->peer);
        s->peer = NULL;
        s->state = SOCKET_NEW;
        return 0;
    }
    if ((rc = parse(s, a, &e)) < 0)
        return rc;
    any_to_loopback(&e);
    if (s->type == SOCK_STREAM_)
        return connect_stream(s, &e, nonblocking);
    if (!is_loopback(&e))
        return -ENETUNREACH;
    to = inet_find(s, a, &rc);
    if (!s->bound)
        return rc;
    set_local(s, &e);
    if (s->peer)
        socket_put(s->peer);
    s->peer = to;
    if (to)
        socket_get(to);
    s->peer_gone = !to;
    s->state = SOCKET_CONNECTED;
    return 0;
}

static void inet_name(const struct socket *s, bool peer, struct address *out)
{
    format(s, peer ? &inet_of(s)->remote : &inet_of(s)->local, out);
}

static int inet_get_option(struct socket *s, int level, int name, int *value)
{
    *value = 0;
    if (level == IPPROTO_TCP && s->type == SOCK_STREAM_) {
        switch (name) {
        case TCP_NODELAY:
            *value = s->no_delay;
            return 0;
        case TCP_MAXSEG:
            *value = 65483; /* lo's */
            return 0;
        case TCP_KEEPIDLE:
        case TCP_KEEPINTVL:
        case TCP_KEEPCNT:
        case TCP_CORK:
        case TCP_QUICKACK:
        case TCP_USER_TIMEOUT:
        case TCP_DEFER_ACCEPT:
        case TCP_FASTOPEN:
            return 0;
        default:
            return -ENOPROTOOPT;
        }
    }
    if (level != IPPROTO_IP && (level != IPPROTO_IPV6 || s->domain != AF_INET6))
        return s->domain == AF_INET ? -EOPNOTSUPP : -ENOPROTOOPT;
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
        *value = s->v6only;
    else
        (void)packet_get_option(s, level, name, value);
    return 0;
}

static int inet_set_option(struct socket *s, int level, int name, int value)
{
    if (level == IPPROTO_TCP) {
        if (s->type != SOCK_STREAM_)
            return -ENOPROTOOPT;
        if (name == TCP_NODELAY)
            s->no_delay = value != 0;
        return name == TCP_ULP || name == TCP_MD5SIG || name == TCP_REPAIR ? -EPERM : 0;
    }
    if (level != IPPROTO_IP && (level != IPPROTO_IPV6 || s->domain != AF_INET6))
        return -ENOPROTOOPT;
    if (level != IPPROTO_IPV6 || name != IPV6_V6ONLY)
        return packet_set_option(s, level, name, value);
    s->v6only = value != 0;
    return 0;
}

/* Where a datagram goes; wrong addresses are told by inet_find(). */
static struct endpoint destination(const struct socket *s, const struct address *to)
{
    struct endpoint e = inet_of(s)->remote;

    if (to)
        (void)parse(s, to, &e);
    any_to_loopback(&e);
    return e;
}

static int inet_take_control(const struct socket *s, const struct address *to, const struct cmsg *c,
                             const u8 *data, struct packet *p)
{
    struct endpoint e = destination(s, to);

    return packet_take(s, p, s->domain == AF_INET || is_v4(&e), c, data);
}

static void inet_stamp(const struct socket *s, const struct address *to, struct packet *p)
{
    struct endpoint e = destination(s, to);

    packet_stamp(s, p, e.ip);
}

#define INET_FAMILY(variable, domain)                                                                        \
    const struct family variable = {.number = (domain),                                                      \
                                    .create = inet_create,                                                   \
                                    .bind = inet_bind,                                                       \
                                    .connect = inet_connect,                                                 \
                                    .find = inet_find,                                                       \
                                    .name = inet_name,                                                       \
                                    .listen = inet_listen,                                                   \
                                    .get_option = inet_get_option,                                           \
                                    .set_option = inet_set_option,                                           \
                                    .take_control = inet_take_control,                                       \
                                    .stamp = inet_stamp,                                                     \
                                    .give_control = packet_give}

INET_FAMILY(inet_family, AF_INET);
INET_FAMILY(inet6_family, AF_INET6);

/* ---- the one interface: netdevice(7) */

struct interface {
    char name[16];
    union {
        u8 bytes[24];
        struct sockaddr_in address;
        s32 number;
        int16_t flags;
        u16 family;
    };
};
struct interfaces {
    s32 length, pad;
    u64 at;
};

static const u8 loopback[4] = {127, 0, 0, 1}, loopback_mask[4] = {255, 0, 0, 0};

static void set_address(struct interface *r, const u8 ip[4])
{
    r->address = (struct sockaddr_in){.sin_family = AF_INET};
    memcpy(&r->address.sin_addr, ip, 4);
}

static long list_interfaces(unsigned long arg)
{
    struct interfaces conf;
    struct interface r;

    if (get_user(conf, (void *)arg) < 0)
        return -EFAULT;
    memset(&r, 0, sizeof(r));
    text_copy(r.name, "lo", sizeof(r.name));
    set_address(&r, loopback);
    if (conf.at && conf.length >= (s32)sizeof(r) && copy_to_user((void *)conf.at, &r, sizeof(r)) < 0)
        return -EFAULT;
    conf.length = !conf.at || conf.length >= (s32)sizeof(r) ? (s32)sizeof(r) : 0;
    return put_user((struct interfaces *)arg, conf);
}

long inet_ioctl(struct socket *s, unsigned cmd, unsigned long arg)
{
    struct interface r;

    (void)s;
    if (cmd == SIOCGIFCONF)
        return list_interfaces(arg);
    if (cmd < SIOCGIFNAME || cmd > SIOCGIFTXQLEN)
        return -ENOTTY;
    if (get_user(r, (void *)arg) < 0)
        return -EFAULT;
    r.name[sizeof(r.name) - 1] = 0;
    if (cmd == SIOCGIFNAME) {
        if (r.number != 1)
            return -ENODEV;
        text_copy(r.name, "lo", sizeof(r.name));
        return put_user((struct interface *)arg, r);
    }
    if (strcmp(r.name, "lo") != 0)
        return -ENODEV;
    memset(r.bytes, 0, sizeof(r.bytes));
    switch (cmd) {
    case SIOCGIFINDEX:
        r.number = 1;
        break;
    case SIOCGIFFLAGS:
        r.flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
        break;
    case SIOCGIFMTU:
        r.number = 65536;
        break;
    case SIOCGIFADDR:
    case SIOCGIFNETMASK:
        set_address(&r, cmd == SIOCGIFADDR ? loopback : loopback_mask);
        break;
    case SIOCGIFHWADDR:
        r.family = 772; /* ARPHRD_LOOPBACK */
        break;
    case SIOCGIFTXQLEN:
        r.number = 1000;
        break;
    default:
        return cmd & 1 ? -EINVAL : -EPERM;
    }
    return put_user((struct interface *)arg, r);
}

struct list *inet_sockets(void)
{
    return bound;
}

void inet_init(void)
{
    bound = kmalloc(sizeof(*bound));
    ephemeral = kmalloc(sizeof(*ephemeral));
    list_init(bound);
}
