/*
 * The parts of the envelope, and the order that is the argument: what needs privilege comes before the uid
 * changes, the user namespace last of the namespaces, the capabilities go when nothing needs them any more.
 */
#include "walls/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/caps.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "base/weaken.h"

enum {
    CAP_SYS_ADMIN_BIT = 21,
    NOFILE_SOFT = 1024,
    NOFILE_HARD = 65536,
};

#define CAP_BIT(n) (1ULL << (n))
/* CHOWN, DAC_OVERRIDE, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_CHROOT, SYS_ADMIN: what building a sandbox as
 * root takes. */
#define ROOT_CAPS                                                                                            \
    (CAP_BIT(0) | CAP_BIT(1) | CAP_BIT(6) | CAP_BIT(7) | CAP_BIT(8) | CAP_BIT(12) | CAP_BIT(18) | CAP_BIT(21))

bool envelope_is_rootless(void)
{
    return geteuid() != 0 || !caps_have(ROOT_CAPS);
}

static bool read_flag(const char *path, char *value)
{
    CLEANUP_FREE char *text = NULL;

    if (io_read_file(AT_FDCWD, path, 64, &text, NULL, NULL) < 0)
        return false;
    *value = text[0];
    return true;
}

bool envelope_probe(struct err *e)
{
    char v;
    CLEANUP_FREE char *max = NULL;

    if (io_read_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", 64, &max, NULL, NULL) < 0 ||
        max[0] == '0') {
        (void)err_set(e, EOPNOTSUPP,
                      "user namespaces are disabled (sysctl -w user.max_user_namespaces=65536)");
        return false;
    }
    if (envelope_is_rootless()) {
        if (read_flag("/proc/sys/kernel/unprivileged_userns_clone", &v) && v == '0') {
            (void)err_set(e, EPERM,
                          "unprivileged user namespaces are disabled (as root: sysctl -w "
                          "kernel.unprivileged_userns_clone=1)");
            return false;
        }
        if (read_flag("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", &v) && v == '1') {
            CLEANUP_FREE char *label = NULL;
            /* A profile that grants userns shows as our label; "unconfined" means that none is loaded for
             * this binary. */
            if (io_read_file(AT_FDCWD, "/proc/self/attr/current", 256, &label, NULL, NULL) < 0 ||
                !strncmp(label, "unconfined\n", 11) || !strcmp(label, "unconfined")) {
                (void)err_set(e, EPERM,
                              "AppArmor restricts unprivileged user namespaces (as root: ironclaw doctor "
                              "--install-apparmor-profile)");
                return false;
            }
        }
    }
    return true;
}

void envelope_shortfall(char *text, size_t cap)
{
    struct cgroup_host h;
    const char *uid = envelope_is_rootless() ? "the sandbox runs under your own uid" : "";

    cgroup_probe(&h);
    if (h.memory && h.cpu && h.pids)
        (void)io_format(text, cap, "%s%s", *uid ? "rootless: " : "", uid);
    else
        (void)io_format(text, cap, "%s%s%sno %s%s%slimit: %s", *uid ? "rootless: " : "", uid,
                        *uid ? "; " : "", h.memory ? "" : "memory ", h.cpu ? "" : "cpu ",
                        h.pids ? "" : "pids ", h.why);
    if (landlock_abi() == 0) {
        size_t used = strlen(text);
        (void)io_format(text + used, cap - used, "%sno Landlock in this kernel", used ? "; " : "");
    }
}

/* Does our user namespace have this uid? Only asked when something failed: the initial one has them all. */
bool envelope_is_mapped(uint32_t uid)
{
    CLEANUP_FREE char *map = NULL;
    char *save = NULL;

    if (io_read_file(AT_FDCWD, "/proc/self/uid_map", 1 << 14, &map, NULL, NULL) < 0)
        return true;
    for (char *line = strtok_r(map, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *rest;
        unsigned long long first = strtoull(line, &rest, 10), count;
        (void)strtoull(rest, &rest, 10);
        count = strtoull(rest, NULL, 10);
        if (uid >= first && uid - first < count)
            return true;
    }
    return false;
}

/* Maps host uid/gid `uid` to SANDBOX_UID through /proc/self of the host's /proc, opened before it went out of
 * sight. */
int envelope_map_ids(int proc_self, uint32_t uid, uint32_t gid, struct err *e)
{
    char line[64];
    int rc;

    /* A changed uid, or a caller that hides its memory, made /proc/self belong to root. Nothing else runs in
     * this pid namespace yet, and init hides itself again. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot become dumpable for the uid map");
    rc = io_write_knob(proc_self, "setgroups", "deny"); /* before gid_map: user_namespaces(7) */
    if (rc == 0) {
        (void)io_format(line, sizeof(line), "%d %u 1\n", SANDBOX_UID, uid);
        rc = io_write_knob(proc_self, "uid_map", line);
    }
    if (rc == 0) {
        (void)io_format(line, sizeof(line), "%d %u 1\n", SANDBOX_UID, gid);
        rc = io_write_knob(proc_self, "gid_map", line);
    }
    return rc < 0 ? err_sys(e, -rc, "cannot map uid %u into the user namespace", uid) : 0;
}

/*
 * Root: become the sandbox's host uid, keeping CAP_SYS_ADMIN just long enough to create the user namespace (a
 * host that restricts unprivileged user namespaces must not refuse us), then map that one uid.
 */
static int enter_user_namespace(uint32_t uid, int proc_self, struct err *e)
{
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
        setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_sys(e, errno, "cannot become uid %u", uid);
    if (caps_limit(1ULL << CAP_SYS_ADMIN_BIT, e) < 0)
        return -1;
    if (weakened("user-namespace"))
        return 0;
    if (unshare(CLONE_NEWUSER) < 0)
        return err_sys(e, errno, "cannot create the user namespace");
    return envelope_map_ids(proc_self, uid, uid, e);
}

#ifdef IRONCLAW_WEAKENED
/* What a wall without this protection would be: every capability of the user namespace, also after exec. */
static int caps_keep_all(struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) < 0)
        return err_sys(e, errno, "cannot read the capabilities");
    for (int i = 0; i < 2; i++)
        data[i].inheritable = data[i].effective = data[i].permitted;
    if (syscall(SYS_capset, &head, data) < 0)
        return err_sys(e, errno, "cannot keep the capabilities");
    for (int cap = 0; cap < 64; cap++)
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return 0;
}
#else
#define caps_keep_all(e) (-1)
#endif

static int set_rlimit(unsigned what, const char *name, rlim_t soft, rlim_t hard, struct err *e)
{
    struct rlimit old, new;

    if (getrlimit(what, &old) < 0)
        return err_sys(e, errno, "cannot read RLIMIT_%s", name);
    new.rlim_max = hard < old.rlim_max ? hard : old.rlim_max; /* never raises what the caller was given */
    new.rlim_cur = soft < new.rlim_max ? soft : new.rlim_max;
    return setrlimit(what, &new) < 0 ? err_sys(e, errno, "cannot set RLIMIT_%s", name) : 0;
}

static int set_rlimits(const struct sandbox_spec *spec, struct err *e)
{
    /* A little above the cgroup's limit: that one comes first, and counts what it refused. */
    rlim_t processes = spec->limits.pids ? (rlim_t)spec->limits.pids + 16 : 4096;

    if (set_rlimit(RLIMIT_CORE, "CORE", 0, 0, e) < 0 ||
        set_rlimit(RLIMIT_NOFILE, "NOFILE", NOFILE_SOFT, NOFILE_HARD, e) < 0 ||
        set_rlimit(RLIMIT_MEMLOCK, "MEMLOCK", 64 << 10, 64 << 10, e) < 0 ||
        set_rlimit(RLIMIT_MSGQUEUE, "MSGQUEUE", 819200, 819200, e) < 0 ||
        set_rlimit(RLIMIT_SIGPENDING, "SIGPENDING", 1024, 1024, e) < 0 ||
        set_rlimit(RLIMIT_RTPRIO, "RTPRIO", 0, 0, e) < 0 || set_rlimit(RLIMIT_NICE, "NICE", 0, 0, e) < 0)
        return -1;
    /* As root the uid is the sandbox's own, so the limit counts the sandbox; rootless it would count all of
     * the user's processes on the host and break it at once: there the pids cgroup alone limits. */
    return spec->uid && geteuid() != 0 && !weakened("pids-limit")
               ? set_rlimit(RLIMIT_NPROC, "NPROC", processes, processes, e)
               : 0;
}

int envelope_seal_root(struct err *e)
{
    struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};

    if (syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &ro, sizeof(ro)) < 0)
        return err_sys(e, errno, "cannot make the root read-only");
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

void envelope_begin(void)
{
    reset_signals();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)umask(022);
}

int envelope_become(const struct sandbox_spec *spec, int proc_self, bool rootless, struct err *e)
{
    if (!rootless && enter_user_namespace(spec->uid, proc_self, e) < 0)
        return -1;
    /* Only now: a new user namespace starts with a full bounding set (user_namespaces(7)). */
    // NOLINTNEXTLINE(misc-redundant-expression): the switches are constants outside of the weakened build
    if (!weakened("bounding-set") && !weakened("capabilities") && !weakened("user-namespace") &&
        caps_drop_bounding(0, e) < 0)
        return -1;
    return set_rlimits(spec, e);
}

int envelope_give_up(struct err *e)
{
    if (weakened("capabilities") ? caps_keep_all(e) < 0 : caps_limit(0, e) < 0)
        return -1;
    if ((!weakened("no-new-privs") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_sys(e, errno, "cannot set no_new_privs");
    return 0;
}
