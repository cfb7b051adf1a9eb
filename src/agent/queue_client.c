#include "agent/queue_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { QUEUE_TCP_PORT = 8470 };

int queue_connect(struct queue *q, struct err *e)
{
    const char *path = getenv("IRONCLAW_QUEUE");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(QUEUE_TCP_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool tcp = !path || !*path;
    CLEANUP_CLOSE int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    q->fd = -1;
    if (!tcp && !io_format(un.sun_path, sizeof(un.sun_path), "%s", path))
        return err_set(e, ENAMETOOLONG, "IRONCLAW_QUEUE is longer than a socket path may be");
    if (fd < 0 ||
        connect(fd, tcp ? (struct sockaddr *)&in : (struct sockaddr *)&un, tcp ? sizeof(in) : sizeof(un)) < 0)
        return err_sys(e, errno, "cannot connect to the queue port %s", tcp ? "127.0.0.1:8470" : path);
    q->fd = TAKE_FD(fd);
    return 0;
}

void queue_close(struct queue *q)
{
    if (q->fd >= 0)
        (void)close(q->fd);
    q->fd = -1;
}

static json_t *lost(struct queue *q, struct err *e, const char *what)
{
    (void)err_sys(e, errno ? errno : EPIPE, "the queue port %s", what);
    queue_close(q);
    return NULL;
}

json_t *queue_call(struct queue *q, json_t *request, struct err *e)
{
    CLEANUP_FREE char *text = json_dumps(request, JSON_COMPACT), *answer = NULL;
    size_t len = text ? strlen(text) : 0;
    uint32_t head = htonl((uint32_t)len);
    json_t *doc;

    json_decref(request);
    if (len < 1 || len > QUEUE_FRAME_MAX) {
        (void)err_set(e, EMSGSIZE, "a request of %zu bytes does not fit into a queue frame", len);
        return NULL;
    }
    errno = 0;
    if (io_write_all(q->fd, &head, sizeof(head)) < 0 || io_write_all(q->fd, text, len) < 0)
        return lost(q, e, "does not take requests");
    if (io_read_full(q->fd, &head, sizeof(head)) != (ssize_t)sizeof(head))
        return lost(q, e, "closed the connection");
    len = ntohl(head);
    if (len < 1 || len > QUEUE_FRAME_MAX)
        return lost(q, e, "sent a frame of a wrong length");
    answer = x_malloc(len);
    if (io_read_full(q->fd, answer, len) != (ssize_t)len)
        return lost(q, e, "closed the connection within a frame");
    doc = json_loadb(answer, len, 0, NULL);
    if (!json_is_object(doc)) {
        json_decref(doc);
        return lost(q, e, "sent something that is not a JSON object");
    }
    if (!json_is_true(json_object_get(doc, "ok"))) {
        const char *why = json_string_value(json_object_get(json_object_get(doc, "error"), "message"));
        (void)err_set(e, EPROTO, "%s", why ? why : "the queue port refused the request");
        json_decref(doc);
        return NULL;
    }
    return doc;
}

int queue_append(struct queue *q, const char *kind, const char *text, uint64_t consumed, struct err *e)
{
    CLEANUP_FREE char *clean = text_clean(text, strlen(text), QUEUE_TEXT_MAX);
    json_t *request = json_pack("{s:s, s:s, s:s}", "op", "append", "kind", kind, "text", clean);
    json_t *answer;

    if (consumed > 0)
        (void)json_object_set_new(request, "consumed", json_integer((json_int_t)consumed));
    answer = queue_call(q, request, e);
    json_decref(answer);
    return answer ? 0 : -1;
}

/* Length of the valid UTF-8 sequence at p (at most `left` bytes), or 0. Overlong forms and surrogates are not
 * valid. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : (p[0] & 0xf0) == 0xe0       ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;

    if (n == 0 || n > left || p[0] == 0)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

char *text_clean(const char *bytes, size_t len, size_t max)
{
    static const char note[] = "\n[cut here: %zu of %zu bytes shown]";
    const unsigned char *p = (const unsigned char *)bytes;
    char *out = x_malloc((len < max ? len : max) + 128);
    size_t used = 0, at = 0;

    while (at < len && used < max) {
        size_t n = utf8_length(p + at, len - at);
        if (n == 0) {
            out[used++] = '?';
            at++;
            continue;
        }
        if (used + n > max)
            break;
        memcpy(out + used, p + at, n);
        used += n;
        at += n;
    }
    out[used] = 0;
    if (at < len)
        (void)snprintf(out + used, 128, note, at, len);
    return out;
}
