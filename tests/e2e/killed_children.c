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

static int by_vfork;

static void *make_many(void *n)
{
    for (long i = 0; i < (long)n; i++) {
        pid_t pid = by_vfork ? vfork() : fork();
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
    void *n = argc == 3 ? (void *)strtol(argv[2], NULL, 10) : NULL, *bad = NULL;
    pthread_t threads[2];

    by_vfork = n && !strcmp(argv[1], "vfork");
    if (!n || (!by_vfork && strcmp(argv[1], "fork") != 0))
        return 2;
    (void)puts("begins");
    (void)fflush(stdout);
    if (by_vfork)
        bad = make_many(n);
    for (int i = 0; i < 2 && !by_vfork; i++)
        (void)pthread_create(&threads[i], NULL, make_many, n);
    for (int i = 0; i < 2 && !by_vfork; i++) {
        void *result;
        (void)pthread_join(threads[i], &result);
        bad = bad ? bad : result;
    }
    (void)puts(bad ? bad : "all were told");
    return bad != NULL;
}
