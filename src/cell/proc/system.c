/*
 * Calls about the machine and about limits, most of them answered with constants.
 */
#include <asm/errno.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/prctl.h>
#include <linux/sysinfo.h>
#include <linux/time.h>
#include <linux/times.h>
#include <linux/utsname.h>

#include "cell/arch/x86_64/host.h"
#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/cputime.h"
#include "cell/proc/signal.h"
#include "cell/proc/timer.h"

#define ARGS   u64 a, u64 b, u64 c, u64 d, u64 e, u64 f
#define UNUSED (void)a, (void)b, (void)c, (void)d, (void)e, (void)f

static long sys_uname(ARGS)
{
    struct new_utsname u;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    memset(&u, 0, sizeof(u));
    text_copy(u.sysname, "Linux", sizeof(u.sysname));
    text_copy(u.nodename, HEADER->hostname, sizeof(u.nodename));
    text_copy(u.release, CELL_RELEASE, sizeof(u.release));
    text_copy(u.version, CELL_VERSION, sizeof(u.version));
    text_copy(u.machine, "x86_64", sizeof(u.machine));
    text_copy(u.domainname, "(none)", sizeof(u.domainname));
    return put_user((struct new_utsname *)a, u);
}

static long sys_sysinfo(ARGS)
{
    struct sysinfo s;
    size_t used, total;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    memset(&s, 0, sizeof(s));
    page_count(&used, &total);
    s.uptime = (long)((monotonic_ns() - SHARED->kernel_started_ns) / 1000000000);
    s.totalram = HEADER->memory_limit ? HEADER->memory_limit : HEADER->memory_size;
    s.freeram = s.totalram > used * PAGE ? s.totalram - used * PAGE : 0;
    list_for_each(n, process_list()) s.procs++;
    s.mem_unit = 1;
    return put_user((struct sysinfo *)a, s);
}

static long sys_arch_prctl(ARGS)
{
    u64 base;

    (void)c, (void)d, (void)e, (void)f;
    switch (a) {
    case ARCH_SET_FS:
        if (b >= 0x7ffffffff000)
            return -EPERM;
        __asm__ volatile("wrfsbase %0" : : "r"(b));
        return 0;
    case ARCH_GET_FS:
        __asm__ volatile("rdfsbase %0" : "=r"(base));
        return put_user_u64((void *)b, base);
    case ARCH_GET_GS:
        return put_user_u64((void *)b, 0);
    default: /* the kernel's own: %gs */
        return -EINVAL;
    }
}

static long set_name(u64 from)
{
    struct thread *t = current();
    char name[PROCESS_NAME];
    long n = strncpy_from_user(name, (const char *)from, sizeof(name));

    if (n == -EFAULT)
        return n;
    name[sizeof(name) - 1] = 0;
    text_copy(t->name, name, sizeof(t->name));
    if (t->process->leader == t)
        text_copy(t->process->name, name, sizeof(t->process->name));
    return 0;
}

static long sys_prctl(ARGS)
{
    struct process *p = current_process;

    (void)f;
    switch ((int)a) {
    case PR_SET_NAME:
        return set_name(b);
    case PR_GET_NAME:
        return copy_to_user((void *)b, current()->name, PROCESS_NAME);
    case PR_SET_PDEATHSIG:
        if (b > 64)
            return -EINVAL;
        p->death_signal = (int)b;
        return 0;
    case PR_GET_PDEATHSIG:
        return put_user_u32((void *)b, (u32)p->death_signal);
    case PR_SET_CHILD_SUBREAPER:
        p->is_reaper = b != 0;
        return 0;
    case PR_GET_CHILD_SUBREAPER:
        return put_user_u32((void *)b, p->is_reaper);
    case PR_SET_NO_NEW_PRIVS:
        return b == 1 && !c && !d && !e ? 0 : -EINVAL;
    case PR_GET_NO_NEW_PRIVS:
        return 1;
    case PR_GET_DUMPABLE:
        return 1;
    case PR_SET_DUMPABLE:
        return b <= 1 ? 0 : -EINVAL;
    case PR_GET_SECCOMP:
        return 2;
    case PR_GET_KEEPCAPS:
    case PR_SET_KEEPCAPS:
    case PR_SET_TIMERSLACK:
    case PR_SET_VMA: /* names of anonymous memory: nobody shows them */
    case PR_SET_THP_DISABLE:
    case PR_GET_THP_DISABLE:
        return 0;
    case PR_GET_TIMERSLACK:
        return 50000;
    case PR_CAPBSET_READ:
        return b <= 40 ? 0 : -EINVAL;
    case PR_CAPBSET_DROP:
        return -EPERM;
    default:
        return -EINVAL;
    }
}

static long prlimit(struct process *p, u64 resource, u64 new, u64 old)
{
    struct rlimit64 in, before;

    if (resource >= RLIMITS)
        return -EINVAL;
    before = p->rlimits[resource];
    if (new) {
        if (get_user(in, (void *)new) < 0)
            return -EFAULT;
        if (in.rlim_cur > in.rlim_max)
            return -EINVAL;
        if (in.rlim_max > before.rlim_max)
            return -EPERM;
        p->rlimits[resource] = in;
        if (resource == RLIMIT_CPU)
            cpu_limit_changed(p);
    }
    return old ? put_user((struct rlimit64 *)old, before) : 0;
}

static long sys_getrlimit(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    return prlimit(current_process, a, 0, b);
}

static long sys_setrlimit(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    return prlimit(current_process, a, b, 0);
}

static long sys_prlimit64(ARGS)
{
    struct process *p = (int)a ? process_find((int)a) : current_process;

    (void)e, (void)f;
    return p ? prlimit(p, b, c, d) : -ESRCH;
}

u64 cpu_time_ns(int clock)
{
    struct __kernel_timespec ts = {0};

    (void)host_clock_gettime(clock, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

struct rusage rusage_of(u64 ns)
{
    struct rusage r;

    memset(&r, 0, sizeof(r));
    r.ru_utime.tv_sec = (long)(ns / 1000000000);
    r.ru_utime.tv_usec = (long)(ns % 1000000000 / 1000);
    return r;
}

static long sys_getrusage(ARGS)
{
    u64 ns;

    (void)c, (void)d, (void)e, (void)f;
    switch ((int)a) {
    case RUSAGE_SELF:
        ns = cpu_time_ns(CLOCK_PROCESS_CPUTIME_ID);
        break;
    case RUSAGE_THREAD:
        ns = cpu_time_ns(CLOCK_THREAD_CPUTIME_ID);
        break;
    case RUSAGE_CHILDREN:
        ns = current_process->children_ns;
        break;
    default:
        return -EINVAL;
    }
    return put_user((struct rusage *)b, rusage_of(ns));
}

static long sys_times(ARGS)
{
    struct tms t;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    memset(&t, 0, sizeof(t));
    t.tms_utime = (long)(cpu_time_ns(CLOCK_PROCESS_CPUTIME_ID) / 10000000);
    t.tms_cutime = (long)(current_process->children_ns / 10000000);
    if (a && put_user((struct tms *)a, t) < 0)
        return -EFAULT;
    return (long)(monotonic_ns() / 10000000);
}

static long sys_getrandom(ARGS)
{
    u8 bytes[256];
    u64 done = 0, len = MIN(b, 33554431UL);

    (void)d, (void)e, (void)f;
    if (c & ~7UL)
        return -EINVAL;
    while (done < len) {
        size_t n = MIN(len - done, sizeof(bytes));
        if (host_getrandom(bytes, n, 0) < 0 || copy_to_user((void *)(a + done), bytes, n) < 0)
            return done ? (long)done : -EFAULT;
        done += n;
    }
    return (long)done;
}

static long sys_getcpu(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    return (a && put_user_u32((void *)a, 0) < 0) || (b && put_user_u32((void *)b, 0) < 0) ? -EFAULT : 0;
}

enum { NICE_MIN = -20, NICE_MAX = 19 };

static struct process *priority_target(u64 which, u64 who)
{
    if (which == 0 && who != 0) /* PRIO_PROCESS */
        return process_find((int)who);
    if (which == 1 && who != 0) { /* PRIO_PGRP: any of them */
        list_for_each(n, process_list()) if (list_entry(n, struct process, all)->pgid ==
                                             (int)who) return list_entry(n, struct process, all);
        return NULL;
    }
    return current_process;
}

static long sys_getpriority(ARGS)
{
    struct process *p;

    (void)c, (void)d, (void)e, (void)f;
    if (a > 2)
        return -EINVAL;
    p = priority_target(a, b);
    return p ? 20 - p->nice : -ESRCH; /* getpriority(2): never negative */
}

static long sys_setpriority(ARGS)
{
    int nice = MIN(MAX((int)c, NICE_MIN), NICE_MAX);
    struct process *p;

    (void)d, (void)e, (void)f;
    if (a > 2)
        return -EINVAL;
    p = priority_target(a, b);
    if (!p)
        return -ESRCH;
    if (nice < p->nice)
        return -EACCES;
    p->nice = nice;
    return 0;
}

static long sys_personality(ARGS)
{
    u32 before = current_process->personality;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    if ((u32)a == 0xffffffff)
        return before;
    if ((u32)a != 0)
        return -EINVAL;
    return before;
}

static long sys_denied(ARGS)
{
    UNUSED;
    return -EPERM;
}

static long sys_capget(ARGS)
{
    u32 version, pid = 0;
    u32 none[6] = {0};

    (void)c, (void)d, (void)e, (void)f;
    if (get_user_u32(&version, (void *)a) < 0)
        return -EFAULT;
    if (version != 0x20080522 && version != 0x20071026 && version != 0x19980330) {
        (void)put_user_u32((void *)a, 0x20080522);
        return b ? -EINVAL : 0;
    }
    if (b && get_user_u32(&pid, (u8 *)a + 4) < 0)
        return -EFAULT;
    if (pid && !thread_find((int)pid) && !process_find((int)pid))
        return -ESRCH;
    return b ? copy_to_user((void *)b, none, version == 0x19980330 ? 12 : 24) : 0;
}

/* There is nothing to give up, and nothing to get. */
static long sys_capset(ARGS)
{
    u32 head[2], sets[6] = {0};
    size_t n;

    (void)c, (void)d, (void)e, (void)f;
    if (copy_from_user(head, (void *)a, sizeof(head)) < 0)
        return -EFAULT;
    n = head[0] == 0x19980330 ? 12 : 24;
    if (head[0] != 0x20080522 && head[0] != 0x20071026 && head[0] != 0x19980330) {
        (void)put_user_u32((void *)a, 0x20080522);
        return -EINVAL;
    }
    if (head[1] != 0 && (int)head[1] != current_process->pid)
        return -EPERM;
    if (copy_from_user(sets, (void *)b, n) < 0)
        return -EFAULT;
    for (size_t i = 0; i < n / sizeof(*sets); i++)
        if (sets[i])
            return -EPERM;
    return 0;
}

static long sys_membarrier(ARGS)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return a == 0 ? 0 : -EINVAL; /* MEMBARRIER_CMD_QUERY: nothing */
}

const struct syscall system_calls[] = {
    {__NR_uname, SYS_UNLOCKED, "uname", sys_uname},
    {__NR_sysinfo, SYS_LOCKED, "sysinfo", sys_sysinfo},
    {__NR_arch_prctl, SYS_UNLOCKED, "arch_prctl", sys_arch_prctl},
    {__NR_prctl, SYS_LOCKED, "prctl", sys_prctl},
    {__NR_getrlimit, SYS_LOCKED, "getrlimit", sys_getrlimit},
    {__NR_setrlimit, SYS_LOCKED, "setrlimit", sys_setrlimit},
    {__NR_prlimit64, SYS_LOCKED, "prlimit64", sys_prlimit64},
    {__NR_getrusage, SYS_UNLOCKED, "getrusage", sys_getrusage},
    {__NR_times, SYS_UNLOCKED, "times", sys_times},
    {__NR_getrandom, SYS_UNLOCKED, "getrandom", sys_getrandom},
    {__NR_getcpu, SYS_UNLOCKED, "getcpu", sys_getcpu},
    {__NR_getpriority, SYS_LOCKED, "getpriority", sys_getpriority},
    {__NR_setpriority, SYS_LOCKED, "setpriority", sys_setpriority},
    {__NR_personality, SYS_UNLOCKED, "personality", sys_personality},
    {__NR_capget, SYS_LOCKED, "capget", sys_capget},
    {__NR_capset, SYS_UNLOCKED, "capset", sys_capset},
    {__NR_membarrier, SYS_UNLOCKED, "membarrier", sys_membarrier},
    {__NR_sethostname, SYS_UNLOCKED, "sethostname", sys_denied},
    {__NR_setdomainname, SYS_UNLOCKED, "setdomainname", sys_denied},
    {__NR_reboot, SYS_UNLOCKED, "reboot", sys_denied},
    {__NR_syslog, SYS_UNLOCKED, "syslog", sys_denied},
    {__NR_ptrace, SYS_UNLOCKED, "ptrace", sys_denied},
    {__NR_perf_event_open, SYS_UNLOCKED, "perf_event_open", sys_denied},
    {__NR_bpf, SYS_UNLOCKED, "bpf", sys_denied},
    {__NR_keyctl, SYS_UNLOCKED, "keyctl", sys_denied},
    {__NR_add_key, SYS_UNLOCKED, "add_key", sys_denied},
    {__NR_request_key, SYS_UNLOCKED, "request_key", sys_denied},
    {__NR_process_vm_readv, SYS_UNLOCKED, "process_vm_readv", sys_denied},
    {__NR_process_vm_writev, SYS_UNLOCKED, "process_vm_writev", sys_denied},
    {__NR_pidfd_getfd, SYS_UNLOCKED, "pidfd_getfd", sys_denied},
    {0},
};
