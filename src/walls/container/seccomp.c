#include "walls/container/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "base/cleanup.h"
#include "seccomp_filters.h" /* generated at build time */

static int load(const struct sock_filter *code, size_t n, struct err *e)
{
    struct sock_fprog prog = {.len = (unsigned short)n, .filter = (struct sock_filter *)(uintptr_t)code};

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0)
        return err_sys(e, errno, "cannot load the system call filter");
    return 0;
}

int seccomp_install(struct err *e)
{
    if (load(allow_filter, ARRAY_LEN(allow_filter), e) < 0)
        return -1;
    return load(refuse_filter, ARRAY_LEN(refuse_filter), e);
}
