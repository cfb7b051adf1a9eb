/*
 * As much of NETLINK_ROUTE as getaddrinfo(3), `ip addr` and if_nameindex(3) need: they ask for links,
 * addresses and routes, and there is one of the first, two of the second (rtnetlink(7)).
 */
#include <asm/errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/uio.h>

#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/net/net.h"
#include "cell/proc/process.h"

enum { REPLY = 1024, LO = 1 };

struct reply {
    u8 bytes[REPLY];
    u32 length, message; /* start of the current one */
};

static void add(struct reply *r, const void *data, u32 n)
{
    if (r->length + NLMSG_ALIGN(n) > REPLY)
        return;
    memcpy(r->bytes + r->length, data, n);
    r->length += NLMSG_ALIGN(n);
}

static void begin(struct reply *r, u16 type, u16 flags, const struct nlmsghdr *to)
{
    struct nlmsghdr h = {
        .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = to->nlmsg_seq, .nlmsg_pid = to->nlmsg_pid};

    r->message = r->length;
    add(r, &h, sizeof(h));
}

static void attribute(struct reply *r, u16 type, const void *data, u32 n)
{
    struct rtattr a = {.rta_type = type, .rta_len = (u16)RTA_LENGTH(n)};

    add(r, &a, sizeof(a));
    add(r, data, n);
}

static void end(struct reply *r)
{
    u32 n = r->length - r->message;

    memcpy(r->bytes + r->message, &n, sizeof(n));
}

static void add_link(struct reply *r, const struct nlmsghdr *to, u16 flags)
{
    struct ifinfomsg info = {.ifi_type = 772 /* ARPHRD_LOOPBACK */,
                             .ifi_index = LO,
                             .ifi_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP};
    u32 mtu = 65536, queue = 1000, group = 0;
    u8 none[6] = {0}, state = 0;

    begin(r, RTM_NEWLINK, flags, to);
    add(r, &info, sizeof(info));
    attribute(r, IFLA_IFNAME, "lo", 3);
    attribute(r, IFLA_MTU, &mtu, sizeof(mtu));
    attribute(r, IFLA_TXQLEN, &queue, sizeof(queue));
    attribute(r, IFLA_OPERSTATE, &state, 1);
    attribute(r, IFLA_GROUP, &group, sizeof(group));
    attribute(r, IFLA_QDISC, "noqueue", 8);
    attribute(r, IFLA_ADDRESS, none, sizeof(none));
    attribute(r, IFLA_BROADCAST, none, sizeof(none));
    end(r);
}

static void add_address(struct reply *r, const struct nlmsghdr *to, u8 family)
{
    static const u8 v4[4] = {127, 0, 0, 1}, v6[16] = {[15] = 1};
    struct ifaddrmsg m = {.ifa_family = family,
                          .ifa_prefixlen = family == AF_INET ? 8 : 128,
                          .ifa_flags = IFA_F_PERMANENT,
                          .ifa_scope = RT_SCOPE_HOST,
                          .ifa_index = LO};
    const struct ifa_cacheinfo forever = {.ifa_prefered = ~0U, .ifa_valid = ~0U};
    const u8 *ip = family == AF_INET ? v4 : v6;
    u32 n = family == AF_INET ? sizeof(v4) : sizeof(v6);

    begin(r, RTM_NEWADDR, NLM_F_MULTI, to);
    add(r, &m, sizeof(m));
    attribute(r, IFA_ADDRESS, ip, n);
    if (family == AF_INET) {
        attribute(r, IFA_LOCAL, ip, n);
        attribute(r, IFA_LABEL, "lo", 3);
    }
    attribute(r, IFA_CACHEINFO, &forever, sizeof(forever));
    end(r);
}

static void add_done(struct reply *r, const struct nlmsghdr *to)
{
    u32 zero = 0;

    begin(r, NLMSG_DONE, NLM_F_MULTI, to);
    add(r, &zero, sizeof(zero));
    end(r);
}

static void add_error(struct reply *r, const struct nlmsghdr *to, int error)
{
    begin(r, NLMSG_ERROR, 0, to);
    add(r, &error, sizeof(error));
    add(r, to, sizeof(*to));
    end(r);
}

static bool is_dump(const struct nlmsghdr *h)
{
    return (h->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
}

/* One request. Only questions are answered; what would change something is EPERM. False: nothing follows. */
static bool answer(struct reply *r, const struct nlmsghdr *h, u8 family)
{

    switch (h->nlmsg_type) {
    case RTM_GETLINK:
        add_link(r, h, is_dump(h) ? NLM_F_MULTI : 0);
        break;
    case RTM_GETADDR:
        if (family == 0 || family == AF_INET)
            add_address(r, h, AF_INET);
        if (family == 0 || family == AF_INET6)
            add_address(r, h, AF_INET6);
        break;
    case RTM_GETROUTE:
    case RTM_GETNEIGH:
    case RTM_GETRULE:
    case RTM_GETQDISC:
        if (!is_dump(h)) {
            add_error(r, h, -ENETUNREACH);
            return false;
        }
        break;
    default:
        add_error(r, h, h->nlmsg_type >= RTM_BASE ? -EPERM : -EOPNOTSUPP);
        return false;
    }
    if (!is_dump(h) && h->nlmsg_flags & NLM_F_ACK)
        add_error(r, h, 0);
    return is_dump(h);
}

static int netlink_request(struct socket *s, const u8 *data, size_t n)
{
    struct reply *r = kmalloc(sizeof(*r));
    int rc = 0;

    if (!r)
        return -ENOMEM;
    while (n >= sizeof(struct nlmsghdr) && rc == 0) {
        struct nlmsghdr h;
        size_t step;
        bool more;
        memcpy(&h, data, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > n)
            break;
        h.nlmsg_pid = (u32)current_process->pid; /* of whom it answers: the socket's address */
        r->length = 0;
        more = answer(r, &h, h.nlmsg_len > sizeof(h) ? data[sizeof(h)] : 0);
        if (r->length)
            rc = socket_push(s, r->bytes, r->length);
        if (more && rc == 0) { /* a datagram of its own, as Linux sends it */
            r->length = 0;
            add_done(r, &h);
            rc = socket_push(s, r->bytes, r->length);
        }
        step = NLMSG_ALIGN(h.nlmsg_len);
        data += MIN(step, n);
        n -= MIN(step, n);
    }
    kfree(r);
    return rc;
}

static int netlink_create(struct socket *s)
{
    if (s->type != SOCK_RAW_ && s->type != SOCK_DGRAM_)
        return -ESOCKTNOSUPPORT;
    s->type = SOCK_DGRAM_;
    return s->protocol == NETLINK_ROUTE ? 0 : -EPROTONOSUPPORT;
}

static int netlink_bind(struct socket *s, const struct address *a)
{
    struct sockaddr_nl n;

    if (a->length < sizeof(n))
        return -EINVAL;
    memcpy(&n, a->bytes, sizeof(n));
    if (n.nl_family != AF_NETLINK)
        return -EINVAL;
    s->local = *a;
    s->bound = true;
    return 0;
}

static int netlink_connect(struct socket *s, const struct address *a, bool nonblocking)
{
    (void)s, (void)a, (void)nonblocking;
    return 0;
}

static struct socket *netlink_find(struct socket *s, const struct address *a, int *error)
{
    (void)s, (void)a;
    *error = -ECONNREFUSED;
    return NULL;
}

static void netlink_name(const struct socket *s, bool peer, struct address *out)
{
    struct sockaddr_nl n = {.nl_family = AF_NETLINK, .nl_pid = peer ? 0 : (u32)current_process->pid};

    (void)s;
    out->length = sizeof(n);
    memcpy(out->bytes, &n, sizeof(n));
}

static int netlink_get_option(struct socket *s, int level, int name, int *value)
{
    (void)s, (void)level, (void)name;
    *value = 0;
    return -ENOPROTOOPT;
}

static int netlink_set_option(struct socket *s, int level, int name, int value)
{
    (void)s, (void)name, (void)value;
    return level == 270 /* SOL_NETLINK */ ? 0 : -ENOPROTOOPT;
}

const struct family netlink_family = {
    .number = AF_NETLINK,
    .create = netlink_create,
    .bind = netlink_bind,
    .connect = netlink_connect,
    .find = netlink_find,
    .name = netlink_name,
    .get_option = netlink_get_option,
    .set_option = netlink_set_option,
    .request = netlink_request,
};
