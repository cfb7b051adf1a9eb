/*
 * What is due by processor time: interval timers, POSIX timers, sleeps, the limit. Machines are loaded and
 * ticks are coarse: only the order of things is shown, and that nothing comes long before its time.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "show.h"

static volatile sig_atomic_t seen[65];
static volatile int stop;
static pthread_barrier_t barrier;

static void count(int sig)
{
    seen[sig]++;
}

static void handle(int sig)
{
    struct sigaction a = {.sa_handler = count};

    seen[sig] = 0;
    (void)sigaction(sig, &a, NULL);
}

static long ms_of(clockid_t clock)
{
    struct timespec ts = {0, 0};

    if (clock_gettime(clock, &ts) < 0)
        return -1;
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static long used(void)
{
    return ms_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void burn(long ms)
{
    long end = used() + ms;

    while (used() < end)
        for (volatile int i = 0; i < 10000; i++)
            ;
}

/* Until the signal comes; the time that it took is at least so much. */
static void burn_until(const char *what, int sig, int times, long at_least)
{
    long start = used();

    while (seen[sig] < times && used() < start + 20000)
        for (volatile int i = 0; i < 10000; i++)
            ;
    printf("%s: %s%s\n", what, seen[sig] >= times ? "came" : "did not come",
           used() - start >= at_least ? "" : ", early");
    fflush(stdout);
}

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&ts, &ts) < 0)
        ;
}

static struct itimerval after_ms(long ms, long interval)
{
    return (struct itimerval){{interval / 1000, interval % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};
}

static struct itimerspec spec_ms(long ms, long interval)
{
    return (struct itimerspec){{interval / 1000, interval % 1000 * 1000000},
                               {ms / 1000, ms % 1000 * 1000000}};
}

/* ---- interval timers */

static void test_itimer(const char *name, int which, int sig)
{
    struct itimerval in = after_ms(100, 0), out;

    handle(sig);
    show_text("itimer", name);
    show("get", getitimer(which, &out));
    show("is", out.it_value.tv_sec + out.it_value.tv_usec + out.it_interval.tv_sec + out.it_interval.tv_usec);
    show("set", setitimer(which, &in, NULL));
    sleep_ms(250);
    show("while asleep", seen[sig]);
    show("get", getitimer(which, &out));
    show("goes down",
         out.it_value.tv_sec == 0 && out.it_value.tv_usec > 20000 && out.it_value.tv_usec <= 110000);
    burn_until("burnt", sig, 1, 50);
    show("get", getitimer(which, &out));
    show("over", out.it_value.tv_sec + out.it_value.tv_usec);
    burn(50);
    show("once", seen[sig]);
    seen[sig] = 0;
    in = after_ms(20, 20);
    show("again and again", setitimer(which, &in, NULL));
    burn_until("three", sig, 3, 30);
    in = after_ms(0, 0);
    show("stop", setitimer(which, &in, &out));
    show("interval was", out.it_interval.tv_usec);
    seen[sig] = 0;
    burn(60);
    show("stopped", seen[sig]);
    in = after_ms(0, 20);
    show("interval only", setitimer(which, &in, &out));
    show("old", out.it_value.tv_usec + out.it_interval.tv_usec);
    show("get", getitimer(which, &out));
    show("interval alone is", out.it_value.tv_usec);
}

static void test_itimer_errors(void)
{
    struct itimerval v = after_ms(10, 10), out;

    show("which", setitimer(3, &v, NULL));
    show("get which", getitimer(-1, &v));
    v.it_value.tv_usec = 1000000;
    show("usec", setitimer(ITIMER_PROF, &v, NULL));
    v = after_ms(10, 10);
    v.it_interval.tv_sec = -1;
    show("negative", setitimer(ITIMER_VIRTUAL, &v, NULL));
    show("bad address", setitimer(ITIMER_PROF, (void *)1, NULL));
    v = (struct itimerval){{LONG_MAX, 999999}, {LONG_MAX, 999999}};
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        show("for ever", setitimer(which, &v, NULL));
        show("get", getitimer(which, &out));
        printf("for ever is %ld.%06ld\n", (long)out.it_interval.tv_sec, (long)out.it_interval.tv_usec);
    }
    burn(20);
    v = after_ms(0, 0);
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
        show("off", setitimer(which, &v, NULL));
    show("both at once", (handle(SIGPROF), handle(SIGVTALRM), 0));
    v = after_ms(30, 0);
    (void)setitimer(ITIMER_PROF, &v, NULL);
    (void)setitimer(ITIMER_VIRTUAL, &v, NULL);
    burn_until("the one", SIGPROF, 1, 15);
    burn_until("the other", SIGVTALRM, 1, 0);
}

static void show_end(const char *what, pid_t pid)
{
    int status = 0;

    (void)waitpid(pid, &status, 0);
    printf("%s: %s %d\n", what, WIFSIGNALED(status) ? "killed by" : "exit",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    fflush(stdout);
}

static void test_fork_and_exec(void)
{
    struct itimerval v = after_ms(60, 60), out;
    timer_t id;
    struct sigevent e = {.sigev_notify = SIGEV_NONE};
    struct itimerspec spec;
    pid_t pid;

    handle(SIGPROF);
    show("timer", timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &id));
    show("set", setitimer(ITIMER_PROF, &v, NULL));
    if ((pid = fork()) == 0) {
        show("in a child", getitimer(ITIMER_PROF, &out));
        show("is", out.it_value.tv_usec + out.it_interval.tv_usec);
        show("timer", timer_gettime(id, &spec));
        seen[SIGPROF] = 0;
        burn(100);
        show("not inherited", seen[SIGPROF]);
        _exit(0);
    }
    show_end("child", pid);
    burn_until("the parent's", SIGPROF, 1, 0);
    v = after_ms(0, 0);
    (void)setitimer(ITIMER_PROF, &v, NULL);
    (void)timer_delete(id);
    if ((pid = fork()) == 0) {
        (void)timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &id);
        v = after_ms(100, 70);
        (void)setitimer(ITIMER_VIRTUAL, &v, NULL);
        (void)execl("/proc/self/exe", "cputimers", "executed", NULL);
        _exit(1);
    }
    show_end("kept by exec", pid);
}

/* What exec starts. */
static int executed(void)
{
    struct itimerval out;
    struct itimerspec spec;

    show("get", getitimer(ITIMER_VIRTUAL, &out));
    show("interval", out.it_interval.tv_usec);
    show("runs", out.it_value.tv_usec > 0);
    show("timers of before", syscall(SYS_timer_gettime, 0, &spec));
    burn(20000);
    return 0;
}

/* ---- POSIX timers */

static timer_t timer_on(const char *what, clockid_t clock, int notify, int sig)
{
    struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value = {.sival_int = 4711}};
    timer_t id = 0;

    show(what, timer_create(clock, &e, &id));
    return id;
}

static void take(const char *what, int sig)
{
    const struct timespec limit = {20, 0};
    siginfo_t info = {0};
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, sig);
    printf("%s: %s, code %d, value %d\n", what,
           sigtimedwait(&set, &info, &limit) == sig ? "signal" : "nothing", info.si_code,
           info.si_value.sival_int);
    fflush(stdout);
}

static void block(int how, int sig)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, sig);
    (void)sigprocmask(how, &set, NULL);
}

static void test_timers(void)
{
    struct itimerspec v = spec_ms(100, 0), out;
    struct timespec now;
    timer_t id;

    handle(SIGUSR1);
    id = timer_on("process", CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1);
    show("get", timer_gettime(id, &out));
    show("is", out.it_value.tv_nsec);
    show("set", timer_settime(id, 0, &v, NULL));
    sleep_ms(250);
    show("while asleep", seen[SIGUSR1]);
    (void)timer_gettime(id, &out);
    show("goes down",
         out.it_value.tv_sec == 0 && out.it_value.tv_nsec > 20000000 && out.it_value.tv_nsec <= 100000000);
    burn_until("burnt", SIGUSR1, 1, 80);
    (void)timer_gettime(id, &out);
    show("over", out.it_value.tv_sec + out.it_value.tv_nsec);
    block(SIG_BLOCK, SIGUSR1);
    v = spec_ms(10, 10);
    show("again and again", timer_settime(id, 0, &v, &out));
    burn(150);
    take("blocked", SIGUSR1);
    show("overrun", timer_getoverrun(id) > 2);
    v = spec_ms(0, 0);
    show("stop", timer_settime(id, 0, &v, &out));
    show("interval was", out.it_interval.tv_nsec);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    v.it_value.tv_sec = now.tv_sec + 1;
    v.it_value.tv_nsec = now.tv_nsec;
    show("absolute", timer_settime(id, TIMER_ABSTIME, &v, NULL));
    (void)timer_gettime(id, &out);
    show("is near", out.it_value.tv_sec * 1000 + out.it_value.tv_nsec / 1000000 > 500);
    v = spec_ms(1, 0);
    show("in the past", timer_settime(id, TIMER_ABSTIME, &v, NULL));
    take("at once", SIGUSR1);
    v.it_value.tv_nsec = 1000000000;
    show("badly", timer_settime(id, 0, &v, NULL));
    v = (struct itimerspec){{LONG_MAX, 0}, {LONG_MAX, 0}};
    show("for ever", timer_settime(id, 0, &v, NULL));
    burn(20);
    (void)timer_gettime(id, &out);
    printf("for ever is %ld.%09ld\n", (long)out.it_interval.tv_sec, out.it_interval.tv_nsec);
    show("delete", timer_delete(id));
    show("deleted", timer_gettime(id, &out));
    block(SIG_UNBLOCK, SIGUSR1);

    id = timer_on("nobody is told", CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0);
    v = spec_ms(50, 0);
    show("set", timer_settime(id, 0, &v, NULL));
    (void)timer_gettime(id, &out);
    show("runs", out.it_value.tv_nsec > 0);
    burn(100);
    (void)timer_gettime(id, &out);
    show("over", out.it_value.tv_nsec);
    show("delete", timer_delete(id));
}

/* ---- threads, other processes */

static clockid_t others;

static void *run_thread(void *arg)
{
    long end;

    (void)arg;
    block(SIG_BLOCK, SIGUSR1);
    (void)pthread_getcpuclockid(pthread_self(), &others);
    (void)pthread_barrier_wait(&barrier);
    (void)pthread_barrier_wait(&barrier);
    end = ms_of(CLOCK_THREAD_CPUTIME_ID) + 20000;
    while (!stop && ms_of(CLOCK_THREAD_CPUTIME_ID) < end)
        for (volatile int i = 0; i < 10000; i++)
            ;
    (void)pthread_barrier_wait(&barrier);
    return NULL;
}

/* The other thread stands still between the first and the second of these, and spins up to the third. */
static void meet(void)
{
    (void)pthread_barrier_wait(&barrier);
}

static void wait_for(const char *what, int sig)
{
    for (int i = 0; i < 2000 && !seen[sig]; i++)
        sleep_ms(10);
    show_text(what, seen[sig] ? "came" : "did not come");
}

static void test_threads(void)
{
    struct itimerspec v = spec_ms(100, 0), out;
    timer_t mine, its, all;
    pthread_t thread;
    long start;

    handle(SIGUSR1);
    handle(SIGUSR2);
    (void)pthread_barrier_init(&barrier, NULL, 2);
    stop = 0;
    (void)pthread_create(&thread, NULL, run_thread, NULL);
    meet();
    mine = timer_on("mine", CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1);
    its = timer_on("its", others, SIGEV_SIGNAL, SIGUSR2);
    show("clock of a thread", ms_of(others) >= 0 && ms_of(others) < 10000);
    show("set its", timer_settime(its, 0, &v, NULL));
    burn(200);
    show("mine do not count", seen[SIGUSR2]);
    (void)timer_gettime(its, &out);
    show("left", out.it_value.tv_sec == 0 && out.it_value.tv_nsec > 20000000);
    show("set mine", timer_settime(mine, 0, &v, NULL));
    start = ms_of(others);
    meet();
    wait_for("its came", SIGUSR2);
    show("not before its time", ms_of(others) - start >= 50);
    while (ms_of(others) < start + 300)
        sleep_ms(10);
    show("its do not count", seen[SIGUSR1]);
    burn_until("mine came", SIGUSR1, 1, 0);

    seen[SIGUSR1] = 0;
    all = timer_on("all", CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1);
    v = spec_ms(200, 0);
    start = used();
    show("set all", timer_settime(all, 0, &v, NULL));
    wait_for("asleep, but not alone", SIGUSR1);
    show("not before its time", used() - start >= 150);
    stop = 1;
    meet();
    (void)pthread_join(thread, NULL);
    show("ended", timer_settime(its, 0, &v, NULL) == 0 || errno == ESRCH);
    (void)timer_delete(mine);
    (void)timer_delete(its);
    (void)timer_delete(all);
}

static void test_thread_waits(void)
{
    struct itimerspec v = spec_ms(2, 2);
    struct timespec until;
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    pthread_t thread;
    timer_t id;

    /* A thread that waits in a futex is asked time and again, and its wait ends in time all the same. */
    handle(SIGUSR1);
    stop = 0;
    (void)pthread_create(&thread, NULL, run_thread, NULL);
    meet();
    id = timer_on("timer", CLOCK_THREAD_CPUTIME_ID, SIGEV_NONE, 0);
    show("set", timer_settime(id, 0, &v, NULL));
    meet();
    for (int i = 0; i < 3; i++) {
        int word = 0;
        const struct timespec length = {0, 100000000};
        show("futex", syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, &length, NULL, 0));
    }
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    (void)pthread_mutex_lock(&m);
    show("wait", pthread_cond_timedwait(&c, &m, &until));
    sleep_ms(100);
    (void)timer_delete(id);
    stop = 1;
    meet();
    (void)pthread_join(thread, NULL);
}

static void test_clocks(void)
{
    struct itimerspec v = spec_ms(100, 0);
    clockid_t own, its;
    struct timespec ts;
    timer_t id;
    pid_t pid;
    long before, middle;
    int fds[2];

    show("own", clock_getcpuclockid(0, &own));
    before = used(), middle = ms_of(own);
    show("the same", before <= middle && middle <= used());
    show("by number", clock_getcpuclockid(getpid(), &own));
    before = used(), middle = ms_of(own);
    show("the same", before <= middle && middle <= used());
    (void)pthread_getcpuclockid(pthread_self(), &own);
    before = ms_of(CLOCK_THREAD_CPUTIME_ID), middle = ms_of(own);
    show("a thread's", before <= middle && middle <= ms_of(CLOCK_THREAD_CPUTIME_ID));
    handle(SIGUSR1);
    (void)pipe(fds);
    if ((pid = fork()) == 0) {
        burn(50);
        (void)write(fds[1], "x", 1);
        burn(20000);
        _exit(0);
    }
    show("a child's", clock_getcpuclockid(pid, &its));
    (void)read(fds[0], &ts, 1);
    show("has run", ms_of(its) >= 50);
    show("resolution", clock_getres(its, &ts));
    show("is", ts.tv_sec + ts.tv_nsec);
    id = timer_on("timer", its, SIGEV_SIGNAL, SIGUSR1);
    show("set", timer_settime(id, 0, &v, NULL));
    wait_for("the child's time", SIGUSR1);
    show("not before its time", ms_of(its) >= 130);
    ts = (struct timespec){0, 50000000};
    show("sleep by the child's time", clock_nanosleep(its, 0, &ts, NULL));
    show("of a child's thread", syscall(SYS_clock_gettime, its | 4, &ts));
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    show("delete", timer_delete(id));
    show("is gone", clock_gettime(its, &ts));
    show("number is gone", clock_getcpuclockid(pid, &its));
    show("no such kind", syscall(SYS_clock_gettime, -1, &ts));
    show("no timer", syscall(SYS_timer_create, (~30000 << 3) | 2, NULL, &id));
    show("no thread's timer", syscall(SYS_timer_create, (~30000 << 3) | 6, NULL, &id));
    show("none by a clock to read", syscall(SYS_timer_create, CLOCK_MONOTONIC_COARSE, NULL, &id));
    show("no clock", syscall(SYS_timer_create, 12, NULL, &id));
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ---- sleeping */

static void test_sleep(void)
{
    struct timespec ts = {0, 100000000}, left = {0, 0};
    struct itimerval alarm_soon = {.it_value = {0, 30000}};
    pthread_t thread;
    long start;

    stop = 0;
    (void)pthread_create(&thread, NULL, run_thread, NULL);
    meet();
    meet();
    start = used();
    show("sleep", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &ts, NULL));
    show("long enough", used() - start >= 100);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    ts.tv_sec++;
    start = used();
    show("absolute", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &ts, NULL));
    show("long enough", used() - start >= 999);
    ts = (struct timespec){0, 200000000};
    start = ms_of(others);
    show("by a thread's", clock_nanosleep(others, 0, &ts, NULL));
    show("long enough", ms_of(others) - start >= 199);
    stop = 1;
    meet();
    (void)pthread_join(thread, NULL);
    ts = (struct timespec){0, 1};
    show("in the past", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &ts, NULL));
    ts = (struct timespec){5, 0};
    handle(SIGALRM);
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("alone", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &ts, &left));
    show("left", left.tv_sec == 4);
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("alone, absolute",
         clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &(struct timespec){1000, 0}, NULL));
    show("own thread", clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL));
    show("no clock", clock_nanosleep(12, 0, &ts, NULL));
    show("nobody's", syscall(SYS_clock_nanosleep, (~30000 << 3) | 2, 0, &ts, NULL));
    ts.tv_nsec = -1;
    show("badly", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &ts, NULL));

    /* What is left of one sleep is nothing to the next. */
    (void)setitimer(ITIMER_REAL, &alarm_soon, NULL);
    show("interrupted", nanosleep(&(struct timespec){0, 60000000}, NULL));
    start = ms_of(CLOCK_MONOTONIC);
    show("another", nanosleep(&(struct timespec){0, 200000000}, NULL));
    show("long enough", ms_of(CLOCK_MONOTONIC) - start >= 199);
}

/* ---- the limit */

static void limit(rlim_t soft, rlim_t hard)
{
    const struct rlimit r = {soft, hard};

    show("limit", setrlimit(RLIMIT_CPU, &r));
}

static void test_limit(void)
{
    struct rlimit r;
    pid_t pid;

    if ((pid = fork()) == 0) {
        handle(SIGXCPU);
        limit(1, 2);
        sleep_ms(100);
        show("asleep", seen[SIGXCPU]);
        burn_until("soft", SIGXCPU, 1, 500);
        show("at a second", used() >= 500);
        (void)getrlimit(RLIMIT_CPU, &r);
        printf("one second more: %ld of %ld\n", (long)r.rlim_cur, (long)r.rlim_max);
        fflush(stdout);
        burn(200); /* not a second time before the next second */
        show("once", seen[SIGXCPU]);
        burn(20000);
        _exit(0);
    }
    show_end("hard", pid);
    if ((pid = fork()) == 0) {
        handle(SIGXCPU);
        limit(1, RLIM_INFINITY);
        burn(700);
        if ((pid = fork()) == 0) {
            (void)getrlimit(RLIMIT_CPU, &r);
            show("inherited", (long)r.rlim_cur);
            burn(600);
            show("its own time", seen[SIGXCPU]);
            (void)signal(SIGXCPU, SIG_DFL);
            (void)execl("/proc/self/exe", "cputimers", "burn", NULL);
            _exit(1);
        }
        show_end("kept by exec", pid);
        limit(RLIM_INFINITY, RLIM_INFINITY);
        burn(500);
        show("taken away", seen[SIGXCPU]);
        limit(0, RLIM_INFINITY);
        burn_until("none at all", SIGXCPU, 1, 0);
        limit(RLIM_INFINITY, RLIM_INFINITY);
        _exit(0);
    }
    show_end("soft", pid);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "executed") == 0)
        return executed();
    if (argc > 1 && strcmp(argv[1], "burn") == 0) {
        burn(20000);
        return 0;
    }
    test_itimer("virtual", ITIMER_VIRTUAL, SIGVTALRM);
    test_itimer("prof", ITIMER_PROF, SIGPROF);
    test_itimer_errors();
    test_fork_and_exec();
    test_timers();
    test_threads();
    test_thread_waits();
    test_clocks();
    test_sleep();
    if (argc == 1)
        test_limit();
    return 0;
}
