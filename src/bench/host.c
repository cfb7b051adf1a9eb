#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

/* The number after "NAME:" in a file of such lines, or 0. */
static long field(const char *path, const char *name)
{
    char line[256];
    size_t len = strlen(name);
    long value = 0;
    FILE *f = fopen(path, "re");

    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, name, len) && (line[len] == ':' || line[len] == ' '))
            value = strtol(line + len + 1, NULL, 10);
    if (f)
        (void)fclose(f);
    return value;
}

void host_memory(struct host_memory *m)
{
    static const char path[] = "/proc/meminfo";

    m->available = field(path, "MemAvailable");
    m->kernel =
        field(path, "Slab") + field(path, "KernelStack") + field(path, "PageTables") + field(path, "Percpu");
}

long host_pss(pid_t pid)
{
    char path[64];

    (void)io_format(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    return field(path, "Pss");
}

long host_fds(pid_t pid)
{
    char path[64];
    long n = 0;
    DIR *dir;

    (void)io_format(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        (void)closedir(dir);
    return n > 2 ? n - 2 : 0;
}

static int compare(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

    return x < y ? -1 : x > y;
}

pid_t *host_pids(size_t *n)
{
    DIR *dir = opendir("/proc");
    size_t room = 256;
    pid_t *pids = x_malloc(room * sizeof(*pids));
    const struct dirent *d;
    uint64_t v;

    *n = 0;
    while (dir && (d = readdir(dir))) {
        if (!io_parse_u64(d->d_name, INT32_MAX, &v))
            continue;
        if (*n == room)
            pids = x_realloc(pids, (room *= 2) * sizeof(*pids));
        pids[(*n)++] = (pid_t)v;
    }
    if (dir)
        (void)closedir(dir);
    qsort(pids, *n, sizeof(*pids), compare);
    return pids;
}

/* The path of the memory group of a process: the v1 "memory" line, else the v2 line ("0::"). */
static bool memory_group(pid_t pid, char *path, size_t cap)
{
    char file[64], line[512];
    bool v1 = false, found = false;
    FILE *f;

    (void)io_format(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
    f = fopen(file, "re");
    while (f && fgets(line, sizeof(line), f)) {
        const char *at = strstr(line, ":memory:");
        line[strcspn(line, "\n")] = 0;
        if (at)
            found = v1 = io_format(path, cap, "/sys/fs/cgroup/memory%s", at + strlen(":memory:"));
        else if (!v1 && !strncmp(line, "0::", 3))
            found = io_format(path, cap, "/sys/fs/cgroup%s", line + 3);
    }
    if (f)
        (void)fclose(f);
    return found;
}

long host_cgroup_kernel(pid_t pid, char *path, size_t cap)
{
    char group[512], own[512], file[600];
    CLEANUP_FREE char *text = NULL;
    long bytes;

    if (!memory_group(pid, group, sizeof(group)) || !memory_group(getpid(), own, sizeof(own)) ||
        !strcmp(group, own))
        return -1;
    if (path)
        (void)io_format(path, cap, "%s", group);
    if (io_format(file, sizeof(file), "%s/memory.kmem.usage_in_bytes", group) &&
        io_read_file(AT_FDCWD, file, 64, &text, NULL, NULL) == 0)
        return strtol(text, NULL, 10) / 1024;
    bytes = io_format(file, sizeof(file), "%s/memory.stat", group) ? field(file, "kernel") : 0;
    return bytes / 1024;
}
