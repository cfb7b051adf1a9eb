/*
 * The allowlists of the control-plane processes. One line per purpose; a call appears once.
 */
#include "proc/seal_syscalls.h"

#include <seccomp.h>

#include "base/cleanup.h"
#include "proc/seal.h"

#define B SEAL_BASE
#define F SEAL_FILES
#define A SEAL_ACCEPT
#define C SEAL_CONNECT
#define T SEAL_THREADS
#define CALL(groups, name)                                                                                   \
    {                                                                                                        \
        (groups), SCMP_SYS(name)                                                                             \
    }

const struct seal_syscall seal_syscalls[] = {
    /* memory of the process itself */
    CALL(B, brk),
    CALL(B, mmap),
    CALL(B, munmap),
    CALL(B, mremap),
    CALL(B, mprotect),
    CALL(B, madvise),
    CALL(B, mlock),
    CALL(B, mlock2),
    CALL(B, munlock),
    CALL(B, memfd_create),
    /* descriptors it already holds */
    CALL(B, read),
    CALL(B, write),
    CALL(B, readv),
    CALL(B, writev),
    CALL(B, pread64),
    CALL(B, pwrite64),
    CALL(B, lseek),
    CALL(B, close),
    CALL(B, close_range),
    CALL(B, dup),
    CALL(B, fcntl),
    CALL(B, fstat),
    CALL(B, pipe2),
    CALL(B, sendfile), /* libmicrohttpd answers from descriptors */
    /* the event loop */
    CALL(B, epoll_create1),
    CALL(B, epoll_ctl),
    CALL(B, epoll_wait),
    CALL(B, epoll_pwait),
    CALL(B, epoll_pwait2),
    CALL(B, poll),
    CALL(B, ppoll),
    CALL(B, select),
    CALL(B, pselect6),
    CALL(B, eventfd2),
    CALL(B, timerfd_create),
    CALL(B, timerfd_settime),
    CALL(B, restart_syscall),
    /* time, identity, randomness */
    CALL(B, clock_gettime),
    CALL(B, clock_getres),
    CALL(B, gettimeofday),
    CALL(B, time),
    CALL(B, nanosleep),
    CALL(B, clock_nanosleep),
    CALL(B, getpid),
    CALL(B, gettid),
    CALL(B, getuid),
    CALL(B, geteuid),
    CALL(B, getgid),
    CALL(B, getegid),
    CALL(B, getppid),
    CALL(B, getrandom),
    CALL(B, uname),
    CALL(B, sysinfo),
    CALL(B, sched_yield),
    CALL(B, getrusage),
    CALL(B, times),
    CALL(B, sched_getaffinity),
    CALL(B, prlimit64),
    CALL(B, getcpu),
    /* links between our processes */
    CALL(B, sendmsg),
    CALL(B, recvmsg),
    CALL(B, sendto),
    CALL(B, recvfrom),
    CALL(B, shutdown),
    CALL(B, getsockopt),
    CALL(B, setsockopt),
    CALL(B, getsockname),
    CALL(B, getpeername),
    CALL(B, socketpair),
    /* signals, threads' bookkeeping, end of life */
    CALL(B, rt_sigaction),
    CALL(B, rt_sigprocmask),
    CALL(B, rt_sigreturn),
    CALL(B, sigaltstack),
    CALL(B, futex),
    CALL(B, tgkill),
    CALL(B, set_robust_list),
    CALL(B, rseq),
    CALL(B, exit),
    CALL(B, exit_group),
    CALL(B, membarrier),
    /* files below the Landlock paths */
    CALL(F, open),
    CALL(F, openat),
    CALL(F, creat),
    CALL(F, stat),
    CALL(F, lstat),
    CALL(F, newfstatat),
    CALL(F, statx),
    CALL(F, access),
    CALL(F, faccessat),
    CALL(F, faccessat2),
    CALL(F, readlink),
    CALL(F, readlinkat),
    CALL(F, getcwd),
    CALL(F, getdents64),
    CALL(F, mkdir),
    CALL(F, mkdirat),
    CALL(F, rmdir),
    CALL(F, unlink),
    CALL(F, unlinkat),
    CALL(F, rename),
    CALL(F, renameat),
    CALL(F, renameat2),
    CALL(F, ftruncate),
    CALL(F, fallocate),
    CALL(F, fsync),
    CALL(F, fdatasync),
    CALL(F, chmod),
    CALL(F, fchmod),
    CALL(F, fchmodat),
    CALL(F, fchown),
    CALL(F, umask),
    CALL(F, flock),
    CALL(F, fstatfs),
    CALL(F, statfs),
    CALL(F, utimensat),
    CALL(F, sync_file_range),
    CALL(F, link),
    CALL(F, linkat),
    CALL(F, ioctl),
    /* ports and API sockets that were handed to it */
    CALL(A, accept),
    CALL(A, accept4),
    CALL(A, listen),
    /* outgoing connections and the resolver (sendmmsg: both DNS questions at once; bind and netlink: address
       selection) */
    CALL(C, socket),
    CALL(C, connect),
    CALL(C, bind),
    CALL(C, sendmmsg),
    CALL(C, recvmmsg),
    /* libcurl's resolver thread */
    CALL(T, clone),
    CALL(T, clone3),
    CALL(T, prctl),
    CALL(T, rt_sigtimedwait),
    CALL(T, sched_getparam),
    CALL(T, sched_getscheduler),
};
const size_t seal_nsyscalls = ARRAY_LEN(seal_syscalls);

const int seal_denied[] = {
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(reboot),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(nfsservctl),
    SCMP_SYS(syslog),
};
const size_t seal_ndenied = ARRAY_LEN(seal_denied);

bool seal_is_tracing(int call)
{
    return call == SCMP_SYS(ptrace) || call == SCMP_SYS(process_vm_readv) ||
           call == SCMP_SYS(process_vm_writev);
}
