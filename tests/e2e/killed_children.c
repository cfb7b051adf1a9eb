/*
 * killed_children vfork|fork N: N children that wait to be killed from outside, and a parent that has to be
 * told of each. vfork: one after the other, while the parent waits for it to execute something. fork: from
 * two threads at once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int was_killed(pid_t pid)
{
    int status = 0;

    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void *fork_many(void *n)
{
    for (long i = 0; i < (long)n; i++) {
        pid_t pid = fork();
        if (pid == 0)
            for (;;)
                (void)pause();
        if (pid < 0 || !was_killed(pid))
            return "one was not told";
    }
    return NULL;
}

static void *vfork_many(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t pid = vfork();
        if (pid == 0)
            for (;;)
                (void)pause();
        if (pid < 0 || !was_killed(pid))
            return "one was not told";
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *how = argc == 3 ? argv[1] : "";
    long n = argc == 3 ? atol(argv[2]) : 0;
    pthread_t threads[2];
    void *bad = NULL;

    (void)puts("begins");
    (void)fflush(stdout);
    if (!strcmp(how, "vfork"))
        bad = vfork_many(n);
    for (int i = 0; i < 2 && !strcmp(how, "fork"); i++)
        (void)pthread_create(&threads[i], NULL, fork_many, (void *)n);
    for (int i = 0; i < 2 && !strcmp(how, "fork"); i++) {
        void *result;
        (void)pthread_join(threads[i], &result);
        bad = bad ? bad : result;
    }
    (void)puts(bad ? bad : "all were told");
    return bad != NULL;
}
