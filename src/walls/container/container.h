/*
 * container.h - the container wall: namespaces, capabilities, seccomp, Landlock and cgroups around one
 * process tree.
 *
 * Who does what, in order:
 *   start.c   (host)    cgroup, clone3 into new namespaces
 *   setup.c   (child)   joins the cgroup, builds the root, opens the ports, becomes an unprivileged uid in a
 * user namespace of its own, drops every capability, executes the static ironclaw-init init/     (pid 1)
 * Landlock, system call filter, starts and reaps the workload, forwards signals
 *
 * Started by root, every namespace but the user namespace belongs to the host's user namespace, and the user
 * namespace is entered last: even a process that won full capabilities inside could not configure its
 * network, mounts or host name. Rootless, the user namespace has to come first and owns the others.
 */
#pragma once
#include "walls/wall.h"

extern const struct wall_ops container_wall;

/* Runs in the cloned child, never returns: on failure the sentence goes to `control` and the child exits 125.
 */
void container_child(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, bool rootless)
    __attribute__((noreturn));

/* The read-only root, /dev, /proc, /tmp, /workspace and mounts; ends inside it with the old root gone. */
int container_build_root(const struct sandbox_spec *spec, bool rootless, struct err *e);

/* Loopback up, listening sockets of the ports at their well-known places. Fills fds[SANDBOX_PORTS]. */
int container_open_ports(int fds[SANDBOX_PORTS], struct err *e);
int container_loopback_up(struct err *e);
