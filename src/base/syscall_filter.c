#include "base/syscall_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
#define NATIVE AUDIT_ARCH_X86_64
#else
#define NATIVE AUDIT_ARCH_AARCH64
#endif

/* Instructions besides the two for each call. */
enum { PROLOGUE = 4, SOCKET = 4, EPILOGUE = 1 };

static void statement(struct sock_fprog *p, uint16_t code, uint32_t k)
{
    p->filter[p->len++] = (struct sock_filter)BPF_STMT(code, k);
}

/* Over `no` instructions unless the loaded word is k. */
static void unless(struct sock_fprog *p, uint32_t k, uint8_t no)
{
    p->filter[p->len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, no);
}

int syscall_filter_install(const int *calls, size_t n, bool unix_sockets, struct err *e)
{
    static struct sock_filter code[PROLOGUE + 2 * SYSCALL_FILTER_MAX + SOCKET + EPILOGUE];
    struct sock_fprog p = {0, code};

    if (n > SYSCALL_FILTER_MAX)
        return err_set(e, E2BIG, "the system call filter has no room for %zu calls", n);
    statement(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    p.filter[p.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0);
    statement(&p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    statement(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < n; i++) {
        unless(&p, (uint32_t)calls[i], 1);
        statement(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    if (unix_sockets) {
        unless(&p, SYS_socket, 3);
        statement(&p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));
        unless(&p, AF_UNIX, 1);
        statement(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    statement(&p, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0
               ? err_sys(e, errno, "cannot load the system call filter")
               : 0;
}
