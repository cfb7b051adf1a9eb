/*
 * An agent for measuring the ports. It answers every message on the queue port:
 *
 *   append N       appends N records one after the other, each acknowledged durable; answers "appended N
 * NANOSECONDS" stream         one streamed call to the model port; answers "chunks N TOTAL NS NS...": the
 * time from the first to the last chunk, and how late each was by the sender's clock (CLOCK_MONOTONIC is the
 * host's) anything else  is answered with itself
 *
 * The frames are a length and JSON (docs/ports.md). What this program reads comes from our own vault and
 * server, and it needs three members of it: a search for their names is enough for a measuring tool.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/inside/loops.h"

enum { FRAME = 262144, CHUNKS = 2048 };
static char frame[FRAME + 1];

static void all(int fd, void *data, size_t len, bool out)
{
    for (size_t done = 0; done < len;) {
        ssize_t n =
            out ? write(fd, (char *)data + done, len - done) : read(fd, (char *)data + done, len - done);
        if (n <= 0)
            loops_die("queue port");
        done += (size_t)n;
    }
}

/* Sends one request and leaves the answer in `frame`. */
static void ask(int fd, const char *request)
{
    uint32_t len = htonl((uint32_t)strlen(request));

    all(fd, &len, sizeof(len), true);
    all(fd, (void *)(uintptr_t)request, strlen(request), true);
    all(fd, &len, sizeof(len), false);
    len = ntohl(len);
    if (len > FRAME)
        loops_die("queue port: length");
    all(fd, frame, len, false);
    frame[len] = 0;
    if (!strstr(frame, "\"ok\":true"))
        loops_die(frame);
}

static int connect_to(const char *variable, const char *otherwise)
{
    const char *path = getenv(variable);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path ? path : otherwise);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        loops_die(a.sun_path);
    return fd;
}

static void append(int fd, const char *text, long consumed)
{
    static char request[FRAME];

    (void)snprintf(request, sizeof(request),
                   consumed ? "{\"op\":\"append\",\"kind\":\"message\",\"text\":\"%s\",\"consumed\":%ld}"
                            : "{\"op\":\"append\",\"kind\":\"message\",\"text\":\"%s\"}",
                   text, consumed);
    ask(fd, request);
}

static void append_many(int fd, long n, char *answer, size_t cap)
{
    uint64_t begin = loops_now();

    for (long i = 0; i < n; i++)
        append(fd,
               "a record of the benchmark, about a hundred bytes long, as a short answer of an agent would "
               "be, say",
               0);
    (void)snprintf(answer, cap, "appended %ld %llu", n, (unsigned long long)(loops_now() - begin));
}

/* Reads the whole answer line by line; a chunk's line says "t<nanoseconds>t". */
static void stream(char *answer, size_t cap)
{
    static const char body[] =
        "{\"model\":\"bench\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"go\"}]}";
    char head[256];
    int fd = connect_to("IRONCLAW_MODEL", "/run/ironclaw/model.sock");
    FILE *in = fdopen(fd, "r");
    static char line[8192], late[CHUNKS * 12];
    size_t used = 0;
    unsigned chunks = 0;
    uint64_t first = 0, last = 0;

    (void)snprintf(head, sizeof(head),
                   "POST /v1/chat/completions HTTP/1.1\r\nHost: model\r\nContent-Type: "
                   "application/json\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                   sizeof(body) - 1);
    all(fd, head, strlen(head), true);
    all(fd, (void *)(uintptr_t)body, sizeof(body) - 1, true);
    late[0] = 0;
    while (in && fgets(line, sizeof(line), in)) {
        const char *at = strstr(line, "\"t");
        uint64_t now = loops_now(), sent = at ? strtoull(at + 2, NULL, 10) : 0;
        if (!sent || sent > now || used + 24 >= sizeof(late))
            continue;
        chunks++;
        first = first ? first : now;
        last = now;
        used += (size_t)snprintf(late + used, sizeof(late) - used, " %llu", (unsigned long long)(now - sent));
    }
    if (in)
        (void)fclose(in);
    (void)snprintf(answer, cap, "chunks %u %llu%s", chunks, (unsigned long long)(last - first), late);
}

int ports_agent(void)
{
    static char text[FRAME], answer[CHUNKS * 12 + 64];
    int fd = connect_to("IRONCLAW_QUEUE", "/run/ironclaw/queue.sock");

    for (;;) {
        const char *at;
        long seq;
        ask(fd, "{\"op\":\"recv\",\"wait\":60}");
        at = strstr(frame, "\"seq\":");
        if (!at)
            continue;
        seq = strtol(at + 6, NULL, 10);
        at = strstr(frame, "\"text\":\"");
        (void)snprintf(text, sizeof(text), "%.*s", at ? (int)strcspn(at + 8, "\"\\") : 0, at ? at + 8 : "");
        if (!strncmp(text, "append ", 7))
            append_many(fd, strtol(text + 7, NULL, 10), answer, sizeof(answer));
        else if (!strcmp(text, "stream"))
            stream(answer, sizeof(answer));
        else
            (void)snprintf(answer, sizeof(answer), "%.24000s", text);
        append(fd, answer, seq);
    }
}
