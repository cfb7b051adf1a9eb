/*
 * url.c - a strict reading of scheme://host[:port][/path].
 *
 * Everything with two readings is refused: user names, queries, fragments, backslashes, percent signs, spaces
 * and control characters. "Loopback" means a numeric address of 127.0.0.0/8, [::1], or the name localhost,
 * because any other name may resolve to anything by the time it is used.
 */
#include "config/url.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/io.h"

static bool is_loopback(const char *host)
{
    struct in_addr v4;

    if (!strcmp(host, "localhost") || !strcmp(host, "[::1]"))
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool is_host(const char *host)
{
    struct in6_addr v6;
    char inner[64];
    size_t len = strlen(host);

    if (host[0] == '[') {
        if (len < 4 || len > sizeof(inner) || host[len - 1] != ']')
            return false;
        memcpy(inner, host + 1, len - 2);
        inner[len - 2] = 0;
        return inet_pton(AF_INET6, inner, &v6) == 1;
    }
    return len > 0 && len <= 253 && host[0] != '.' && host[0] != '-' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == len;
}

const char *url_check(const char *url)
{
    bool tls = !strncmp(url, "https://", 8);
    char host[300];
    const char *rest, *colon;
    size_t len;
    uint64_t port;

    if (!tls && strncmp(url, "http://", 7) != 0)
        return "must start with https:// (or http:// for a loopback address)";
    rest = url + (tls ? 8 : 7);
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || strchr("@?#\\%\"<>", *p))
            return "must be a plain URL without user name, query, fragment, spaces or escapes";
    len = strcspn(rest, "/");
    if (len == 0 || len >= sizeof(host))
        return "must name a host";
    memcpy(host, rest, len);
    host[len] = 0;
    colon = strrchr(host, ':');
    if (colon && !strchr(colon, ']')) {
        if (!io_parse_u64(colon + 1, 65535, &port) || port == 0)
            return "has a port that is not between 1 and 65535";
        host[colon - host] = 0;
    }
    if (!is_host(host))
        return "has a host that is neither a name nor an address";
    if (!tls && !is_loopback(host))
        return "must use https:// because its host is not a loopback address";
    if (strstr(rest + len, "/../") || strstr(rest + len, "/./"))
        return "must not have '.' or '..' in its path";
    return NULL;
}
