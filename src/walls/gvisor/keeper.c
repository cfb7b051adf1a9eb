/*
 * The keeper: pid 1 of a pid namespace that holds the OCI runtime and all of its processes. Its end is the
 * end of them all. It is a process of ours in the sandbox's cgroup, without rights once the runtime has been
 * started; it reads from the container's init (message.c) and from nobody else inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/io.h"
#include "walls/gvisor/gvisor.h"
#include "walls/handover.h"
#include "walls/tree.h"

enum { BACKLOG = 64, LOG_MAX = 256 * 1024, DRAIN_MS = 5000 };

struct keeper {
    const struct gvisor_runtime *runtime;
    const struct sandbox_spec *spec;
    int host;     /* control socket to the host side */
    int listener; /* where the container's init connects, once */
    int init;     /* its connection, or -1 */
    int console;  /* where runsc sends the master of a terminal, once; or -1 */
    int signals;  /* signalfd */
    int stdio[3]; /* for the runtime */
    pid_t child;  /* the runtime */
    pid_t pumps[3];
    bool ready, reported;
    int exit_code; /* what init said about the workload; -1 not yet */
};

static int listen_unix(const char *path, int type, struct err *e)
{
    CLEANUP_CLOSE int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    (void)io_format(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, 0666) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "cannot listen on %s", path);
    return TAKE_FD(fd);
}

/* What comes in over TCP arrives here by way of init's relay, on the same socket: the host gets two
 * descriptors of it, and whichever wakes up first accepts. */
static int open_ports(struct keeper *k, struct err *e)
{
    CLEANUP_CLOSE int queue = listen_unix("/bundle/run/queue.sock", SOCK_STREAM, e);
    CLEANUP_CLOSE int model = queue < 0 ? -1 : listen_unix("/bundle/run/model.sock", SOCK_STREAM, e);
    CLEANUP_CLOSE int queue_tcp = model < 0 ? -1 : fcntl(queue, F_DUPFD_CLOEXEC, 3);
    CLEANUP_CLOSE int model_tcp = model < 0 ? -1 : fcntl(model, F_DUPFD_CLOEXEC, 3);
    int fds[SANDBOX_PORTS] = {queue, queue_tcp, model, model_tcp};

    if (model < 0)
        return -1;
    if (queue_tcp < 0 || model_tcp < 0)
        return err_sys(e, errno, "cannot duplicate the ports' sockets");
    handover_send(k->host, CONTROL_PORTS, "", fds, SANDBOX_PORTS);
    return 0;
}

static int write_config(const struct keeper *k, struct err *e)
{
    char flags[8];
    struct bundle b = {.spec = k->spec,
                       .place = "/bundle",
                       .flags = flags,
                       .root_id = 0,
                       .user_id = SANDBOX_UID,
                       .assembled = true,
                       .resources =
                           k->runtime->kind == RUNTIME_RUNSC}; /* where it is told to leave cgroups alone */
    CLEANUP_FREE char *config = NULL;
    CLEANUP_CLOSE int dir = open("/bundle", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)io_format(flags, sizeof(flags), "rc%s%s", k->spec->ports ? "p" : "", k->spec->terminal ? "t" : "");
    config = bundle_config(&b, e);
    if (!config)
        return -1;
    return dir < 0 ? err_sys(e, errno, "cannot open the bundle")
                   : io_replace_file(dir, "config.json", config, strlen(config), 0444, e);
}

/* In the user namespace, root is the uid that the runtime runs as, and the sandbox's user is the sandbox's
 * uid. Outside it, both own nothing. */
static int enter_user_namespace(int ns, struct err *e)
{
    if (setgroups(0, NULL) < 0)
        return err_sys(e, errno, "cannot drop groups");
    if (setns(ns, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return err_sys(e, errno, "cannot enter the runtime's user namespace");
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return err_sys(e, errno, "cannot create the runtime's namespaces");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot set no_new_privs");
    return 0;
}

/*
 * gVisor keeps positions of its own in files that it is handed: two streams into one file would overwrite
 * each other, and input would be read from its start. So a file is copied through a pipe.
 */
static int add_pump(struct keeper *k, int i, struct err *e)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot create a pipe");
    k->pumps[i] = fork();
    if (k->pumps[i] == 0) {
        int from = i == 0 ? k->stdio[0] : ends[0], to = i == 0 ? ends[1] : k->stdio[i];
        static char data[65536];
        ssize_t n;
        (void)dup3(from, 3, O_CLOEXEC);
        (void)dup3(to, 4, O_CLOEXEC);
        (void)syscall(SYS_close_range, 5U, ~0U, 0U);
        (void)caps_limit(0, NULL);
        while ((n = read(3, data, sizeof(data))) > 0 && io_write_all(4, data, (size_t)n) == 0)
            ;
        _exit(0);
    }
    if (k->pumps[i] < 0)
        return err_sys(e, errno, "cannot start a pump");
    (void)close(k->stdio[i]);
    k->stdio[i] = i == 0 ? ends[0] : ends[1];
    (void)close(i == 0 ? ends[1] : ends[0]);
    return 0;
}

static int open_stdio(struct keeper *k, int slave, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        int fd = k->spec->terminal ? slave : k->spec->stdio[i]; /* -1: the null device */
        k->stdio[i] = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 16) : open("/dev/null", O_RDWR | O_CLOEXEC);
        if (k->stdio[i] >= 0 && k->stdio[i] < 16) { /* the pumps use 3 and 4 */
            int high = fcntl(k->stdio[i], F_DUPFD_CLOEXEC, 16);
            (void)close(k->stdio[i]);
            k->stdio[i] = high;
        }
        if (k->stdio[i] < 0)
            return err_sys(e, errno, "cannot take a standard stream into the sandbox");
    }
    return 0;
}

static int start_pumps(struct keeper *k, struct err *e)
{
    struct stat st;

    for (int i = 0; i < 3; i++)
        if (fstat(k->stdio[i], &st) == 0 && S_ISREG(st.st_mode) && add_pump(k, i, e) < 0)
            return -1;
    return 0;
}

/* runsc makes the terminal itself: its kernel has to be the session that the keyboard's signals go to. */
static int prepare_terminal(struct keeper *k, int *slave, struct err *e)
{
    uint32_t id = bundle_root_id(k->spec->uid);

    if (k->runtime->kind == RUNTIME_RUNSC) {
        k->console = listen_unix("/state/console.sock", SOCK_STREAM, e);
        return k->console < 0 ? -1 : 0;
    }
    if (handover_terminal(k->host, slave, e) < 0)
        return -1;
    return fchown(*slave, id, id) < 0 ? err_sys(e, errno, "cannot hand the terminal to the runtime") : 0;
}

static int start_runtime(struct keeper *k, struct err *e)
{
    char room[64];
    char *const env[] = {(char *)(uintptr_t) "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                         (char *)(uintptr_t) "XDG_RUNTIME_DIR=/state", NULL};
    char **argv = gvisor_command(k->runtime, k->spec->id, k->spec->terminal, room, sizeof(room));

    k->child = fork();
    if (k->child == 0) {
        sigset_t none;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        (void)setsid();
        for (int i = 0; i < 3; i++)
            (void)dup2(k->stdio[i], i);
        if (k->spec->terminal && k->console < 0)
            (void)ioctl(0, TIOCSCTTY, 0);
        (void)syscall(SYS_close_range, 3U, ~0U, 0U);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execve("/runtime", argv, env);
        _exit(125);
    }
    free(argv);
    for (int i = 0; i < 3; i++) {
        (void)close(k->stdio[i]);
        (void)close(i);
    }
    return k->child < 0 ? err_sys(e, errno, "cannot start the OCI runtime") : 0;
}

/* Order: as setup.c of the container wall. What needs the host's privilege comes first, then what is seen by
 * the runtime alone, the user namespace last. */
static int build(struct keeper *k, const struct cgroup *cgroup, struct err *e)
{
    CLEANUP_CLOSE int ns = -1;
    int slave = -1;
    char map[80];
    sigset_t all;

    if (handover_check_stdio(k->spec, e) < 0)
        return -1;
    (void)io_format(map, sizeof(map), "0 %u 1\n%d %u 1\n", bundle_root_id(k->spec->uid), SANDBOX_UID,
                    k->spec->uid);
    ns = tree_user_namespace(map, map, e);
    if (ns < 0)
        return -1;
    if (cgroup_join(cgroup) < 0)
        return err_sys(e, errno, "cannot join the cgroup");
    if (unshare(CLONE_NEWCGROUP) < 0)
        return err_sys(e, errno, "cannot create the cgroup namespace");
    if (gvisor_build_root(k->runtime, k->spec, e) < 0 || (k->spec->ports && open_ports(k, e) < 0) ||
        write_config(k, e) < 0)
        return -1;
    k->listener = listen_unix("/bundle/run/control.sock", SOCK_SEQPACKET, e);
    if (k->listener < 0 || (k->spec->terminal && prepare_terminal(k, &slave, e) < 0) ||
        open_stdio(k, slave, e) < 0)
        return -1;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    k->signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (k->signals < 0)
        return err_sys(e, errno, "cannot receive signals");
    if (slave >= 0)
        (void)close(slave); /* stdio[] has copies */
    if (enter_user_namespace(ns, e) < 0 || start_pumps(k, e) < 0 || start_runtime(k, e) < 0)
        return -1;
    return caps_drop_bounding(0, e) < 0 ? -1 : caps_limit(0, e);
}

/* The runtime's own word for what went wrong: the last "msg" of its JSON log. */
static void last_log_message(char *text, size_t cap)
{
    static const char key[] = "\"msg\":";
    CLEANUP_FREE char *log = NULL;
    const char *at = NULL, *end;

    text[0] = 0;
    if (io_read_file(AT_FDCWD, "/state/log", LOG_MAX, &log, NULL, NULL) < 0)
        return;
    for (const char *p = log; (p = strstr(p, key)); p++)
        at = p + sizeof(key) - 1;
    if (!at)
        return;
    at += strspn(at, " \"");
    for (end = at; *end && *end != '\n' && (*end != '"' || end[-1] == '\\'); end++)
        ;
    gvisor_printable(text, cap, at, (size_t)(end - at));
}

/* The master of the terminal comes from the runtime, before the container's init runs. */
static void take_console(struct keeper *k)
{
    CLEANUP_CLOSE int fd = accept4(k->console, NULL, NULL, SOCK_CLOEXEC);
    char text[256];
    struct iovec iov = {.iov_base = text, .iov_len = sizeof(text)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct fdpass room;
    int fds[FDPASS_MAX], n;

    if (fd < 0)
        return;
    fdpass_expect(&msg, &room);
    n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) > 0 ? fdpass_take(&msg, fds) : 0;
    if (n == 1)
        handover_send(k->host, CONTROL_TERMINAL, "", fds, 1);
    for (int i = 0; i < n; i++)
        (void)close(fds[i]);
    (void)close(TAKE_FD(k->console));
}

static void take_message(struct keeper *k)
{
    char data[ERR_TEXT_MAX];
    struct gvisor_message m;
    ssize_t n = recv(k->init, data, sizeof(data), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        (void)close(TAKE_FD(k->init));
        return;
    }
    gvisor_message_parse(data, (size_t)n, &m);
    if (m.kind == MESSAGE_READY && !k->ready) {
        k->ready = true;
        handover_send(k->host, CONTROL_READY, "", NULL, 0);
    } else if (m.kind == MESSAGE_ERROR && !k->reported) {
        k->reported = true;
        handover_send(k->host, CONTROL_ERROR, m.text, NULL, 0);
    } else if (m.kind == MESSAGE_EXIT && k->exit_code < 0) {
        k->exit_code = m.code;
    }
}

/* The first to connect is init: the workload does not exist yet. Nobody else can come after it. */
static void take_init(struct keeper *k)
{
    int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    k->init = fd;
    (void)close(TAKE_FD(k->listener));
    (void)unlink("/bundle/run/control.sock");
}

static void forward(const struct keeper *k, int sig)
{
    char message[2] = {CONTROL_SIGNAL, (char)sig};

    if (k->init >= 0)
        (void)send(k->init, message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sig == SIGWINCH) /* runc and crun pass a terminal on, and its size when they are told */
        (void)kill(k->child, SIGWINCH);
}

/* Reaps; true once the runtime itself has ended. */
static bool reap(struct keeper *k, int *status)
{
    bool ended = false;
    pid_t pid;
    int st;

    while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
        if (pid == k->child) {
            *status = st;
            ended = true;
        }
        for (int i = 0; i < 3; i++)
            if (pid == k->pumps[i])
                k->pumps[i] = 0;
    }
    return ended;
}

static bool take_signal(struct keeper *k, int *status)
{
    struct signalfd_siginfo info;

    if (read(k->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    if (info.ssi_signo == SIGCHLD)
        return reap(k, status);
    if (info.ssi_code == SI_USER && info.ssi_pid == 0) /* from the host, whose pid shows as 0 */
        forward(k, (int)info.ssi_signo);
    return false;
}

/* What was written before the end is still on its way into files. */
static void await_pumps(struct keeper *k)
{
    uint64_t deadline = io_monotonic_ns() + DRAIN_MS * 1000000ULL;
    int status;

    while ((k->pumps[1] > 0 || k->pumps[2] > 0) && io_monotonic_ns() < deadline) {
        struct pollfd p = {.fd = k->signals, .events = POLLIN};
        (void)reap(k, &status);
        if ((k->pumps[1] > 0 || k->pumps[2] > 0) && poll(&p, 1, 100) > 0)
            (void)take_signal(k, &status);
    }
}

static int supervise(struct keeper *k)
{
    enum { SIGNALS, HOST, CONSOLE, INIT, COUNT };
    int status = 0;

    for (;;) {
        struct pollfd p[COUNT] = {[SIGNALS] = {.fd = k->signals, .events = POLLIN},
                                  [HOST] = {.fd = k->host, .events = 0},
                                  [CONSOLE] = {.fd = k->console, .events = POLLIN},
                                  [INIT] = {.fd = k->init >= 0 ? k->init : k->listener, .events = POLLIN}};
        if (poll(p, COUNT, -1) < 0 && errno != EINTR)
            return 125;
        if (p[HOST].revents & (POLLHUP | POLLERR))
            return 128 + SIGKILL;
        if (p[CONSOLE].revents) /* before what init says: that it is ready */
            take_console(k);
        if (p[INIT].revents)
            k->init >= 0 ? take_message(k) : take_init(k);
        if ((p[SIGNALS].revents & POLLIN) && take_signal(k, &status))
            break;
    }
    if (k->init < 0 && k->listener >= 0)
        take_init(k);
    for (int left = 8; k->init >= 0 && left > 0; left--) /* what init said last */
        take_message(k);
    await_pumps(k);
    if (!k->ready && !k->reported) {
        char text[ERR_TEXT_MAX / 2], sentence[ERR_TEXT_MAX];
        last_log_message(text, sizeof(text));
        (void)io_format(sentence, sizeof(sentence), "%.256s could not start the sandbox: %s",
                        k->runtime->path,
                        *text ? text : "it ended without a word (out of memory, or killed)");
        handover_send(k->host, CONTROL_ERROR, sentence, NULL, 0);
        return 125;
    }
    /* Without init's word the workload did not end by itself: its kernel was killed under it. */
    return k->exit_code >= 0 ? k->exit_code : 128 + SIGKILL;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/*
 * This process stays for as long as the sandbox does, and it was forked off a process that holds descriptors
 * of its own: of other sandboxes, of the control plane. None of them may live on here.
 */
static void close_inherited(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control)
{
    int keep[4 + CGROUP_CONTROLLERS], from = 3;
    size_t n = 0;

    keep[n++] = control;
    for (size_t i = 0; i < 3; i++)
        keep[n++] = spec->terminal ? -1 : spec->stdio[i];
    for (size_t i = 0; i < CGROUP_CONTROLLERS; i++)
        keep[n++] = cgroup->join[i];
    qsort(keep, n, sizeof(*keep), by_number);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] > from)
            (void)syscall(SYS_close_range, (unsigned)from, (unsigned)keep[i] - 1, 0U);
        if (keep[i] >= from)
            from = keep[i] + 1;
    }
    (void)syscall(SYS_close_range, (unsigned)from, ~0U, 0U);
}

void gvisor_keeper(const struct gvisor_runtime *r, const struct sandbox_spec *spec,
                   const struct cgroup *cgroup, int control)
{
    struct keeper k = {.runtime = r,
                       .spec = spec,
                       .host = control,
                       .listener = -1,
                       .console = -1,
                       .init = -1,
                       .signals = -1,
                       .stdio = {-1, -1, -1},
                       .exit_code = -1};
    struct err e = ERR_INIT;
    sigset_t none;

    close_inherited(spec, cgroup, control);
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)umask(022);
    if (build(&k, cgroup, &e) == 0)
        _exit(supervise(&k));
    handover_send(control, CONTROL_ERROR, e.text, NULL, 0);
    _exit(125);
}
