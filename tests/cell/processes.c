/* fork, vfork, wait family, exit codes, process groups and sessions, posix_spawn, exec errors. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "show.h"

extern char **environ;

static void show_status(const char *what, int status)
{
    if (WIFEXITED(status))
        printf("%s: exited %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: killed %d\n", what, WTERMSIG(status));
    else if (WIFSTOPPED(status))
        printf("%s: stopped %d\n", what, WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("%s: continued\n", what);
    else
        printf("%s: status %x\n", what, status);
    fflush(stdout);
}

static void test_wait(void)
{
    int status = 0, gate[2];
    char c;
    siginfo_t info;
    pid_t pid;

    if (pipe(gate) < 0)
        return;
    show("wait without children", wait(NULL));
    for (int code = 0; code < 3; code++) {
        if (fork() == 0)
            _exit(code * 127);
        (void)wait(&status);
        show_status("child", status);
    }
    pid = fork();
    if (pid == 0) {
        (void)kill(getpid(), SIGKILL);
        _exit(1);
    }
    show("waitpid is it", waitpid(pid, &status, 0) == pid);
    show_status("killed child", status);
    pid = fork();
    if (pid == 0) {
        (void)raise(SIGSTOP);
        (void)!read(gate[0], &c, 1); /* until it was seen to go on */
        _exit(5);
    }
    (void)waitpid(pid, &status, WUNTRACED);
    show_status("stopping child", status);
    show("nothing else yet", waitpid(pid, &status, WNOHANG));
    (void)kill(pid, SIGCONT);
    (void)waitpid(pid, &status, WCONTINUED);
    show_status("continued child", status);
    (void)!write(gate[1], "x", 1);
    memset(&info, 0, sizeof(info));
    show("waitid keeps it", waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    printf("code %d status %d is it %d\n", info.si_code, info.si_status, info.si_pid == pid);
    (void)waitpid(pid, &status, 0);
    show_status("and then", status);
    show("gone", waitpid(pid, &status, 0));
    show("bad options", waitpid(-1, &status, 0x40000));
    show("waitid bad", waitid(P_ALL, 0, &info, 0));
}

static void test_groups(void)
{
    int status;
    pid_t pid, leader;

    leader = fork();
    if (leader == 0) {
        show("setpgid self", setpgid(0, 0));
        show("own group", getpgrp() == getpid());
        show("setsid of a leader", setsid());
        pid = fork();
        if (pid == 0) {
            show_ok("setsid", setsid());
            show("session is us", getsid(0) == getpid());
            show("setpgid of a session leader", setpgid(0, 0));
            _exit(0);
        }
        (void)waitpid(pid, NULL, 0);
        show("setpgid to nobody", setpgid(0, 999999));
        show("setpgid negative", setpgid(0, -4));
        _exit(0);
    }
    (void)waitpid(leader, NULL, 0);
    show("getpgid of nobody", getpgid(999999));
    pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        for (;;)
            (void)pause();
    }
    (void)setpgid(pid, pid);
    show("kill a group", killpg(pid, SIGTERM));
    (void)waitpid(pid, &status, 0);
    show_status("member", status);
    show("kill no group", killpg(pid, SIGTERM));
    show("kill nobody", kill(999999, 0));
    show("kill badly", kill(getpid(), 99));
}

static void test_exec(void)
{
    char *argv[] = {(char *)"x", NULL};
    int status;
    pid_t pid = 0;

    show("exec of nothing", execv("/nonexistent/x", argv));
    show("exec of a directory", execv("/", argv));
    show("exec of what is no program", execv("/etc/passwd", argv));
    show("spawn of nothing", posix_spawn(&pid, "/nonexistent/x", NULL, NULL, argv, environ));
    if (vfork() == 0)
        _exit(9);
    (void)wait(&status);
    show_status("vfork", status);
    if (fork() == 0) {
        char *again[] = {(char *)"processes", (char *)"child", (char *)"two words", NULL};
        char *env[] = {(char *)"ONLY=this", NULL};
        (void)execve("/proc/self/exe", again, env);
        _exit(1);
    }
    (void)wait(&status);
    show_status("executed", status);
}

static void test_orphans(void)
{
    int fds[2], status;
    char c;

    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (pipe(fds) < 0)
        return;
    if (fork() == 0) {
        if (fork() == 0) {
            (void)read(fds[0], &c, 1); /* until the parent is gone */
            _exit(3);
        }
        _exit(2);
    }
    (void)wait(&status);
    show_status("parent", status);
    (void)write(fds[1], "x", 1);
    (void)wait(&status);
    show_status("orphan", status);
}

static void test_limits(void)
{
    struct rlimit l;

    show("getrlimit", getrlimit(RLIMIT_NOFILE, &l));
    l.rlim_cur = 20;
    show("setrlimit", setrlimit(RLIMIT_NOFILE, &l));
    show("dup above", fcntl(0, F_DUPFD, 25));
    l.rlim_cur = l.rlim_max + 1;
    show("above the hard one", setrlimit(RLIMIT_NOFILE, &l));
    show("no such limit", getrlimit((__rlimit_resource_t)77, &l));
    show("nice down", setpriority(PRIO_PROCESS, 0, -5));
}

/* Works until it has used that much of a processor. */
static void burn(clock_t ms)
{
    while (clock() < ms * CLOCKS_PER_SEC / 1000)
        ;
}

static long ms_of(const struct rusage *r)
{
    return (r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000 +
           (r->ru_utime.tv_usec + r->ru_stime.tv_usec) / 1000;
}

static void test_usage(void)
{
    struct rusage before, own, after;
    struct tms t;
    int status;

    (void)getrusage(RUSAGE_CHILDREN, &before);
    if (fork() == 0) {
        if (fork() == 0) {
            burn(40);
            _exit(0);
        }
        (void)wait(NULL);
        burn(40);
        _exit(0);
    }
    show("wait4", wait4(-1, &status, 0, &own) > 0);
    show("usage of the child and its own", ms_of(&own) >= 60);
    (void)getrusage(RUSAGE_CHILDREN, &after);
    show("of children", ms_of(&after) - ms_of(&before) >= 60);
    show("by times", (times(&t), t.tms_cutime + t.tms_cstime >= 6));
    show("getrusage badly", getrusage(7, &own));
    show("getrusage nowhere", getrusage(RUSAGE_CHILDREN, (void *)1));
}

static void show_cpus(const char *what)
{
    cpu_set_t set;

    show(what, sched_getaffinity(0, sizeof(set), &set));
    printf("%s: %d, the first %d\n", what, CPU_COUNT(&set), CPU_ISSET(0, &set));
    (void)fflush(stdout);
}

static void test_affinity(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    show("affinity of nothing", sched_setaffinity(0, sizeof(set), &set));
    CPU_SET(0, &set);
    show("of nobody", sched_setaffinity(999999, sizeof(set), &set));
    show("of a negative number", sched_setaffinity(-1, sizeof(set), &set));
    show("of length 0", sched_setaffinity(0, 0, &set));
    show("from nowhere", sched_setaffinity(0, sizeof(set), (void *)1));
    show("get of nobody", sched_getaffinity(999999, sizeof(set), &set));
    show("get too little", sched_getaffinity(0, 0, &set));
    show("get an odd length", sched_getaffinity(0, 129, &set));
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    CPU_SET(1000, &set);
    show("affinity", sched_setaffinity(0, sizeof(set), &set));
    show_cpus("affinity is");
    if (fork() == 0) {
        show_cpus("the child's");
        _exit(0);
    }
    (void)wait(NULL);
}

/* By number: musl has no such functions. */
static void set_policy(const char *what, pid_t pid, int policy, int priority)
{
    show(what, syscall(SYS_sched_setscheduler, pid, policy, &priority));
    printf("%s: now %ld\n", what, syscall(SYS_sched_getscheduler, pid));
}

static void test_scheduling(void)
{
    enum { FIFO = 1, BATCH = 3, IDLE = 5, DEADLINE = 6, RESET_ON_FORK = 0x40000000 };
    int priority = 77, none = 0, one = 1;

    for (int policy = -1; policy < 7; policy++)
        printf("priorities of %d: %ld %ld\n", policy, syscall(SYS_sched_get_priority_min, policy),
               syscall(SYS_sched_get_priority_max, policy));
    show("policy of nobody", syscall(SYS_sched_getscheduler, 999999));
    show("of a negative number", syscall(SYS_sched_getscheduler, -1));
    show("priority", syscall(SYS_sched_getparam, 0, &priority));
    printf("it is %d\n", priority);
    show("priority of nobody", syscall(SYS_sched_getparam, 999999, &priority));
    show("priority of a negative number", syscall(SYS_sched_getparam, -1, &priority));
    show("priority nowhere", syscall(SYS_sched_getparam, 0, NULL));
    show("priority to a bad place", syscall(SYS_sched_getparam, 0, 1));
    set_policy("batch", 0, BATCH, 0);
    set_policy("batch with a priority", 0, BATCH, 3);
    set_policy("no policy", 0, 17, 0);
    set_policy("deadline", 0, DEADLINE, 0);
    set_policy("a negative policy", 0, -1, 0);
    set_policy("of nobody", 999999, BATCH, 0);
    set_policy("of a negative number", -1, BATCH, 0);
    set_policy("realtime without a priority", 0, FIFO, 0);
    set_policy("realtime", 0, FIFO, 5);
    set_policy("realtime beyond", 0, FIFO, 100);
    show("from nowhere", syscall(SYS_sched_setscheduler, 0, BATCH, NULL));
    show("from a bad place", syscall(SYS_sched_setscheduler, 0, BATCH, 1));
    show("the same priority", syscall(SYS_sched_setparam, 0, &none));
    show("another priority", syscall(SYS_sched_setparam, 0, &one));
    show("a priority from nowhere", syscall(SYS_sched_setparam, 0, NULL));
    (void)fflush(stdout);
    if (fork() == 0) {
        printf("the child's: %ld\n", syscall(SYS_sched_getscheduler, 0));
        set_policy("reset on fork", 0, BATCH | RESET_ON_FORK, 0);
        set_policy("never again", 0, BATCH, 0);
        (void)fflush(stdout);
        if (fork() == 0) {
            printf("its child's: %ld\n", syscall(SYS_sched_getscheduler, 0));
            exit(0);
        }
        (void)wait(NULL);
        set_policy("idle", 0, IDLE | RESET_ON_FORK, 0);
        set_policy("out of it", 0, RESET_ON_FORK, 0);
        exit(0);
    }
    (void)wait(NULL);
}

/* Last: it stays. */
static void test_process_limit(void)
{
    struct rlimit none = {0, 0};
    pid_t child;

    show("no more processes", setrlimit(RLIMIT_NPROC, &none));
    child = fork();
    if (child == 0)
        _exit(0);
    show("fork", child > 0 ? 1 : child);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        printf("child %s %s %s\n", argv[0], argv[2], getenv("ONLY"));
        return 44;
    }
    test_wait();
    test_groups();
    test_exec();
    test_orphans();
    test_limits();
    test_usage();
    test_affinity();
    test_scheduling();
    test_process_limit();
    show("new user namespace", unshare(CLONE_NEWUSER));
    return 0;
}
