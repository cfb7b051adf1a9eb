#include "config/syslog_target.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "base/io.h"

static bool parse_unix(const char *path, struct syslog_target *t)
{
    struct sockaddr_un *a = (struct sockaddr_un *)&t->address;

    a->sun_family = AF_UNIX;
    t->len = sizeof(*a);
    return *path == '/' && io_format(a->sun_path, sizeof(a->sun_path), "%s", path);
}

static bool parse_udp(const char *text, struct syslog_target *t)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&t->address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&t->address;
    const char *colon = strrchr(text, ':');
    char host[64];
    uint64_t port;
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';

    if (len == 0 || len >= sizeof(host) || !io_parse_u64(colon + 1, 65535, &port) || port == 0)
        return false;
    memcpy(host, text + (brackets ? 1 : 0), len - (brackets ? 2 : 0));
    host[len - (brackets ? 2 : 0)] = 0;
    if (!brackets && inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        t->len = sizeof(*four);
        return true;
    }
    if (!brackets || inet_pton(AF_INET6, host, &six->sin6_addr) != 1)
        return false;
    six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)port);
    t->len = sizeof(*six);
    return true;
}

bool syslog_target_parse(const char *text, struct syslog_target *t)
{
    memset(t, 0, sizeof(*t));
    if (!strncmp(text, "unix:", 5))
        return parse_unix(text + 5, t);
    return !strncmp(text, "udp:", 4) && parse_udp(text + 4, t);
}
