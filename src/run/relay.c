#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/io.h"
#include "run/run.h"
#include "walls/handover.h"

static struct termios saved;

int relay_prepare(struct relay *r, bool terminal, struct err *e)
{
    *r = (struct relay){.inside = {-1, -1, -1}, .pumps = {-1, -1, -1}, .master = -1};
    for (int i = 0; i < 3 && !terminal; i++) {
        int ends[2];
        if (fcntl(i, F_GETFD) < 0)
            continue; /* closed in the caller: /dev/null inside */
        if (!isatty(i)) {
            r->inside[i] = i;
            continue;
        }
        if (pipe2(ends, O_CLOEXEC) < 0)
            return err_sys(e, errno, "cannot create a pipe");
        r->inside[i] = i == 0 ? ends[0] : ends[1];
        r->pumps[i] = i == 0 ? ends[1] : ends[0];
        r->made[i] = true;
    }
    return 0;
}

static void copy_window_size(int master)
{
    struct winsize size;

    if (ioctl(0, TIOCGWINSZ, &size) == 0)
        (void)ioctl(master, TIOCSWINSZ, &size);
}

/* Room to read into, once what was read before has been written. */
static bool is_hungry(const struct flow *f)
{
    return f->from >= 0 && f->at == f->len;
}

static bool has_output(const struct flow *f)
{
    return f->to >= 0 && f->at < f->len;
}

/* Returns false at end of file or error. Called when poll says that there is something. */
static bool flow_read(struct flow *f)
{
    ssize_t n = read(f->from, f->data, sizeof(f->data));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    f->at = 0;
    f->len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* Writes what the other side takes now. Returns false when it takes nothing any more. */
static bool flow_write(struct flow *f)
{
    ssize_t n = write(f->to, f->data + f->at, f->len - f->at);

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    f->at += (size_t)n;
    return true;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* The caller's input ended: a terminal gets its end-of-file character, a pipe is closed once all of it was
 * written. */
static void end_input(struct relay *r)
{
    struct flow *f = &r->flows[0];

    f->from = -1;
    if (r->master >= 0 && f->to >= 0) {
        f->data[0] = 4; /* ^D */
        f->at = 0;
        f->len = 1;
    } else {
        close_fd(&r->pumps[0]);
        f->to = -1;
    }
}

/* Our end of a pipe of the workload's, or the terminal: struct sandbox owns that one. */
static void end_output(struct relay *r, int i)
{
    r->flows[i].from = r->flows[i].to = -1;
    if (r->master >= 0 && i == 1)
        r->master = r->flows[0].to = -1;
    close_fd(&r->pumps[i]);
}

static void set_nonblocking(int fd)
{
    int flags = fd >= 0 ? fcntl(fd, F_GETFL) : -1;

    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void relay_started(struct relay *r, int master)
{
    struct termios raw;

    for (int i = 0; i < 3; i++)
        if (r->made[i])
            (void)close(r->inside[i]);
    r->master = master;
    /* Ours never block: a workload that does not read must not keep us from its output, its end or the
     * timeout. The caller's own descriptors are shared with other programs and stay as they are; poll says
     * when they take something. */
    set_nonblocking(master);
    set_nonblocking(r->pumps[0]);
    r->flows[0] = (struct flow){.from = master >= 0 || r->pumps[0] >= 0 ? 0 : -1,
                                .to = master >= 0 ? master : r->pumps[0]};
    r->flows[1] = (struct flow){.from = master >= 0 ? master : r->pumps[1], .to = 1};
    r->flows[2] = (struct flow){.from = r->pumps[2], .to = 2};
    if (master < 0 || tcgetattr(0, &saved) < 0)
        return;
    copy_window_size(master);
    raw = saved;
    cfmakeraw(&raw);
    r->raw = tcsetattr(0, TCSADRAIN, &raw) == 0;
}

static void forward_signal(struct relay *r, const struct sandbox *s, const struct wall_ops *wall, int signals)
{
    struct signalfd_siginfo info;

    if (read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH && r->master >= 0)
        copy_window_size(r->master);
    (void)wall->signal(s, (int)info.ssi_signo);
}

/* Asks poll for what each flow can do next: its source while it is empty, else its target. */
static void prepare(const struct relay *r, struct pollfd *from, struct pollfd *to)
{
    for (int i = 0; i < 3; i++) {
        from[i] = (struct pollfd){.fd = is_hungry(&r->flows[i]) ? r->flows[i].from : -1, .events = POLLIN};
        to[i] = (struct pollfd){.fd = has_output(&r->flows[i]) ? r->flows[i].to : -1, .events = POLLOUT};
    }
}

static void move(struct relay *r, const struct pollfd *from, const struct pollfd *to)
{
    for (int i = 0; i < 3; i++) {
        struct flow *f = &r->flows[i];
        if ((from[i].fd >= 0 && from[i].revents && !flow_read(f)) ||
            (to[i].fd >= 0 && to[i].revents && f->to >= 0 && !flow_write(f))) {
            if (i == 0)
                end_input(r);
            else
                end_output(r, i);
        }
    }
}

int relay_run(struct relay *r, const struct sandbox *s, const struct wall_ops *wall, int signals,
              uint64_t deadline_ns, struct run_events *ev)
{
    enum { END, SIGNALS, LISTENER, FROM, TO = FROM + 3, COUNT = TO + 3 };

    for (;;) {
        struct pollfd p[COUNT] = {[END] = {.fd = handover_end_fd(s), .events = POLLIN},
                                  [SIGNALS] = {.fd = signals, .events = POLLIN},
                                  [LISTENER] = {.fd = ev->listener, .events = POLLIN}};
        uint64_t now = deadline_ns || ev->flush_at ? io_monotonic_ns() : 0, next = deadline_ns;
        int wait = -1;
        prepare(r, p + FROM, p + TO);
        if (deadline_ns && now >= deadline_ns)
            return 1;
        if (ev->flush_at && now >= ev->flush_at)
            run_events_flush(ev);
        if (ev->flush_at && (!next || ev->flush_at < next))
            next = ev->flush_at;
        if (next)
            wait = next <= now                        ? 0
                   : (next - now) / 1000000 < INT_MAX ? (int)((next - now) / 1000000 + 1)
                                                      : INT_MAX;
        if (poll(p, COUNT, wait) < 0) {
            if (errno != EINTR)
                return 0;
            continue;
        }
        move(r, p + FROM, p + TO);
        if (p[LISTENER].revents)
            run_events_readable(ev);
        if (p[SIGNALS].revents)
            forward_signal(r, s, wall, signals);
        if (p[END].revents)
            return 0;
    }
}

void relay_finish(struct relay *r)
{
    /* Everything inside is dead: what is left in the pipes and the terminal is all there will ever be. */
    for (int i = 1; i < 3; i++) {
        struct flow *f = &r->flows[i];
        while (f->to >= 0 && io_write_all(f->to, f->data + f->at, f->len - f->at) == 0 && f->from >= 0) {
            ssize_t n = read(f->from, f->data, sizeof(f->data)); /* a terminal without a slave answers EIO */
            f->at = 0;
            f->len = n > 0 ? (size_t)n : 0;
            if (n <= 0)
                break;
        }
    }
    for (int i = 0; i < 3; i++)
        close_fd(&r->pumps[i]);
    if (r->raw)
        (void)tcsetattr(0, TCSADRAIN, &saved);
}
