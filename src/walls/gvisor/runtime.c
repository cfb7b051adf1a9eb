/*
 * The OCI runtime's binary: where it is, what it is, which options it knows, and how it is called.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "walls/gvisor/gvisor.h"

enum { HELP_MAX = 64 * 1024, HELP_TIMEOUT_MS = 10000 };

static bool find_in_path(const char *name, char *out, size_t cap)
{
    static const char *const places[] = {"/usr/local/bin",  "/usr/bin",  "/bin",
                                         "/usr/local/sbin", "/usr/sbin", "/sbin"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (io_format(out, cap, "%s/%s", places[i], name) && access(out, X_OK) == 0)
            return true;
    return false;
}

int gvisor_runtime_find(struct gvisor_runtime *r, struct err *e)
{
    const char *name = wall_config()->oci_runtime;
    struct stat st;

    *r = (struct gvisor_runtime){.kind = RUNTIME_OTHER};
    if (!name || !*name)
        name = "runsc";
    if (strchr(name, '/') ? !io_format(r->path, sizeof(r->path), "%s", name)
                          : !find_in_path(name, r->path, sizeof(r->path)))
        return err_set(
            e, ENOENT,
            "the OCI runtime '%.64s' is not installed (Debian: apt-get install runsc; elsewhere see "
            "gvisor.dev, or name one in the configuration: gvisor.runtime)",
            name);
    if (r->path[0] != '/')
        return err_set(e, EINVAL, "the OCI runtime must be a name or an absolute path, not '%.128s'",
                       r->path);
    if (stat(r->path, &st) < 0 || !S_ISREG(st.st_mode) || access(r->path, X_OK) < 0)
        return err_set(e, ENOENT, "the OCI runtime %.256s is not an executable file", r->path);
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & S_IWOTH))
        return err_set(e, EPERM, "the OCI runtime %.256s can be changed by others than root", r->path);
    r->size = st.st_size;
    r->mtime_ns = (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return 0;
}

/* What a short command prints on stdout and stderr, or NULL if it takes too long. Killed in that case. */
static char *output_of(const char *path, char *const argv[])
{
    uint64_t deadline = io_monotonic_ns() + HELP_TIMEOUT_MS * 1000000ULL;
    char *text = x_calloc(1, HELP_MAX + 1);
    size_t len = 0;
    bool ended = false;
    int ends[2], status;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        free(text);
        return NULL;
    }
    pid = fork();
    if (pid == 0) {
        char *const none[] = {NULL};
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, 0);
        (void)dup2(ends[1], 1);
        (void)dup2(ends[1], 2);
        (void)execve(path, argv, none);
        _exit(127);
    }
    (void)close(ends[1]);
    while (pid > 0 && !ended) {
        struct pollfd p = {.fd = ends[0], .events = POLLIN};
        uint64_t now = io_monotonic_ns();
        ssize_t n;
        if (now >= deadline || len == HELP_MAX)
            break;
        if (poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) <= 0)
            continue;
        n = read(ends[0], text + len, HELP_MAX - len);
        if (n > 0)
            len += (size_t)n;
        else if (n == 0 || errno != EINTR)
            ended = true;
    }
    (void)close(ends[0]);
    if (pid > 0) {
        if (!ended)
            (void)kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    if (!ended) {
        free(text);
        return NULL;
    }
    return text;
}

/* "  -name" or "  --name" at the beginning of a line, and not just of a longer name. */
static bool has_flag(const char *help, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = help; (p = strstr(p, name)); p += len) {
        const char *start = p;
        char after = p[len];
        while (start > help && start[-1] == '-')
            start--;
        if (start == p || (after != ' ' && after != '\n' && after != '=' && after != '\t' && after))
            continue;
        while (start > help && (start[-1] == ' ' || start[-1] == '\t'))
            start--;
        if (start == help || start[-1] == '\n')
            return true;
    }
    return false;
}

unsigned gvisor_flags_of(const char *help)
{
    static const struct {
        const char *name;
        unsigned flag;
    } known[] = {{"host-uds", RUNSC_HOST_UDS}, {"fsgofer-host-uds", RUNSC_FSGOFER_HOST_UDS},
                 {"directfs", RUNSC_DIRECTFS}, {"overlay2", RUNSC_OVERLAY2},
                 {"rootless", RUNSC_ROOTLESS}, {"ignore-cgroups", RUNSC_IGNORE_CGROUPS}};
    unsigned flags = 0;

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (has_flag(help, known[i].name))
            flags |= known[i].flag;
    return flags;
}

int gvisor_runtime_identify(struct gvisor_runtime *r, struct err *e)
{
    static const struct {
        const char *word;
        enum gvisor_kind kind;
    } kinds[] = {
        {"runsc version", RUNTIME_RUNSC}, {"runc version", RUNTIME_RUNC}, {"crun version", RUNTIME_CRUN}};
    char *const ask_version[] = {r->path, (char *)(uintptr_t) "--version", NULL};
    /* Older ones list their flags under `flags`, newer ones under `help flags`. */
    char *const ask_flags[] = {r->path, (char *)(uintptr_t) "help", (char *)(uintptr_t) "flags", NULL};
    char *const ask_old[] = {r->path, (char *)(uintptr_t) "flags", NULL};
    CLEANUP_FREE char *version = output_of(r->path, ask_version);
    CLEANUP_FREE char *help = NULL;
    CLEANUP_FREE char *old = NULL;

    if (!version)
        return err_set(e, ETIMEDOUT, "%.256s does not answer --version", r->path);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (!strncmp(version, kinds[i].word, strlen(kinds[i].word)))
            r->kind = kinds[i].kind;
    if (r->kind != RUNTIME_RUNSC)
        return 0;
    help = output_of(r->path, ask_flags);
    old = output_of(r->path, ask_old);
    r->flags = (help ? gvisor_flags_of(help) : 0) | (old ? gvisor_flags_of(old) : 0);
    if (!(r->flags & (RUNSC_HOST_UDS | RUNSC_FSGOFER_HOST_UDS)) || !(r->flags & RUNSC_ROOTLESS))
        return err_set(
            e, EOPNOTSUPP,
            "%.256s has no option for sockets of the host (--host-uds or --fsgofer-host-uds) or for an "
            "unprivileged user (--rootless): install a newer one",
            r->path);
    return 0;
}

static size_t add(char **argv, size_t n, const char *const *words)
{
    for (; *words; words++)
        argv[n++] = (char *)(uintptr_t)*words;
    return n;
}

char **gvisor_command(const struct gvisor_runtime *r, const char *id, bool terminal, char *room, size_t cap)
{
    static const char *const common[] = {
        "runtime", "--root", "/state/containers", "--log", "/state/log", "--log-format", "json", NULL};
    static const char *const runsc[] = {"--rootless", "--network=none", NULL};
    static const char *const runc[] = {"--rootless=true", "run", "--no-new-keyring", NULL};
    static const char *const crun[] = {"--cgroup-manager=disabled", "run", "--no-new-keyring", NULL};
    static const char *const bundle[] = {"--bundle", "/bundle", NULL};
    const char *some[10] = {NULL};
    char **argv = x_calloc(32, sizeof(*argv));
    size_t n = add(argv, 0, common), k = 0;

    switch (r->kind) {
    case RUNTIME_RUNSC:
        n = add(argv, n, runsc);
        (void)io_format(room, cap, "--platform=%s", r->platform);
        some[k++] = room;
        some[k++] = r->flags & RUNSC_HOST_UDS ? "--host-uds=open" : "--fsgofer-host-uds";
        if (r->flags & RUNSC_IGNORE_CGROUPS)
            some[k++] = "--ignore-cgroups";
        if (r->flags & RUNSC_DIRECTFS) /* the file server has both uids, the kernel's own process just one */
            some[k++] = "--directfs=false";
        if (r->flags & RUNSC_OVERLAY2)
            some[k++] = "--overlay2=none";
        some[k++] = "run";
        if (terminal)
            some[k++] = "--console-socket=/state/console.sock";
        n = add(argv, n, some);
        break;
    case RUNTIME_RUNC:
        n = add(argv, n, runc);
        break;
    case RUNTIME_CRUN:
        n = add(argv, n, crun);
        break;
    default:
        argv[n++] = (char *)(uintptr_t) "run";
    }
    n = add(argv, n, bundle);
    argv[n] = (char *)(uintptr_t)id;
    return argv;
}
