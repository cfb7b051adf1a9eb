#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

enum { ANSWER_MAX = 262144 };

int queue_open(void)
{
    const char *path = getenv("IRONCLAW_QUEUE");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path ? path : "/run/ironclaw/queue.sock");
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static bool transfer(int fd, void *data, size_t len, bool out)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = out ? send(fd, p, len, MSG_NOSIGNAL) : recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

char *queue_ask(int fd, const char *json, size_t len)
{
    uint32_t head = htonl((uint32_t)len);
    char *answer;

    if (!transfer(fd, &head, sizeof(head), true) || !transfer(fd, (char *)(uintptr_t)json, len, true) ||
        !transfer(fd, &head, sizeof(head), false))
        return NULL;
    len = ntohl(head);
    if (len < 1 || len > ANSWER_MAX || !(answer = calloc(len + 1, 1)))
        return NULL;
    if (!transfer(fd, answer, len, false)) {
        free(answer);
        return NULL;
    }
    return answer;
}

/* What follows "key": in `json`; the host writes JSON without blanks. */
static const char *member(const char *json, const char *key)
{
    char name[80];
    const char *at;

    (void)snprintf(name, sizeof(name), "\"%s\":", key);
    at = strstr(json, name);
    return at ? at + strlen(name) : NULL;
}

static unsigned hex4(const char *p)
{
    char digits[5] = {0};

    memcpy(digits, p, strnlen(p, 4));
    return (unsigned)strtoul(digits, NULL, 16);
}

char *json_text(const char *json, const char *key)
{
    const char *p = member(json, key);
    char *out, *q;

    if (!p || *p != '"' || !(out = q = malloc(strlen(p) + 1)))
        return NULL;
    for (p++; *p && *p != '"'; p++) {
        if (*p != '\\') {
            *q++ = *p;
            continue;
        }
        p++;
        if (*p == 'u') {
            unsigned c = hex4(p + 1);
            *q++ = (char)(c < 128 ? c : '?');
            p += strnlen(p, 4);
        } else if (*p) {
            *q++ = (char)(*p == 'n' ? '\n' : *p == 't' ? '\t' : *p == 'r' ? '\r' : *p);
        }
        if (!*p)
            break;
    }
    *q = 0;
    return out;
}

long long json_number(const char *json, const char *key)
{
    const char *p = member(json, key);

    return p ? strtoll(p, NULL, 10) : 0;
}

char *queue_append_request(const char *kind, const char *text, long long consumed)
{
    size_t cap = 2 * strlen(text) + 160;
    char *out = malloc(cap);
    size_t n;

    if (!out)
        return NULL;
    n = (size_t)snprintf(out, cap, "{\"op\":\"append\",\"kind\":\"%s\",\"text\":\"", kind);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            out[n++] = '\\';
        if (*text == '\n') {
            out[n++] = '\\';
            out[n++] = 'n';
        } else {
            out[n++] = *text;
        }
    }
    out[n++] = '"';
    if (consumed > 0)
        n += (size_t)snprintf(out + n, cap - n, ",\"consumed\":%lld", consumed);
    out[n++] = '}';
    out[n] = 0;
    return out;
}
