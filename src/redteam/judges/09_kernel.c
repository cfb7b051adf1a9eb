/*
 * Family 9, host side. Where the sandbox's calls are the host kernel's, none of the dangerous ones may be
 * reachable, and every process of the sandbox carries a filter. A wall with a kernel of its own answers for
 * itself: there the count says how large that kernel's surface is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { NUMBERS = 1024 };

static int arm_sweep(struct arena *a, struct trial *t, struct err *e)
{
    (void)a;
    (void)e;
    trial_param(t, "first", "0");
    trial_param(t, "count", "%d", NUMBERS);
    return 0;
}

/* Reads the "0-20,22" lists of all facts of this name. */
static void read_lists(const struct attempt *r, const char *key, bool *set)
{
    for (size_t i = 0; i < r->nfacts; i++) {
        const char *p = r->facts[i].value;
        if (strcmp(r->facts[i].key, key) != 0)
            continue;
        while (*p >= '0' && *p <= '9') {
            char *end;
            unsigned long first = strtoul(p, &end, 10), last = first;
            if (*end == '-')
                last = strtoul(end + 1, &end, 10);
            for (unsigned long n = first; n <= last && n < NUMBERS; n++)
                set[n] = true;
            p = *end == ',' ? end + 1 : end;
        }
    }
}

/* From which most kernel exploits start, or that reach past a sandbox. */
static const struct {
    const char *name;
    long number;
} dangerous[] = {
    {"ptrace", SYS_ptrace},
    {"process_vm_readv", SYS_process_vm_readv},
    {"process_vm_writev", SYS_process_vm_writev},
    {"mount", SYS_mount},
    {"umount2", SYS_umount2},
    {"pivot_root", SYS_pivot_root},
    {"chroot", SYS_chroot},
    {"setns", SYS_setns},
    {"open_by_handle_at", SYS_open_by_handle_at},
    {"name_to_handle_at", SYS_name_to_handle_at},
    {"bpf", SYS_bpf},
    {"perf_event_open", SYS_perf_event_open},
    {"userfaultfd", SYS_userfaultfd},
    {"io_uring_setup", 425},
    {"io_uring_enter", 426},
    {"io_uring_register", 427},
    {"open_tree", 428},
    {"move_mount", 429},
    {"fsopen", 430},
    {"fsconfig", 431},
    {"fsmount", 432},
    {"fspick", 433},
    {"pidfd_getfd", 438},
    {"process_madvise", 440},
    {"mount_setattr", 442},
    {"keyctl", SYS_keyctl},
    {"add_key", SYS_add_key},
    {"request_key", SYS_request_key},
    {"init_module", SYS_init_module},
    {"finit_module", SYS_finit_module},
    {"delete_module", SYS_delete_module},
    {"kexec_load", SYS_kexec_load},
    {"reboot", SYS_reboot},
    {"swapon", SYS_swapon},
    {"swapoff", SYS_swapoff},
    {"acct", SYS_acct},
    {"quotactl", SYS_quotactl},
    {"syslog", SYS_syslog},
    {"settimeofday", SYS_settimeofday},
    {"clock_settime", SYS_clock_settime},
    {"adjtimex", SYS_adjtimex},
    {"sethostname", SYS_sethostname},
    {"setdomainname", SYS_setdomainname},
    {"kcmp", SYS_kcmp},
    {"fanotify_init", SYS_fanotify_init},
    {"move_pages", SYS_move_pages},
    {"migrate_pages", SYS_migrate_pages},
    {"vhangup", SYS_vhangup},
    {"nfsservctl", 180},
#ifdef SYS_modify_ldt
    {"modify_ldt", SYS_modify_ldt},
    {"iopl", SYS_iopl},
    {"ioperm", SYS_ioperm},
    {"kexec_file_load", 320},
    {"_sysctl", 156},
    {"uselib", 134},
#endif
};

/* Filters in force on a process; -1 where the kernel does not tell (before Linux 5.9). */
static long filters_of(pid_t pid)
{
    char text[32];

    return host_status(pid, "Seccomp_filters", text, sizeof(text)) ? strtol(text, NULL, 10) : -1;
}

static void judge_filter(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), looked = 0, without = 0,
           own = 0;
    long launchers = filters_of(plane_daemon(a->plane, "launcher"));
    char text[32];

    for (size_t i = 0; i < n; i++)
        if (host_status(pids[i], "Seccomp", text, sizeof(text))) {
            looked++;
            without += strcmp(text, "2") != 0;
            own += filters_of(pids[i]) > launchers;
        }
    trial_check(t, looked > 0 && (without == 0 || (!arena_is_bare(a) && without < looked)), "filtered",
                "%zu of %zu processes without a system call filter", without, looked);
    if (arena_is_bare(a) && launchers >= 0)
        trial_check(t, own == looked, "own-filter",
                    "%zu of %zu processes have a filter besides what they inherit from the launcher", own,
                    looked);
}

static void judge_sweep(struct arena *a, struct trial *t)
{
    bool reachable[NUMBERS] = {false};
    size_t count = 0, bad = 0;
    char names[160] = "";
    json_t *list = json_array();

    read_lists(&t->record, "reachable", reachable);
    for (int i = 0; i < NUMBERS; i++)
        if (reachable[i]) {
            (void)json_array_append_new(list, json_integer(i));
            count++;
        }
    trial_figure(t, "reachable_calls", (json_int_t)count);
    (void)json_object_set_new(t->data, "reachable_numbers", list);
    (void)json_object_set_new(
        t->data, "whose_calls",
        json_string(arena_is_native(a) ? "the host's kernel" : "the wall's own kernel"));
    trial_check(t, attempt_number(&t->record, "untried", 1) == 0, "every-number-tried",
                "%ld entries were not made", attempt_number(&t->record, "untried", -1));
    trial_check(t, count > 20 && (long)count == attempt_number(&t->record, "count", -1), "list-complete",
                "%zu calls are reachable", count);
    for (size_t i = 0; i < ARRAY_LEN(dangerous) && arena_is_native(a); i++)
        if (reachable[dangerous[i].number]) {
            size_t used = strlen(names);
            (void)io_format(names + used, sizeof(names) - used, " %s", dangerous[i].name);
            bad++;
        }
    trial_check(t, bad == 0, "no-dangerous-call", "%zu dangerous calls are reachable:%s", bad, names);
    judge_filter(a, t);
}

/* Where the host's kernel answers, nothing may answer through the 32-bit entry. */
static void judge_entries(struct arena *a, struct trial *t)
{
    long served = attempt_number(&t->record, "served-32-bit", -1);

    trial_check(t, served == 0 || (served > 0 && !arena_is_native(a)), "no-32-bit-entry",
                "%ld calls are served through the 32-bit entry", served);
    judge_filter(a, t);
}

const struct attack kernel_attacks[] = {
    {.id = "kernel.calls",
     .boundary = B1_WALL,
     .title = "every system call number with several arguments",
     .limit_ms = 120000,
     .steps = {"sweep"},
     .arm = arm_sweep,
     .judge = judge_sweep},
    {.id = "kernel.foreign-entries",
     .boundary = B1_WALL,
     .title = "the 32-bit and x32 entries",
     .limit_ms = 30000,
     .steps = {"int80", "x32"},
     .judge = judge_entries},
    {.id = "kernel.facilities",
     .boundary = B1_WALL,
     .title = "io_uring, bpf, perf, userfaultfd, modules, clocks",
     .steps = {"io-uring", "bpf-map", "perf", "userfaultfd", "finit-module", "kexec", "fanotify"},
     .judge = judge_filter},
    {.id = "kernel.log",
     .boundary = B1_WALL,
     .title = "read the kernel's log",
     .steps = {"syslog", "kmsg", "proc-kmsg"}},
    {.id = NULL},
};
