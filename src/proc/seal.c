#include "proc/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "base/weaken.h"
#include "proc/seal_syscalls.h"

enum { PATHS_MAX = 32 };

static bool chrooted;
#ifdef IRONCLAW_SANITIZED
static bool sealed;
#endif

#ifdef IRONCLAW_SANITIZED
/* The leak checker stops the process by ptrace from a clone of it, which the seal forbids. Unsealed unit
 * tests do check. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return chrooted || sealed;
}
#endif

bool seal_is_chrooted(void)
{
    return chrooted;
}

/* Root only: an own mount, IPC and (unless it must connect) network namespace, and a root that holds only
 * what it needs. */
static int confine(const struct seal_profile *p, struct err *e)
{
    int ns = CLONE_NEWNS | CLONE_NEWIPC | (p->groups & SEAL_CONNECT ? 0 : CLONE_NEWNET);
    const char *root = p->chroot_to;

    if (p->groups & SEAL_LAUNCH)
        return 0; /* makes mounts and namespaces for others: it needs the host's */
    if (unshare(ns) < 0)
        return err_sys(e, errno, "cannot create own namespaces");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_sys(e, errno, "cannot make own mounts private");
    if (!root)
        return 0;
    if (!*root) {
        root = "/tmp"; /* any directory that always exists; covered in this mount namespace only */
        if (mount("none", root, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=0555") <
            0)
            return err_sys(e, errno, "cannot make an empty root");
    }
    if (chdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return err_sys(e, errno, "cannot confine the process to %s", root);
    chrooted = true;
    return 0;
}

/* Where a path lies after the chroot. */
static const char *inside(const struct seal_profile *p, const char *path)
{
    size_t len = chrooted && p->chroot_to ? strlen(p->chroot_to) : 0;

    if (len == 0 || strncmp(path, p->chroot_to, len) != 0)
        return path;
    return path[len] == '/' ? path + len : "/";
}

static int restrict_files(const struct landlock_path *rules, size_t n, const struct seal_profile *p,
                          struct err *e)
{
    if (p->groups & SEAL_LAUNCH)
        return 0;
    return landlock_restrict(rules, n, !(p->groups & SEAL_CONNECT), false, e) < 0 ? -1 : 0;
}

/* seccomp_unotify(2): receive, answer, and how to hand over (Linux 6.6, _IOW(SECCOMP_IOC_MAGIC, 4, __u64)).
 */
static const uint32_t listener_requests[] = {SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND,
                                             _IOW(SECCOMP_IOC_MAGIC, 4, __u64)};

enum { DENIED = 4000 /* stands for the verdict of load_denying(); no errno */, INSTRUCTIONS_MAX = 1024 };

/*
 * Sandboxes inherit the launcher's denylist, and the kernel takes the strictest verdict of all filters: an
 * errno here would keep the sandbox's own filter from reporting the call (walls/container/seccomp.h). "Ask
 * the listener" ranks with the sandbox's own; here there is no listener, so the kernel answers ENOSYS.
 * libseccomp would make one.
 */
static int load_denying(scmp_filter_ctx ctx)
{
    struct sock_filter code[INSTRUCTIONS_MAX];
    struct sock_fprog prog = {.filter = code};
    CLEANUP_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    ssize_t len;

    if (rc < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return rc < 0 ? rc : -errno;
    len = io_read_full(fd, code, sizeof(code));
    if (len <= 0 || len == (ssize_t)sizeof(code))
        return -E2BIG;
    prog.len = (unsigned short)((size_t)len / sizeof(code[0]));
    for (unsigned i = 0; i < prog.len; i++)
        if (code[i].code == (BPF_RET | BPF_K) && code[i].k == (SECCOMP_RET_ERRNO | DENIED))
            code[i].k = SECCOMP_RET_USER_NOTIF;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0 ? -errno : 0;
}

static int filter_syscalls(const struct seal_profile *p, struct err *e)
{
    bool deny_list = p->groups & SEAL_LAUNCH;
    scmp_filter_ctx ctx = seccomp_init(deny_list ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
    int rc = 0;

    if (!ctx)
        return err_set(e, ENOMEM, "cannot build the system call filter");
    for (size_t i = 0; !deny_list && rc == 0 && i < seal_nsyscalls; i++)
        if (seal_syscalls[i].groups & p->groups)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, seal_syscalls[i].nr, 0);
    for (size_t i = 0; p->groups & SEAL_NOTIFY && rc == 0 && i < ARRAY_LEN(listener_requests); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, listener_requests[i]));
    for (size_t i = 0; deny_list && rc == 0 && i < seal_ndenied; i++)
        if (!((p->groups & SEAL_TRACE) && seal_is_tracing(seal_denied[i])))
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(DENIED), seal_denied[i], 0);
#ifdef IRONCLAW_SANITIZED
    /* The sanitizers' runtime reads /proc/self/maps and the like when it reports. Test builds only. */
    static const int runtime[] = {SCMP_SYS(openat), SCMP_SYS(open),       SCMP_SYS(readlink), SCMP_SYS(prctl),
                                  SCMP_SYS(stat),   SCMP_SYS(newfstatat), SCMP_SYS(ioctl)};
    for (size_t i = 0; !deny_list && rc == 0 && i < ARRAY_LEN(runtime); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, runtime[i], 0);
#endif
    if (rc == 0)
        rc = deny_list ? load_denying(ctx) : seccomp_load(ctx);
#ifdef IRONCLAW_SANITIZED
    sealed = true;
#endif
    seccomp_release(ctx);
    return rc < 0 ? err_sys(e, -rc, "cannot load the system call filter") : 0;
}

int seal_process(const struct seal_profile *p, struct err *e)
{
    struct landlock_path rules[PATHS_MAX];
    struct rlimit no_core = {0, 0};
    bool root = geteuid() == 0;
    int rc;

    if (p->npaths > PATHS_MAX)
        return err_set(e, E2BIG, "a process may name at most %d paths", PATHS_MAX);
    if (root && caps_have(1ULL << 21 /* CAP_SYS_ADMIN */) && confine(p, e) < 0)
        return -1;
    for (unsigned i = 0; i < p->npaths; i++) {
        const char *path = inside(p, p->paths[i].path);
        rules[i].fd = open(path, O_PATH | O_CLOEXEC);
        rules[i].mode = p->paths[i].mode;
        if (rules[i].fd < 0) {
            rc = err_sys(e, errno, "cannot open %s", path);
            for (unsigned k = 0; k < i; k++)
                (void)close(rules[k].fd);
            return rc;
        }
    }
    rc = root ? caps_drop_bounding(p->keep_caps, e)
              : 0; /* rootless there is none to drop; no_new_privs stands in */
    if (rc == 0 && root && p->uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(p->uid, p->uid, p->uid) < 0 ||
         setresuid(p->uid, p->uid, p->uid) < 0))
        rc = err_sys(e, errno, "cannot change to uid %u", p->uid);
    /* Sandboxes inherit both from the launcher: whoever switches one off for them means this layer too. */
    if (rc == 0 && !(weakened("no-new-privs") && p->groups & SEAL_LAUNCH) &&
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        rc = err_sys(e, errno, "cannot set no_new_privs");
    if (rc == 0)
        rc = restrict_files(rules, p->npaths, p, e);
    for (unsigned i = 0; i < p->npaths; i++)
        (void)close(rules[i].fd);
    if (rc < 0)
        return -1;
    if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot disable core dumps");
    /* A changed uid clears the parent-death signal (prctl(2)); ours must go with the supervisor. */
    if (prctl(PR_SET_PDEATHSIG, 9 /* SIGKILL */, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot tie the process to its supervisor");
    if (caps_limit(root ? p->keep_caps : 0, e) < 0)
        return -1;
    if (weakened("seccomp") && p->groups & SEAL_LAUNCH)
        return 0;
    return filter_syscalls(p, e);
}
