#include <asm/errno.h>
#include <asm/fcntl.h>
#include <asm/siginfo.h>
#include <asm/unistd.h>
#include <linux/resource.h>
#include <linux/wait.h>

#include "cell/base/shared.h"
#include "cell/base/text.h"
#include "cell/fs/file.h"
#include "cell/ipc/pidfd.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/calls.h"
#include "cell/proc/exit.h"
#include "cell/proc/signal.h"
#include "cell/proc/table.h"

struct wait_request {
    enum { ANY, ONE, GROUP, BY_PIDFD } kind;
    int id;
    struct pidfd *pidfd; /* reference; BY_PIDFD */
    unsigned options;    /* WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT */
};

struct wait_result {
    int pid, status;
    struct rusage usage;
};

/* Of a child that has ended, with what it had waited for. */
static u64 time_of(const struct process *child)
{
    return child->utime_ns + child->stime_ns + child->children_ns;
}

static bool matches(const struct wait_request *r, const struct process *child)
{
    if (r->kind == BY_PIDFD)
        return child->pidfd == r->pidfd;
    return r->kind == ANY || (r->kind == ONE ? child->pid == r->id : child->pgid == r->id);
}

/* 1: *result is filled; 0: a child that matches has nothing to say yet; -ECHILD. */
static int look(const struct wait_request *r, struct wait_result *result)
{
    struct process *self = current_process;
    bool any = false;

    list_for_each_safe(n, &self->children)
    {
        struct process *child = list_entry(n, struct process, siblings);
        if (!matches(r, child))
            continue;
        if (child->state == PROCESS_ZOMBIE && !(r->options & WEXITED))
            continue; /* it will not stop or go on any more */
        any = true;
        result->pid = child->pid;
        if (child->state == PROCESS_ZOMBIE) {
            result->status = child->exit_status;
            result->usage = rusage_of(time_of(child));
            if (!(r->options & WNOWAIT)) {
                self->children_ns += time_of(child);
                process_remove(child);
                stacks_collect();
            }
            return 1;
        }
        if (child->stopped && !child->stop_reported && (r->options & WSTOPPED)) {
            result->status = child->stop_signal << 8 | 0x7f;
            child->stop_reported = !(r->options & WNOWAIT);
            return 1;
        }
        if (child->continued && (r->options & WCONTINUED)) {
            result->status = 0xffff;
            child->continued = (r->options & WNOWAIT) != 0;
            return 1;
        }
    }
    return any ? 0 : -ECHILD;
}

static int wait_for(const struct wait_request *r, struct wait_result *result)
{
    struct process *self = current_process;
    struct waiter w;
    int rc, sleep = 0;

    memset(result, 0, sizeof(*result));
    waitq_add(&self->child_event, &w);
    while ((rc = look(r, result)) == 0 && !(r->options & WNOHANG) && sleep == 0)
        sleep = thread_sleep(NO_DEADLINE);
    waitq_del(&w);
    return rc == 0 && sleep < 0 ? sleep : rc;
}

static long sys_wait4(u64 pid_, u64 status, u64 options, u64 usage, u64 e, u64 f)
{
    struct wait_request r = {.options = WEXITED};
    struct wait_result result;
    int pid = (int)pid_, rc;

    (void)e, (void)f;
    if (options & ~(u64)(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
        return -EINVAL;
    r.options |= (unsigned)options & (WNOHANG | WUNTRACED | WCONTINUED);
    r.kind = pid == -1 ? ANY : pid > 0 ? ONE : GROUP;
    r.id = pid > 0 ? pid : pid == 0 ? current_process->pgid : -pid;
    rc = wait_for(&r, &result);
    if (rc <= 0)
        return rc;
    if ((status && put_user_u32((void *)status, (u32)result.status) < 0) ||
        (usage && copy_to_user((void *)usage, &result.usage, sizeof(result.usage)) < 0))
        return -EFAULT;
    return result.pid;
}

static int code_of(int status)
{
    if (status == 0xffff)
        return CLD_CONTINUED;
    if ((status & 0xff) == 0x7f)
        return CLD_STOPPED;
    return status & 0x7f ? CLD_KILLED : CLD_EXITED;
}

/* Whom waitid(2) is to wait for. `nonblocking`: rather -EAGAIN, as the pidfd is one of PIDFD_NONBLOCK. */
static int select_children(u64 which, int id, struct wait_request *r, bool *nonblocking)
{
    const struct file *f;

    *nonblocking = false;
    if (which > P_PIDFD || (which != P_ALL && id < 0) || (which == P_PID && id == 0))
        return -EINVAL;
    r->kind = which == P_ALL ? ANY : which == P_PID ? ONE : which == P_PGID ? GROUP : BY_PIDFD;
    r->id = which == P_PGID && id == 0 ? current_process->pgid : id;
    if (r->kind != BY_PIDFD)
        return 0;
    if (!(f = fd_file(id)) || !(r->pidfd = pidfd_of(f)))
        return -EBADF;
    pidfd_get(r->pidfd);
    *nonblocking = f->flags & O_NONBLOCK;
    return 0;
}

static siginfo_t describe(const struct wait_result *result)
{
    int status = result->status;
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_signo = SIGCHLD;
    info.si_code = code_of(status);
    info.si_pid = result->pid;
    info.si_uid = CELL_UID;
    info.si_status = info.si_code == CLD_CONTINUED ? SIGCONT
                     : info.si_code == CLD_KILLED  ? status & 0x7f
                                                   : status >> 8 & 0xff;
    return info;
}

static long sys_waitid(u64 which, u64 id, u64 info_, u64 options, u64 usage, u64 f)
{
    struct wait_request r = {.options = (unsigned)options};
    struct wait_result result;
    siginfo_t info;
    bool nonblocking;
    int rc;

    (void)f;
    if ((options &
         ~(u64)(WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT | __WNOTHREAD | __WCLONE | __WALL)) ||
        !(options & (WEXITED | WSTOPPED | WCONTINUED)))
        return -EINVAL;
    if ((rc = select_children(which, (int)id, &r, &nonblocking)) < 0)
        return rc;
    if (nonblocking)
        r.options |= WNOHANG;
    rc = wait_for(&r, &result);
    if (r.pidfd)
        pidfd_put(r.pidfd);
    if (rc == 0 && nonblocking && !(options & WNOHANG))
        return -EAGAIN;
    if (rc < 0)
        return rc;
    memset(&info, 0, sizeof(info));
    if (rc > 0)
        info = describe(&result);
    if ((info_ && copy_to_user((void *)info_, &info, sizeof(info)) < 0) ||
        (usage && copy_to_user((void *)usage, &result.usage, sizeof(result.usage)) < 0))
        return -EFAULT;
    return 0;
}

const struct syscall wait_calls[] = {
    {__NR_wait4, SYS_LOCKED, "wait4", sys_wait4},
    {__NR_waitid, SYS_LOCKED, "waitid", sys_waitid},
    {0},
};
