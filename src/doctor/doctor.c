/*
 * `ironclaw doctor`: the facts about this host that walls depend on, each with what it means and what to do.
 * Read-only, except for --install-apparmor-profile.
 */
#include "doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "base/paths.h"
#include "walls/cell/cell.h"
#include "walls/cgroup.h"
#include "walls/wall.h"

enum verdict { FINE, WEAKER, MISSING };
static const char *const verdicts[] = {"ok", "weaker", "missing"};

struct fact {
    const char *name;
    enum verdict verdict;
    char detail[256], remedy[256];
};

static const char help[] = "usage: ironclaw doctor [--json] | --install-apparmor-profile\n"
                           "Says what this host can do for each wall, what is missing, and how to get it.\n"
                           "Exit status: 0 if a wall can be used, 1 if none.\n"
                           "\n"
                           "example: ironclaw doctor --json\n";

static bool read_line(const char *path, char *out, size_t cap)
{
    CLEANUP_FREE char *text = NULL;

    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = 0;
    return io_format(out, cap, "%s", text);
}

static void check_kernel(struct fact *f)
{
    struct utsname u;
    int major = 0, minor = 0;

    (void)uname(&u);
    /* NOLINTNEXTLINE(cert-err34-c): 0.0 when it is no number, reported below */
    (void)sscanf(u.release, "%d.%d", &major, &minor);
    (void)io_format(f->detail, sizeof(f->detail), "Linux %.64s %.32s", u.release, u.machine);
    if (major > 5 || (major == 5 && minor >= 12))
        return;
    f->verdict = MISSING;
    (void)io_format(f->remedy, sizeof(f->remedy), "Linux 5.12 or newer is needed (mount_setattr)");
}

static void check_user_namespaces(struct fact *f)
{
    char value[32];
    struct err e = ERR_INIT;
    const struct wall_ops *wall = wall_find("container");

    if (read_line("/proc/sys/user/max_user_namespaces", value, sizeof(value)))
        (void)io_format(f->detail, sizeof(f->detail), "user.max_user_namespaces = %s", value);
    if (wall->probe(&e))
        return;
    f->verdict = MISSING;
    (void)io_format(f->remedy, sizeof(f->remedy), "%.255s", e.text);
}

/* A trial in a child of its own: the only reliable answer inside an outer container. */
static bool can_create_namespaces(int flags, int *code)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(flags) == 0 ? 0 : errno > 0 && errno < 126 ? errno : 126);
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
        *code = EAGAIN;
    else
        *code = WEXITSTATUS(status);
    return *code == 0;
}

static void check_namespaces(struct fact *f)
{
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
                (geteuid() ? CLONE_NEWUSER : 0),
        code;

    if (can_create_namespaces(flags, &code)) {
        (void)io_format(f->detail, sizeof(f->detail),
                        "mount, pid, network, ipc, uts and cgroup namespaces can be created");
        return;
    }
    f->verdict = MISSING;
    (void)io_format(f->detail, sizeof(f->detail), "creating namespaces fails: %s", strerror(code));
    (void)io_format(f->remedy, sizeof(f->remedy),
                    "an outer container or sandbox forbids it: give that one CAP_SYS_ADMIN or a seccomp "
                    "profile that allows unshare and clone of namespaces");
}

static void check_outer(struct fact *f)
{
    char value[128];
    bool docker = access("/.dockerenv", F_OK) == 0, podman = access("/run/.containerenv", F_OK) == 0;
    CLEANUP_FREE char *status = NULL;
    const char *seccomp;

    if (docker || podman)
        (void)io_format(f->detail, sizeof(f->detail), "this is inside a container (%s exists)",
                        docker ? "/.dockerenv" : "/run/.containerenv");
    else if (read_line("/run/systemd/container", value, sizeof(value)))
        (void)io_format(f->detail, sizeof(f->detail), "this is inside a container (%s)", value);
    else
        (void)io_format(f->detail, sizeof(f->detail), "no outer container found");
    if (io_read_file(AT_FDCWD, "/proc/self/status", 16384, &status, NULL, NULL) == 0 &&
        (seccomp = strstr(status, "\nSeccomp:")) && seccomp[10] != '0') {
        size_t used = strlen(f->detail);
        f->verdict = WEAKER;
        (void)io_format(f->detail + used, sizeof(f->detail) - used, "; an outer seccomp filter is in force");
        (void)io_format(f->remedy, sizeof(f->remedy),
                        "what the outer filter forbids cannot be given inside; see the facts that follow");
    }
}

static void check_cgroups(struct fact *f)
{
    struct cgroup_host h;

    cgroup_probe(&h);
    (void)io_format(f->detail, sizeof(f->detail), "cgroup %s; limits that can be enforced:%s%s%s%s",
                    h.v2 ? "v2" : "v1", h.memory ? " memory" : "", h.cpu ? " cpu" : "", h.pids ? " pids" : "",
                    h.memory || h.cpu || h.pids ? "" : " none");
    if (h.memory && h.cpu && h.pids)
        return;
    f->verdict = WEAKER;
    (void)io_format(f->remedy, sizeof(f->remedy), "%s", h.why);
}

static void check_landlock(struct fact *f)
{
    int abi = landlock_abi();

    (void)io_format(f->detail, sizeof(f->detail), "ABI %d", abi);
    if (abi >= 6)
        return;
    f->verdict = WEAKER;
    (void)io_format(
        f->remedy, sizeof(f->remedy),
        abi == 0 ? "enable it: lsm=...,landlock on the kernel command line (the other walls stand without it)"
                 : "ABI 6 (Linux 6.12) also keeps signals and abstract sockets inside");
}

static void check_seccomp(struct fact *f)
{
    char actions[256];

    if (read_line("/proc/sys/kernel/seccomp/actions_avail", actions, sizeof(actions)) &&
        strstr(actions, "kill_process")) {
        (void)io_format(f->detail, sizeof(f->detail), "filters available");
        return;
    }
    f->verdict = MISSING;
    (void)io_format(f->remedy, sizeof(f->remedy), "a kernel with CONFIG_SECCOMP_FILTER is needed");
}

static void check_uid(struct fact *f)
{
    if (geteuid() == 0) {
        (void)io_format(f->detail, sizeof(f->detail),
                        "root: every sandbox gets an unprivileged host uid of its own");
        return;
    }
    f->verdict = WEAKER;
    (void)io_format(f->detail, sizeof(f->detail), "rootless: sandboxes run under uid %u on the host",
                    geteuid());
    (void)io_format(f->remedy, sizeof(f->remedy), "run as root for a distinct host uid per sandbox");
}

static void check_busybox(struct fact *f)
{
    if (access("/bin/busybox", X_OK) == 0 || access("/usr/bin/busybox", X_OK) == 0) {
        (void)io_format(f->detail, sizeof(f->detail), "busybox is installed; the base image can be built");
        return;
    }
    f->verdict = WEAKER;
    (void)io_format(f->remedy, sizeof(f->remedy),
                    "apt-get install busybox-static for the base image, or use --rootfs");
}

static void check_cell_images(struct fact *f)
{
    struct err e = ERR_INIT;
    const char *maker = cell_image_maker(&e);

    if (maker) {
        (void)io_format(f->detail, sizeof(f->detail), "%s makes the images of the cell wall", maker);
        return;
    }
    f->verdict = WEAKER;
    (void)io_format(f->remedy, sizeof(f->remedy), "%.250s", e.text);
}

static void check_lockdown(struct fact *f)
{
    char value[128], lsm[256];

    if (!read_line("/sys/kernel/security/lsm", lsm, sizeof(lsm)))
        (void)io_format(lsm, sizeof(lsm), "unknown");
    if (!read_line("/sys/kernel/security/lockdown", value, sizeof(value)))
        (void)io_format(value, sizeof(value), "not available");
    (void)io_format(f->detail, sizeof(f->detail), "security modules: %.120s; lockdown: %.60s", lsm, value);
}

static void check_devices(struct fact *f)
{
    (void)io_format(f->detail, sizeof(f->detail), "/dev/kvm %s, TPM %s",
                    access("/dev/kvm", R_OK | W_OK) == 0 ? "usable" : "not usable",
                    access("/dev/tpmrm0", F_OK) == 0 ? "present" : "not present");
}

static const struct {
    const char *name;
    void (*check)(struct fact *f);
} checks[] = {
    {"kernel", check_kernel},
    {"outer sandbox", check_outer},
    {"user namespaces", check_user_namespaces},
    {"namespaces", check_namespaces},
    {"seccomp", check_seccomp},
    {"landlock", check_landlock},
    {"cgroups", check_cgroups},
    {"host uid", check_uid},
    {"base image", check_busybox},
    {"cell images", check_cell_images},
    {"kernel security", check_lockdown},
    {"hardware", check_devices},
};

/* JSON string contents: our own details may quote kernel text. */
static void print_json_string(const char *s)
{
    (void)putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            (void)printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            (void)printf("\\u%04x", (unsigned)*s);
        else
            (void)putchar(*s);
    }
    (void)putchar('"');
}

static void print_fact(const struct fact *f, bool json, bool first)
{
    if (!json) {
        (void)printf("%-8s %-16s %s\n", verdicts[f->verdict], f->name, f->detail);
        if (*f->remedy)
            (void)printf("%-8s %-16s -> %s\n", "", "", f->remedy);
        return;
    }
    (void)printf("%s{\"fact\":", first ? "" : ",");
    print_json_string(f->name);
    (void)printf(",\"verdict\":\"%s\",\"detail\":", verdicts[f->verdict]);
    print_json_string(f->detail);
    (void)printf(",\"remedy\":");
    print_json_string(f->remedy);
    (void)putchar('}');
}

static int examine(bool json)
{
    bool usable = true;
    const struct wall_ops *wall;
    static char state[PATHS_MAX_LEN];
    bool has_state = paths_state_dir(state, sizeof(state), NULL) == 0;
    struct wall_config config = {.state_dir = has_state ? state : NULL,
                                 .oci_runtime = getenv("IRONCLAW_OCI_RUNTIME"),
                                 .oci_platform = getenv("IRONCLAW_GVISOR_PLATFORM")};

    wall_configure(&config);
    if (json)
        (void)printf("{\"facts\":[");
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        struct fact f = {.name = checks[i].name, .verdict = FINE};
        checks[i].check(&f);
        usable = usable && f.verdict != MISSING;
        print_fact(&f, json, i == 0);
    }
    if (json)
        (void)printf("],\"walls\":[");
    for (size_t i = 0; (wall = wall_at(i)); i++) {
        struct err e = ERR_INIT;
        char text[512];
        bool can = wall->probe(&e) && usable;
        text[0] = 0;
        if (can)
            wall->shortfall(text, sizeof(text));
        else if (e.code)
            (void)io_format(text, sizeof(text), "%.500s", e.text);
        if (json) {
            (void)printf("%s{\"wall\":\"%s\",\"available\":%s,\"shortfall\":", i ? "," : "", wall->name,
                         can ? "true" : "false");
            print_json_string(text);
            (void)putchar('}');
        } else {
            (void)printf("\nwall %s: %s%s%s\n", wall->name, can ? "available" : "not available",
                         *text ? "; " : "", text);
        }
    }
    if (json)
        (void)printf("]}\n");
    return usable ? 0 : 1;
}

/* Ubuntu 24.04 lets only profiled programs create user namespaces: one profile for the two of ours that do.
 */
static int install_profile(void)
{
    static const char place[] = "/etc/apparmor.d/ironclaw";
    struct err e = ERR_INIT;
    char self[PATHS_MAX_LEN], launcher[PATHS_MAX_LEN];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    CLEANUP_FREE char *text = NULL;
    int status = 1;
    pid_t pid;

    if (n < 0 || paths_helper("ironclaw-launcher", launcher, sizeof(launcher), &e) < 0) {
        (void)fprintf(stderr, "ironclaw: %s\n", e.code ? e.text : "cannot find this program's own path");
        return 1;
    }
    self[n] = 0;
    text = x_asprintf(
        "# Lets IronClaw create the user namespaces its sandboxes live in; restricts nothing else.\n"
        "abi <abi/4.0>,\n"
        "include <tunables/global>\n"
        "profile ironclaw \"%s\" flags=(unconfined) {\n  userns,\n}\n"
        "profile ironclaw-launcher \"%s\" flags=(unconfined) {\n  userns,\n}\n",
        self, launcher);
    if (io_replace_file(AT_FDCWD, place, text, strlen(text), 0644, &e) < 0) {
        (void)fprintf(stderr, "ironclaw: %s (run as root, on a host with AppArmor)\n", e.text);
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        (void)execlp("apparmor_parser", "apparmor_parser", "-r", place, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
        (void)fprintf(stderr, "ironclaw: wrote %s, but 'apparmor_parser -r %s' failed\n", place, place);
        return 1;
    }
    (void)printf("installed and loaded %s\n", place);
    return 0;
}

int doctor_main(int argc, char **argv)
{
    if (argc == 1)
        return examine(false);
    if (argc == 2 && !strcmp(argv[1], "--json"))
        return examine(true);
    if (argc == 2 && !strcmp(argv[1], "--install-apparmor-profile"))
        return install_profile();
    (void)fputs(help, argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr);
    return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
}
