/* Threads: creation, join, mutexes, condition variables, robust mutexes, TLS, fork with threads, exit of one.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "show.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter, turns;
static __thread int mine = 7;

static void *add_many(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        (void)pthread_mutex_lock(&lock);
        counter++;
        (void)pthread_mutex_unlock(&lock);
    }
    mine += (int)(long)arg;
    return (void *)(long)mine;
}

static void *ping(void *arg)
{
    long parity = (long)arg;

    (void)pthread_mutex_lock(&lock);
    while (turns < 400) {
        if (turns % 2 != parity) {
            (void)pthread_cond_wait(&changed, &lock);
            continue;
        }
        turns++;
        (void)pthread_cond_broadcast(&changed);
    }
    (void)pthread_mutex_unlock(&lock);
    return NULL;
}

static void *die_with_lock(void *m)
{
    (void)pthread_mutex_lock(m);
    return NULL;
}

static void *only_exit(void *arg)
{
    (void)arg;
    (void)syscall(SYS_exit, 3);
    return NULL;
}

static void *sleep_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        (void)pause();
    return NULL;
}

int main(void)
{
    pthread_t t[8];
    pthread_mutexattr_t attr;
    pthread_mutex_t robust, *shared;
    struct timespec soon;
    sem_t *sem;
    void *result;
    int status;

    for (long i = 0; i < 8; i++)
        show("create", pthread_create(&t[i], NULL, add_many, (void *)i));
    for (int i = 0; i < 8; i++) {
        (void)pthread_join(t[i], &result);
        printf("result %ld\n", (long)result);
    }
    show("counter", counter);
    (void)pthread_create(&t[0], NULL, ping, (void *)0);
    (void)pthread_create(&t[1], NULL, ping, (void *)1);
    (void)pthread_join(t[0], NULL);
    (void)pthread_join(t[1], NULL);
    show("turns", turns);
    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(&robust, &attr);
    (void)pthread_create(&t[0], NULL, die_with_lock, &robust);
    (void)pthread_join(t[0], NULL);
    show_text("robust", pthread_mutex_lock(&robust) == EOWNERDEAD ? "owner died" : "?");
    (void)clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 5000000;
    if (soon.tv_nsec >= 1000000000) {
        soon.tv_nsec -= 1000000000;
        soon.tv_sec++;
    }
    (void)pthread_mutex_lock(&lock);
    show_text("timed wait", pthread_cond_timedwait(&changed, &lock, &soon) == ETIMEDOUT ? "timed out" : "?");
    (void)pthread_mutex_unlock(&lock);

    /* Across processes. */
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem = (sem_t *)(shared + 1);
    (void)sem_init(sem, 1, 0);
    if (fork() == 0) {
        (void)usleep(5000);
        (void)sem_post(sem);
        _exit(0);
    }
    show("sem_wait", sem_wait(sem));
    (void)wait(NULL);

    (void)pthread_create(&t[0], NULL, sleep_for_ever, NULL);
    if (fork() == 0) {
        /* Only the caller lives in the child. */
        mine = 99;
        _exit(mine);
    }
    (void)wait(&status);
    show("child of many threads", WEXITSTATUS(status));
    if (fork() == 0) {
        (void)pthread_create(&t[1], NULL, only_exit, NULL);
        (void)pthread_join(t[1], NULL);
        _exit(21);
    }
    (void)wait(&status);
    show("after a bare exit", WEXITSTATUS(status));
    if (fork() == 0) {
        char *argv[] = {(char *)"true", NULL};
        (void)pthread_create(&t[1], NULL, sleep_for_ever, NULL);
        (void)execv("/bin/true", argv);
        _exit(22);
    }
    (void)wait(&status);
    show("exec with threads", WEXITSTATUS(status));
    show("yield", sched_yield());
    return 0; /* with a thread that never ends */
}
