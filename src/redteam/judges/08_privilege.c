/*
 * Family 8, host side: what /proc says about every process of the sandbox. Where the wall has a kernel of its
 * own, the host sees that kernel's processes; then only what is true of any sandbox is asked of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "redteam/redteam.h"

enum { LAYERS_MAX = 32, TERMINAL_S = 20 };

/* A line of /proc/PID/status has this value for every process of the sandbox; the first that has not is
 * named. */
static void all_have(struct arena *a, struct trial *t, const char *check, const char *key, const char *value)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), looked = 0;
    char text[64], wrong[64] = "";

    for (size_t i = 0; i < n; i++) {
        if (!host_status(pids[i], key, text, sizeof(text)))
            continue; /* it ended meanwhile */
        looked++;
        if (strcmp(text, value) != 0 && !wrong[0])
            (void)io_format(wrong, sizeof(wrong), "%s", text);
    }
    trial_check(t, looked > 0 && !wrong[0], check, "%s is %s for %zu processes%s%s", key, value, looked,
                wrong[0] ? ", but once " : "", wrong);
}

static void judge_capabilities(struct arena *a, struct trial *t)
{
    static const char *const keys[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
    static const char *const checks[] = {"no-inheritable", "no-permitted", "no-effective", "no-bounding",
                                         "no-ambient"};

    for (size_t i = 0; i < ARRAY_LEN(keys) && arena_is_bare(a); i++)
        all_have(a, t, checks[i], keys[i], "0000000000000000");
}

static void judge_no_new_privileges(struct arena *a, struct trial *t)
{
    if (arena_is_bare(a))
        all_have(a, t, "no-new-privs", "NoNewPrivs", "1");
}

/* "inside outside count" (user_namespaces(7)): one line, one uid. */
static bool maps_one(const char *map)
{
    const char *end = map + strcspn(map, "\n"), *last = end;

    while (last > map && last[-1] != ' ')
        last--;
    return *end == '\n' && !end[1] && end - last == 1 && *last == '1';
}

/* One uid is mapped, it is not root's, and as root it is one of those that nobody else uses. */
static void judge_identity(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), looked = 0;
    bool one = true, unprivileged = true, own = true;

    for (size_t i = 0; i < n; i++) {
        CLEANUP_FREE char *map = host_proc_text(pids[i], "uid_map");
        char uid[64];
        int same = host_same_namespace(pids[i], "user");
        if (!map || !host_status(pids[i], "Uid", uid, sizeof(uid)) || same < 0)
            continue;
        looked++;
        own = own && same == 0;
        one = one && maps_one(map);
        unprivileged = unprivileged && strtoul(uid, NULL, 10) != 0 &&
                       (!a->root || strtoul(uid, NULL, 10) >= a->plane->uid_base);
    }
    trial_check(t, looked > 0 && own, "own-user-namespace", "%zu processes looked at", looked);
    if (arena_is_bare(a)) {
        trial_check(t, looked > 0 && one, "one-uid-mapped", "uid_map of %zu processes", looked);
        trial_check(t, looked > 0 && unprivileged, "unprivileged-on-the-host", "Uid of %zu processes",
                    looked);
    }
}

/* No process of the sandbox made itself a namespace: all are in those of the first. */
static void judge_namespaces(struct arena *a, struct trial *t)
{
    static const char *const kinds[] = {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"};
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX);
    const char *differs = NULL, *hosts = NULL;

    for (size_t i = 0; i < n && arena_is_bare(a); i++)
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
            if (host_share_namespace(pids[0], pids[i], kinds[k]) == 0)
                differs = kinds[k];
            if (host_same_namespace(pids[i], kinds[k]) == 1)
                hosts = kinds[k];
        }
    trial_check(t, n > 0 && !differs, "no-new-namespace", "%s", differs ? differs : "none was made");
    trial_check(t, n > 0 && !hosts, "no-host-namespace", "%s",
                hosts ? hosts : "none of the host's is the sandbox's");
}

/* ---- the caller's own terminal ---- */

static int open_pair(int *master, int *slave)
{
    const char *name;

    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*master < 0 || grantpt(*master) < 0 || unlockpt(*master) < 0 || !(name = ptsname(*master)))
        return -1;
    *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return *slave < 0 ? -1 : 0;
}

/* `ironclaw run` on a terminal, as a person would start it: the program inside types into it. What was typed
 * would be waiting as input when it has ended. */
static int run_on_terminal(struct arena *a, int slave, bool own, struct err *e)
{
    char *argv[] = {a->plane->ironclaw,
                    (char *)(uintptr_t) "run",
                    (char *)(uintptr_t) "--wall",
                    a->wall,
                    (char *)(uintptr_t) "--image",
                    (char *)(uintptr_t) "redteam",
                    (char *)(uintptr_t)(own ? "--terminal" : "--"),
                    (char *)(uintptr_t)(own ? "--" : "/bin/ironclaw-attacker"),
                    (char *)(uintptr_t)(own ? "/bin/ironclaw-attacker" : "type"),
                    (char *)(uintptr_t)(own ? "type" : NULL),
                    NULL};
    uint64_t until = io_monotonic_ns() + TERMINAL_S * 1000000000ULL;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)setsid();
        (void)ioctl(slave, TIOCSCTTY, 0);
        (void)setenv("IRONCLAW_STATE_DIR", a->plane->state, 1);
        for (int fd = 0; fd < 3; fd++)
            (void)dup2(slave, fd);
        (void)execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0)
        return err_sys(e, errno, "cannot start 'ironclaw run'");
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (io_monotonic_ns() > until || interrupted)
            (void)kill(pid, SIGKILL);
        (void)usleep(5000);
    }
    /* 42: the program inside did its typing. */
    return WIFEXITED(status) && WEXITSTATUS(status) == 42
               ? 0
               : err_set(e, EIO, "the program on the terminal ended with status %d",
                         WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void judge_terminal(struct arena *a, struct trial *t)
{
    for (int own = 0; own < 2; own++) {
        CLEANUP_CLOSE int master = -1;
        CLEANUP_CLOSE int slave = -1;
        struct termios raw, after;
        struct err e = ERR_INIT;
        int waiting = -1, rc;
        if (open_pair(&master, &slave) < 0 || tcgetattr(slave, &raw) < 0) {
            trial_check(t, false, "terminal", "this host gives no pseudo-terminal");
            return;
        }
        cfmakeraw(&raw);
        (void)tcsetattr(slave, TCSANOW, &raw);
        rc = run_on_terminal(a, slave, own == 1, &e);
        (void)ioctl(slave, FIONREAD, &waiting);
        (void)tcgetattr(slave, &after);
        trial_check(t, rc == 0, own ? "ran-on-own-terminal" : "ran-on-inherited-terminal", "%s",
                    rc == 0 ? "the program typed" : e.text);
        trial_check(t, waiting == 0, own ? "own-terminal" : "inherited-terminal",
                    "%d characters wait as the caller's input", waiting);
    }
}

/* ---- Landlock ---- */

static int host_layers(void)
{
    const uint64_t attr[1] = {1U << 3};
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        int n = 0;
        (void)syscall(SYS_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0);
        while (n < LAYERS_MAX) {
            int fd = (int)syscall(444, attr, sizeof(attr), 0);
            if (fd < 0 || syscall(446, fd, 0) < 0)
                break;
            (void)close(fd);
            n++;
        }
        _exit(n);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static void judge_landlock(struct arena *a, struct trial *t)
{
    int here = host_layers();
    long inside = attempt_number(&t->record, "layers", -1);

    if (landlock_abi() == 0 || !arena_is_native(a))
        return; /* this kernel has none, or is not the sandbox's */
    trial_check(t, here > 0 && inside >= 0 && inside < here, "landlock-in-force",
                "%ld further rule sets could be added inside, %d on the host", inside, here);
}

const struct attack privilege_attacks[] = {
    {.id = "priv.set-uid",
     .boundary = B1_WALL,
     .title = "run and make set-uid programs",
     .steps = {"run", "make"},
     .judge = judge_no_new_privileges},
    {.id = "priv.capabilities",
     .boundary = B1_WALL,
     .title = "hold, take and inherit capabilities",
     .steps = {"get", "set", "bounding", "ambient"},
     .judge = judge_capabilities},
    {.id = "priv.identity",
     .boundary = B1_WALL,
     .title = "become another user",
     .steps = {"setuid", "setgroups"},
     .judge = judge_identity},
    {.id = "priv.namespaces",
     .boundary = B1_WALL,
     .title = "make and enter namespaces",
     .steps = {"unshare-user", "unshare-all", "clone-user", "setns-mnt", "clone3"},
     .judge = judge_namespaces},
    {.id = "priv.no-new-privs",
     .boundary = B1_WALL,
     .title = "undo no_new_privs and the filter",
     .steps = {"get", "clear", "securebits", "seccomp-off", "set-mm"},
     .judge = judge_no_new_privileges},
    {.id = "priv.keyrings",
     .boundary = B1_WALL,
     .title = "read and plant kernel keys",
     .steps = {"add", "request", "read-session", "read-user", "join"}},
    {.id = "priv.terminals",
     .boundary = B1_WALL,
     .title = "type into the caller's terminal",
     .steps = {"type", "open-0", "open-6"},
     .judge = judge_terminal},
    {.id = "priv.landlock",
     .boundary = B1_WALL,
     .title = "find the file rules of Landlock missing",
     .steps = {"layers"},
     .judge = judge_landlock},
    {.id = NULL},
};
