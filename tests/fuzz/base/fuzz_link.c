/*
 * A peer that may send anything: the input is cut into frames (two bytes of length before each) that are sent
 * over a socket pair to a link with a few rules; the fields inside are read with wire_get_*.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/link.h"

/* Instead of base/log.c: a line for every peer that is cut off would be all that is ever seen. */
void log_name(const char *name)
{
    (void)name;
}
#define SILENT(level)                                                                                        \
    void level(const char *fmt, ...)                                                                         \
    {                                                                                                        \
        (void)fmt;                                                                                           \
    }
SILENT(log_info)
SILENT(log_warn)
SILENT(log_error)

static bool on_fields(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char text[16];
    size_t len;
    CLEANUP_FREE char *copy = NULL;

    (void)ctx;
    (void)wire_get_u8(in);
    wire_get_str(in, text, sizeof(text));
    (void)wire_get_bytes(in, 64, &len);
    copy = wire_get_strdup(in, 32);
    (void)wire_get_u64(in);
    if (strlen(text) >= sizeof(text) || len > 64 || (copy && strlen(copy) > 32))
        abort();
    return wire_in_done(in) && (req->id == 0 || link_reply(req->link, req->id, false, NULL, NULL, 0) == 0);
}

static void on_answer(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    (void)ok;
    (void)fds;
    (void)nfds;
    (void)wire_get_u32(in);
    if (!more)
        ++*(int *)arg;
}

static void on_closed(void *arg, struct link *l, const char *why)
{
    (void)l;
    (void)why;
    *(struct link **)arg = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct link_rule rules[] = {{1, "fields", 0, WIRE_MAX, 0, on_fields},
                                             {2, "fixed", 17, 32, 0, on_fields},
                                             {3, "fd", 0, 8, 1, on_fields}};
    struct event_base *base = event_base_new();
    struct link *l;
    int pair[2], answers[2] = {0, 0};

    if (!base || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    l = link_new(base, pair[0], "fuzzer", rules, ARRAY_LEN(rules), NULL, on_closed, &l);
    for (int i = 0; i < 2; i++)
        (void)link_call(l, 9, NULL, NULL, 0, on_answer, &answers[i]);
    while (size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        (void)send(pair[1], data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        data += len;
        size -= len;
    }
    if (l)
        link_close(l, "the input ended");
    (void)event_base_loop(base, EVLOOP_NONBLOCK);
    if (answers[0] != 1 || answers[1] != 1)
        abort(); /* each call is answered exactly once */
    (void)close(pair[1]);
    event_base_free(base);
    return 0;
}
