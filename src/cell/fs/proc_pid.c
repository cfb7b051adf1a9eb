/*
 * /proc/PID: what is about one process or thread.
 */
#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/fd.h"
#include "cell/fs/mount.h"
#include "cell/fs/path.h"
#include "cell/fs/procfs.h"
#include "cell/mem/heap.h"
#include "cell/mem/mm.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"
#include "cell/tty/tty.h"

enum { TICK_NS = 10000000 };

/* ---- numbers about a process */

static char state_of(const struct proc_subject *s)
{
    const struct thread *t = s->thread;

    if (s->process->state != PROCESS_ALIVE)
        return 'Z';
    if (s->process->stopped)
        return 'T';
    return t && t != current() && t->sleeping ? 'S' : 'R';
}

static const char *state_name(char state)
{
    return state == 'Z' ? "zombie" : state == 'T' ? "stopped" : state == 'S' ? "sleeping" : "running";
}

static const char *name_of(const struct proc_subject *s)
{
    return s->thread ? s->thread->name : s->process->name;
}

static int tid_of(const struct proc_subject *s)
{
    return s->thread ? s->thread->tid : s->process->pid;
}

static int parent_of(const struct process *p)
{
    return p->parent && p->parent != p ? p->parent->pid : 0;
}

struct sizes {
    u64 total, data, stack, text, shared; /* bytes */
};

/* What is mapped: what of it is in memory only the host knows. */
static struct sizes sizes_of(const struct process *p)
{
    struct sizes n = {0};

    for (u32 i = 0; p->mm && i < p->mm->count; i++) {
        const struct vma *v = &p->mm->areas[i];
        u64 size = v->end - v->start;
        if (v->prot == 0)
            continue;
        if (v->name && strcmp(v->name, "[stack]") == 0) {
            /* Reserved, mostly untouched. */
            n.stack += MIN(size, (u64)(132 << 10));
            n.total += MIN(size, (u64)(132 << 10));
            continue;
        }
        n.total += size;
        if (v->file && (v->prot & 4))
            n.text += size;
        else if (v->prot & 2)
            n.data += size;
        if (v->file)
            n.shared += size;
    }
    return n;
}

static int tty_number(const struct process *p)
{
    return !p->tty ? 0 : p->tty->number < 0 ? 5 << 8 | 1 : 136 << 8 | p->tty->number;
}

static void show_stat(const struct proc_subject *s, struct text *t)
{
    const struct process *p = s->process;
    const struct thread *th = s->thread;
    struct sizes n = sizes_of(p);
    u64 ignored = 0, caught = 0, start = s->thread ? s->thread->start_ns : p->start_ns;

    for (u32 i = 0; i < 64; i++) {
        ignored |= (u64)(p->actions[i].handler == 1) << i;
        caught |= (u64)(p->actions[i].handler > 1) << i;
    }
    text_add(t, "%d (%s) %c %d %d %d %d %d 4194304 0 0 0 0 ", tid_of(s), name_of(s), state_of(s),
             parent_of(p), p->pgid, p->sid, tty_number(p), p->tty ? p->tty->foreground : -1);
    text_add(t, "%lu %lu 0 0 20 0 %u 0 %lu %lu %lu %lu ", p->utime_ns / TICK_NS, p->stime_ns / TICK_NS,
             p->nthreads, (start - HEADER->boot_monotonic_ns) / TICK_NS, n.total, n.total / PAGE,
             (u64)p->rlimits[RLIMIT_RSS].rlim_cur);
    text_add(t, "1 1 %lu 0 0 %lu %lu %lu %lu 0 0 0 %d 0 0 0 0 0 0 0 0 0 ", p->mm ? p->mm->stack_end : 0UL,
             th ? th->pending_set & 0x7fffffff : 0UL, th ? th->blocked & 0x7fffffff : 0UL,
             ignored & 0x7fffffff, caught & 0x7fffffff, p->exit_signal);
    text_add(t, "%lu %lu %lu %lu %d\n", p->arg_start, p->arg_end, p->env_start, p->env_end, p->exit_status);
}

static void show_status(const struct proc_subject *s, struct text *t)
{
    const struct process *p = s->process;
    struct sizes n = sizes_of(p);
    char state = state_of(s);
    u64 ignored = 0, caught = 0;

    for (u32 i = 0; i < 64; i++) {
        ignored |= (u64)(p->actions[i].handler == 1) << i;
        caught |= (u64)(p->actions[i].handler > 1) << i;
    }
    text_add(
        t,
        "Name:\t%s\nUmask:\t%04o\nState:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n",
        name_of(s), p->fs.umask, state, state_name(state), p->pid, tid_of(s), parent_of(p));
    text_add(t, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%u\nGroups:\t \n", CELL_UID, CELL_UID,
             CELL_UID, CELL_UID, CELL_GID, CELL_GID, CELL_GID, CELL_GID, fd_table_capacity(p->fds));
    text_add(t, "NStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", p->pid, tid_of(s), p->pgid, p->sid);
    if (p->mm) {
        text_add(t, "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\nVmLck:\t%8u kB\nVmPin:\t%8u kB\nVmHWM:\t%8lu kB\n",
                 n.total / 1024, n.total / 1024, 0U, 0U, n.total / 1024);
        text_add(t, "VmRSS:\t%8lu kB\nRssAnon:\t%8lu kB\nRssFile:\t%8lu kB\nRssShmem:\t%8u kB\n",
                 n.total / 1024, (n.total - n.shared) / 1024, n.shared / 1024, 0U);
        text_add(t,
                 "VmData:\t%8lu kB\nVmStk:\t%8lu kB\nVmExe:\t%8lu kB\nVmLib:\t%8u kB\nVmPTE:\t%8u "
                 "kB\nVmSwap:\t%8u kB\n",
                 n.data / 1024, n.stack / 1024, n.text / 1024, 0U, 4U, 0U);
    }
    text_add(
        t,
        "Threads:\t%u\nSigQ:\t0/1024\nSigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nSigIgn:\t%016lx\n",
        p->nthreads, s->thread ? s->thread->pending_set : 0UL, p->pending_set,
        s->thread ? s->thread->blocked : 0UL, ignored);
    text_add(
        t,
        "SigCgt:\t%016lx\nCapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\n",
        caught, 0U, 0U, 0U, 0U, 0U);
    text_add(
        t, "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nCpus_allowed:\t%x\nCpus_allowed_list:\t0-%u\n",
        (1U << MIN(MAX(HEADER->cpus, 1U), 31U)) - 1, MAX(HEADER->cpus, 1U) - 1);
    text_add(t, "Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_"
                "switches:\t0\n");
}

static void show_statm(const struct proc_subject *s, struct text *t)
{
    struct sizes n = sizes_of(s->process);

    text_add(t, "%lu %lu %lu %lu 0 %lu 0\n", n.total / PAGE, n.total / PAGE, n.shared / PAGE, n.text / PAGE,
             n.data / PAGE);
}

static void show_cmdline(const struct proc_subject *s, struct text *t)
{
    const struct process *p = s->process;
    u32 n = p->cmdline ? p->cmdline_len : 0;

    /* Bytes, 0 among them. */
    n = (u32)MIN((size_t)n, t->cap - t->len - 1);
    if (n > 0)
        memcpy(t->at + t->len, p->cmdline, n);
    t->len += n;
}

static void show_comm(const struct proc_subject *s, struct text *t)
{
    text_add(t, "%s\n", name_of(s));
}

static int write_comm(const struct proc_subject *s, const char *data, size_t n)
{
    char *name = s->thread ? s->thread->name : s->process->name;

    if (n > 0 && data[n - 1] == '\n')
        n--;
    n = MIN(n, (size_t)PROCESS_NAME - 1);
    memcpy(name, data, n);
    name[n] = 0;
    if (s->thread && s->thread == s->process->leader)
        memcpy(s->process->name, name, PROCESS_NAME);
    return 0;
}

/* The environment lies in the process's own memory, so only a process itself can be shown it. */
static void show_environ(const struct proc_subject *s, struct text *t)
{
    const struct process *p = s->process;
    size_t n = p->env_end - p->env_start;

    if (p != current_process || p->env_end <= p->env_start)
        return;
    n = MIN(n, t->cap - t->len - 1);
    t->len += n - copy_user_partial(t->at + t->len, (const void *)p->env_start, n);
}

static void show_maps(const struct proc_subject *s, struct text *t)
{
    mm_format_maps(s->process, t);
}

static void show_mountinfo(const struct proc_subject *s, struct text *t)
{
    unsigned id = 20;

    (void)s;
    list_for_each(n, mount_list())
    {
        const struct super *m = list_entry(n, struct super, node);
        const char *mode = m->flags & SUPER_READONLY ? "ro" : "rw";
        text_add(t, "%u %u 0:%u / %s %s,nosuid,nodev,relatime - %s %s %s\n", id, id == 20 ? 1U : 20U, m->dev,
                 m->where, mode, m->type, m->type, mode);
        id++;
    }
}

static void show_limits(const struct proc_subject *s, struct text *t)
{
    static const struct {
        const char *name, *unit;
        int resource;
    } limits[] = {
        {"Max cpu time", "seconds", RLIMIT_CPU},
        {"Max file size", "bytes", RLIMIT_FSIZE},
        {"Max data size", "bytes", RLIMIT_DATA},
        {"Max stack size", "bytes", RLIMIT_STACK},
        {"Max core file size", "bytes", RLIMIT_CORE},
        {"Max resident set", "bytes", RLIMIT_RSS},
        {"Max processes", "processes", RLIMIT_NPROC},
        {"Max open files", "files", RLIMIT_NOFILE},
        {"Max locked memory", "bytes", RLIMIT_MEMLOCK},
        {"Max address space", "bytes", RLIMIT_AS},
        {"Max file locks", "locks", RLIMIT_LOCKS},
        {"Max pending signals", "signals", RLIMIT_SIGPENDING},
        {"Max msgqueue size", "bytes", RLIMIT_MSGQUEUE},
        {"Max nice priority", "", RLIMIT_NICE},
        {"Max realtime priority", "", RLIMIT_RTPRIO},
        {"Max realtime timeout", "us", RLIMIT_RTTIME},
    };

    text_add(t, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const struct rlimit64 *l = &s->process->rlimits[limits[i].resource];
        text_add(t, "%-25s ", limits[i].name);
        text_add(t, l->rlim_cur == UINT64_MAX ? "%-20s " : "%.0s%-20lu ", "unlimited", (u64)l->rlim_cur);
        text_add(t, l->rlim_max == UINT64_MAX ? "%-20s " : "%.0s%-20lu ", "unlimited", (u64)l->rlim_max);
        text_add(t, "%-10s\n", limits[i].unit);
    }
}

static int accept_anything(const struct proc_subject *s, const char *data, size_t n)
{
    (void)s, (void)data, (void)n;
    return 0;
}

static void show_io(const struct proc_subject *s, struct text *t)
{
    (void)s;
    text_add(
        t,
        "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
}

/* ---- links */

static long path_text(struct dentry *d, char *buf, size_t cap)
{
    char *path = path_buffer();
    long n;

    if (!path)
        return -ENOMEM;
    n = dentry_path(d, path, PATH_MAX_);
    if (n > 0) {
        n = (long)MIN((size_t)n, cap);
        memcpy(buf, path, (size_t)n);
    }
    path_free(path);
    return n;
}

static long to_dentry(struct dentry *d, struct link_target *out)
{
    if (!d)
        return -ENOENT;
    dentry_get(d);
    out->dentry = d;
    return 0;
}

static struct dentry *exe_of(const struct proc_subject *s)
{
    return s->process->exe ? s->process->exe->dentry : NULL;
}

static long exe_link(const struct proc_subject *s, char *buf, size_t cap)
{
    return exe_of(s) ? path_text(exe_of(s), buf, cap) : -ENOENT;
}

static int exe_follow(const struct proc_subject *s, struct link_target *out)
{
    return (int)to_dentry(exe_of(s), out);
}

static long cwd_link(const struct proc_subject *s, char *buf, size_t cap)
{
    return s->process->fs.cwd ? path_text(s->process->fs.cwd, buf, cap) : -ENOENT;
}

static int cwd_follow(const struct proc_subject *s, struct link_target *out)
{
    return (int)to_dentry(s->process->fs.cwd, out);
}

static long root_link(const struct proc_subject *s, char *buf, size_t cap)
{
    return s->process->fs.root ? path_text(s->process->fs.root, buf, cap) : -ENOENT;
}

static int root_follow(const struct proc_subject *s, struct link_target *out)
{
    return (int)to_dentry(s->process->fs.root, out);
}

/* ---- descriptors */

static int next_fd(const struct proc_subject *s, int n)
{
    return fd_next(s->process->fds, n);
}

static long fd_link(const struct proc_subject *s, char *buf, size_t cap)
{
    struct file *f = fd_file_of(s->process->fds, s->fd);
    char *path;
    size_t n;

    if (!f)
        return -ENOENT;
    path = path_buffer();
    if (!path)
        return -ENOMEM;
    n = MIN(file_describe(f, path, PATH_MAX_), cap);
    memcpy(buf, path, n);
    path_free(path);
    return (long)n;
}

static int fd_follow(const struct proc_subject *s, struct link_target *out)
{
    struct file *f = fd_file_of(s->process->fds, s->fd);

    if (!f)
        return -ENOENT;
    if (f->dentry)
        return (int)to_dentry(f->dentry, out);
    file_get(f);
    out->file = f;
    return 0;
}

static void show_fdinfo(const struct proc_subject *s, struct text *t)
{
    struct file *f = fd_file_of(s->process->fds, s->fd);

    if (!f)
        return;
    text_add(t, "pos:\t%lu\nflags:\t0%o\nmnt_id:\t20\nino:\t%lu\n", f->pos,
             f->flags | (fd_is_cloexec(s->process->fds, s->fd) ? (unsigned)O_CLOEXEC : 0U),
             f->inode ? f->inode->ino : f->anon_ino);
    if (f->ops->fdinfo)
        f->ops->fdinfo(f, t);
}

static const struct proc_entry fd_entry = {.mode = S_IFLNK | 0700, .link = fd_link, .follow = fd_follow};
static const struct proc_entry fdinfo_entry = {.mode = S_IFREG | 0444, .show = show_fdinfo};

/* ---- threads */

static int next_thread(const struct proc_subject *s, int n)
{
    int best = -1;

    list_for_each(node, &s->process->threads)
    {
        const struct thread *t = list_entry(node, struct thread, in_process);
        if (t->tid >= n && (best < 0 || t->tid < best))
            best = t->tid;
    }
    return best;
}

static void show_children(const struct proc_subject *s, struct text *t)
{
    list_for_each(n, &s->process->children) text_add(t, "%d ", list_entry(n, struct process, siblings)->pid);
}

#define FILE(n, f)                                                                                           \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .show = (f)                                                     \
    }
#define FIXED(n, t)                                                                                          \
    {                                                                                                        \
        .name = (n), .mode = S_IFREG | 0444, .fixed = (t)                                                    \
    }

/* What threads have as well. */
#define COMMON                                                                                               \
    FILE("stat", show_stat), FILE("status", show_status), FILE("statm", show_statm),                         \
        FILE("cmdline", show_cmdline),                                                                       \
        {.name = "comm", .mode = S_IFREG | 0644, .show = show_comm, .write = write_comm},                    \
        {.name = "exe", .mode = S_IFLNK | 0777, .link = exe_link, .follow = exe_follow},                     \
        {.name = "cwd", .mode = S_IFLNK | 0777, .link = cwd_link, .follow = cwd_follow},                     \
        {.name = "root", .mode = S_IFLNK | 0777, .link = root_link, .follow = root_follow},                  \
        {.name = "fd", .mode = S_IFDIR | 0500, .next = next_fd, .numbered = &fd_entry, .by_fd = true},       \
        {.name = "fdinfo",                                                                                   \
         .mode = S_IFDIR | 0555,                                                                             \
         .next = next_fd,                                                                                    \
         .numbered = &fdinfo_entry,                                                                          \
         .by_fd = true},                                                                                     \
        FILE("maps", show_maps), {.name = "environ", .mode = S_IFREG | 0400, .show = show_environ},          \
        FILE("mounts", proc_show_mounts), FILE("mountinfo", show_mountinfo), FILE("limits", show_limits),    \
        FILE("io", show_io), FIXED("cgroup", "0::/\n"), FIXED("wchan", "0"), FIXED("oom_score", "0\n"),      \
        {.name = "oom_score_adj", .mode = S_IFREG | 0644, .fixed = "0\n", .write = accept_anything},         \
        {.name = "oom_adj", .mode = S_IFREG | 0644, .fixed = "0\n", .write = accept_anything},               \
        FIXED("loginuid", "4294967295"), FIXED("sessionid", "4294967295"),                                   \
        FIXED("personality", "00000000\n"), FIXED("uid_map", "         0          0 4294967295\n"),          \
        FIXED("gid_map", "         0          0 4294967295\n"),                                              \
    {                                                                                                        \
        .name = "net", .mode = S_IFDIR | 0555, .entries = proc_net_entries                                   \
    }

static const struct proc_entry thread_entries[] = {COMMON, FILE("children", show_children), {0}};
static const struct proc_entry thread_entry = {.mode = S_IFDIR | 0555, .entries = thread_entries};

static const struct proc_entry pid_entries[] = {
    COMMON,
    {.name = "task",
     .mode = S_IFDIR | 0555,
     .next = next_thread,
     .numbered = &thread_entry,
     .by_thread = true},
    {0},
};

const struct proc_entry proc_pid_entry = {.mode = S_IFDIR | 0555, .entries = pid_entries};
