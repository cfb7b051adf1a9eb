/*
 * The victim: a neighbour that keeps secrets in every place that a program has, and doors that it opens for
 * its own use. The host gives it the secrets and asks it afterwards whether they are still there, and whether
 * somebody knocked.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"
#include "redteam/attacks/places.h"

enum { SECRET_MAX = 96 };

static const char *const files[] = {"/workspace/" VICTIM_FILE, "/tmp/" VICTIM_FILE, "/dev/shm/" VICTIM_FILE};

static struct {
    char memory[SECRET_MAX], on_disk[SECRET_MAX], shared[SECRET_MAX];
    char *shm;
    int sem, doors[2];
    mqd_t mq;
    unsigned visits;
    volatile sig_atomic_t signals;
} held = {.sem = -1, .doors = {-1, -1}, .mq = (mqd_t)-1};

static void on_signal(int sig)
{
    (void)sig;
    held.signals++;
}

static bool put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        (void)close(fd);
    return ok;
}

static int door(int family, const void *address, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && (bind(fd, address, len) < 0 || listen(fd, 64) < 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static void open_doors(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(VICTIM_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memcpy(un.sun_path + 1, VICTIM_ABSTRACT, sizeof(VICTIM_ABSTRACT) - 1);
    held.doors[0] =
        door(AF_UNIX, &un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(VICTIM_ABSTRACT)));
    held.doors[1] = door(AF_INET, &in, sizeof(in));
}

static void open_ipc(void)
{
    struct {
        long type;
        char text[SECRET_MAX];
    } m = {.type = 1};
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = SECRET_MAX};
    int id = shmget(VICTIM_KEY, 4096, IPC_CREAT | 0666), queue = msgget(VICTIM_KEY, IPC_CREAT | 0666);
    void *at = id < 0 ? (void *)-1 : shmat(id, NULL, 0);

    if (at != (void *)-1) {
        held.shm = at;
        (void)snprintf(held.shm, SECRET_MAX, "%s", held.shared);
    }
    (void)snprintf(m.text, sizeof(m.text), "%s", held.shared);
    if (queue >= 0)
        (void)msgsnd(queue, &m, sizeof(m.text), IPC_NOWAIT);
    held.sem = semget(VICTIM_KEY, 1, IPC_CREAT | 0666);
    if (held.sem >= 0)
        (void)semctl(held.sem, 0, SETVAL, 7);
    held.mq = mq_open(VICTIM_MQ, O_RDWR | O_CREAT | O_NONBLOCK, 0666, &attr);
    if (held.mq != (mqd_t)-1)
        (void)mq_send(held.mq, held.shared, SECRET_MAX, 1);
    if (held.mq != (mqd_t)-1 && (mq_getattr(held.mq, &attr) < 0 || attr.mq_curmsgs != 1))
        held.mq = (mqd_t)-1; /* a kernel that makes queues and keeps nothing in them */
}

void hold_start(const struct order *o)
{
    static const int caught[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGCONT};

    (void)snprintf(held.memory, sizeof(held.memory), "%s", order_text(o, "memory"));
    (void)snprintf(held.on_disk, sizeof(held.on_disk), "%s", order_text(o, "file"));
    (void)snprintf(held.shared, sizeof(held.shared), "%s", order_text(o, "shared"));
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        fact("file", "%d %s", put_file(files[i], held.on_disk), files[i]);
    for (size_t i = 0; i < sizeof(caught) / sizeof(*caught); i++)
        (void)signal(caught[i], on_signal);
    open_ipc();
    open_doors();
    fact("shm", "%d", held.shm != NULL);
    fact("sem", "%d", held.sem >= 0);
    fact("mq", "%d", held.mq != (mqd_t)-1);
    fact("doors", "%d", (held.doors[0] >= 0) + (held.doors[1] >= 0));
}

static bool file_is(const char *path)
{
    char buf[SECRET_MAX + 1];

    return slurp(path, buf, sizeof(buf)) > 0 && !strcmp(buf, held.on_disk);
}

void hold_check(void)
{
    struct mq_attr attr = {0};
    struct msqid_ds ds;
    const char *lost = NULL;
    int queue = msgget(VICTIM_KEY, 0);

    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        lost = file_is(files[i]) ? lost : files[i];
    if (held.shm && strcmp(held.shm, held.shared) != 0)
        lost = "System V memory";
    if (held.sem >= 0 && semctl(held.sem, 0, GETVAL) != 7)
        lost = "semaphore";
    if (queue >= 0 && (msgctl(queue, IPC_STAT, &ds) < 0 || ds.msg_qnum != 1))
        lost = "System V message";
    if (held.mq != (mqd_t)-1 && (mq_getattr(held.mq, &attr) < 0 || attr.mq_curmsgs != 1))
        lost = "POSIX message";
    for (size_t i = 0; i < 2; i++) {
        int fd;
        while (held.doors[i] >= 0 && (fd = accept4(held.doors[i], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
            held.visits++;
            (void)close(fd);
        }
    }
    fact("intact", "%d", !lost);
    if (lost)
        fact("lost", "%s", lost);
    fact("visits", "%u", held.visits);
    fact("signals", "%d", (int)held.signals);
}

void hold_where(void)
{
    fact("address", "%lx", (unsigned long)(uintptr_t)held.memory);
}
