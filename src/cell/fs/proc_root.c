/*
 * /proc itself: what is about the whole cell.
 */
#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/dentry.h"
#include "cell/fs/mount.h"
#include "cell/fs/procfs.h"
#include "cell/fs/tmpfs.h"
#include "cell/mem/heap.h"
#include "cell/proc/process.h"

#define FILE(n, f)                                                                                           \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .show = (f)                                                     \
    }
#define FIXED(n, t)                                                                                          \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .fixed = (t)                                                    \
    }

static u64 seconds(u64 ns)
{
    return ns / 1000000000U;
}

static void show_uptime(const struct proc_subject *s, struct text *t)
{
    u64 up = monotonic_ns() - HEADER->boot_monotonic_ns;
    unsigned cents = (unsigned)(up / 10000000 % 100);

    (void)s;
    text_add(t, "%lu.%02u %lu.%02u\n", seconds(up), cents, seconds(up), cents);
}

static void show_meminfo(const struct proc_subject *s, struct text *t)
{
    u64 total = (HEADER->memory_limit ? HEADER->memory_limit : HEADER->memory_size) / 1024, taken;
    u64 files, room;
    size_t used, all;

    (void)s;
    page_count(&used, &all);
    taken = MIN(total, used * PAGE / 1024);
    tmpfs_statfs(&files, &room);
    files = MIN(taken, (files - room) * PAGE / 1024);
    text_add(t, "MemTotal:       %8lu kB\nMemFree:        %8lu kB\nMemAvailable:   %8lu kB\n", total,
             total - taken, total - taken);
    text_add(t, "Buffers:               0 kB\nCached:         %8lu kB\nSwapCached:            0 kB\n", files);
    text_add(t, "SwapTotal:             0 kB\nSwapFree:              0 kB\nShmem:          %8lu kB\n", files);
    text_add(t, "CommitLimit:    %8lu kB\nCommitted_AS:   %8lu kB\n", total, taken);
    text_add(t, "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n");
}

static unsigned cpus(void)
{
    return MAX(HEADER->cpus, 1U);
}

static void cpuid(u32 leaf, u32 out[4])
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

/* The names of the bits of cpuid leaf 1 that programs look for. */
static void show_flags(struct text *t)
{
    static const struct {
        u8 reg, bit;
        const char *name;
    } flags[] = {{3, 0, "fpu"},    {3, 4, "tsc"},     {3, 8, "cx8"},   {3, 15, "cmov"},   {3, 23, "mmx"},
                 {3, 24, "fxsr"},  {3, 25, "sse"},    {3, 26, "sse2"}, {2, 0, "pni"},     {2, 1, "pclmulqdq"},
                 {2, 9, "ssse3"},  {2, 12, "fma"},    {2, 13, "cx16"}, {2, 19, "sse4_1"}, {2, 20, "sse4_2"},
                 {2, 22, "movbe"}, {2, 23, "popcnt"}, {2, 25, "aes"},  {2, 26, "xsave"},  {2, 28, "avx"},
                 {2, 29, "f16c"},  {2, 30, "rdrand"}};
    static const struct {
        u8 bit;
        const char *name;
    } more[] = {{3, "bmi1"},     {5, "avx2"},    {8, "bmi2"}, {9, "erms"},
                {16, "avx512f"}, {18, "rdseed"}, {19, "adx"}};
    u32 r[4];

    cpuid(1, r);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (r[flags[i].reg] >> flags[i].bit & 1)
            text_add(t, "%s ", flags[i].name);
    cpuid(7, r);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        if (r[1] >> more[i].bit & 1)
            text_add(t, "%s ", more[i].name);
    text_add(t, "lm syscall nx\n");
}

static void show_cpuinfo(const struct proc_subject *s, struct text *t)
{
    char vendor[13] = "", model[49] = "";
    u32 r[4], family, number;

    (void)s;
    cpuid(0, r);
    memcpy(vendor, &r[1], 4);
    memcpy(vendor + 4, &r[3], 4);
    memcpy(vendor + 8, &r[2], 4);
    for (u32 i = 0; i < 3; i++) {
        cpuid(0x80000002 + i, r);
        memcpy(model + (size_t)i * 16, r, 16);
    }
    cpuid(1, r);
    family = (r[0] >> 8 & 15) + (r[0] >> 20 & 255);
    number = (r[0] >> 4 & 15) | (r[0] >> 12 & 0xf0);
    for (u32 i = 0; i < cpus(); i++) {
        text_add(t, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\n",
                 i, vendor, family, number, model);
        text_add(t,
                 "stepping\t: %u\ncpu MHz\t\t: 2000.000\nphysical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\n",
                 r[0] & 15, cpus(), i);
        text_add(t, "cpu cores\t: %u\nfpu\t\t: yes\nflags\t\t: ", cpus());
        show_flags(t);
        text_add(t, "bogomips\t: 4000.00\naddress sizes\t: 46 bits physical, 48 bits virtual\n\n");
    }
}

static void show_stat(const struct proc_subject *s, struct text *t)
{
    u64 up = (monotonic_ns() - HEADER->boot_monotonic_ns) / 10000000;

    (void)s;
    text_add(t, "cpu  0 0 0 %lu 0 0 0 0 0 0\n", up * cpus());
    for (unsigned i = 0; i < cpus(); i++)
        text_add(t, "cpu%u 0 0 0 %lu 0 0 0 0 0 0\n", i, up);
    text_add(t, "intr 0\nctxt 0\nbtime %lu\nprocesses %d\nprocs_running 1\nprocs_blocked 0\n",
             seconds(HEADER->boot_realtime_ns), SHARED->last_pid);
}

static void show_loadavg(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "0.00 0.00 0.00 1/%u %d\n", SHARED->nthreads, SHARED->last_pid);
}

void proc_show_mounts(const struct proc_subject *s, struct text *t)
{
    (void)s;
    list_for_each(n, mount_list())
    {
        const struct super *m = list_entry(n, struct super, node);
        text_add(t, "%s %s %s %s,nosuid,nodev%s%s 0 0\n", m->type, m->where, m->type,
                 m->flags & SUPER_READONLY ? "ro" : "rw", m->flags & SUPER_NOEXEC ? ",noexec" : "",
                 ",relatime");
    }
}

static long link_self(const struct proc_subject *s, char *buf, size_t cap)
{
    (void)s;
    return (long)MIN(text_format(buf, cap, "%d", current_process->pid), cap);
}

static long link_thread_self(const struct proc_subject *s, char *buf, size_t cap)
{
    (void)s;
    return (long)MIN(text_format(buf, cap, "%d/task/%d", current_process->pid, current()->tid), cap);
}

static long link_mounts(const struct proc_subject *s, char *buf, size_t cap)
{
    (void)s;
    return (long)MIN(text_copy(buf, "self/mounts", cap), cap);
}

static long link_net(const struct proc_subject *s, char *buf, size_t cap)
{
    (void)s;
    return (long)MIN(text_copy(buf, "self/net", cap), cap);
}

static int next_process(const struct proc_subject *s, int n)
{
    int best = -1;

    (void)s;
    list_for_each(node, process_list())
    {
        const struct process *p = list_entry(node, struct process, all);
        if (p->state != PROCESS_DEAD && p->pid >= n && p->pid > 0 && (best < 0 || p->pid < best))
            best = p->pid;
    }
    return best;
}

static const struct proc_entry root_entries[] = {
    {.name = "self", .mode = S_IFLNK | 0777, .link = link_self},
    {.name = "thread-self", .mode = S_IFLNK | 0777, .link = link_thread_self},
    {.name = "mounts", .mode = S_IFLNK | 0777, .link = link_mounts},
    {.name = "net", .mode = S_IFLNK | 0777, .link = link_net},
    {.name = "sys", .mode = S_IFDIR | 0555, .entries = proc_sys_entries},
    FILE("uptime", show_uptime),
    FILE("meminfo", show_meminfo),
    FILE("cpuinfo", show_cpuinfo),
    FILE("stat", show_stat),
    FILE("loadavg", show_loadavg),
    FIXED("version", "Linux version " CELL_RELEASE " (ironclaw) #1 SMP\n"),
    FIXED("filesystems",
          "nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\nnodev\tdevpts\nnodev\tdevtmpfs\n\terofs\n"),
    FIXED("cmdline", "\n"),
    FIXED("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n"),
    FIXED("partitions", "major minor  #blocks  name\n\n"),
    FIXED("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    FIXED("modules", ""),
    FIXED("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"),
    FIXED("diskstats", ""),
    FIXED("locks", ""),
    FIXED("vmstat", "nr_free_pages 0\npgfault 0\npgmajfault 0\n"),
    {0},
};

static const struct proc_entry root = {
    .name = "",
    .mode = S_IFDIR | 0555,
    .entries = root_entries,
    .next = next_process,
    .numbered = &proc_pid_entry,
};

int procfs_root(struct super *super, struct inode **out)
{
    return proc_tree_root(super, &root, out);
}
