/*
 * Family 8: more privilege than the sandbox's user has.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT       47
#define PR_CAP_AMBIENT_RAISE 2
#endif
enum { LAYERS_MAX = 32, SYS_LANDLOCK_CREATE = 444, SYS_LANDLOCK_RESTRICT = 446 };

/* Runs a program that prints its effective uid; -1 if it could not run. */
static long effective_uid(const char *path)
{
    int ends[2], status;
    char buf[64] = "";
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], 1);
        (void)execl(path, path, "whoami", (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    (void)!read(ends[0], buf, sizeof(buf) - 1);
    (void)close(ends[0]);
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || strncmp(buf, "euid ", 5) != 0) {
        errno = EACCES;
        return -1;
    }
    return strtol(buf + 5, NULL, 10);
}

static void set_uid_programs(const struct order *o)
{
    static const char *const places[] = {"/workspace/suid", "/tmp/suid"};
    static const mode_t modes[] = {04755, 02755, 06777};
    long uid = effective_uid("/bin/ironclaw-suid");
    unsigned made = 0;

    (void)o;
    stepf("run", uid, "effective uid %ld of a set-uid program", uid);
    if (uid >= 0 && uid != (long)getuid())
        claim("a set-uid program ran as uid %ld", uid);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        struct stat st;
        int fd = open(places[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        (void)close(fd);
        for (size_t m = 0; m < sizeof(modes) / sizeof(*modes); m++) {
            (void)chmod(places[i], modes[m]);
            (void)fchmodat(AT_FDCWD, places[i], modes[m], 0);
            (void)syscall(452 /* fchmodat2 */, AT_FDCWD, places[i], modes[m], 0);
        }
        made += stat(places[i], &st) == 0 && (st.st_mode & 06000);
        (void)unlink(places[i]);
        fd = open(places[i], O_WRONLY | O_CREAT | O_CLOEXEC, 04755);
        made += fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 06000);
        (void)close(fd);
        made +=
            mknod(places[i], S_IFREG | 06755, 0) == 0 && stat(places[i], &st) == 0 && (st.st_mode & 06000);
    }
    stepf("make", (long)made, "%u set-id files", made);
    if (made)
        claim("%u set-id files were made", made);
}

static void capabilities(const struct order *o)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[2] = {{0}}, all[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}};
    char status[4096];
    long rc = syscall(SYS_capget, &head, now);
    unsigned bounding = 0, raised = 0;

    (void)o;
    stepf("get", rc, "effective %x%08x", now[1].effective, now[0].effective);
    if (rc == 0 && (now[0].effective | now[1].effective | now[0].permitted | now[1].permitted))
        claim("capabilities are held: %x%08x", now[1].permitted, now[0].permitted);
    rc = syscall(SYS_capset, &head, all);
    step("set", rc);
    if (rc == 0)
        claim("all capabilities were taken");
    for (int cap = 0; cap < 64; cap++) {
        bounding += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
        raised += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) == 0;
    }
    stepf("bounding", (long)bounding, "%u capabilities in the bounding set", bounding);
    stepf("ambient", (long)raised, "%u capabilities raised", raised);
    if (bounding)
        claim("%u capabilities are in the bounding set", bounding);
    if (raised)
        claim("%u ambient capabilities were raised", raised);
    if (slurp("/proc/self/status", status, sizeof(status)) > 0 && strstr(status, "CapEff"))
        fact("status", "%.80s", strstr(status, "CapEff"));
}

static void identity(const struct order *o)
{
    static const uid_t wanted[] = {0, 1, 65534, 1001};
    unsigned changed = 0;
    gid_t groups[2] = {0, 27};

    (void)o;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
        changed += syscall(SYS_setuid, wanted[i]) == 0;
        changed += syscall(SYS_setresuid, wanted[i], wanted[i], wanted[i]) == 0;
        changed += syscall(SYS_setreuid, wanted[i], wanted[i]) == 0;
        changed += syscall(SYS_setgid, wanted[i]) == 0;
        changed += syscall(SYS_setresgid, wanted[i], wanted[i], wanted[i]) == 0;
        (void)syscall(SYS_setfsuid, wanted[i]);
        changed += syscall(SYS_setfsuid, -1) >= 0 && syscall(SYS_setfsuid, -1) != (long)geteuid();
    }
    stepf("setuid", (long)changed, "%u changes of identity", changed);
    if (changed || geteuid() == 0)
        claim("became uid %u", (unsigned)geteuid());
    changed = syscall(SYS_setgroups, 2, groups) == 0;
    stepf("setgroups", changed ? 0 : -1, "%s", "groups 0 and 27");
    if (changed)
        claim("joined other groups");
    fact("uid", "%u", (unsigned)geteuid());
}

struct space {
    const char *name;
    unsigned long flag;
};
static const struct space spaces[] = {{"user", CLONE_NEWUSER},
                                      {"mnt", CLONE_NEWNS},
                                      {"pid", CLONE_NEWPID},
                                      {"net", CLONE_NEWNET},
                                      {"ipc", CLONE_NEWIPC},
                                      {"uts", CLONE_NEWUTS},
                                      {"cgroup", CLONE_NEWCGROUP},
                                      {"time", CLONE_NEWTIME},
                                      {"all", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET}};

static int do_unshare(void *arg)
{
    const struct space *s = arg;

    return unshare((int)s->flag) == 0 ? 0 : errno;
}

static void namespaces(const struct order *o)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.flags = CLONE_NEWUSER | CLONE_NEWNS, .exit_signal = SIGCHLD};
    char name[32], path[64];
    long rc;

    (void)o;
    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
        int status = in_child(do_unshare, (void *)(uintptr_t)&spaces[i], 1000), fd;
        errno = status;
        (void)snprintf(name, sizeof(name), "unshare-%s", spaces[i].name);
        step(name, status == 0 ? 0 : -1);
        if (status == 0)
            claim("made a new %s namespace", spaces[i].name);
        rc = syscall(SYS_clone, spaces[i].flag | SIGCHLD, NULL, NULL, NULL, 0L);
        if (rc == 0)
            _exit(0);
        (void)snprintf(name, sizeof(name), "clone-%s", spaces[i].name);
        step(name, rc);
        if (rc > 0) {
            (void)waitpid((pid_t)rc, NULL, 0);
            if (strcmp(spaces[i].name, "time") != 0) /* in clone that bit is part of the exit signal */
                claim("cloned into a new %s namespace", spaces[i].name);
        }
        (void)snprintf(path, sizeof(path), "/proc/1/ns/%s", spaces[i].name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        rc = fd < 0 ? -1 : syscall(SYS_setns, fd, 0);
        (void)snprintf(name, sizeof(name), "setns-%s", spaces[i].name);
        step(name, rc);
        if (rc == 0)
            claim("entered the %s namespace of process 1", spaces[i].name);
        (void)close(fd);
    }
    rc = syscall(435 /* clone3 */, &args, sizeof(args));
    if (rc == 0)
        _exit(0);
    step("clone3", rc);
    if (rc > 0)
        claim("clone3 made new namespaces");
}

static void no_new_privileges(const struct order *o)
{
    long rc = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);

    (void)o;
    step("get", rc);
    if (rc != 1)
        claim("no_new_privs is not set");
    rc = prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);
    step("clear", rc);
    if (rc == 0)
        claim("no_new_privs was cleared");
    rc = prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS, 0, 0, 0);
    step("securebits", rc);
    if (rc == 0)
        claim("the secure bits were changed");
    rc = prctl(PR_SET_SECCOMP, 0, 0, 0, 0);
    step("seccomp-off", rc);
    if (rc == 0)
        claim("the system call filter was switched off");
    step("personality", syscall(SYS_personality, 0x0040000UL /* ADDR_NO_RANDOMIZE */));
    rc = prctl(PR_SET_MM, 3 /* PR_SET_MM_START_DATA */, 4096, 0, 0);
    step("set-mm", rc);
    if (rc == 0)
        claim("the memory map's borders were changed");
}

static void keyrings(const struct order *o)
{
    static const struct {
        const char *name;
        long id;
    } rings[] = {{"session", -3}, {"user", -4}, {"user-session", -5}, {"process", -2}};
    char buf[512], name[32];
    long rc = syscall(SYS_add_key, "user", "planted", "x", 1UL, -4L);

    (void)o;
    step("add", rc);
    if (rc >= 0)
        claim("added a key to the user's keyring");
    rc = syscall(SYS_request_key, "user", "planted", NULL, -3L);
    step("request", rc);
    if (rc >= 0)
        claim("found a key");
    for (size_t i = 0; i < sizeof(rings) / sizeof(*rings); i++) {
        rc = syscall(SYS_keyctl, KEYCTL_READ, rings[i].id, buf, sizeof(buf));
        (void)snprintf(name, sizeof(name), "read-%s", rings[i].name);
        step(name, rc);
        if (rc >= 0)
            claim("read the %s keyring", rings[i].name);
    }
    rc = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    step("join", rc);
    if (rc >= 0)
        claim("joined a keyring of its own making");
}

static void terminals(const struct order *o)
{
    static const char *const paths[] = {"/dev/tty",   "/dev/console", "/dev/tty0", "/dev/tty1",
                                        "/dev/pts/0", "/dev/pts/1",   "/dev/ptmx"};
    const char *text = "echo typed\n";
    char name[32];
    unsigned typed = 0;

    (void)o;
    for (int fd = 0; fd < 3; fd++)
        for (const char *c = text; *c; c++)
            typed += ioctl(fd, TIOCSTI, c) == 0;
    stepf("type", typed ? 0 : -1, "%u characters", typed);
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        char cmd[2] = {3, 0}; /* TIOCLINUX: paste the selection */
        int fd = open(paths[i], O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        (void)snprintf(name, sizeof(name), "open-%zu", i);
        stepf(name, fd, "%s", paths[i]);
        if (fd < 0)
            continue;
        typed += ioctl(fd, TIOCSTI, text) == 0;
        typed += ioctl(fd, TIOCLINUX, cmd) == 0;
        typed += ioctl(fd, TIOCCONS) == 0;
        (void)close(fd);
    }
    if (typed)
        claim("%u characters were typed into a terminal", typed);
}

/* Landlock allows 16 rule sets on one task (LANDLOCK_MAX_NUM_LAYERS): how many of its own a program can still
 * add tells how many are on it already. */
static int add_layers(void *arg)
{
    const uint64_t attr[1] = {1U << 3 /* read a directory */};
    int n = 0;

    (void)arg;
    while (n < LAYERS_MAX) {
        int fd = (int)syscall(SYS_LANDLOCK_CREATE, attr, sizeof(attr), 0);
        if (fd < 0 || syscall(SYS_LANDLOCK_RESTRICT, fd, 0) < 0)
            break;
        (void)close(fd);
        n++;
    }
    return n;
}

static void landlock(const struct order *o)
{
    int n = in_child(add_layers, NULL, 2000);

    (void)o;
    stepf("layers", n, "%d rule sets could be added", n);
    fact("layers", "%d", n);
}

const struct inside_attack inside_privilege[] = {
    {"priv.set-uid", set_uid_programs},
    {"priv.capabilities", capabilities},
    {"priv.identity", identity},
    {"priv.namespaces", namespaces},
    {"priv.no-new-privs", no_new_privileges},
    {"priv.keyrings", keyrings},
    {"priv.terminals", terminals},
    {"priv.landlock", landlock},
    {NULL, NULL},
};
