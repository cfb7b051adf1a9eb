#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/io.h"
#include "run/run.h"

static struct termios saved;

int relay_prepare(struct relay *r, bool terminal, struct err *e)
{
    *r = (struct relay){.inside = {-1, -1, -1}, .pumps = {-1, -1, -1}, .master = -1, .stdin_open = true};
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

void relay_started(struct relay *r, int master)
{
    struct termios raw;

    for (int i = 0; i < 3; i++)
        if (r->made[i])
            (void)close(r->inside[i]);
    r->master = master;
    if (master < 0 || tcgetattr(0, &saved) < 0)
        return;
    copy_window_size(master);
    raw = saved;
    cfmakeraw(&raw);
    r->raw = tcsetattr(0, TCSADRAIN, &raw) == 0;
}

/* Copies what is there once. Returns false at end of file or error. */
static bool pump(int from, int to)
{
    char buf[16384];
    ssize_t n;

    do {
        n = read(from, buf, sizeof(buf));
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return true;
    return n > 0 && io_write_all(to, buf, (size_t)n) == 0;
}

/* ^D on the caller's side: a terminal gets its end-of-file character, a pipe is closed. */
static void end_input(struct relay *r)
{
    static const char eot = 4;

    r->stdin_open = false;
    if (r->master >= 0)
        (void)!write(r->master, &eot, 1);
    else if (r->pumps[0] >= 0) {
        (void)close(r->pumps[0]);
        r->pumps[0] = -1;
    }
}

static void pump_output(struct relay *r, int i)
{
    if (pump(r->pumps[i], i))
        return;
    (void)close(r->pumps[i]);
    r->pumps[i] = -1;
}

static void pump_terminal(struct relay *r)
{
    if (pump(r->master, 1))
        return;
    r->master = -1; /* hung up: the workload closed it; struct sandbox owns the descriptor */
}

int relay_run(struct relay *r, const struct sandbox *s, const struct wall_ops *wall, int signals, uint64_t deadline_ns)
{
    enum { PIDFD, SIGNALS, INPUT, MASTER, OUT, ERR, COUNT };

    for (;;) {
        struct pollfd p[COUNT] = {
            [PIDFD] = {.fd = s->pidfd, .events = POLLIN}, [SIGNALS] = {.fd = signals, .events = POLLIN},
            [INPUT] = {.fd = r->stdin_open && (r->master >= 0 || r->pumps[0] >= 0) ? 0 : -1, .events = POLLIN},
            [MASTER] = {.fd = r->master, .events = POLLIN},
            [OUT] = {.fd = r->pumps[1], .events = POLLIN}, [ERR] = {.fd = r->pumps[2], .events = POLLIN},
        };
        uint64_t now = deadline_ns ? io_monotonic_ns() : 0;
        int wait = -1;
        if (deadline_ns) {
            if (now >= deadline_ns)
                return 1;
            wait = (int)((deadline_ns - now) / 1000000 + 1);
        }
        if (poll(p, COUNT, wait) < 0 && errno != EINTR)
            return 0;
        if (p[INPUT].revents && !pump(0, r->master >= 0 ? r->master : r->pumps[0]))
            end_input(r);
        if (p[MASTER].revents)
            pump_terminal(r);
        if (p[OUT].revents)
            pump_output(r, 1);
        if (p[ERR].revents)
            pump_output(r, 2);
        if (p[SIGNALS].revents) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                if (info.ssi_signo == SIGWINCH && r->master >= 0)
                    copy_window_size(r->master);
                (void)wall->signal(s, (int)info.ssi_signo);
            }
        }
        if (p[PIDFD].revents)
            return 0;
    }
}

void relay_finish(struct relay *r)
{
    /* Everything inside is dead: what is left in the pipes and the terminal is all there will ever be. */
    if (r->master >= 0) {
        (void)fcntl(r->master, F_SETFL, O_NONBLOCK);
        for (int guard = 0; guard < 64; guard++) {
            char buf[16384];
            ssize_t n = read(r->master, buf, sizeof(buf));
            if (n <= 0)
                break;
            (void)io_write_all(1, buf, (size_t)n);
        }
    }
    for (int i = 1; i < 3; i++)
        while (r->pumps[i] >= 0)
            pump_output(r, i);
    if (r->pumps[0] >= 0)
        (void)close(r->pumps[0]);
    if (r->raw)
        (void)tcsetattr(0, TCSADRAIN, &saved);
}
