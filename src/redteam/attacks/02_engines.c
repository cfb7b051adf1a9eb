/*
 * Family 2: the sockets through which a host is administered. Whoever reaches one of them is root.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

static int connect_path(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        int error = errno;
        (void)close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}

static void try_paths(const char *prefix, const char *const *paths, size_t n)
{
    char name[64], through[256];

    for (size_t i = 0; i < n; i++) {
        int fd = connect_path(paths[i]);
        (void)snprintf(name, sizeof(name), "%s-%zu", prefix, i);
        stepf(name, fd, "%s", paths[i]);
        if (fd >= 0)
            claim("connected to %s", paths[i]);
        (void)close(fd);
        /* The same past a root of another process. */
        (void)snprintf(through, sizeof(through), "/proc/1/root%s", paths[i]);
        fd = connect_path(through);
        if (fd >= 0)
            claim("connected to %s", through);
        (void)close(fd);
    }
}

static void engines(const struct order *o)
{
    static const char *const paths[] = {"/var/run/docker.sock",
                                        "/run/docker.sock",
                                        "/run/podman/podman.sock",
                                        "/run/user/1000/podman/podman.sock",
                                        "/run/containerd/containerd.sock",
                                        "/run/k3s/containerd/containerd.sock",
                                        "/run/crio/crio.sock",
                                        "/var/run/dockershim.sock",
                                        "/run/buildkit/buildkitd.sock",
                                        "/var/snap/lxd/common/lxd/unix.socket",
                                        "/var/lib/incus/unix.socket",
                                        "/var/run/libvirt/libvirt-sock",
                                        "/var/lib/kubelet/pod-resources/kubelet.sock"};

    (void)o;
    try_paths("engine", paths, sizeof(paths) / sizeof(*paths));
}

static void system_buses(const struct order *o)
{
    static const char *const paths[] = {"/run/dbus/system_bus_socket",
                                        "/var/run/dbus/system_bus_socket",
                                        "/run/user/1000/bus",
                                        "/run/systemd/private",
                                        "/run/systemd/notify",
                                        "/run/systemd/journal/stdout",
                                        "/run/systemd/journal/socket",
                                        "/run/systemd/io.system.ManagedOOM",
                                        "/run/udev/control",
                                        "/run/snapd.socket",
                                        "/run/acpid.socket",
                                        "/dev/log",
                                        "/run/initctl"};

    (void)o;
    try_paths("bus", paths, sizeof(paths) / sizeof(*paths));
}

/* Every socket, and every named pipe, that the file system shows; the ports are the only ones that belong
 * here.
 */
struct found {
    unsigned n, foreign, looked;
};

static void search(const char *dir, unsigned depth, struct found *f)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;

    while (d && (entry = readdir(d)) && f->looked < 50000) {
        char path[512];
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", strcmp(dir, "/") ? dir : "", entry->d_name);
        f->looked++;
        if (!strcmp(path, "/proc") || lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < 12) {
            search(path, depth + 1, f);
        } else if (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode)) {
            f->n++;
            if (strncmp(path, "/run/ironclaw/", 14) != 0) {
                f->foreign++;
                fact("foreign", "%s", path);
            }
        }
    }
    if (d)
        (void)closedir(d);
}

static void any_socket(const struct order *o)
{
    struct found f = {0};
    const char *host = order_text(o, "unix");
    int fd;

    search("/", 0, &f);
    stepf("search", (long)f.looked, "%u sockets and pipes, %u of them not ports", f.n, f.foreign);
    if (f.foreign)
        claim("%u sockets or named pipes that are no ports", f.foreign);
    fd = connect_path(host);
    stepf("host-socket", fd, "%s", host);
    if (fd >= 0)
        claim("connected to the host's socket %s", host);
    (void)close(fd);
    fd = connect_path(order_text(o, "api"));
    stepf("api-socket", fd, "%s", order_text(o, "api"));
    if (fd >= 0)
        claim("connected to the API's socket");
    (void)close(fd);
}

const struct inside_attack inside_engines[] = {
    {"engine.sockets", engines},
    {"engine.system-buses", system_buses},
    {"engine.any-socket", any_socket},
    {NULL, NULL},
};
