/*
 * Asks the kernel for system calls from inside a sandbox, each in a child of its own.
 *
 *     syscall_probe all            every number from 0 to 1023: "NUMBER refused|missing|reached|killed"
 *     syscall_probe call N A B C   one call with these arguments (any base): "ok", an errno number, or
 * "killed SIGNAL" syscall_probe int80 | x32    getpid through another entry
 *     syscall_probe landlock       how many domains of its own it can stack: a number, or "missing"
 */
#include <errno.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LAST = 1023, OUTCOME_OK = 200 };

static int in_child(long nr, const unsigned long *a)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)alarm(2);
        (void)setsid(); /* kill(-1) and the like stay with this child */
        errno = 0;
        long rc = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        _exit(rc == -1 ? (errno < OUTCOME_OK ? errno : 199) : OUTCOME_OK);
    }
    (void)waitpid(pid, &status, 0);
    return status;
}

static void try_all(void)
{
    /* Invalid everywhere: descriptors, pointers, sizes, flags. */
    static const unsigned long bad[6] = {~0UL, ~0UL, ~0UL, ~0UL, ~0UL, ~0UL};

    for (long nr = 0; nr <= LAST; nr++) {
        const char *what = "reached";
        int status;
        /* These end or replace the child, kill everybody, or make a second one of it: known to be allowed. */
        if (nr == SYS_exit || nr == SYS_exit_group || nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone ||
            nr == SYS_rt_sigreturn || nr == SYS_kill || nr == SYS_pause || nr == SYS_tkill)
            continue;
        status = in_child(nr, bad);
        if (WIFEXITED(status))
            what = WEXITSTATUS(status) == EPERM    ? "refused"
                   : WEXITSTATUS(status) == ENOSYS ? "missing"
                                                   : "reached";
        else if (WTERMSIG(status) == SIGSYS)
            what = "killed";
        (void)printf("%ld %s\n", nr, what);
    }
}

static void report(int status)
{
    if (WIFSIGNALED(status))
        (void)printf("killed %d\n", WTERMSIG(status));
    else if (WEXITSTATUS(status) == OUTCOME_OK)
        (void)printf("ok\n");
    else
        (void)printf("%d\n", WEXITSTATUS(status));
}

static void other_entry(int x32)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
#ifdef __x86_64__
        long rc;
        if (x32)
            rc = syscall(0x40000000L + SYS_getpid);
        else
            __asm__ volatile("int $0x80" : "=a"(rc) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
        _exit(rc > 0 ? OUTCOME_OK : 1);
#else
        (void)x32;
        _exit(1);
#endif
    }
    (void)waitpid(pid, &status, 0);
    report(status);
}

/* How many more Landlock domains the kernel stacks upon the one we are in. */
static void landlock_layers(void)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_SOCK};
    int layers = 0, fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    while (fd >= 0 && layers < 1000 && syscall(SYS_landlock_restrict_self, fd, 0) == 0)
        layers++;
    if (fd < 0)
        (void)printf("missing\n");
    else
        (void)printf("%d\n", layers);
}

int main(int argc, char **argv)
{
    unsigned long a[6] = {0};

    (void)setvbuf(stdout, NULL, _IONBF, 0);
    if (argc == 2 && !strcmp(argv[1], "all"))
        try_all();
    else if (argc == 2 && !strcmp(argv[1], "landlock"))
        landlock_layers();
    else if (argc == 2)
        other_entry(!strcmp(argv[1], "x32"));
    for (int i = 3; i < argc && i < 9; i++)
        a[i - 3] = strtoul(argv[i], NULL, 0);
    if (argc > 2)
        report(in_child(strtol(argv[2], NULL, 0), a));
    return 0;
}
