/*
 * What a program in the container wall may ask of the host kernel, and why. Everything else answers EPERM: no
 * io_uring, bpf, perf, keyrings, userfaultfd, ptrace, process_vm_*, mounts (old and new API), modules,
 * namespaces by unshare or setns, open_by_handle_at, reboot, swap, quotas, clock setting, port I/O, kexec,
 * syslog, fanotify, modify_ldt.
 */
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/netlink.h>

#include "base/cleanup.h"
#include "walls/container/seccomp.h"

#define C(name) SCMP_SYS(name)
#define GROUP(why, ...)                                                                                      \
    {                                                                                                        \
        why, (const int[])                                                                                   \
        {                                                                                                    \
            __VA_ARGS__, SECCOMP_END                                                                         \
        }                                                                                                    \
    }
/* Newer than the libseccomp of our oldest distribution; numbers are the same on every architecture
 * (uapi/asm-generic/unistd.h). */
enum { NR_cachestat = 451, NR_fchmodat2 = 452 };

const struct seccomp_group seccomp_allowed[] = {
    GROUP("memory of the process itself", C(brk), C(mmap), C(munmap), C(mremap), C(mprotect),
          C(pkey_mprotect), C(pkey_alloc), C(pkey_free), C(madvise), C(mincore), C(msync), C(mlock),
          C(mlock2), C(mlockall), C(munlock), C(munlockall), C(memfd_create), C(get_mempolicy),
          C(set_mempolicy), C(mbind)),
    GROUP("open, read, write and describe files; which files is the mounts' and Landlock's business", C(open),
          C(openat), C(creat), C(close), C(close_range), C(read), C(write), C(readv), C(writev), C(pread64),
          C(pwrite64), C(preadv), C(pwritev), C(preadv2), C(pwritev2), C(lseek), C(stat), C(lstat), C(fstat),
          C(newfstatat), C(statx), C(access), C(faccessat), C(faccessat2), C(readlink), C(readlinkat),
          C(getdents), C(getdents64), C(statfs), C(fstatfs), C(fadvise64), C(readahead), NR_cachestat),
    GROUP("change files", C(truncate), C(ftruncate), C(fallocate), C(fsync), C(fdatasync), C(sync_file_range),
          C(syncfs), C(sync), C(rename), C(renameat), C(renameat2), C(link), C(linkat), C(symlink),
          C(symlinkat), C(unlink), C(unlinkat), C(mkdir), C(mkdirat), C(rmdir), C(mknod), C(mknodat),
          C(chmod), C(fchmod), C(fchmodat), NR_fchmodat2, C(chown), C(fchown), C(lchown), C(fchownat),
          C(utime), C(utimes), C(futimesat), C(utimensat), C(umask), C(chdir), C(fchdir), C(getcwd),
          C(flock)),
    GROUP("extended attributes (user.* only: the rest needs capabilities)", C(getxattr), C(lgetxattr),
          C(fgetxattr), C(listxattr), C(llistxattr), C(flistxattr), C(setxattr), C(lsetxattr), C(fsetxattr),
          C(removexattr), C(lremovexattr), C(fremovexattr)),
    GROUP("descriptors, pipes, copying between them", C(dup), C(dup2), C(dup3), C(fcntl), C(ioctl), C(pipe),
          C(pipe2), C(splice), C(tee), C(vmsplice), C(sendfile), C(copy_file_range)),
    GROUP("waiting for events", C(poll), C(ppoll), C(select), C(pselect6), C(epoll_create), C(epoll_create1),
          C(epoll_ctl), C(epoll_wait), C(epoll_pwait), C(epoll_pwait2), C(eventfd), C(eventfd2), C(signalfd),
          C(signalfd4), C(timerfd_create), C(timerfd_settime), C(timerfd_gettime), C(inotify_init),
          C(inotify_init1), C(inotify_add_watch), C(inotify_rm_watch)),
    GROUP("POSIX asynchronous I/O of the old kind (libaio); bounded by aio-max-nr, no new kernel surface "
          "beyond read and write",
          C(io_setup), C(io_destroy), C(io_submit), C(io_cancel), C(io_getevents)),
    GROUP("processes and threads; clone without namespaces is below", C(fork), C(vfork), C(execve),
          C(execveat), C(exit), C(exit_group), C(wait4), C(waitid), C(getpid), C(getppid), C(gettid),
          C(getpgid), C(getpgrp), C(setpgid), C(getsid), C(setsid), C(set_tid_address), C(set_robust_list),
          C(get_robust_list), C(futex), C(futex_waitv), C(rseq), C(membarrier), C(arch_prctl), C(prctl),
          C(pidfd_open), C(pidfd_send_signal)),
    GROUP("signals", C(kill), C(tkill), C(tgkill), C(rt_sigaction), C(rt_sigprocmask), C(rt_sigreturn),
          C(rt_sigpending), C(rt_sigsuspend), C(rt_sigtimedwait), C(rt_sigqueueinfo), C(rt_tgsigqueueinfo),
          C(sigaltstack), C(pause), C(alarm), C(restart_syscall)),
    GROUP("identity: one uid is mapped and no capability held, so setting changes nothing, and programs "
          "insist on trying",
          C(getuid), C(geteuid), C(getgid), C(getegid), C(getresuid), C(getresgid), C(getgroups), C(setuid),
          C(setgid), C(setreuid), C(setregid), C(setresuid), C(setresgid), C(setfsuid), C(setfsgid),
          C(setgroups), C(capget), C(capset)),
    GROUP("limits, scheduling and accounting of itself", C(getrlimit), C(setrlimit), C(prlimit64),
          C(getrusage), C(times), C(getpriority), C(setpriority), C(sched_yield), C(sched_getaffinity),
          C(sched_setaffinity), C(sched_getparam), C(sched_setparam), C(sched_getscheduler),
          C(sched_setscheduler), C(sched_getattr), C(sched_setattr), C(sched_get_priority_max),
          C(sched_get_priority_min), C(sched_rr_get_interval), C(ioprio_get), C(ioprio_set), C(getcpu)),
    GROUP("time, randomness, facts about the system", C(clock_gettime), C(clock_getres), C(clock_nanosleep),
          C(nanosleep), C(gettimeofday), C(time), C(getitimer), C(setitimer), C(timer_create),
          C(timer_settime), C(timer_gettime), C(timer_getoverrun), C(timer_delete), C(getrandom), C(uname),
          C(sysinfo)),
    GROUP("sockets; the network namespace holds only loopback, which families is below", C(socketpair),
          C(bind), C(listen), C(accept), C(accept4), C(connect), C(shutdown), C(getsockname), C(getpeername),
          C(getsockopt), C(setsockopt), C(sendto), C(recvfrom), C(sendmsg), C(recvmsg), C(sendmmsg),
          C(recvmmsg)),
    GROUP("System V and POSIX IPC inside the sandbox's own IPC namespace", C(shmget), C(shmat), C(shmdt),
          C(shmctl), C(semget), C(semop), C(semtimedop), C(semctl), C(msgget), C(msgsnd), C(msgrcv),
          C(msgctl), C(mq_open), C(mq_unlink), C(mq_timedsend), C(mq_timedreceive), C(mq_notify),
          C(mq_getsetattr)),
    GROUP("a program may restrict itself further", C(seccomp), C(landlock_create_ruleset),
          C(landlock_add_rule), C(landlock_restrict_self)),
};
const size_t seccomp_nallowed = ARRAY_LEN(seccomp_allowed);

#define LOW32 0xffffffffULL
#define ANY_NAMESPACE                                                                                        \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |            \
     CLONE_NEWNET)
#define NEWTIME                                                                                              \
    0x80ULL /* CLONE_NEWTIME; in clone(2) the bit belongs to the exit signal and means nothing               \
             */

static const char no_namespaces[] = "new namespaces are new kernel surface, and capabilities inside them";
static const char families[] =
    "unix, IPv4 and IPv6 sockets, and the netlink that lists interfaces and routes";
static const char personalities[] =
    "the native personality or a query; the others undo address randomisation and W^X";
static const char terminals[] = "typing into a terminal, taking the console, loading line disciplines";

const struct seccomp_argument seccomp_conditional[] = {
    {no_namespaces, C(clone), 1, {{0, ANY_NAMESPACE, 0}}},
    {no_namespaces, C(unshare), 1, {{0, ANY_NAMESPACE | NEWTIME, 0}}},
    {personalities, C(personality), 1, {{0, LOW32, 0}}},
    {personalities, C(personality), 1, {{0, LOW32, LOW32}}},
    {families, C(socket), 1, {{0, LOW32, AF_UNIX}}},
    {families, C(socket), 1, {{0, LOW32, AF_INET}}},
    {families, C(socket), 1, {{0, LOW32, AF_INET6}}},
    {families, C(socket), 2, {{0, LOW32, AF_NETLINK}, {2, LOW32, NETLINK_ROUTE}}},
};
const size_t seccomp_nconditional = ARRAY_LEN(seccomp_conditional);

/* A workspace lies on the host: a set-uid file made there would be one there, for any user of the host to
 * run. openat2 takes its mode in memory, which no filter can read; it answers ENOSYS and programs fall back
 * to openat. */
static const char set_ids[] = "making set-uid and set-gid files";
#define NO_SET_ID(call, argument)                                                                            \
    {set_ids, call, 1, {{argument, 04000, 04000}}},                                                          \
    {                                                                                                        \
        set_ids, call, 1,                                                                                    \
        {                                                                                                    \
            {                                                                                                \
                argument, 02000, 02000                                                                       \
            }                                                                                                \
        }                                                                                                    \
    }
#define NO_SET_ID_WITH(flag, call, flags, argument)                                                          \
    {set_ids, call, 2, {{flags, flag, flag}, {argument, 04000, 04000}}},                                     \
    {                                                                                                        \
        set_ids, call, 2,                                                                                    \
        {                                                                                                    \
            {flags, flag, flag},                                                                             \
            {                                                                                                \
                argument, 02000, 02000                                                                       \
            }                                                                                                \
        }                                                                                                    \
    }

const struct seccomp_argument seccomp_refused[] = {
    NO_SET_ID(C(chmod), 1),
    NO_SET_ID(C(fchmod), 1),
    NO_SET_ID(C(fchmodat), 2),
    NO_SET_ID(NR_fchmodat2, 2),
    NO_SET_ID(C(creat), 1),
    NO_SET_ID(C(mknod), 1),
    NO_SET_ID(C(mknodat), 2),
    NO_SET_ID_WITH(O_CREAT, C(open), 1, 2),
    NO_SET_ID_WITH(O_CREAT, C(openat), 2, 3),
    NO_SET_ID_WITH(__O_TMPFILE, C(open), 1, 2),
    NO_SET_ID_WITH(__O_TMPFILE, C(openat), 2, 3),
    {terminals, C(ioctl), 1, {{1, LOW32, TIOCSTI}}},
    {terminals, C(ioctl), 1, {{1, LOW32, 0x541c /* TIOCLINUX */}}},
    {terminals, C(ioctl), 1, {{1, LOW32, TIOCCONS}}},
    {terminals, C(ioctl), 1, {{1, LOW32, TIOCSETD}}},
};
const size_t seccomp_nrefused = ARRAY_LEN(seccomp_refused);

/* Since some version: what is new in C libraries, probes of the kernel's age, and decoration. */
enum {
    NR_set_mempolicy_home_node = 450,
    NR_map_shadow_stack = 453,
    NR_futex_wake = 454,
    NR_futex_wait = 455,
    NR_futex_requeue = 456,
    NR_statmount = 457,
    NR_listmount = 458,
    NR_lsm_get_self_attr = 459,
    NR_lsm_list_modules = 461,
    NR_mseal = 462,
    NR_getxattrat = 464,
    NR_listxattrat = 465,
    NR_file_getattr = 468,
};

const int seccomp_quiet[] = {
    C(name_to_handle_at),
    C(kcmp),
    C(vhangup),
    C(process_mrelease),
    C(process_madvise),
    C(migrate_pages),
    C(move_pages),
    C(setdomainname),
    NR_set_mempolicy_home_node,
    NR_map_shadow_stack,
    NR_futex_wake,
    NR_futex_wait,
    NR_futex_requeue,
    NR_statmount,
    NR_listmount,
    NR_lsm_get_self_attr,
    NR_lsm_list_modules,
    NR_mseal,
    NR_getxattrat,
    NR_listxattrat,
    NR_file_getattr,
};
const size_t seccomp_nquiet = ARRAY_LEN(seccomp_quiet);
