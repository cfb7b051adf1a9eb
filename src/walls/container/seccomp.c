#include "walls/container/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "seccomp_filters.h" /* generated at build time */

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* Linux 5.19 */
#endif

/* seccomp(2). Returns the listener for flags that ask for one, else 0; -1 with errno. */
static int load(const struct sock_filter *code, size_t n, unsigned flags)
{
    struct sock_fprog prog = {.len = (unsigned short)n, .filter = (struct sock_filter *)(uintptr_t)code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

int seccomp_install(int *listener, struct err *e)
{
    /* Without the second flag, which came later, a signal can end a call that waits for its answer with
     * EINTR. */
    static const unsigned flags[] = {SECCOMP_FILTER_FLAG_NEW_LISTENER |
                                         SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                                     SECCOMP_FILTER_FLAG_NEW_LISTENER};

    for (size_t i = 0; listener && i < ARRAY_LEN(flags); i++) {
        *listener = load(observed_filter, ARRAY_LEN(observed_filter), flags[i]);
        if (*listener >= 0)
            return 0;
    }
    if (load(plain_filter, ARRAY_LEN(plain_filter), 0) < 0)
        return err_sys(e, errno, "cannot load the system call filter");
    return 0;
}
