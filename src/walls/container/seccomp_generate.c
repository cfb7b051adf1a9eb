/*
 * Build-time program: prints both variants of the filter of seccomp_table.c as C arrays of BPF instructions
 * (struct sock_filter).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Stands in the policy for "refuse, and tell whoever listens"; no errno of Linux. */
enum { MARK = 4000, INSTRUCTIONS_MAX = 4096 /* BPF_MAXINSNS */ };

struct program {
    struct sock_filter code[INSTRUCTIONS_MAX];
    size_t n;
};

static void export(scmp_filter_ctx ctx, struct program *p)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    ssize_t len;

    check(fd < 0 ? -errno : seccomp_export_bpf(ctx, fd), "cannot export", 0);
    (void)lseek(fd, 0, SEEK_SET);
    len = io_read_full(fd, p->code, sizeof(p->code));
    check(len <= 0 || len == (ssize_t)sizeof(p->code) ? -E2BIG : 0, "the program is too long", 0);
    p->n = (size_t)len / sizeof(p->code[0]);
    (void)close(fd);
}

static bool is_return(const struct sock_filter *f, uint32_t action)
{
    return f->code == (BPF_RET | BPF_K) && f->k == action;
}

/* Appends `next`, which decides where `first` would have allowed. */
static void chain(struct program *first, const struct program *next)
{
    check(first->n + next->n > INSTRUCTIONS_MAX ? -E2BIG : 0, "the program is too long", 0);
    for (size_t i = 0; i < first->n; i++)
        if (is_return(&first->code[i], SECCOMP_RET_ALLOW))
            first->code[i] =
                (struct sock_filter){.code = BPF_JMP | BPF_JA, .k = (uint32_t)(first->n - i - 1)};
    for (size_t i = 0; i < next->n; i++)
        first->code[first->n + i] = next->code[i];
    first->n += next->n;
}

static void print_program(const struct program *p, const char *name, uint32_t refused)
{
    (void)printf("static const struct sock_filter %s[] = {\n", name);
    for (size_t i = 0; i < p->n; i++) {
        const struct sock_filter *f = &p->code[i];
        (void)printf("    {0x%04x, %u, %u, 0x%08x},\n", f->code, f->jt, f->jf,
                     is_return(f, SECCOMP_RET_ERRNO | MARK) ? refused : f->k);
    }
    (void)printf("};\n");
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

static int print_filters(void)
{
    static struct program program, rest;
    scmp_filter_ctx allow = seccomp_init(SCMP_ACT_ERRNO(MARK)), refuse = seccomp_init(SCMP_ACT_ALLOW);

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
    for (size_t i = 0; i < seccomp_nquiet; i++)
        if (seccomp_quiet[i] >= 0)
            check(seccomp_rule_add(allow, SCMP_ACT_ERRNO(SECCOMP_REFUSED), seccomp_quiet[i], 0),
                  "cannot refuse", seccomp_quiet[i]);
    add_arguments(refuse, SCMP_ACT_ERRNO(MARK), seccomp_refused, seccomp_nrefused);
    (void)printf("/* Generated from seccomp_table.c by seccomp_generate.c. */\n");
    export(refuse, &program);
    export(allow, &rest);
    chain(&program, &rest);
    print_program(&program, "plain_filter", SECCOMP_RET_ERRNO | SECCOMP_REFUSED);
    print_program(&program, "observed_filter", SECCOMP_RET_USER_NOTIF);
    seccomp_release(allow);
    seccomp_release(refuse);
    return 0;
}

/* ---- the same as an OCI profile (runtime-spec, config-linux.md, "Seccomp"): refusals by argument are left
 * to the container's init, which loads the whole filter itself. */

static void print_call(int call, const char **comma)
{
    /* What this libseccomp cannot name yet. */
    static const struct {
        int call;
        const char *name;
    } newer[] = {{451, "cachestat"}, {452, "fchmodat2"}};
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

    for (size_t i = 0; !name && i < sizeof(newer) / sizeof(newer[0]); i++)
        if (newer[i].call == call)
            name = strdup(newer[i].name);
    check(name ? 0 : -ENOENT, "cannot name", call);
    (void)printf("%s\\\"%s\\\"", *comma, name);
    *comma = ",";
    free(name);
}

static void print_rule(const struct seccomp_argument *rule)
{
    const char *comma = "", *between = "";

    (void)printf("{\\\"names\\\":[");
    print_call(rule->call, &comma);
    (void)printf("],\\\"action\\\":\\\"SCMP_ACT_ALLOW\\\",\\\"args\\\":[");
    for (unsigned k = 0; k < rule->n; k++, between = ",")
        (void)printf("%s{\\\"index\\\":%u,\\\"value\\\":%llu,\\\"valueTwo\\\":%llu,\\\"op\\\":\\\"SCMP_CMP_"
                     "MASKED_EQ\\\"}",
                     between, rule->when[k].argument, (unsigned long long)rule->when[k].mask,
                     (unsigned long long)rule->when[k].value);
    (void)printf("]},");
}

static int print_profile(void)
{
    const char *comma = "";

    (void)printf("/* Generated from seccomp_table.c by seccomp_generate.c. */\n"
                 "static const char seccomp_profile[] =\n\""
                 "{\\\"defaultAction\\\":\\\"SCMP_ACT_ERRNO\\\",\\\"defaultErrnoRet\\\":%d,"
                 "\\\"architectures\\\":[\\\"%s\\\"],"
                 "\\\"syscalls\\\":[",
                 EPERM,
                 seccomp_arch_native() == SCMP_ARCH_AARCH64 ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64");
    for (size_t i = 0; i < seccomp_nconditional; i++)
        print_rule(&seccomp_conditional[i]);
    (void)printf("{\\\"names\\\":[\\\"clone3\\\",\\\"openat2\\\"],\\\"action\\\":\\\"SCMP_ACT_ERRNO\\\","
                 "\\\"errnoRet\\\":%d},",
                 ENOSYS);
    (void)printf("{\\\"names\\\":[");
    for (size_t i = 0; i < seccomp_nallowed; i++)
        for (const int *call = seccomp_allowed[i].calls; *call != SECCOMP_END; call++)
            if (*call >= 0)
                print_call(*call, &comma);
    (void)printf("],\\\"action\\\":\\\"SCMP_ACT_ALLOW\\\"}]}\";\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "oci"))
        return print_profile();
    return print_filters();
}
