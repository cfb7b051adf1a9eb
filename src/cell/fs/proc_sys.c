/*
 * /proc/sys and /sys: what programs ask for, mostly constants.
 */
#include <asm/errno.h>
#include <linux/stat.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/procfs.h"
#include "cell/proc/process.h"

#define DIR(n, e)                                                                                            \
    {                                                                                                        \
        .name = (n), .mode = S_IFDIR | 0555, .entries = (e)                                                  \
    }
#define FILE(n, f)                                                                                           \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .show = (f)                                                     \
    }
#define FIXED(n, t)                                                                                          \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .fixed = (t)                                                    \
    }

static void add_uuid(struct text *t, u8 b[16])
{
    b[6] = (u8)((b[6] & 15) | 0x40); /* RFC 9562: version 4, variant 1 */
    b[8] = (u8)((b[8] & 63) | 0x80);
    for (int i = 0; i < 16; i++)
        text_add(t, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    text_add(t, "\n");
}

static void show_uuid(const struct proc_subject *s, struct text *t)
{
    u8 b[16] = {0};

    (void)s;
    (void)host_getrandom(b, sizeof(b), 0);
    add_uuid(t, b);
}

/* The same until the cell ends: made of when it started. */
static void show_boot_id(const struct proc_subject *s, struct text *t)
{
    u64 h = HEADER->boot_realtime_ns ^ 0x9e3779b97f4a7c15ULL, words[2] = {0};

    (void)s;
    for (int i = 0; i < 2; i++) {
        h ^= HEADER->boot_monotonic_ns + (u64)i;
        h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ULL;
        h = (h ^ h >> 27) * 0x94d049bb133111ebULL;
        words[i] = h ^ h >> 31;
    }
    add_uuid(t, (u8 *)words);
}

static void show_hostname(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%.*s\n", (int)sizeof(HEADER->hostname), HEADER->hostname);
}

static void show_threads_max(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(t, "%u\n", SHARED->max_threads);
}

static const struct proc_entry random_entries[] = {
    FILE("boot_id", show_boot_id),
    FILE("uuid", show_uuid),
    FIXED("entropy_avail", "256\n"),
    FIXED("poolsize", "256\n"),
    {0},
};

static const struct proc_entry kernel_entries[] = {
    FIXED("ostype", "Linux\n"),
    FIXED("osrelease", CELL_RELEASE "\n"),
    FIXED("version", "#1 SMP\n"),
    FILE("hostname", show_hostname),
    FIXED("domainname", "(none)\n"),
    FIXED("pid_max", "32768\n"),
    FILE("threads-max", show_threads_max),
    FIXED("cap_last_cap", "40\n"),
    FIXED("ngroups_max", "65536\n"),
    FIXED("overflowuid", "65534\n"),
    FIXED("overflowgid", "65534\n"),
    FIXED("randomize_va_space", "2\n"),
    FIXED("core_pattern", "core\n"),
    FIXED("shmmax", "18446744073692774399\n"),
    FIXED("shmall", "18446744073692774399\n"),
    FIXED("shmmni", "4096\n"),
    FIXED("msgmax", "8192\n"),
    FIXED("sem", "32000\t1024000000\t500\t32000\n"),
    FIXED("rtsig-max", "1024\n"),
    DIR("random", random_entries),
    {0},
};

static const struct proc_entry vm_entries[] = {
    FIXED("overcommit_memory", "0\n"),
    FIXED("overcommit_ratio", "50\n"),
    FIXED("max_map_count", "65530\n"),
    FIXED("swappiness", "60\n"),
    FIXED("mmap_min_addr", "65536\n"),
    FIXED("nr_hugepages", "0\n"),
    {0},
};

/* The limits of inotify.c. */
static const struct proc_entry inotify_entries[] = {FIXED("max_queued_events", "16384\n"),
                                                    FIXED("max_user_instances", "128\n"),
                                                    FIXED("max_user_watches", "65536\n"),
                                                    {0}};

static const struct proc_entry fs_entries[] = {
    FIXED("file-max", "65536\n"),       FIXED("nr_open", "65536\n"),
    FIXED("file-nr", "64\t0\t65536\n"), FIXED("pipe-max-size", "1048576\n"),
    FIXED("protected_symlinks", "0\n"), FIXED("protected_hardlinks", "0\n"),
    DIR("inotify", inotify_entries),    {0},
};

static const struct proc_entry core_entries[] = {
    FIXED("somaxconn", "4096\n"), FIXED("rmem_max", "212992\n"), FIXED("wmem_max", "212992\n"), {0}};
static const struct proc_entry ipv4_entries[] = {
    FIXED("ip_local_port_range", "32768\t60999\n"), FIXED("tcp_fin_timeout", "60\n"), {0}};
static const struct proc_entry ipv6_all_entries[] = {FIXED("disable_ipv6", "0\n"), {0}};
static const struct proc_entry ipv6_conf_entries[] = {DIR("all", ipv6_all_entries), {0}};
static const struct proc_entry ipv6_entries[] = {DIR("conf", ipv6_conf_entries), {0}};
static const struct proc_entry sys_net_entries[] = {
    DIR("core", core_entries), DIR("ipv4", ipv4_entries), DIR("ipv6", ipv6_entries), {0}};

const struct proc_entry proc_sys_entries[] = {
    DIR("kernel", kernel_entries),
    DIR("vm", vm_entries),
    DIR("fs", fs_entries),
    DIR("net", sys_net_entries),
    {0},
};

/* ---- /sys */

static void show_cpus(const struct proc_subject *s, struct text *t)
{
    unsigned n = MAX(HEADER->cpus, 1U);

    (void)s;
    text_add(t, n > 1 ? "0-%u\n" : "%u\n", n - 1);
}

static const struct proc_entry cpu_entries[] = {
    FILE("online", show_cpus),
    FILE("possible", show_cpus),
    FILE("present", show_cpus),
    FIXED("kernel_max", "8191\n"),
    {0},
};
static const struct proc_entry node0_entries[] = {FILE("cpulist", show_cpus), {0}};
static const struct proc_entry node_entries[] = {
    FIXED("online", "0\n"), FIXED("possible", "0\n"), DIR("node0", node0_entries), {0}};
static const struct proc_entry system_entries[] = {DIR("cpu", cpu_entries), DIR("node", node_entries), {0}};
static const struct proc_entry devices_entries[] = {DIR("system", system_entries), {0}};
static const struct proc_entry thp_entries[] = {
    FIXED("enabled", "always [madvise] never\n"), FIXED("hpage_pmd_size", "2097152\n"), {0}};
static const struct proc_entry mm_entries[] = {DIR("transparent_hugepage", thp_entries), {0}};
static const struct proc_entry sys_kernel_entries[] = {DIR("mm", mm_entries), {0}};
static const struct proc_entry lo_entries[] = {FIXED("address", "00:00:00:00:00:00\n"),
                                               FIXED("mtu", "65536\n"),
                                               FIXED("ifindex", "1\n"),
                                               FIXED("operstate", "unknown\n"),
                                               {0}};
static const struct proc_entry class_net_entries[] = {DIR("lo", lo_entries), {0}};
static const struct proc_entry class_entries[] = {DIR("net", class_net_entries), {0}};
static const struct proc_entry empty_entries[] = {{0}};

static const struct proc_entry sysfs_entries[] = {
    DIR("devices", devices_entries),
    DIR("kernel", sys_kernel_entries),
    DIR("class", class_entries),
    DIR("block", empty_entries),
    DIR("fs", empty_entries),
    DIR("module", empty_entries),
    {0},
};
static const struct proc_entry sysfs = {.name = "", .mode = S_IFDIR | 0555, .entries = sysfs_entries};

int sysfs_root(struct super *super, struct inode **out)
{
    return proc_tree_root(super, &sysfs, out);
}
