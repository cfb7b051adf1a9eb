/*
 * Who is who: processes, groups, sessions; and the user, who is always the same.
 */
#include <asm/errno.h>
#include <asm/unistd.h>

#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/signal.h"

#define ARGS   u64 a, u64 b, u64 c, u64 d, u64 e, u64 f
#define UNUSED (void)a, (void)b, (void)c, (void)d, (void)e, (void)f

static long sys_getpid(ARGS)
{
    UNUSED;
    return current_process->pid;
}

static long sys_gettid(ARGS)
{
    UNUSED;
    return current()->tid;
}

static long sys_getppid(ARGS)
{
    struct process *parent = current_process->parent;

    UNUSED;
    return parent ? parent->pid : 0;
}

static long sys_getuid(ARGS)
{
    UNUSED;
    return CELL_UID;
}

static long sys_getres(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    (void)d, (void)e, (void)f;
    return put_user_u32((void *)a, CELL_UID) < 0 || put_user_u32((void *)b, CELL_UID) < 0 ||
                   put_user_u32((void *)c, CELL_UID) < 0
               ? -EFAULT
               : 0;
}

static bool is_own(u64 id)
{
    return (u32)id == CELL_UID || (u32)id == (u32)-1;
}

static long sys_set1(ARGS)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    return (u32)a == CELL_UID ? 0 : -EPERM;
}

static long sys_set2(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    return is_own(a) && is_own(b) ? 0 : -EPERM;
}

static long sys_set3(ARGS)
{
    (void)d, (void)e, (void)f;
    return is_own(a) && is_own(b) && is_own(c) ? 0 : -EPERM;
}

static long sys_setfsuid(ARGS)
{
    UNUSED;
    return CELL_UID;
}

static long sys_getgroups(ARGS)
{
    (void)c, (void)d, (void)e, (void)f;
    if ((int)a < 0)
        return -EINVAL;
    if (a == 0)
        return 1;
    return put_user_u32((void *)b, CELL_GID) < 0 ? -EFAULT : 1;
}

static long sys_setgroups(ARGS)
{
    UNUSED;
    return -EPERM;
}

static bool group_exists(int pgid, int sid)
{
    list_for_each(n, process_list())
    {
        struct process *p = list_entry(n, struct process, all);
        if (p->pgid == pgid && p->sid == sid)
            return true;
    }
    return false;
}

static long sys_setpgid(ARGS)
{
    struct process *self = current_process, *p;
    int pid = (int)a ? (int)a : self->pid, pgid = (int)b ? (int)b : pid;

    (void)c, (void)d, (void)e, (void)f;
    if (pgid < 0)
        return -EINVAL;
    p = process_find(pid);
    if (!p || (p != self && p->parent != self))
        return -ESRCH;
    if (p != self && p->sid != self->sid)
        return -EPERM;
    if (p != self && p->execed)
        return -EACCES;
    if (p->sid == p->pid || (pgid != p->pid && !group_exists(pgid, self->sid)))
        return -EPERM;
    p->pgid = pgid;
    return 0;
}

static long sys_getpgid(ARGS)
{
    struct process *p = (int)a ? process_find((int)a) : current_process;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    return p ? p->pgid : -ESRCH;
}

static long sys_getpgrp(ARGS)
{
    UNUSED;
    return current_process->pgid;
}

static long sys_getsid(ARGS)
{
    struct process *p = (int)a ? process_find((int)a) : current_process;

    (void)b, (void)c, (void)d, (void)e, (void)f;
    return p ? p->sid : -ESRCH;
}

static long sys_setsid(ARGS)
{
    struct process *p = current_process;

    UNUSED;
    list_for_each(n, process_list()) if (list_entry(n, struct process, all)->pgid == p->pid) return -EPERM;
    p->sid = p->pgid = p->pid;
    p->tty = NULL;
    return p->sid;
}

static long sys_set_tid_address(ARGS)
{
    (void)b, (void)c, (void)d, (void)e, (void)f;
    current()->clear_tid = a;
    return current()->tid;
}

const struct syscall id_calls[] = {
    {__NR_getpid, SYS_UNLOCKED, "getpid", sys_getpid},
    {__NR_gettid, SYS_UNLOCKED, "gettid", sys_gettid},
    {__NR_getppid, SYS_UNLOCKED, "getppid", sys_getppid},
    {__NR_getuid, SYS_UNLOCKED, "getuid", sys_getuid},
    {__NR_geteuid, SYS_UNLOCKED, "geteuid", sys_getuid},
    {__NR_getgid, SYS_UNLOCKED, "getgid", sys_getuid},
    {__NR_getegid, SYS_UNLOCKED, "getegid", sys_getuid},
    {__NR_getresuid, SYS_UNLOCKED, "getresuid", sys_getres},
    {__NR_getresgid, SYS_UNLOCKED, "getresgid", sys_getres},
    {__NR_setuid, SYS_UNLOCKED, "setuid", sys_set1},
    {__NR_setgid, SYS_UNLOCKED, "setgid", sys_set1},
    {__NR_setreuid, SYS_UNLOCKED, "setreuid", sys_set2},
    {__NR_setregid, SYS_UNLOCKED, "setregid", sys_set2},
    {__NR_setresuid, SYS_UNLOCKED, "setresuid", sys_set3},
    {__NR_setresgid, SYS_UNLOCKED, "setresgid", sys_set3},
    {__NR_setfsuid, SYS_UNLOCKED, "setfsuid", sys_setfsuid},
    {__NR_setfsgid, SYS_UNLOCKED, "setfsgid", sys_setfsuid},
    {__NR_getgroups, SYS_UNLOCKED, "getgroups", sys_getgroups},
    {__NR_setgroups, SYS_UNLOCKED, "setgroups", sys_setgroups},
    {__NR_setpgid, SYS_LOCKED, "setpgid", sys_setpgid},
    {__NR_getpgid, SYS_LOCKED, "getpgid", sys_getpgid},
    {__NR_getpgrp, SYS_UNLOCKED, "getpgrp", sys_getpgrp},
    {__NR_getsid, SYS_LOCKED, "getsid", sys_getsid},
    {__NR_setsid, SYS_LOCKED, "setsid", sys_setsid},
    {__NR_set_tid_address, SYS_UNLOCKED, "set_tid_address", sys_set_tid_address},
    {0},
};
