/*
 * What the headers of IP would say of a datagram: hop limit, traffic class, destination. Options set it and
 * ask for it, control messages carry it (ip(7), ipv6(7), RFC 3542). A socket of IPv6 that talks to IPv4 goes
 * by the options of both: those of IPv4 for the header, IPV6_RECVPKTINFO for the address.
 */
#include <asm/errno.h>
#include <linux/in.h>
#include <linux/in6.h>

#include "cell/base/text.h"
#include "cell/net/net.h"

enum { HOPS_DEFAULT = 64, LOOPBACK_INDEX = 1, ECN_MASK = 3 };

/* linux/ipv6.h does not stand beside our headers. */
struct in6_pktinfo_ {
    u8 address[16];
    s32 index;
};

static const u8 mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_loopback(const u8 ip[16])
{
    static const u8 one[16] = {[15] = 1};

    return memcmp(ip, mapped, 12) == 0 ? ip[12] == 127 : memcmp(ip, one, 16) == 0;
}

void packet_init(struct packet_options *o)
{
    o->ttl = o->hops = -1;
}

bool packet_get_option(const struct socket *s, int level, int name, int *value)
{
    const struct packet_options *o = &s->packet;

    if (level == IPPROTO_IP) {
        switch (name) {
        case IP_TTL:
            *value = o->ttl < 0 ? HOPS_DEFAULT : o->ttl;
            return true;
        case IP_TOS:
            *value = o->tos;
            return true;
        case IP_RECVTTL:
            *value = o->receive_ttl;
            return true;
        case IP_RECVTOS:
            *value = o->receive_tos;
            return true;
        case IP_PKTINFO:
            *value = o->receive_info4;
            return true;
        default:
            return false;
        }
    }
    switch (name) {
    case IPV6_UNICAST_HOPS:
        *value = o->hops < 0 ? HOPS_DEFAULT : o->hops;
        return true;
    case IPV6_TCLASS:
        *value = o->tclass;
        return true;
    case IPV6_RECVHOPLIMIT:
        *value = o->receive_hops;
        return true;
    case IPV6_RECVTCLASS:
        *value = o->receive_tclass;
        return true;
    case IPV6_RECVPKTINFO:
        *value = o->receive_info6;
        return true;
    default:
        return false;
    }
}

/* The bits for congestion are TCP's own. */
static u8 class_of(const struct socket *s, int value, u8 before)
{
    return s->type == SOCK_STREAM_ ? (u8)((value & ~ECN_MASK) | (before & ECN_MASK)) : (u8)value;
}

int packet_set_option(struct socket *s, int level, int name, int value)
{
    struct packet_options *o = &s->packet;

    if (level == IPPROTO_IP) {
        switch (name) {
        case IP_TTL:
            if (value != -1 && (value < 1 || value > 255))
                return -EINVAL;
            o->ttl = (int16_t)value;
            return 0;
        case IP_TOS:
            o->tos = class_of(s, value, o->tos);
            return 0;
        case IP_RECVTTL:
            o->receive_ttl = value != 0;
            return 0;
        case IP_RECVTOS:
            o->receive_tos = value != 0;
            return 0;
        case IP_PKTINFO:
            o->receive_info4 = value != 0;
            return 0;
        default:
            return 0;
        }
    }
    switch (name) {
    case IPV6_UNICAST_HOPS:
        if (value < -1 || value > 255)
            return -EINVAL;
        o->hops = (int16_t)value;
        return 0;
    case IPV6_TCLASS:
        if (value < -1 || value > 255)
            return -EINVAL;
        o->tclass = class_of(s, value == -1 ? 0 : value, o->tclass);
        return 0;
    case IPV6_RECVHOPLIMIT:
        o->receive_hops = value != 0;
        return 0;
    case IPV6_RECVTCLASS:
        o->receive_tclass = value != 0;
        return 0;
    case IPV6_RECVPKTINFO:
        o->receive_info6 = value != 0;
        return 0;
    default:
        return 0;
    }
}

void packet_stamp(const struct socket *s, struct packet *p, const u8 to[16])
{
    const struct packet_options *o = &s->packet;
    bool v4 = memcmp(to, mapped, 12) == 0;
    int hops = v4 ? o->ttl : o->hops;

    memcpy(p->to, to, 16);
    if (!p->hops_given)
        p->hops = hops < 0 ? HOPS_DEFAULT : (u8)hops;
    if (!p->tclass_given)
        p->tclass = v4 ? o->tos : o->tclass;
}

/* Where it is to come from has to be here, but changes nothing: there is one interface. */
static int check_source(const u8 ip[16], s32 index)
{
    static const u8 any[16], any4[16] = {[10] = 0xff, [11] = 0xff};

    if (index != 0 && index != LOOPBACK_INDEX)
        return -ENODEV;
    return memcmp(ip, any, 16) == 0 || memcmp(ip, any4, 16) == 0 || is_loopback(ip) ? 0 : -EINVAL;
}

/* -1: what the socket says. */
static int take_number(u8 *value, bool *given, int number, int least)
{
    if (number < least || number > 255)
        return -EINVAL;
    *given = number >= 0;
    *value = (u8)number;
    return 0;
}

static int take_v4(struct packet *p, int type, const u8 *data, size_t n)
{
    struct in_pktinfo info;
    u8 ip[16];
    int number = 0;

    if (type == IP_PKTINFO) {
        if (n != sizeof(info))
            return -EINVAL;
        memcpy(&info, data, n);
        memcpy(ip, mapped, 12);
        memcpy(ip + 12, &info.ipi_spec_dst, 4);
        return check_source(ip, info.ipi_ifindex);
    }
    if ((type != IP_TTL && type != IP_TOS) || (n != sizeof(number) && (type != IP_TOS || n != 1)))
        return -EINVAL;
    memcpy(&number, data, n);
    return type == IP_TTL ? take_number(&p->hops, &p->hops_given, number, 1)
                          : take_number(&p->tclass, &p->tclass_given, number, 0);
}

static int take_v6(struct packet *p, int type, const u8 *data, size_t n)
{
    struct in6_pktinfo_ info;
    int number;

    if (type == IPV6_PKTINFO) {
        if (n < sizeof(info))
            return -EINVAL;
        memcpy(&info, data, sizeof(info));
        return check_source(info.address, info.index);
    }
    if (n != sizeof(number) || (type != IPV6_HOPLIMIT && type != IPV6_TCLASS))
        return -EINVAL;
    memcpy(&number, data, n);
    return type == IPV6_HOPLIMIT ? take_number(&p->hops, &p->hops_given, number, -1)
                                 : take_number(&p->tclass, &p->tclass_given, number, -1);
}

int packet_take(const struct socket *s, struct packet *p, bool to_v4, const struct cmsg *c, const u8 *data)
{
    size_t n = c->length - sizeof(*c);

    if (to_v4 && s->domain == AF_INET6 && c->level == IPPROTO_IPV6 && c->type == IPV6_PKTINFO)
        return n >= 12 && memcmp(data, mapped, 12) == 0 ? take_v6(p, c->type, data, n) : -EINVAL;
    if (c->level == (to_v4 ? IPPROTO_IP : IPPROTO_IPV6))
        return to_v4 ? take_v4(p, c->type, data, n) : take_v6(p, c->type, data, n);
    return 0;
}

static void give_number(struct control *c, int level, int type, int value)
{
    control_put(c, level, type, &value, sizeof(value));
}

static void give_v4(const struct packet_options *o, const struct packet *p, struct control *c)
{
    if (o->receive_info4) {
        struct in_pktinfo info = {.ipi_ifindex = LOOPBACK_INDEX};
        memcpy(&info.ipi_addr, p->to + 12, 4);
        info.ipi_spec_dst = info.ipi_addr;
        control_put(c, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
    if (o->receive_ttl)
        give_number(c, IPPROTO_IP, IP_TTL, p->hops);
    if (o->receive_tos)
        control_put(c, IPPROTO_IP, IP_TOS, &p->tclass, 1);
}

void packet_give(const struct socket *s, const struct packet *p, struct control *c)
{
    const struct packet_options *o = &s->packet;
    bool v4 = memcmp(p->to, mapped, 12) == 0;

    if (o->receive_info6 && s->domain == AF_INET6) {
        struct in6_pktinfo_ info = {.index = LOOPBACK_INDEX};
        memcpy(info.address, p->to, 16);
        control_put(c, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
    if (v4) {
        give_v4(o, p, c);
        return;
    }
    if (o->receive_hops)
        give_number(c, IPPROTO_IPV6, IPV6_HOPLIMIT, p->hops);
    if (o->receive_tclass)
        give_number(c, IPPROTO_IPV6, IPV6_TCLASS, p->tclass);
}
