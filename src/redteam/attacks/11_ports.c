/*
 * Family 11: the ports themselves: frames and requests that are malformed, oversized, slow, half-closed or
 * too many, and requests that mean one thing to whoever checks them and another to whoever carries them out.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

enum {
    QUEUE_UNIX,
    QUEUE_TCP,
    MODEL_UNIX,
    MODEL_TCP,
    PORTS,
    QUEUE_PORT = 8470,
    MODEL_PORT = 8471,
    ANSWER_MAX = 65536,
    MANY = 2000,
    ALIVE_MS = 3000,
    PARALLEL_MS = 2000, /* for each port: a wall with a slow network takes what it can */
};

static const char *const port_names[PORTS] = {"queue-unix", "queue-tcp", "model-unix", "model-tcp"};

/* Connects; with SOCK_NONBLOCK without waiting for room in the port's queue. */
static int port_with(int which, int flags)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool tcp = which == QUEUE_TCP || which == MODEL_TCP;
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    in.sin_port = htons(which == QUEUE_TCP ? QUEUE_PORT : MODEL_PORT);
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "/run/ironclaw/%s.sock",
                   which == QUEUE_UNIX ? "queue" : "model");
    if (fd >= 0 &&
        connect(fd, tcp ? (struct sockaddr *)&in : (struct sockaddr *)&un, tcp ? sizeof(in) : sizeof(un)) <
            0 &&
        errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static int port(int which)
{
    return port_with(which, 0);
}

/* Reads until the other side closes, or nothing has come for `quiet_ms`. */
static size_t read_answer(int fd, char *buf, size_t cap, int quiet_ms)
{
    size_t have = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;
        if (have + 1 >= cap || poll(&p, 1, quiet_ms) <= 0 || (n = read(fd, buf + have, cap - 1 - have)) <= 0)
            break;
        have += (size_t)n;
    }
    for (size_t i = 0; i < have; i++) /* lengths of frames hold NUL */
        if (!buf[i])
            buf[i] = ' ';
    buf[have] = 0;
    return have;
}

static unsigned occurrences(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

/* Does the port still serve an honest client? */
static bool alive(int which)
{
    static const char hello[] = "\0\0\0\x0e{\"op\":\"hello\"}",
                      models[] = "GET /v1/models HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
    bool queue = which == QUEUE_UNIX || which == QUEUE_TCP;
    char buf[8192] = "";

    /* What was left open a moment ago may still count as open. */
    for (uint64_t until = now_ms() + ALIVE_MS; now_ms() < until;) {
        int fd = port(which);
        if (fd >= 0) {
            (void)send(fd, queue ? hello : models, (queue ? sizeof(hello) : sizeof(models)) - 1,
                       MSG_NOSIGNAL);
            (void)read_answer(fd, buf, sizeof(buf), 400);
            (void)close(fd);
        }
        if (strstr(buf, queue ? "\"ok\":true" : "HTTP/1.1 200"))
            return true;
        (void)usleep(20000);
    }
    return false;
}

static int alive_in_child(void *arg)
{
    return !alive(*(const int *)arg);
}

static void say_alive(void)
{
    for (int i = 0; i < PORTS; i++) {
        char name[48];
        bool yes = in_child(alive_in_child, &i, 2 * ALIVE_MS) == 0;
        (void)snprintf(name, sizeof(name), "alive-%s", port_names[i]);
        errno = ECONNREFUSED;
        step(name, yes ? 0 : -1);
        fact(name, "%d", yes);
    }
}

/* ---- queue: frames ---- */

struct frame {
    const char *name;
    uint32_t length; /* as it says; 0 with text: the text's own */
    const char *text;
    size_t text_len, repeat;
};

#define TEXT(t) t, sizeof(t) - 1
static const struct frame frames[] = {
    {"zero", 0, "", 0, 1},
    {"huge", 0xffffffff, TEXT("{}"), 1},
    {"one-too-long", 262145, TEXT("x"), 262145},
    {"longest-garbage", 262144, TEXT("x"), 262144},
    {"cut", 100, TEXT("{\"op\":\"hello\"}"), 1},
    {"not-json", 0, TEXT("hello"), 1},
    {"array", 0, TEXT("[{\"op\":\"hello\"}]"), 1},
    {"two-objects", 0, TEXT("{\"op\":\"hello\"}{\"op\":\"hello\"}"), 1},
    {"nul", 0, TEXT("{\"op\":\"he\0llo\"}"), 1},
    {"escaped-nul", 0, TEXT("{\"op\":\"hello\\u0000\"}"), 1},
    {"bad-utf8", 0, TEXT("{\"op\":\"append\",\"kind\":\"message\",\"text\":\"\xff\xfe\xc0\x80\"}"), 1},
    {"lone-surrogate", 0, TEXT("{\"op\":\"append\",\"kind\":\"message\",\"text\":\"\\ud800\"}"), 1},
    {"deep", 0, TEXT("["), 200000},
    {"unknown-op", 0, TEXT("{\"op\":\"delete\",\"seq\":1}"), 1},
    {"no-op", 0, TEXT("{}"), 1},
    {"op-number", 0, TEXT("{\"op\":1}"), 1},
    {"twice-op", 0, TEXT("{\"op\":\"hello\",\"op\":\"config\"}"), 1},
    {"huge-number", 0, TEXT("{\"op\":\"recv\",\"wait\":1e308}"), 1},
    {"negative-wait", 0, TEXT("{\"op\":\"recv\",\"wait\":-1}"), 1},
    {"consumed-far", 0,
     TEXT("{\"op\":\"append\",\"kind\":\"message\",\"text\":\"x\",\"consumed\":9223372036854775807}"), 1},
    {"kind-invented", 0, TEXT("{\"op\":\"append\",\"kind\":\"system\",\"text\":\"x\"}"), 1},
};

/* One frame on a connection of its own; nothing of this list is a request. */
static void send_frame(int which, const struct frame *f)
{
    size_t len = f->text_len * f->repeat;
    uint32_t head = htonl(f->length || !f->text_len ? f->length : (uint32_t)len);
    char *body = malloc(len + 1), answer[4096] = "", name[64];
    int fd = port(which);
    size_t n = 0;

    for (size_t i = 0; body && i < f->repeat; i++)
        memcpy(body + i * f->text_len, f->text, f->text_len);
    if (fd >= 0 && body) {
        (void)send(fd, &head, sizeof(head), MSG_NOSIGNAL);
        (void)send(fd, body, len, MSG_NOSIGNAL);
        if (!strcmp(f->name, "cut"))
            (void)shutdown(fd, SHUT_WR);
        n = read_answer(fd, answer, sizeof(answer), 60);
    }
    (void)snprintf(name, sizeof(name), "%s-%s", port_names[which], f->name);
    errno = EPROTO;
    stepf(name, strstr(answer, "\"ok\":true") ? (long)n : -1, "%.60s", n > 4 ? answer + 4 : "");
    if (strstr(answer, "\"ok\":true"))
        claim("the frame '%s' was accepted", f->name);
    if (fd >= 0)
        (void)close(fd);
    free(body);
}

static void queue_frames(const struct order *o)
{
    (void)o;
    for (int which = QUEUE_UNIX; which <= QUEUE_TCP; which++)
        for (size_t i = 0; i < sizeof(frames) / sizeof(*frames); i++)
            send_frame(which, &frames[i]);
    say_alive();
}

/* ---- model: requests ---- */

#define BODY       "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define BODY_LEN   "57"
#define POST(path) "POST " path " HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
#define INNER      "GET /v1/models HTTP/1.1\r\nHost: inner\r\n\r\n"

/* `answers`: how many requests an honest reader would find in it at most. */
static const struct {
    const char *name, *text;
    unsigned answers;
} requests[] = {
    {"length-and-chunked",
     POST("/v1/chat/completions") "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET "
                                  "/v1/models HTTP/1.1\r\nHost: inner\r\n\r\n",
     1},
    {"two-lengths",
     POST("/v1/chat/completions") "Content-Length: " BODY_LEN "\r\nContent-Length: 0\r\n\r\n" BODY INNER, 1},
    {"length-list", POST("/v1/chat/completions") "Content-Length: 0, " BODY_LEN "\r\n\r\n" BODY INNER, 1},
    {"length-plus", POST("/v1/chat/completions") "Content-Length: +" BODY_LEN "\r\n\r\n" BODY, 1},
    {"length-negative", POST("/v1/chat/completions") "Content-Length: -1\r\n\r\n" BODY, 0},
    {"length-huge", POST("/v1/chat/completions") "Content-Length: 99999999999999999999\r\n\r\n" BODY, 0},
    {"chunked-odd", POST("/v1/chat/completions") "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" INNER, 1},
    {"chunk-huge", POST("/v1/chat/completions") "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" BODY,
     0},
    {"folded",
     POST("/v1/chat/completions") "X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: " BODY_LEN
                                  "\r\n\r\n" BODY,
     1},
    {"blank-before-colon", POST("/v1/chat/completions") "Content-Length : " BODY_LEN "\r\n\r\n" BODY INNER,
     2},
    {"bare-lf", "GET /v1/models HTTP/1.1\nHost: m\n\nGET /admin HTTP/1.1\nHost: m\n\n", 1},
    {"nul-in-header", "GET /v1/models HTTP/1.1\r\nHost: m\r\nX: a\\0b\r\n\r\n", 1},
    {"no-version", "GET /v1/models\r\n\r\n", 1},
    {"version-9", "GET /v1/models HTTP/9.9\r\nHost: m\r\n\r\n", 0},
    {"connect", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 0},
    {"absolute", "GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nHost: x\r\n\r\n", 0},
    {"absolute-allowed-host", "GET http://127.0.0.1/v1/../admin HTTP/1.1\r\nHost: x\r\n\r\n", 0},
    {"host-elsewhere", "GET /v1/models HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 1},
    {"upgrade", "GET /v1/models HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 1},
    {"preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
    {"forwarded",
     "GET /v1/models HTTP/1.1\r\nHost: m\r\nX-Forwarded-Host: evil\r\nX-Original-URL: "
     "/admin\r\nX-HTTP-Method-Override: DELETE\r\n\r\n",
     1},
    {"method-odd", "DELETE /v1/messages HTTP/1.1\r\nHost: m\r\n\r\n", 0},
    {"trace", "TRACE /v1/models HTTP/1.1\r\nHost: m\r\n\r\n", 0},
};

static void ask_raw(int which, const char *label, const char *text, size_t len, unsigned allowed)
{
    char *answer = malloc(ANSWER_MAX), name[64];
    int fd = port(which);
    unsigned good;

    if (!answer)
        return;
    answer[0] = 0;
    if (fd >= 0) {
        (void)send(fd, text, len, MSG_NOSIGNAL);
        (void)read_answer(fd, answer, ANSWER_MAX, 100);
        (void)close(fd);
    }
    good = occurrences(answer, "HTTP/1.1 2") + occurrences(answer, "HTTP/1.0 2");
    (void)snprintf(name, sizeof(name), "%s-%s", port_names[which], label);
    errno = EPROTO;
    stepf(name, good > allowed ? (long)good : -1, "%u answered; %.40s", good, answer);
    if (good > allowed)
        claim("'%s' was answered %u times, at most %u would be right", label, good, allowed);
    free(answer);
}

static void model_requests(const struct order *o)
{
    size_t many = (size_t)1 << 20;
    char *big = malloc(many + 256);

    (void)o;
    for (int which = MODEL_UNIX; which <= MODEL_TCP; which++)
        for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
            ask_raw(which, requests[i].name, requests[i].text, strlen(requests[i].text), requests[i].answers);
    if (big) {
        int n = snprintf(big, 256, "GET /v1/models HTTP/1.1\r\nHost: m\r\nX-Long: ");
        memset(big + n, 'a', many);
        (void)snprintf(big + (size_t)n + many, 5, "\r\n\r\n");
        ask_raw(MODEL_UNIX, "header-1mib", big, (size_t)n + many + 4, 0);
        n = snprintf(big, 256, "GET /v1/");
        memset(big + n, 'a', many);
        ask_raw(MODEL_UNIX, "path-1mib", big, (size_t)n + many, 0);
        memset(big, '\n', many);
        ask_raw(MODEL_UNIX, "newlines-1mib", big, many, 0);
        for (size_t i = 0; i < many; i++)
            big[i] = (char)(i * 2654435761U >> 13);
        ask_raw(MODEL_UNIX, "noise-1mib", big, many, 0);
        free(big);
    }
    say_alive();
}

static void model_paths(const struct order *o)
{
    static const char *const paths[] = {"/",
                                        "/v1",
                                        "/v1/",
                                        "/v1/files",
                                        "/v1/fine_tuning/jobs",
                                        "/v1/organization/api_keys",
                                        "/v1/messages/batches",
                                        "/v1/messages/",
                                        "//v1/messages",
                                        "/v1//messages",
                                        "/v1/./messages",
                                        "/v1/messages/../files",
                                        "/v1/messages/%2e%2e/files",
                                        "/v1/%6dessages",
                                        "/v1/messages%2f..%2ffiles",
                                        "/v1/messages;a=b",
                                        "/v1/messages%00",
                                        "/v1/messages%0d%0aX: y",
                                        "/V1/messages",
                                        "/v1/messages/count_tokens/x",
                                        "/v1/models/../files",
                                        "/v1/models/x",
                                        "/..;/v1/files",
                                        "/v1/messages\\..\\files",
                                        "/v1/chat/completions/../../../admin",
                                        "*",
                                        "v1/messages",
                                        "?/v1/messages",
                                        "/#/v1/messages",
                                        "/v1/messages#/../files"};
    char text[512], name[32];

    (void)o;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        for (int get = 0; get < 2; get++) {
            int n = snprintf(text, sizeof(text),
                             "%s %s HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Type: "
                             "application/json\r\nContent-Length: %s\r\n\r\n%s",
                             get ? "GET" : "POST", paths[i], get ? "0" : BODY_LEN, get ? "" : BODY);
            (void)snprintf(name, sizeof(name), "path-%zu", i);
            ask_raw(i % 2 ? MODEL_TCP : MODEL_UNIX, name, text, (size_t)n, 0);
        }
    step("paths", (long)(sizeof(paths) / sizeof(*paths)));
    say_alive();
}

/* Asks in another's name. "victim": its session. */
static void another_budget(const struct order *o)
{
    const char *victim = order_text(o, "victim");
    char text[1024], answer[8192];
    unsigned good = 0;

    for (int i = 0; i < 6; i++) {
        int fd = port(i % 2 ? MODEL_TCP : MODEL_UNIX);
        int n = snprintf(text, sizeof(text),
                         "POST /v1/chat/completions?session=%s HTTP/1.1\r\nHost: %s\r\nContent-Type: "
                         "application/json\r\nAuthorization: Bearer %s\r\n"
                         "X-Session: %s\r\nX-Ironclaw-Session: %s\r\nCookie: session=%s\r\nContent-Length: "
                         "%s\r\nConnection: close\r\n\r\n%s",
                         victim, victim, victim, victim, victim, victim, BODY_LEN, BODY);
        if (fd < 0)
            continue;
        (void)send(fd, text, (size_t)n, MSG_NOSIGNAL);
        (void)read_answer(fd, answer, sizeof(answer), 1000);
        good += occurrences(answer, "HTTP/1.1 200");
        (void)close(fd);
    }
    stepf("ask", (long)good, "%u calls were answered", good);
    fact("calls", "%u", good);
}

/* ---- many, slow, half ---- */

/* In a child: a wall may make a connection to a full port wait, whatever was asked for. */
static int flood_port(void *arg)
{
    int which = *(const int *)arg, n = 0, refused = 0;
    struct rlimit all;

    if (getrlimit(RLIMIT_NOFILE, &all) == 0) {
        all.rlim_cur = all.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &all);
    }
    for (uint64_t until = now_ms() + PARALLEL_MS; n < MANY && refused < 20 && now_ms() < until;) {
        int fd = port_with(which, SOCK_NONBLOCK);
        refused += fd < 0;
        n += fd >= 0;
        if (fd >= 0)
            (void)send(fd, "\0", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    stepf(port_names[which], n, "%d connections, %d refused", n, refused);
    return 0;
}

static void parallel(const struct order *o)
{
    bool all = order_number(o, "unix") != 0;

    for (int which = 0; which < PORTS; which++) {
        if (!all && (which == QUEUE_UNIX || which == MODEL_UNIX))
            continue;
        if (in_child(flood_port, &which, 3 * PARALLEL_MS) != 0) {
            errno = EAGAIN;
            stepf(port_names[which], -1, "a connection was made to wait");
        }
    }
    fact("unix", "%d", all);
    say_alive();
}

static void slow(const struct order *o)
{
    static const char head[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n\r\n",
                      frame[] = "\0\0\1\0{\"op\"";
    int fds[PORTS * 8];
    size_t n = 0;

    (void)o;
    for (int which = 0; which < PORTS; which++)
        for (int i = 0; i < 8; i++) { /* under the limit of connections: they stay */
            bool queue = which == QUEUE_UNIX || which == QUEUE_TCP;
            int fd = i < 6 || !queue ? port(which) : -1;
            if (fd < 0)
                continue;
            if (i % 2)
                (void)send(fd, queue ? frame : head, 5, MSG_NOSIGNAL); /* and then a byte from time to time */
            else
                (void)send(fd, queue ? frame : head, (queue ? sizeof(frame) : sizeof(head)) - 1,
                           MSG_NOSIGNAL);
            if (i % 4 == 2)
                (void)shutdown(fd, SHUT_WR);
            if (i % 4 == 3)
                (void)shutdown(fd, SHUT_RD);
            fds[n++] = fd;
        }
    stepf("open", (long)n, "%zu slow connections", n);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < n; i++)
            (void)send(fds[i], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)usleep(100000);
    }
    for (size_t i = 0; i < n; i++)
        (void)close(fds[i]);
    say_alive();
}

const struct inside_attack inside_ports[] = {
    {"port.queue-frames", queue_frames},
    {"port.model-requests", model_requests},
    {"port.model-paths", model_paths},
    {"port.budget", another_budget},
    {"port.parallel", parallel},
    {"port.slow", slow},
    {NULL, NULL},
};
