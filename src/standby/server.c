#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "standby/standby.h"
#include "walls/cell/cell.h"

/* QUIET_MS: building a cell holds a processor for milliseconds at a stretch, which a run that just took one
 * would have to wait for; so it waits, while there are others. */
enum { RETRY_MS = 1000, QUIET_MS = 20, FAILED = 125 };

struct server {
    struct sandbox_spec spec;
    struct standby_key key;
    struct sockaddr_un address;
    uint32_t uid_base;
    pid_t pid;
    unsigned want;
    int listener, signals, events[2], lock;
    pid_t keepers[STANDBY_MAX]; /* of cells that nobody took; 0: none */
    bool ready[STANDBY_MAX];
    bool announced;         /* all stood once */
    uint64_t not_before_ns; /* when to build the next one; 0: now */
};

static int listen_alone(struct server *s, struct err *e)
{
    char lock[sizeof(s->address.sun_path) + 8];
    struct stat st;

    (void)io_format(lock, sizeof(lock), "%s.lock", s->address.sun_path);
    s->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock < 0)
        return err_sys(e, errno, "cannot open %s", lock);
    if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, EBUSY, "such cells are kept ready already (by another 'ironclaw run --standby')");
    if (fstat(s->lock, &st) < 0 || st.st_nlink == 0) /* its last owner removed it between the two calls */
        return err_set(e, EAGAIN, "another 'ironclaw run --standby' is just ending: try again");
    (void)unlink(s->address.sun_path); /* of one that was killed */
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)umask(0177);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&s->address, sizeof(s->address)) < 0 ||
        listen(s->listener, 0) < 0)
        return err_sys(e, errno, "cannot listen on %s", s->address.sun_path);
    (void)umask(022);
    return 0;
}

static int open_server(struct server *s, const char *state, struct err *e)
{
    sigset_t set;

    if (!cell_wall.probe(e))
        return -1;
    if (!standby_key(&s->spec, &s->key))
        return err_set(e, ENOENT, "cannot examine the root file system %s", s->spec.rootfs);
    if (!standby_address(state, &s->key, &s->address))
        return err_set(e, ENAMETOOLONG, "--state-dir: the path is too long for a socket in it");
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signals < 0 || pipe2(s->events, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(e, errno, "cannot set up the server");
    return listen_alone(s, e);
}

/* In the child. */
static void become_keeper(struct server *s)
{
    static char id[32];
    sigset_t none;

    (void)close(s->signals);
    (void)close(s->events[0]);
    (void)close(s->lock);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)io_format(id, sizeof(id), "standby-%d", (int)getpid());
    s->spec.id = id;
    s->spec.uid = s->uid_base + (uint32_t)getpid();
    standby_keep(s->pid, s->listener, s->events[1], &s->spec, &s->key);
}

static void wait_ms(struct server *s, unsigned ms)
{
    s->not_before_ns = io_monotonic_ns() + ms * 1000000ULL;
}

/* One at a time: building one takes a processor for a while, and others want to run. */
static void refill(struct server *s)
{
    unsigned slot = s->want;

    if (s->not_before_ns && io_monotonic_ns() < s->not_before_ns)
        return;
    s->not_before_ns = 0;
    for (unsigned i = 0; i < s->want; i++) {
        if (s->keepers[i] && !s->ready[i])
            return;
        if (!s->keepers[i] && slot == s->want)
            slot = i;
    }
    if (slot == s->want)
        return;
    s->ready[slot] = false;
    s->keepers[slot] = fork();
    if (s->keepers[slot] == 0)
        become_keeper(s);
    if (s->keepers[slot] < 0) {
        s->keepers[slot] = 0;
        wait_ms(s, RETRY_MS);
    }
}

static unsigned count_ready(const struct server *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->want; i++)
        n += s->ready[i] ? 1 : 0;
    return n;
}

static void announce(struct server *s)
{
    unsigned n = count_ready(s);

    if (s->announced || n < s->want)
        return;
    s->announced = true;
    (void)printf("%u cell%s ready for 'ironclaw run --wall cell'; end with ctrl-C\n", n,
                 n == 1 ? " stands" : "s stand");
    (void)fflush(stdout);
}

static void take_events(struct server *s)
{
    struct standby_event ev;

    while (read(s->events[0], &ev, sizeof(ev)) == (ssize_t)sizeof(ev))
        for (unsigned i = 0; i < s->want; i++) {
            if (s->keepers[i] != ev.pid)
                continue;
            s->ready[i] = ev.kind == STANDBY_READY;
            if (ev.kind == STANDBY_READY)
                continue;
            s->keepers[i] = 0;
            if (count_ready(s) > 0)
                wait_ms(s, QUIET_MS);
            else
                s->not_before_ns = 0;
        }
    /* Clients that no cell is left for are refused at once, but for one: the next cell is for that. */
    (void)listen(s->listener, (int)count_ready(s));
    announce(s);
}

/* False: the first cells could not be built; the keeper has said why. */
static bool reap(struct server *s)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (unsigned i = 0; i < s->want; i++) {
            if (s->keepers[i] != pid)
                continue;
            s->keepers[i] = 0;
            if (s->ready[i]) /* its image was replaced, or something killed it */
                (void)standby_key(&s->spec, &s->key);
            else if (!s->announced)
                return false;
            else
                wait_ms(s, RETRY_MS);
            s->ready[i] = false;
        }
    return true;
}

static int until(const struct server *s)
{
    uint64_t now = io_monotonic_ns();

    return !s->not_before_ns         ? -1
           : s->not_before_ns <= now ? 0
                                     : (int)((s->not_before_ns - now) / 1000000 + 1);
}

static int work(struct server *s)
{
    struct signalfd_siginfo info;

    for (;;) {
        struct pollfd p[] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->events[0], .events = POLLIN}};
        refill(s);
        if (poll(p, ARRAY_LEN(p), until(s)) < 0 && errno != EINTR)
            return FAILED;
        take_events(s);
        while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
            if (info.ssi_signo != SIGCHLD)
                return 0;
        take_events(s); /* what a keeper said before it ended counts */
        if (!reap(s))
            return FAILED;
    }
}

/* Cells that run for somebody go on; their keepers clean up after them. */
static void close_server(struct server *s)
{
    char lock[sizeof(s->address.sun_path) + 8];

    if (s->listener >= 0) {
        (void)unlink(s->address.sun_path);
        (void)io_format(lock, sizeof(lock), "%s.lock", s->address.sun_path);
        (void)unlink(lock);
        (void)close(s->listener);
    }
    for (unsigned i = 0; i < s->want; i++)
        if (s->keepers[i])
            (void)kill(s->keepers[i], SIGTERM);
    for (unsigned i = 0; i < s->want; i++)
        while (s->keepers[i] && waitpid(s->keepers[i], NULL, 0) < 0 && errno == EINTR)
            ;
    cell_wall.sweep();
}

int standby_serve(const char *state, const struct sandbox_spec *spec, unsigned count, uint32_t uid_base)
{
    struct server s = {
        .spec = *spec, .uid_base = uid_base, .want = count, .pid = getpid(), .listener = -1, .lock = -1};
    struct err e = ERR_INIT;
    int rc;

    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (open_server(&s, state, &e) < 0) {
        (void)fprintf(stderr, "ironclaw: standby: %s\n", e.text);
        return FAILED;
    }
    rc = work(&s);
    close_server(&s);
    return rc;
}
