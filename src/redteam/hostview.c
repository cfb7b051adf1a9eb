/*
 * What the host's /proc and control groups say about a sandbox: the only witness that the hostile program
 * cannot talk to.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fnv.h"
#include "base/io.h"
#include "redteam/redteam.h"
#include "walls/cgroup.h"

enum { PROC_TEXT_MAX = 4 << 20, DEPTH_MAX = 24, CONTENT_MAX = 64 << 20 };

char *host_proc_text(pid_t pid, const char *name)
{
    char path[96], *text = NULL;

    if (!io_format(path, sizeof(path), "/proc/%d/%s", (int)pid, name) ||
        io_read_file(AT_FDCWD, path, PROC_TEXT_MAX, &text, NULL, NULL) < 0)
        return NULL;
    return text;
}

bool host_status(pid_t pid, const char *key, char *out, size_t cap)
{
    CLEANUP_FREE char *text = host_proc_text(pid, "status");
    size_t len = strlen(key);
    char *save = NULL;

    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, key, len) && line[len] == ':')
            return io_format(out, cap, "%s", line + len + 1 + strspn(line + len + 1, " \t"));
    return false;
}

/* ---- which processes are a sandbox's ---- */

struct process {
    pid_t pid, parent;
};

static size_t all_processes(struct process *list, size_t cap)
{
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    size_t n = 0;

    while (dir && n < cap && (d = readdir(dir))) {
        uint64_t pid;
        char parent[32];
        if (io_parse_u64(d->d_name, INT32_MAX, &pid) &&
            host_status((pid_t)pid, "PPid", parent, sizeof(parent)))
            list[n++] = (struct process){(pid_t)pid, (pid_t)strtol(parent, NULL, 10)};
    }
    if (dir)
        (void)closedir(dir);
    return n;
}

/* Does the session's id stand in one of the process's texts? A NUL separates words in two of them. */
static bool names_session(pid_t pid, const char *session)
{
    static const char *const files[] = {"cgroup", "environ", "cmdline"};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[64];
        CLEANUP_FREE char *text = NULL;
        size_t len = 0;
        (void)io_format(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
        if (io_read_file(AT_FDCWD, path, PROC_TEXT_MAX, &text, &len, NULL) == 0 &&
            memmem(text, len, session, strlen(session)))
            return true;
    }
    return false;
}

static bool listed(const pid_t *list, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == pid)
            return true;
    return false;
}

size_t host_sandbox_pids(const struct plane *p, const char *session, pid_t *out, size_t cap)
{
    enum { ALL_MAX = 16384 };
    CLEANUP_FREE struct process *all = x_calloc(ALL_MAX, sizeof(*all));
    size_t nall = all_processes(all, ALL_MAX), n = 0, before;
    pid_t launcher = plane_daemon(p, "launcher");

    /* A child of the launcher is a sandbox's init: its own texts, or its children's, name the session
     * (rootless, init itself cannot be looked into, and there may be no control group). */
    for (size_t i = 0; i < nall && n < cap; i++) {
        bool mine = false;
        if (all[i].parent != launcher || launcher == 0)
            continue;
        mine = names_session(all[i].pid, session);
        for (size_t k = 0; k < nall && !mine; k++)
            mine = all[k].parent == all[i].pid && names_session(all[k].pid, session);
        if (mine)
            out[n++] = all[i].pid;
    }
    /* Then everything below. */
    do {
        before = n;
        for (size_t i = 0; i < nall && n < cap; i++)
            if (listed(out, n, all[i].parent) && !listed(out, n, all[i].pid))
                out[n++] = all[i].pid;
    } while (n > before);
    return n;
}

/* ---- namespaces ---- */

static bool namespace_of(const char *pid, const char *kind, char *out, size_t cap)
{
    char path[96];
    ssize_t n;

    if (!io_format(path, sizeof(path), "/proc/%s/ns/%s", pid, kind))
        return false;
    n = readlink(path, out, cap - 1);
    if (n < 0)
        return false;
    out[n] = 0;
    return true;
}

int host_share_namespace(pid_t a, pid_t b, const char *kind)
{
    char one[64], other[64], pa[16], pb[16];

    (void)io_format(pa, sizeof(pa), "%d", (int)a);
    (void)io_format(pb, sizeof(pb), "%d", (int)b);
    if (!namespace_of(pa, kind, one, sizeof(one)) || !namespace_of(pb, kind, other, sizeof(other)))
        return -1;
    return strcmp(one, other) == 0;
}

int host_same_namespace(pid_t pid, const char *kind)
{
    return host_share_namespace(pid, getpid(), kind);
}

/* ---- control groups ---- */

/* Looks below `dir` for ".../ironclaw/<session>-..."; fills `out`. */
static bool find_group(const char *dir, const char *session, unsigned depth, char *out, size_t cap)
{
    DIR *d = depth > 8 ? NULL : opendir(dir);
    const struct dirent *entry;
    bool found = false;

    while (d && !found && (entry = readdir(d))) {
        char path[512];
        if (entry->d_name[0] == '.' || entry->d_type != DT_DIR ||
            !io_format(path, sizeof(path), "%s/%s", dir, entry->d_name))
            continue;
        if (!strncmp(entry->d_name, session, strlen(session)))
            found = io_format(out, cap, "%s", path);
        else
            found = find_group(path, session, depth + 1, out, cap);
    }
    if (d)
        (void)closedir(d);
    return found;
}

char *host_cgroup_text(const char *session, const char *controller, const char *v1, const char *v2)
{
    char group[512], path[640], base[64], *text = NULL;
    const char *bases[] = {base, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    const char *names[] = {v1, v2, v2};

    (void)io_format(base, sizeof(base), "/sys/fs/cgroup/%s", controller);
    for (size_t i = 0; i < ARRAY_LEN(bases); i++)
        if (names[i] && find_group(bases[i], session, 0, group, sizeof(group)) &&
            io_format(path, sizeof(path), "%s/%s", group, names[i]) &&
            io_read_file(AT_FDCWD, path, 65536, &text, NULL, NULL) == 0)
            return text;
    return NULL;
}

bool host_has_cgroup(const char *controller)
{
    struct cgroup_host h;

    cgroup_probe(&h);
    return !strcmp(controller, "memory") ? h.memory : !strcmp(controller, "pids") ? h.pids : h.cpu;
}

/* ---- files ---- */

static uint64_t sum_entry(int dir, const char *name, unsigned depth);

static uint64_t sum_directory(int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    const struct dirent *d;
    uint64_t sum = 0;

    while (dir && (d = readdir(dir)))
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
            sum += sum_entry(dirfd(dir), d->d_name, depth + 1); /* order does not matter */
    if (dir)
        (void)closedir(dir);
    else
        (void)close(fd);
    return sum;
}

static uint64_t sum_entry(int dir, const char *name, unsigned depth)
{
    uint64_t sum = fnv1a(FNV_BASIS, name, strlen(name));
    struct stat st;
    int fd;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || depth > DEPTH_MAX)
        return sum;
    sum = fnv1a(sum, &st.st_mode, sizeof(st.st_mode));
    sum = fnv1a(sum, &st.st_uid, sizeof(st.st_uid));
    sum = fnv1a(sum, &st.st_nlink, sizeof(st.st_nlink));
    if (S_ISDIR(st.st_mode)) {
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? sum : sum + sum_directory(fd, depth);
    }
    if (S_ISREG(st.st_mode)) {
        CLEANUP_FREE char *text = NULL;
        size_t len = 0;
        if (io_read_file(dir, name, CONTENT_MAX, &text, &len, NULL) == 0)
            sum = fnv1a(sum, text, len);
    }
    return sum;
}

uint64_t host_tree_sum(const char *path)
{
    return sum_entry(AT_FDCWD, path, 0);
}
