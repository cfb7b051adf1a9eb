#include "warden/seal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/landlock.h"
#include "base/weaken.h"

/* All that moving bytes takes. Memory is allocated by nobody in here: no mmap. */
static const int allowed[] = {
    SYS_poll,           SYS_ppoll,         SYS_read,    SYS_readv,      SYS_write,        SYS_futex,
    SYS_sendto,         SYS_sendmsg,       SYS_connect, SYS_close,      SYS_shutdown,     SYS_wait4,
    SYS_ioctl,          SYS_clock_gettime, SYS_exit,    SYS_exit_group, SYS_rt_sigreturn, SYS_restart_syscall,
    SYS_rt_sigprocmask,
};

enum { CALLS = sizeof(allowed) / sizeof(allowed[0]), PROLOGUE = 4, SOCKET = 6 };

/* Sockets of the unix family alone: to the ports. */
int warden_seal(struct err *e)
{
    static struct sock_filter code[PROLOGUE + SOCKET + 2 * CALLS + 1];
    struct sock_fprog program = {0, code};
    unsigned short n = 0;

    if (landlock_restrict(NULL, 0, true, true, e) < 0)
        return -1;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    program.len = n;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return err_sys(e, errno, "the warden cannot load its system call filter");
    return 0;
}
