/*
 * Family 1: out through the network. Every way is tried to its end: not only whether a socket can be made,
 * but whether the host's listener gets the connection.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

/* Connects, at most `ms`. Returns the socket or -1 with errno. */
static int reach(int family, int type, const void *address, socklen_t len, int ms)
{
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(error);

    if (fd < 0)
        return -1;
    if (connect(fd, address, len) < 0) {
        error = errno;
        if (error == EINPROGRESS) {
            if (poll(&p, 1, ms) == 1)
                (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            else
                error = ETIMEDOUT;
        }
    }
    if (error != 0) {
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void reach_step(const char *name, const char *where, int fd)
{
    stepf(name, fd, "%s", where);
    if (fd < 0)
        return;
    claim("connected to %s", where);
    (void)!write(fd, "knock", 5);
    (void)close(fd);
}

static struct sockaddr_in ipv4(const char *address, long port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    (void)inet_pton(AF_INET, address, &a.sin_addr);
    return a;
}

static void interfaces(const struct order *o)
{
    char buf[8192];
    struct if_nameindex *list = if_nameindex();
    unsigned n = 0, others = 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {.ifr_name = "eth0", .ifr_flags = IFF_UP};

    (void)o;
    for (const struct if_nameindex *i = list; i && i->if_name; i++, n++) {
        fact("interface", "%s", i->if_name);
        others += strcmp(i->if_name, "lo") != 0;
    }
    if_freenameindex(list);
    stepf("list", (long)n, "%u besides lo", others);
    if (others)
        claim("%u interfaces besides lo", others);
    stepf("proc-net-dev", slurp("/proc/net/dev", buf, sizeof(buf)), "%s", "/proc/net/dev");
    (void)snprintf(req.ifr_name, sizeof(req.ifr_name), "lo");
    req.ifr_flags = 0;
    step("lo-down", ioctl(fd, SIOCSIFFLAGS, &req));
    req.ifr_mtu = 576;
    step("lo-mtu", ioctl(fd, SIOCSIFMTU, &req));
    (void)close(fd);
}

static void host_loopback(const struct order *o)
{
    static const char *const addresses[] = {"127.0.0.1", "127.0.0.53", "127.1.2.3", "0.0.0.0"};
    long port = order_number(o, "tcp");
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in a;
    char name[64], where[96];
    int fd;

    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        a = ipv4(addresses[i], port);
        (void)snprintf(name, sizeof(name), "tcp-%zu", i);
        (void)snprintf(where, sizeof(where), "%s port %ld of the host", addresses[i], port);
        reach_step(name, where, reach(AF_INET, SOCK_STREAM, &a, sizeof(a), 300));
    }
    (void)inet_pton(AF_INET6, "::1", &v6.sin6_addr);
    reach_step("tcp6", "::1 of the host", reach(AF_INET6, SOCK_STREAM, &v6, sizeof(v6), 300));
    (void)inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr);
    reach_step("tcp6-mapped", "::ffff:127.0.0.1 of the host",
               reach(AF_INET6, SOCK_STREAM, &v6, sizeof(v6), 300));
    /* A datagram is sent into the void either way: whether it arrived only the host can tell. */
    a = ipv4("127.0.0.1", order_number(o, "udp"));
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    step("udp", sendto(fd, "knock", 5, 0, (struct sockaddr *)&a, sizeof(a)));
    (void)close(fd);
}

static void outside(const struct order *o)
{
    const char *address = order_text(o, "host_address");
    struct sockaddr_in a;

    /* TEST-NET-1 (RFC 5737), a name server, a cloud's metadata service, and the host's own address. */
    a = ipv4("192.0.2.1", 80);
    reach_step("internet", "192.0.2.1 port 80", reach(AF_INET, SOCK_STREAM, &a, sizeof(a), 300));
    a = ipv4("1.1.1.1", 443);
    reach_step("resolver", "1.1.1.1 port 443", reach(AF_INET, SOCK_STREAM, &a, sizeof(a), 300));
    a = ipv4("169.254.169.254", 80);
    reach_step("metadata", "169.254.169.254 port 80", reach(AF_INET, SOCK_STREAM, &a, sizeof(a), 300));
    if (*address) {
        a = ipv4(address, order_number(o, "tcp"));
        reach_step("host-address", "the host's own address", reach(AF_INET, SOCK_STREAM, &a, sizeof(a), 300));
    }
}

static void dns(const struct order *o)
{
    /* A query for "example." of type A; the id is 1. */
    static const unsigned char query[] = {0,   1,   1,   0,   0,   1,   0,   0, 0, 0, 0, 0, 7,
                                          'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 1, 0, 1};
    static const char *const servers[] = {"127.0.0.53", "127.0.0.1", "1.1.1.1", "8.8.8.8"};
    char name[32], answer[512];

    (void)o;
    for (size_t i = 0; i < sizeof(servers) / sizeof(*servers); i++) {
        struct sockaddr_in a = ipv4(servers[i], 53);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long n = sendto(fd, query, sizeof(query), 0, (struct sockaddr *)&a, sizeof(a));
        (void)snprintf(name, sizeof(name), "query-%zu", i);
        stepf(name, n, "%s", servers[i]);
        if (n > 0 && poll(&p, 1, 200) == 1 && recv(fd, answer, sizeof(answer), 0) > 12)
            claim("%s answered a DNS query", servers[i]);
        (void)close(fd);
    }
}

static void raw(const struct order *o)
{
    static const struct {
        const char *name;
        int family, type, protocol;
    } kinds[] = {{"packet-raw", AF_PACKET, SOCK_RAW, 0x0300},
                 {"packet-dgram", AF_PACKET, SOCK_DGRAM, 0x0300},
                 {"ip-raw", AF_INET, SOCK_RAW, IPPROTO_RAW},
                 {"ip-icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP},
                 {"ip6-raw", AF_INET6, SOCK_RAW, IPPROTO_RAW},
                 {"bluetooth", 31, SOCK_RAW, 1},
                 {"can", 29, SOCK_RAW, 1},
                 {"xdp", 44, SOCK_RAW, 0},
                 {"alg", 38, SOCK_SEQPACKET, 0},
                 {"key", 15, SOCK_RAW, 2},
                 {"tipc", 30, SOCK_SEQPACKET, 0},
                 {"rds", 21, SOCK_SEQPACKET, 0},
                 {"smc", 43, SOCK_STREAM, 0},
                 {"kcm", 41, SOCK_SEQPACKET, 0},
                 {"qrtr", 42, SOCK_DGRAM, 0},
                 {"nfc", 39, SOCK_SEQPACKET, 0},
                 {"x25", 9, SOCK_SEQPACKET, 0},
                 {"ax25", 3, SOCK_DGRAM, 0}};

    (void)o;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        int fd = socket(kinds[i].family, kinds[i].type, kinds[i].protocol);
        step(kinds[i].name, fd);
        if (fd >= 0)
            claim("a socket of the kind %s", kinds[i].name);
        (void)close(fd);
    }
}

static void netlink(const struct order *o)
{
    static const struct {
        const char *name;
        int protocol;
    } kinds[] = {
        {"netfilter", NETLINK_NETFILTER}, {"audit", NETLINK_AUDIT},   {"kobject", NETLINK_KOBJECT_UEVENT},
        {"generic", NETLINK_GENERIC},     {"xfrm", NETLINK_XFRM},     {"connector", NETLINK_CONNECTOR},
        {"sock-diag", NETLINK_SOCK_DIAG}, {"crypto", NETLINK_CRYPTO}, {"selinux", NETLINK_SELINUX},
        {"iscsi", NETLINK_ISCSI}};
    struct {
        struct nlmsghdr head;
        struct ifinfomsg info;
        char attribute[32];
    } add = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                      .nlmsg_type = RTM_NEWLINK,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK}};
    char answer[1024];
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    long n = -1;

    (void)o;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        int other = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, kinds[i].protocol);
        step(kinds[i].name, other);
        if (other >= 0)
            claim("a netlink socket of the kind %s", kinds[i].name);
        (void)close(other);
    }
    /* Route netlink lists what there is; it must not change anything. */
    add.info.ifi_index = 1;
    add.info.ifi_change = IFF_UP;
    if (fd >= 0 && send(fd, &add, add.head.nlmsg_len, 0) > 0)
        n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
    if (n >= (long)(sizeof(struct nlmsghdr) + sizeof(int))) {
        int error;
        memcpy(&error, answer + sizeof(struct nlmsghdr), sizeof(error));
        errno = -error;
        step("route-change", error == 0 ? 0 : -1);
        if (error == 0)
            claim("an interface was changed through route netlink");
    } else {
        step("route-change", -1);
    }
    (void)close(fd);
}

static void abstract_sockets(const struct order *o)
{
    const char *name = order_text(o, "abstract"), *victim = "ironclaw-victim";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char buf[16384];
    ssize_t n = slurp("/proc/net/unix", buf, sizeof(buf));
    socklen_t len;

    stepf("proc-net-unix", n, "%s", "/proc/net/unix");
    if (n > 0 && *name && strstr(buf, name))
        claim("the host's abstract socket is listed");
    a.sun_path[0] = 0;
    (void)snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s", name);
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    reach_step("stream", "the host's abstract socket", reach(AF_UNIX, SOCK_STREAM, &a, len, 300));
    (void)snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s-dgram", name);
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name) + 6);
    reach_step("dgram", "the host's abstract datagram socket", reach(AF_UNIX, SOCK_DGRAM, &a, len, 300));
    (void)snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "%s", victim);
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(victim));
    reach_step("victim", "the sibling's abstract socket", reach(AF_UNIX, SOCK_STREAM, &a, len, 300));
}

static void vsock(const struct order *o)
{
    static const struct {
        const char *name;
        unsigned cid;
    } targets[] = {{"local", 1}, {"host", 2}, {"hypervisor", 0}, {"any", VMADDR_CID_ANY}};
    long port = order_number(o, "vsock");
    int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

    step("device", fd);
    (void)close(fd);
    for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
        struct sockaddr_vm a = {.svm_family = AF_VSOCK,
                                .svm_cid = targets[i].cid,
                                .svm_port = (unsigned)(port > 0 ? port : 1024)};
        reach_step(targets[i].name, "a vsock port", reach(AF_VSOCK, SOCK_STREAM, &a, sizeof(a), 300));
    }
}

const struct inside_attack inside_network[] = {
    {"net.interfaces", interfaces},
    {"net.host-loopback", host_loopback},
    {"net.outside", outside},
    {"net.dns", dns},
    {"net.raw-sockets", raw},
    {"net.netlink", netlink},
    {"net.abstract-unix", abstract_sockets},
    {"net.vsock", vsock},
    {NULL, NULL},
};
