/* Unix sockets with descriptors and credentials, loopback TCP and UDP, errors, options. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "show.h"

static int events_of(int fd, short events)
{
    struct pollfd p = {fd, events, 0};

    return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

static void test_pairs(void)
{
    char buf[64];
    int s[2], kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

    (void)signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++) {
        show("socketpair", socketpair(AF_UNIX, kinds[i] | SOCK_NONBLOCK, 0, s));
        show("empty", recv(s[0], buf, 10, 0));
        show("send", send(s[1], "one", 3, 0));
        show("send", send(s[1], "two", 3, 0));
        show("peek", recv(s[0], buf, 2, MSG_PEEK));
        show("recv", recv(s[0], buf, 64, 0));
        show("recv", recv(s[0], buf, 64, 0));
        show("send", send(s[1], "longer", 6, 0));
        show("truncated", recv(s[0], buf, 3, MSG_TRUNC));
        show("poll", events_of(s[0], POLLIN | POLLOUT | POLLRDHUP));
        show("shutdown", shutdown(s[1], SHUT_WR));
        show("poll", events_of(s[0], POLLIN | POLLRDHUP) & POLLIN);
        show("send after shutdown", send(s[1], "x", 1, 0));
        (void)close(s[1]);
        show("send to nobody", send(s[0], "x", 1, 0));
    }
    show("bad family", socket(77, SOCK_STREAM, 0));
    show("bad type", socket(AF_UNIX, 9, 0));
    show("raw", socket(AF_INET, SOCK_RAW, 1));
    show("pair of inet", socketpair(AF_INET, SOCK_STREAM, 0, s));
}

static void test_names(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/tmp/named"}, got;
    socklen_t n = sizeof(got);
    char buf[16];
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), s, d;

    (void)unlink(a.sun_path);
    show("connect to nothing", connect(c, (struct sockaddr *)&a, sizeof(a)));
    show("bind", bind(l, (struct sockaddr *)&a, sizeof(a)));
    show("bind again", bind(l, (struct sockaddr *)&a, sizeof(a)));
    show("bind other", bind(c, (struct sockaddr *)&a, sizeof(a)));
    show("not listening", connect(c, (struct sockaddr *)&a, sizeof(a)));
    show("accept before listen", accept(l, NULL, NULL));
    show("listen", listen(l, 3));
    show("connect", connect(c, (struct sockaddr *)&a, sizeof(a)));
    show("connect again", connect(c, (struct sockaddr *)&a, sizeof(a)));
    show("poll accept", events_of(l, POLLIN));
    show_ok("accept", s = accept4(l, (struct sockaddr *)&got, &n, SOCK_CLOEXEC));
    printf("from family %d length %d\n", got.sun_family, (int)n);
    n = sizeof(got);
    show("getpeername", getpeername(c, (struct sockaddr *)&got, &n));
    show_text("name", got.sun_path);
    show("send", send(c, "hi", 2, 0));
    show("recv", recv(s, buf, 16, 0));
    d = socket(AF_UNIX, SOCK_DGRAM, 0);
    show("wrong type", connect(d, (struct sockaddr *)&a, sizeof(a)));
    (void)close(s);
    show("end", recv(c, buf, 16, 0));
    (void)unlink(a.sun_path);
    memset(&a, 0, sizeof(a));
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path, "\0hidden", 7);
    s = socket(AF_UNIX, SOCK_DGRAM, 0);
    show("abstract", bind(s, (struct sockaddr *)&a, sizeof(sa_family_t) + 7));
    show("abstract taken", bind(d, (struct sockaddr *)&a, sizeof(sa_family_t) + 7));
    show("sendto", sendto(d, "dgram", 5, 0, (struct sockaddr *)&a, sizeof(sa_family_t) + 7));
    show("recv", recv(s, buf, 16, 0));
    show("autobind", bind(d, (struct sockaddr *)&a, sizeof(sa_family_t)));
    n = sizeof(got);
    (void)getsockname(d, (struct sockaddr *)&got, &n);
    printf("autobound length %d\n", (int)n);
}

static void test_descriptors(void)
{
    union {
        char buf[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    char byte = 'x', text[32] = "";
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.buf,
                       .msg_controllen = CMSG_SPACE(sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    struct ucred cred;
    socklen_t n = sizeof(cred);
    int s[2], p[2], fd, on = 1, kinds = 0;

    (void)socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    (void)pipe(p);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &p[0], sizeof(int));
    (void)setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    show("sendmsg", sendmsg(s[0], &m, 0));
    (void)close(p[0]);
    (void)write(p[1], "through a passed descriptor", 27);
    m.msg_controllen = sizeof(control.buf);
    show("recvmsg", recvmsg(s[1], &m, 0));
    for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        kinds |= 1 << c->cmsg_type;
        if (c->cmsg_type == SCM_RIGHTS) {
            memcpy(&fd, CMSG_DATA(c), sizeof(int));
            show("read", read(fd, text, 27));
            show_text("text", text);
        } else if (c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&cred, CMSG_DATA(c), sizeof(cred));
            printf("credentials are ours %d\n", cred.pid == getpid() && cred.uid == getuid());
        }
    }
    show("kinds", kinds);
    show("peercred", getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &cred, &n));
    printf("is us %d\n", cred.pid == getpid());
    fd = 98;
    m.msg_controllen = CMSG_SPACE(sizeof(int));
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    show("bad descriptor", sendmsg(s[0], &m, 0));
}

static void test_tcp(int family)
{
    struct sockaddr_storage a = {0}, got;
    socklen_t size = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6), n;
    int l = socket(family, SOCK_STREAM, 0), c = socket(family, SOCK_STREAM, 0), s, v = 1;
    char buf[300000];
    long total = 0;

    show("family", family);
    a.ss_family = (sa_family_t)family;
    if (family == AF_INET)
        ((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&a)->sin6_addr = in6addr_loopback;
    show("reuse", setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &v, sizeof(v)));
    show("bind", bind(l, (struct sockaddr *)&a, size));
    n = sizeof(a);
    show("getsockname", getsockname(l, (struct sockaddr *)&a, &n));
    show("has a port", ((struct sockaddr_in *)&a)->sin_port != 0);
    show("refused", connect(c, (struct sockaddr *)&a, size));
    (void)close(c);
    c = socket(family, SOCK_STREAM, 0);
    show("listen", listen(l, 5));
    show("connect", connect(c, (struct sockaddr *)&a, size));
    n = sizeof(got);
    show_ok("accept", s = accept(l, (struct sockaddr *)&got, &n));
    printf("family %d length %d\n", got.ss_family, (int)n);
    n = sizeof(got);
    show("getpeername", getpeername(c, (struct sockaddr *)&got, &n));
    show("same port", ((struct sockaddr_in *)&got)->sin_port == ((struct sockaddr_in *)&a)->sin_port);
    show("nodelay", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)));
    if (fork() == 0) {
        memset(buf, 'd', sizeof(buf));
        (void)!write(c, buf, sizeof(buf));
        (void)shutdown(c, SHUT_WR);
        (void)recv(c, buf, 3, MSG_WAITALL);
        printf("answer %.3s\n", buf);
        fflush(stdout);
        _exit(0);
    }
    for (ssize_t got_now; (got_now = read(s, buf, sizeof(buf))) > 0;)
        total += got_now;
    show("total", total);
    v = (int)send(s, "yes", 3, 0);
    (void)wait(NULL);
    show("answer", v);
    (void)close(s);
    show("end", read(c, buf, 10));
    n = sizeof(v);
    show("SO_ERROR", getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &n));
    show("type", (getsockopt(c, SOL_SOCKET, SO_TYPE, &v, &n), v));
    show("no option", setsockopt(c, SOL_SOCKET, 9999, &v, sizeof(v)));
    (void)close(c);
    c = socket(family, SOCK_STREAM, 0);
    show("not connected", send(c, "x", 1, MSG_NOSIGNAL));
    show("not connected", getpeername(c, (struct sockaddr *)&got, &n));
    show("not a socket", send(1 + open("/etc/passwd", O_RDONLY) * 0, "", 0, 0) == -1 && errno == ENOTSOCK);
}

static void test_udp(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET}, got;
    socklen_t n = sizeof(a);
    char buf[16];
    int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    show("bind", bind(s, (struct sockaddr *)&a, sizeof(a)));
    (void)getsockname(s, (struct sockaddr *)&a, &n);
    show("sendto", sendto(c, "ping", 4, 0, (struct sockaddr *)&a, sizeof(a)));
    n = sizeof(got);
    show("recvfrom", recvfrom(s, buf, 16, 0, (struct sockaddr *)&got, &n));
    show("answer", sendto(s, "pong!", 5, 0, (struct sockaddr *)&got, n));
    show("recv", recv(c, buf, 16, 0));
    show("connect", connect(c, (struct sockaddr *)&a, sizeof(a)));
    show("send", send(c, "x", 1, 0));
    show("recv", recv(s, buf, 16, MSG_DONTWAIT));
    show("nothing", recv(s, buf, 16, MSG_DONTWAIT));
    a.sin_addr.s_addr = htonl(0x08080808);
    a.sin_port = htons(53);
    show("outside", sendto(s, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)));
    s = socket(AF_INET, SOCK_STREAM, 0);
    show("outside", connect(s, (struct sockaddr *)&a, sizeof(a)));
    a.sin_port = htons(80);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    show("privileged port", bind(s, (struct sockaddr *)&a, sizeof(a)));
}

static void append(char *to, size_t cap, const char *text)
{
    size_t n = strlen(to);

    (void)snprintf(to + n, cap - n, "%s", text);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The lines of a file of /proc/net that have `what` in them, sorted: the length (without the inode's digits,
 * of which a host that has run for long has more, where no padding makes up for them), the columns from the
 * second to `last`, and whether the one with the number is that of one of the descriptors. */
static void show_lines(const char *file, const char *what, int last, int inode, const int *fds, int n)
{
    char line[512], lines[8][512];
    FILE *f = fopen(file, "r");
    int count = 0;

    (void)fgets(line, sizeof(line), f);
    line[strcspn(line, "\n")] = 0;
    printf("%s: %s|\n", file, line);
    while (count < 8 && fgets(line, sizeof(line), f)) {
        char *at = lines[count], *word, *rest = line;
        const size_t cap = sizeof(lines[0]);
        char end[32];
        int owner = -1, length = (int)strcspn(line, "\n");
        if (!strstr(line, what))
            continue;
        const int padded = length > 0 && line[length - 1] == ' ';
        at[0] = 0;
        for (int i = 0; (word = strtok_r(rest, " \n", &rest)) != NULL; i++) {
            struct stat st;
            if (i == inode && !padded)
                length -= (int)strlen(word);
            for (int k = 0; i == inode && k < n; k++)
                if (fstat(fds[k], &st) == 0 && st.st_ino == strtoul(word, NULL, 10))
                    owner = k;
            if ((i > 0 && i <= last) || (i > inode && inode == 6))
                append(at, cap, " "), append(at, cap, word);
        }
        (void)snprintf(end, sizeof(end), " of %d, %d long", owner, length);
        append(at, cap, end);
        count++;
    }
    (void)fclose(f);
    qsort(lines, (size_t)count, sizeof(lines[0]), by_text);
    for (int i = 0; i < count; i++)
        show_text("line", lines[i]);
}

static void test_lists(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(45678)};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(45678), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_un u = {.sun_family = AF_UNIX, .sun_path = "/tmp/listed"},
                       v = {.sun_family = AF_UNIX, .sun_path = "\0listed"};
    int fds[8], n = 0, client;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[n++] = socket(AF_INET, SOCK_STREAM, 0);
    show("bind", bind(fds[0], (void *)&a, sizeof(a)));
    show_lines("/proc/net/tcp", ":B26E", 5, 9, fds, n);
    show("listen", listen(fds[0], 5));
    show_lines("/proc/net/tcp", ":B26E", 5, 9, fds, n);
    fds[n++] = client = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_port = htons(45679);
    show("bind", bind(client, (void *)&a, sizeof(a)));
    a.sin_port = htons(45678);
    show("connect", connect(client, (void *)&a, sizeof(a)));
    show_lines("/proc/net/tcp", ":B26E", 5, 9, fds, n);
    fds[n++] = accept(fds[0], NULL, NULL);
    show("write", write(client, "12345", 5));
    show_lines("/proc/net/tcp", ":B26E", 5, 9, fds, n);
    show("shutdown", shutdown(client, SHUT_WR));
    (void)usleep(100000); /* until the end was acknowledged */
    show_lines("/proc/net/tcp", ":B26E", 3, 9, fds, n);
    for (int i = n = 0; i < 3; i++)
        (void)close(fds[i]);
    fds[n++] = socket(AF_INET6, SOCK_STREAM, 0);
    show("bind", bind(fds[0], (void *)&six, sizeof(six)));
    show("listen", listen(fds[0], 5));
    show_lines("/proc/net/tcp6", ":B26E", 5, 9, fds, n);
    fds[n++] = socket(AF_INET, SOCK_DGRAM, 0);
    show("bind", bind(fds[1], (void *)&a, sizeof(a)));
    fds[n++] = socket(AF_INET, SOCK_DGRAM, 0);
    a.sin_port = htons(45679);
    show("bind", bind(fds[2], (void *)&a, sizeof(a)));
    a.sin_port = htons(45678);
    show("connect", connect(fds[2], (void *)&a, sizeof(a)));
    show_lines("/proc/net/udp", ":B26E", 3, 9, fds, n);
    fds[n++] = socket(AF_INET6, SOCK_DGRAM, 0);
    show("bind", bind(fds[3], (void *)&six, sizeof(six)));
    show_lines("/proc/net/udp6", ":B26E", 3, 9, fds, n);
    fds[n++] = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)unlink(u.sun_path);
    show("bind", bind(fds[4], (void *)&u, sizeof(u)));
    show("listen", listen(fds[4], 5));
    fds[n++] = socket(AF_UNIX, SOCK_DGRAM, 0);
    show("bind", bind(fds[5], (void *)&v, offsetof(struct sockaddr_un, sun_path) + 7));
    show_lines("/proc/net/unix", "listed", 5, 6, fds, n);
    for (int i = 0; i < n; i++)
        (void)close(fds[i]);
    show_lines("/proc/net/unix", "listed", 5, 6, fds, 0);
}

/* ---- control messages of datagrams: ip(7), ipv6(7) */

static void show_option(const char *what, int fd, int level, int name)
{
    int value = -7;
    socklen_t n = sizeof(value);

    show(what, getsockopt(fd, level, name, &value, &n));
    printf("  %d in %u\n", value, n);
}

static void set_option(const char *what, int fd, int level, int name, int value)
{
    show(what, setsockopt(fd, level, name, &value, sizeof(value)));
    show_option(what, fd, level, name);
}

/* Sends a byte with one control message of n bytes. */
static void send_with(const char *what, int fd, struct sockaddr *to, int level, int type, const void *data,
                      size_t n)
{
    char byte = 'b', control[CMSG_SPACE(64)] = {0};
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_name = to,
                       .msg_namelen = to->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                               : sizeof(struct sockaddr_in6),
                       .msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = CMSG_SPACE(n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), data, n);
    show(what, sendmsg(fd, &m, 0));
}

/* What comes into `room` bytes, byte by byte. */
static void receive_into(int fd, size_t room, int flags)
{
    char byte, control[256] = {0};
    struct iovec v = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? control : NULL, .msg_controllen = room};

    show("  received", recvmsg(fd, &m, flags | MSG_DONTWAIT));
    printf("  flags %x, %zu of %zu:", (unsigned)m.msg_flags, (size_t)m.msg_controllen, room);
    for (size_t i = 0; i < m.msg_controllen; i++)
        printf("%s%02x", i % 4 ? "" : " ", (unsigned char)control[i]);
    printf("\n");
}

static void test_ancillary(int family, int to_family)
{
    struct sockaddr_in six_or_four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *a = family == AF_INET ? (void *)&six_or_four : (void *)&six;
    socklen_t n = family == AF_INET ? sizeof(six_or_four) : sizeof(six);
    int r = socket(to_family, SOCK_DGRAM, 0), s = socket(family, SOCK_DGRAM, 0), v, zero[5] = {0};
    static const int v6[] = {IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_RECVPKTINFO},
                     v4[] = {IP_RECVTTL, IP_RECVTOS, IP_PKTINFO};
    static const size_t rooms[] = {256, 0, 4, 15, 16, 17, 19, 20, 23, 24, 30, 36, 39, 40, 47, 48, 50, 60, 64};

    printf("from %d to %d\n", family, to_family);
    six_or_four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (to_family == AF_INET6) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6};
        show("bind", bind(r, (void *)&any, sizeof(any)));
        n = sizeof(any);
        (void)getsockname(r, (void *)&any, &n);
        six.sin6_port = six_or_four.sin_port = any.sin6_port;
    } else {
        show("bind", bind(r, (void *)&six_or_four, sizeof(six_or_four)));
        n = sizeof(six_or_four);
        (void)getsockname(r, (void *)&six_or_four, &n);
        six.sin6_port = six_or_four.sin_port;
        six.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    }
    for (int i = 0; i < 3; i++) {
        set_option("ask, IPv6", r, IPPROTO_IPV6, v6[i], i + 1);
        set_option("ask, IPv4", r, IPPROTO_IP, v4[i], i + 1);
    }
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        show("sendto", sendto(s, "b", 1, 0, a, family == AF_INET ? sizeof(six_or_four) : sizeof(six)));
        receive_into(r, rooms[i], 0);
    }
    for (int i = -2; i < 258; i += i < 3 || i > 250 ? 1 : 50) {
        set_option("IPV6_UNICAST_HOPS", s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, i);
        set_option("IPV6_TCLASS", s, IPPROTO_IPV6, IPV6_TCLASS, i);
        set_option("IP_TTL", s, IPPROTO_IP, IP_TTL, i);
        set_option("IP_TOS", s, IPPROTO_IP, IP_TOS, i & 0xfc);
        send_with("hops", s, a, IPPROTO_IPV6, IPV6_HOPLIMIT, &i, sizeof(i));
        receive_into(r, 256, MSG_PEEK);
        receive_into(r, 256, 0);
        v = i == -1 ? 0
                    : i; /* -1: Linux 6.18 sends 255, older ones what the socket says, as RFC 3542 has it */
        send_with("class", s, a, IPPROTO_IPV6, IPV6_TCLASS, &v, sizeof(v));
        receive_into(r, 256, 0);
        send_with("ttl", s, a, IPPROTO_IP, IP_TTL, &i, sizeof(i));
        receive_into(r, 256, 0);
        send_with("tos", s, a, IPPROTO_IP, IP_TOS, &i, sizeof(i));
        receive_into(r, 256, 0);
    }
    v = 8;
    send_with("tos as a byte", s, a, IPPROTO_IP, IP_TOS, &v, 1);
    send_with("ttl as a byte", s, a, IPPROTO_IP, IP_TTL, &v, 1);
    send_with("hops as a byte", s, a, IPPROTO_IPV6, IPV6_HOPLIMIT, &v, 1);
    send_with("class in 8 bytes", s, a, IPPROTO_IPV6, IPV6_TCLASS, zero, 8);
    send_with("info", s, a, IPPROTO_IP, IP_PKTINFO, zero, sizeof(struct in_pktinfo));
    send_with("info", s, a, IPPROTO_IPV6, IPV6_PKTINFO, zero, sizeof(struct in6_pktinfo));
    send_with("short info", s, a, IPPROTO_IPV6, IPV6_PKTINFO, zero, 16);
    send_with("unknown", s, a, IPPROTO_IPV6, 201, &v, 4);
    send_with("unknown", s, a, IPPROTO_IP, 201, &v, 4);
    send_with("of another level", s, a, IPPROTO_TCP, 1, &v, 4);
    for (socklen_t l = 0; l < 4; l++) {
        show("short IP_TTL", setsockopt(s, IPPROTO_IP, IP_TTL, &v, l));
        show("short IPV6_TCLASS", setsockopt(s, IPPROTO_IPV6, IPV6_TCLASS, &v, l));
    }
    (void)close(r);
    (void)close(s);
}

/* The number that the set reports, 0 for none. */
static unsigned reported(int set, int ms)
{
    struct epoll_event e = {0};

    return epoll_wait(set, &e, 1, ms) == 1 ? e.data.u32 : 0;
}

static long watch(int set, int fd, unsigned number, unsigned events)
{
    struct epoll_event e = {.events = events, .data.u32 = number};

    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
}

/* A socket is still watched when its peer has gone, and another may be where that was. */
static void test_peers_that_go(int kind)
{
    enum { PAIRS = 8 };
    int set = epoll_create1(0), old[PAIRS][2], s[PAIRS][2];
    char buf[8];

    for (unsigned i = 0; i < PAIRS; i++) {
        (void)socketpair(AF_UNIX, kind, 0, old[i]);
        (void)watch(set, old[i][0], 1, EPOLLIN);
    }
    for (unsigned i = 0; i < PAIRS; i++)
        (void)close(old[i][1]);
    for (unsigned i = 0; i < PAIRS; i++) {
        (void)socketpair(AF_UNIX, kind, 0, s[i]);
        (void)watch(set, s[i][0], 2 * i + 2, EPOLLIN);
        (void)watch(set, s[i][1], 2 * i + 3, EPOLLIN);
    }
    for (unsigned i = 0; i < PAIRS; i++)
        (void)close(old[i][0]);
    show("nothing", reported(set, 0));
    for (unsigned i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++) {
            (void)send(s[i][!side], "x", 1, 0);
            show("reported", reported(set, 1000));
            show("receive", recv(s[i][side], buf, 8, 0));
        }
    for (unsigned i = 0; i < PAIRS; i++) {
        (void)close(s[i][0]);
        (void)close(s[i][1]);
    }
    (void)close(set);
}

/* Who watches for room is told when the other side takes what was sent. */
static void test_room(int from, int to, int set)
{
    static char buf[65536];
    long sent = 0, taken = 0, n;

    (void)reported(set, 1000);
    while ((n = send(from, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
        sent += n;
    show("full", n);
    while (reported(set, 0))
        ;
    while (taken < sent && (n = recv(to, buf, sizeof(buf), 0)) > 0)
        taken += n;
    show("all of it", taken == sent);
    show("room", reported(set, 2000));
    (void)close(from);
    (void)close(to);
    (void)close(set);
}

static void test_who_watches(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}, s[2], set, l = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t n = sizeof(a);

    for (int i = 0; i < 3; i++) {
        test_peers_that_go(kinds[i]);
        (void)socketpair(AF_UNIX, kinds[i], 0, s);
        set = epoll_create1(0);
        show("watch", watch(set, s[0], 1, EPOLLOUT | EPOLLET));
        test_room(s[0], s[1], set);
    }
    (void)bind(l, (void *)&a, n);
    (void)listen(l, 1);
    (void)getsockname(l, (void *)&a, &n);
    s[0] = socket(AF_INET, SOCK_STREAM, 0);
    set = epoll_create1(0);
    show("watch before connect", watch(set, s[0], 1, EPOLLOUT | EPOLLET));
    show("connect", connect(s[0], (void *)&a, n));
    test_room(s[0], accept(l, NULL, NULL), set);
    (void)close(l);
}

int main(void)
{
    test_who_watches();
    test_lists();
    test_pairs();
    test_names();
    test_descriptors();
    test_tcp(AF_INET);
    test_tcp(AF_INET6);
    test_udp();
    test_ancillary(AF_INET6, AF_INET6);
    test_ancillary(AF_INET, AF_INET);
    test_ancillary(AF_INET, AF_INET6);
    test_ancillary(AF_INET6, AF_INET);
    return 0;
}
