#include "events/sink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "events/syslog.h"

/* fstat(2) by its own number: the C library's takes one that could name files. */
static bool describe(int fd, struct stat *st)
{
    return syscall(SYS_fstat, fd, st) == 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    sink_push(arg);
}

void sink_close(struct sink *s)
{
    if (s->writable)
        event_free(s->writable);
    s->writable = NULL;
    if (s->fd >= 0)
        (void)close(s->fd);
    s->fd = -1;
}

void sink_opened(struct event_base *base, struct sink *s, int fd, const char *why)
{
    struct stat st;

    s->asking = false;
    if (fd < 0) {
        if (!s->told)
            log_warn("events are not written to %s: %s; it is tried again", s->name, why);
        s->told = true;
        return;
    }
    sink_close(s);
    s->fd = fd;
    s->size = describe(fd, &st) && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    if (s->kind == EVENT_SINK_SYSLOG) {
        s->writable = event_new(base, fd, EV_WRITE, on_writable, s); /* a file cannot be waited for */
        syslog_host(s->host);
    }
    if (s->partial)
        s->partial_at = 0; /* the file is another one */
    s->partial = 0;
    sink_push(s);
}

static void broken(struct sink *s, int code)
{
    if (!s->told)
        log_warn("events cannot be written to %s: %s; it is tried again, and what does not fit until then is "
                 "dropped",
                 s->name, strerror(code));
    s->told = true;
}

/* All of them return 1 when the event is out, 0 to wait, -1 when the descriptor is of no use any more. */
static int send_datagram(struct sink *s, const struct ring_item *i)
{
    char message[SYSLOG_MAX];
    size_t len = syslog_message(i->type, i->time_ms, s->host, i->text, message);

    if (send(s->fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 1;
    if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
        return 0;
    if (errno == EMSGSIZE)
        return 1; /* it never will */
    broken(s, errno);
    return -1;
}

static int append_line(struct sink *s, const struct ring_item *i)
{
    char line[EVENT_LINE_MAX + 2];
    size_t len = 0;
    ssize_t n;

    if (s->partial && s->partial != i->seq) {
        line[len++] = '\n'; /* the rest of that one is gone from the ring */
        s->partial = 0;
        s->partial_at = 0;
    }
    memcpy(line + len, i->text, i->len);
    len += i->len;
    line[len++] = '\n';
    n = write(s->fd, line + s->partial_at, len - s->partial_at);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            broken(s, errno);
        return 0;
    }
    s->size += (uint64_t)n;
    if ((size_t)n < len - s->partial_at) {
        s->partial = i->seq;
        s->partial_at += (size_t)n;
        return 0;
    }
    s->partial = 0;
    s->partial_at = 0;
    if (s->max_size > 0 && s->size >= s->max_size && !s->asking) {
        s->asking = true;
        s->ask(s, true);
    }
    return 1;
}

void sink_push(struct sink *s)
{
    const struct ring_item *i;

    while (s->fd >= 0 && (i = ring_after(s->ring, s->cursor))) {
        int rc = s->kind == EVENT_SINK_SYSLOG ? send_datagram(s, i) : append_line(s, i);
        if (rc < 0) {
            sink_close(s);
            return;
        }
        if (rc == 0) {
            if (s->writable)
                (void)event_add(s->writable, NULL);
            return;
        }
        s->told = false;
        s->cursor = i->seq;
        s->written++;
    }
}

bool sink_tick(struct sink *s)
{
    struct stat st;

    if (!s->configured)
        return false;
    if (s->fd >= 0 && s->kind == EVENT_SINK_JSONL && describe(s->fd, &st) && st.st_nlink == 0) {
        log_warn("the file that events are written to was removed; it is opened again");
        sink_close(s);
    }
    if (s->fd < 0 && !s->asking) {
        s->asking = true;
        s->ask(s, false);
    }
    sink_push(s);
    return ring_after(s->ring, s->cursor) != NULL;
}

void sink_evicted(struct sink *s, const struct ring_item *item)
{
    if (s->configured && item->seq > s->cursor && item->type != EVENT_DROPPED)
        s->dropped++; /* that drops are told of must not itself be something to tell of */
}
