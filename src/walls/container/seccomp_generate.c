/*
 * Build-time program: prints the two filters of seccomp_table.c as C arrays of BPF instructions (struct
 * sock_filter).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "walls/container/seccomp.h"

static void check(int rc, const char *what, int call)
{
    if (rc < 0) {
        (void)fprintf(stderr, "seccomp_generate: %s (call %d): error %d\n", what, call, -rc);
        exit(1);
    }
}

static void print_filter(scmp_filter_ctx ctx, const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    struct sock_filter f;

    check(fd < 0 ? -errno : seccomp_export_bpf(ctx, fd), "cannot export", 0);
    (void)lseek(fd, 0, SEEK_SET);
    (void)printf("static const struct sock_filter %s[] = {\n", name);
    while (io_read_full(fd, &f, sizeof(f)) == (ssize_t)sizeof(f))
        (void)printf("    {0x%04x, %u, %u, 0x%08x},\n", f.code, f.jt, f.jf, f.k);
    (void)printf("};\n");
    (void)close(fd);
}

static void add_arguments(scmp_filter_ctx ctx, uint32_t action, const struct seccomp_argument *rules,
                          size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct scmp_arg_cmp when[2];
        for (unsigned k = 0; k < rules[i].n; k++)
            when[k] = SCMP_CMP64(rules[i].when[k].argument, SCMP_CMP_MASKED_EQ, rules[i].when[k].mask,
                                 rules[i].when[k].value);
        check(seccomp_rule_add_array(ctx, action, rules[i].call, rules[i].n, when),
              "cannot add an argument rule", rules[i].call);
    }
}

int main(void)
{
    scmp_filter_ctx allow = seccomp_init(SCMP_ACT_ERRNO(EPERM)), refuse = seccomp_init(SCMP_ACT_ALLOW);

    if (!allow || !refuse)
        return 1;
    check(seccomp_attr_set(allow, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
          "cannot set the foreign-architecture action", 0);
    check(seccomp_attr_set(allow, SCMP_FLTATR_CTL_OPTIMIZE, 2), "cannot ask for a binary tree", 0);
    for (size_t i = 0; i < seccomp_nallowed; i++)
        for (const int *call = seccomp_allowed[i].calls; *call != SECCOMP_END; call++)
            if (*call >= 0) /* negative: this architecture has no such call */
                check(seccomp_rule_add(allow, SCMP_ACT_ALLOW, *call, 0), "cannot allow", *call);
    add_arguments(allow, SCMP_ACT_ALLOW, seccomp_conditional, seccomp_nconditional);
    check(seccomp_rule_add(allow, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0), "cannot answer clone3", 0);
    check(seccomp_rule_add(allow, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0), "cannot answer openat2", 0);
    add_arguments(refuse, SCMP_ACT_ERRNO(EPERM), seccomp_refused, seccomp_nrefused);
    (void)printf("/* Generated from seccomp_table.c by seccomp_generate.c. */\n");
    print_filter(allow, "allow_filter");
    print_filter(refuse, "refuse_filter");
    seccomp_release(allow);
    seccomp_release(refuse);
    return 0;
}
