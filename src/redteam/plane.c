/*
 * A control plane of the red team's own, on a temporary directory below /tmp. The directory is locked while
 * its run lives, so that the next run can tell what a killed one left behind, and removes it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "redteam/redteam.h"

#define TMP_PREFIX "ironclaw-redteam."

enum { READY_S = 60, STOP_S = 30, STALE_WAIT_S = 15, ARGV_MAX = 24 };

volatile int interrupted;

/* ---- leftovers of killed runs ---- */

/* Takes the lock if its holder is gone; waits `seconds` for one that is just ending. */
static bool lock_file(int dir, const char *name, unsigned seconds, int *lock)
{
    *lock = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    for (unsigned i = 0; *lock >= 0; i++) {
        if (flock(*lock, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (i >= seconds * 20)
            break;
        (void)usleep(50000);
    }
    if (*lock >= 0)
        (void)close(*lock);
    *lock = -1;
    return false;
}

static void sweep_one(int tmp, const char *name)
{
    CLEANUP_CLOSE int dir = openat(tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP_CLOSE int lock = -1;
    CLEANUP_CLOSE int state = -1;
    struct stat st;

    if (dir < 0 || fstat(dir, &st) < 0 || st.st_uid != geteuid() || faccessat(dir, "kept", F_OK, 0) == 0 ||
        !lock_file(dir, "lock", 0, &lock))
        return;
    /* Its control plane got a SIGTERM when it died, and may still be at it. */
    if (faccessat(dir, "state/lock", F_OK, 0) == 0 && !lock_file(dir, "state/lock", STALE_WAIT_S, &state))
        return;
    (void)io_remove_tree(tmp, name, NULL);
}

void plane_sweep(void)
{
    CLEANUP_CLOSE int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int copy = tmp < 0 ? -1 : openat(tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *d;

    if (!dir) {
        if (copy >= 0)
            (void)close(copy);
        return;
    }
    while ((d = readdir(dir)))
        if (!strncmp(d->d_name, TMP_PREFIX, sizeof(TMP_PREFIX) - 1))
            sweep_one(tmp, d->d_name);
    (void)closedir(dir);
}

/* ---- programs ---- */

/* This program lies in <dir>/libexec/ironclaw; the command is <dir>/ironclaw, or <dir>/bin/ironclaw when
 * installed. */
static int find_programs(struct plane *p, struct err *e)
{
    static const char *const places[] = {"../../ironclaw", "../../bin/ironclaw"};
    char self[PATHS_MAX_LEN / 2];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return err_sys(e, errno, "cannot find this program's own path");
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    if (paths_helper("ironclaw-attacker", p->attacker, sizeof(p->attacker), e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (io_format(p->ironclaw, sizeof(p->ironclaw), "%s/%s", self, places[i]) &&
            access(p->ironclaw, X_OK) == 0)
            return 0;
    return err_set(e, ENOENT, "cannot find the ironclaw command beside %s", self);
}

static void plane_environment(const struct plane *p, const char *weaken)
{
    (void)setenv("IRONCLAW_STATE_DIR", p->state, 1);
    (void)setenv("IRONCLAW_TOKEN_FILE", p->token_file, 1);
    (void)unsetenv("IRONCLAW_TOKEN");
    (void)unsetenv("IRONCLAW_URL");
    (void)unsetenv("NOTIFY_SOCKET");
    (void)setenv("IRONCLAW_REDTEAM_SECRET", p->env_secret, 1);
#ifdef IRONCLAW_WEAKENED
    if (weaken)
        (void)setenv("IRONCLAW_WEAKEN", weaken, 1);
    else
        (void)unsetenv("IRONCLAW_WEAKEN");
#else
    (void)weaken;
#endif
}

/* Starts argv with its output in a pipe (both streams); the read end goes to *out. It gets a SIGTERM when we
 * die. */
static pid_t spawn(const struct plane *p, const char *weaken, char *const *argv, int *out, struct err *e)
{
    pid_t parent = getpid(), pid;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(e, errno, "cannot create a pipe");
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        sigset_t none;
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)setpgid(0, 0); /* ^C on the terminal is for us: we stop it in order */
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
        if (getppid() != parent || dup2(null, 0) < 0 || dup2(ends[1], 1) < 0 || dup2(ends[1], 2) < 0 ||
            chdir("/") < 0)
            _exit(127);
        plane_environment(p, weaken);
        (void)execv(argv[0], argv);
        _exit(127);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        int code = errno;
        (void)close(ends[0]);
        return err_sys(e, code, "cannot start %s", argv[0]);
    }
    *out = ends[0];
    return pid;
}

/* Runs argv to its end; its output (cut) goes to `text`. Returns the exit status, 128 + N, or -1 with e. */
static int run(const struct plane *p, char *const *argv, char *text, size_t cap, struct err *e)
{
    CLEANUP_CLOSE int out = -1;
    pid_t pid = spawn(p, NULL, argv, &out, e);
    ssize_t n;
    int status = 0;

    if (pid < 0)
        return -1;
    n = io_read_full(out, text, cap - 1);
    text[n < 0 ? 0 : n] = 0;
    if (n == (ssize_t)cap - 1) { /* the rest is of no interest, but must not block it */
        char rest[4096];
        while (read(out, rest, sizeof(rest)) > 0)
            ;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int plane_command(struct plane *p, const char *const *words, struct err *e)
{
    char *argv[ARGV_MAX] = {p->ironclaw}, text[2048];
    size_t n = 1;
    int status;

    while (*words && n + 1 < ARGV_MAX)
        argv[n++] = (char *)(uintptr_t)*words++;
    argv[n] = NULL;
    status = run(p, argv, text, sizeof(text), e);
    if (status > 0)
        return err_set(e, EIO, "'ironclaw %s %s' ended with status %d: %.*s", argv[1], n > 2 ? argv[2] : "",
                       status, (int)strcspn(text, "\n"), text);
    return status;
}

/* ---- starting ---- */

void secret_make(char out[SECRET_LEN + 1])
{
    unsigned char raw[18];

    io_random(raw, sizeof(raw));
    (void)io_format(out, SECRET_LEN + 1, "icx-");
    io_hex(out + 4, raw, sizeof(raw));
}

/* Where the provider "canary" would be: a listener of ours, so that its connections are counted. */
static int listen_provider(struct plane *p, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    p->provider_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->provider_listener < 0 || bind(p->provider_listener, (struct sockaddr *)&a, len) < 0 ||
        listen(p->provider_listener, 64) < 0 ||
        getsockname(p->provider_listener, (struct sockaddr *)&a, &len) < 0)
        return err_sys(e, errno, "cannot listen on the loopback interface");
    p->provider_port = ntohs(a.sin_port);
    return 0;
}

static int write_config(const struct plane *p, const char *path, struct err *e)
{
    json_t *c = json_pack(
        "{s:{s:i},s:{s:i,s:i},s:{s:{s:s,s:o}},s:{s:I,s:f,s:i},s:[s]}", "api", "rate_per_minute", 1000000,
        "model_defaults", "requests_per_minute", 1000000, "concurrency", 4, "providers", "canary", "kind",
        "openai", "url", json_sprintf("http://127.0.0.1:%d", p->provider_port), "limits_max", "memory",
        (json_int_t)512 << 20, "cpus", 2.0, "pids", 256, "env_allowed", "IRONCLAW_REDTEAM_UNSET");
    CLEANUP_FREE char *text = NULL;

    if (c && p->uid_base)
        (void)json_object_set_new(c, "uid_base", json_integer(p->uid_base));
    text = c ? json_dumps(c, JSON_INDENT(1)) : NULL;
    json_decref(c);
    return text ? io_replace_file(AT_FDCWD, path, text, strlen(text), 0600, e)
                : err_set(e, ENOMEM, "cannot write the configuration");
}

/* Reads what `ironclaw up` prints until it is ready; its bootstrap token goes to `token`. */
static int await_ready(struct plane *p, char *token, size_t cap, struct err *e)
{
    uint64_t until = io_monotonic_ns() + READY_S * 1000000000ULL;
    char text[8192] = "";
    size_t len = 0;

    while (!interrupted && io_monotonic_ns() < until && len < sizeof(text) - 1) {
        struct pollfd fd = {.fd = p->output, .events = POLLIN};
        const char *found;
        ssize_t n = poll(&fd, 1, 200) > 0 ? read(p->output, text + len, sizeof(text) - 1 - len) : -1;
        if (n == 0)
            return err_set(e, EIO, "'ironclaw up' ended before it was ready: %.400s", text);
        if (n > 0)
            text[len += (size_t)n] = 0;
        found = strstr(text, "ict_");
        if (found && strstr(text, "ready on") && strchr(found, '\n'))
            return io_format(token, cap, "%.*s", (int)strcspn(found, " \n"), found)
                       ? 0
                       : err_set(e, EIO, "'ironclaw up' printed a token that is too long");
    }
    return err_set(e, ETIMEDOUT,
                   interrupted ? "interrupted" : "'ironclaw up' was not ready within %d s: %.400s", READY_S,
                   text);
}

/* Keeps reading what it prints, so that it never blocks on a full pipe: the file shows it to the curious. */
static int drain(struct plane *p, struct err *e)
{
    char path[96];
    pid_t pid;

    (void)io_format(path, sizeof(path), "%s/up.log", p->dir);
    pid = fork();
    if (pid == 0) {
        char buf[4096];
        int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        ssize_t n;
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGTERM, SIG_IGN); /* ends with the pipe */
        while ((n = read(p->output, buf, sizeof(buf))) > 0)
            (void)!write(log, buf, (size_t)n);
        _exit(0);
    }
    (void)close(p->output);
    p->output = -1;
    return pid < 0 ? err_sys(e, errno, "cannot start a reader") : 0;
}

static int bootstrap(struct plane *p, const char *token, struct err *e)
{
    json_t *body = json_pack("{s:s,s:s}", "token", token, "name", "redteam"), *answer = NULL;
    long status;
    int rc = -1;

    p->api = api_open(p->socket);
    status = api_need(p->api, "POST", "/v1/bootstrap", body, &answer, e);
    json_decref(body);
    if (status == 201) {
        const char *admin = json_string_value(json_object_get(answer, "token"));
        api_set_token(p->api, admin);
        rc = admin ? io_replace_file(AT_FDCWD, p->token_file, admin, strlen(admin), 0600, e)
                   : err_set(e, EIO, "the bootstrap token was exchanged for nothing");
    }
    json_decref(answer);
    return rc;
}

/* The base image and the hostile program, also as a set-uid copy of whoever runs this. */
static int import_image(struct plane *p, struct err *e)
{
    char base[160], tree[96], target[160], text[512];
    char *copy[] = {(char *)(uintptr_t) "/bin/cp", (char *)(uintptr_t) "-a", base, tree, NULL};
    char *install[] = {(char *)(uintptr_t) "/bin/cp", p->attacker, target, NULL};
    int status;

    (void)io_format(base, sizeof(base), "%s/images/base/rootfs", p->state);
    (void)io_format(tree, sizeof(tree), "%s/tree", p->dir);
    status = run(p, copy, text, sizeof(text), e);
    for (int i = 0; status == 0 && i < 2; i++) {
        (void)io_format(target, sizeof(target), "%s/bin/%s", tree, i ? "ironclaw-suid" : "ironclaw-attacker");
        status = run(p, install, text, sizeof(text), e);
        if (status == 0 && chmod(target, i ? 06755 : 0755) < 0)
            return err_sys(e, errno, "cannot prepare %s", target);
    }
    if (status != 0)
        return status < 0 ? -1 : err_set(e, EIO, "cannot copy the base image: %.300s", text);
    return plane_command(p, (const char *const[]){"image", "import", "redteam", tree, NULL}, e);
}

static int store_provider_key(struct plane *p, struct err *e)
{
    char path[96];

    (void)io_format(path, sizeof(path), "%s/provider.key", p->dir);
    if (io_replace_file(AT_FDCWD, path, p->provider_key, strlen(p->provider_key), 0600, e) < 0)
        return -1;
    return plane_command(p, (const char *const[]){"provider", "set", "canary", "--key-file", path, NULL}, e);
}

static int make_directory(struct plane *p, struct err *e)
{
    CLEANUP_CLOSE int dir = -1;

    (void)io_format(p->dir, sizeof(p->dir), "/tmp/" TMP_PREFIX "XXXXXX");
    if (!mkdtemp(p->dir)) {
        p->dir[0] = 0;
        return err_sys(e, errno, "cannot create a temporary directory in /tmp");
    }
    dir = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !lock_file(dir, "lock", 0, &p->lock))
        return err_sys(e, errno, "cannot lock %s", p->dir);
    if (fchmod(dir, 0711) < 0) /* the attacks aim at files in it: only their own modes protect them */
        return err_sys(e, errno, "cannot open %s for passage", p->dir);
    (void)io_format(p->state, sizeof(p->state), "%s/state", p->dir);
    (void)io_format(p->socket, sizeof(p->socket), "%s/api.sock", p->state);
    (void)io_format(p->token_file, sizeof(p->token_file), "%s/token", p->dir);
    return 0;
}

int plane_start(struct plane *p, const char *weaken, struct err *e)
{
    char config[96], token[128];
    char *argv[] = {p->ironclaw, (char *)(uintptr_t) "up",       (char *)(uintptr_t) "--state-dir",
                    p->state,    (char *)(uintptr_t) "--config", config,
                    NULL};
    uint32_t random;

    memset(p, 0, sizeof(*p));
    p->output = p->lock = p->provider_listener = -1;
    io_random(&random, sizeof(random));
    /* A range of uids that no other control plane of this host is likely to use. */
    p->uid_base = geteuid() == 0 ? 65536U * (1024 + random % 31000) : 0;
    secret_make(p->env_secret);
    secret_make(p->provider_key);
    if (find_programs(p, e) < 0 || make_directory(p, e) < 0 || listen_provider(p, e) < 0)
        return -1;
    (void)io_format(config, sizeof(config), "%s/config.yaml", p->dir);
    if (write_config(p, config, e) < 0)
        return -1;
    p->pid = spawn(p, weaken, argv, &p->output, e);
    if (p->pid < 0) {
        p->pid = 0;
        return -1;
    }
    if (await_ready(p, token, sizeof(token), e) < 0 || drain(p, e) < 0 || bootstrap(p, token, e) < 0 ||
        import_image(p, e) < 0)
        return -1;
    return store_provider_key(p, e);
}

static void end_process(pid_t pid)
{
    uint64_t until = io_monotonic_ns() + STOP_S * 1000000000ULL;

    (void)kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (io_monotonic_ns() > until)
            (void)kill(pid, SIGKILL);
        (void)usleep(10000);
    }
}

void plane_stop(struct plane *p, bool keep)
{
    api_close(p->api);
    p->api = NULL;
    if (p->pid > 0)
        end_process(p->pid);
    p->pid = 0;
    if (p->output >= 0)
        (void)close(p->output);
    if (p->provider_listener >= 0)
        (void)close(p->provider_listener);
    p->output = p->provider_listener = -1;
    while (waitpid(-1, NULL, WNOHANG) > 0) /* the reader of its output */
        ;
    if (p->dir[0] && !keep) {
        (void)io_remove_tree(AT_FDCWD, p->dir, NULL);
    } else if (p->dir[0]) {
        char mark[80]; /* so that the next run does not take it for a leftover */
        (void)io_format(mark, sizeof(mark), "%s/kept", p->dir);
        (void)io_replace_file(AT_FDCWD, mark, "", 0, 0600, NULL);
    }
    if (p->lock >= 0)
        (void)close(p->lock);
    p->lock = -1;
    p->dir[0] = 0;
}

/* ---- its processes ---- */

static size_t children_of(pid_t pid, pid_t *out, size_t cap)
{
    CLEANUP_FREE char *text = NULL;
    char path[64], *save = NULL;
    size_t n = 0;

    (void)io_format(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    if (io_read_file(AT_FDCWD, path, 1 << 20, &text, NULL, NULL) < 0)
        return 0;
    for (char *word = strtok_r(text, " \n", &save); word && n < cap; word = strtok_r(NULL, " \n", &save))
        out[n++] = (pid_t)strtol(word, NULL, 10);
    return n;
}

size_t plane_pids(const struct plane *p, pid_t *out, size_t cap)
{
    if (cap == 0 || p->pid <= 0)
        return 0;
    out[0] = p->pid;
    return 1 + children_of(p->pid, out + 1, cap - 1);
}

pid_t plane_daemon(const struct plane *p, const char *name)
{
    pid_t pids[32];
    size_t n = plane_pids(p, pids, ARRAY_LEN(pids));

    for (size_t i = 0; i < n; i++) {
        char comm[64], full[64];
        (void)io_format(full, sizeof(full), "ironclaw-%s", name);
        full[15] = 0; /* names are cut to 15 characters (proc(5)) */
        if (host_status(pids[i], "Name", comm, sizeof(comm)) && !strcmp(comm, full))
            return pids[i];
    }
    return 0;
}
