/*
 * wall.h - one way to isolate a sandbox, behind one small interface.
 *
 * Data flows one way: policy -> struct sandbox_spec -> wall -> processes. A wall knows nothing of HTTP,
 * agents or keys. Callers choose a wall from the table by name and never switch on its kind.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "walls/cgroup.h"

enum {
    SANDBOX_UID = 1000, /* what the workload sees itself as; gid likewise */
    /* Loopback ports inside every sandbox (docs/ports.md). */
    PORT_QUEUE_TCP = 8470,
    PORT_MODEL_TCP = 8471,
    SANDBOX_PORTS = 4, /* queue unix, queue TCP, model unix, model TCP: the order of sandbox.ports[] */
    SANDBOX_MOUNTS_MAX = 32
};

/* Where no wall is named. There is no falling back to another: where it is not available, that is said. */
#ifdef __x86_64__
#define WALL_DEFAULT "cell"
#else
#define WALL_DEFAULT "container"
#endif

struct sandbox_mount {
    const char *source; /* host path: a directory or a regular file */
    const char *target; /* absolute path inside */
    bool writable;
};

struct sandbox_spec {
    const char *id;     /* io_valid_name(); names the cgroup and the host name inside */
    const char *rootfs; /* host directory that becomes the read-only root */
    const char *init;   /* host path of the static ironclaw-init */
    const char
        *workspace;    /* host directory for /workspace; NULL: a private tmpfs that ends with the sandbox */
    char *const *argv; /* NULL-terminated */
    char *const *envp; /* NULL-terminated; nothing else reaches the workload */
    struct sandbox_mount mounts[SANDBOX_MOUNTS_MAX];
    size_t nmounts;
    struct cgroup_limits limits;
    uint32_t
        uid; /* host uid and gid when started by root: unprivileged, used by no one else. Ignored rootless */
    int stdio[3];  /* descriptors for 0, 1, 2; -1 for /dev/null. Borrowed */
    bool terminal; /* give the workload a pseudo-terminal of its own; stdio[] is not used then */
    bool ports;    /* create the port listeners and hand them out */
    bool observe;  /* hand out a descriptor that reports refused system calls, if the wall has one */
};

/* A started sandbox. Everything is -1 / 0 before start. */
struct sandbox {
    pid_t pid; /* of its init, in the caller's pid namespace; the caller reaps it */
    int pidfd;
    int control;  /* SOCK_SEQPACKET to init: closing it ends the sandbox; readable: a launch error */
    int terminal; /* pty master when spec.terminal */
    int ports[SANDBOX_PORTS]; /* listening sockets when spec.ports */
    struct cgroup cgroup;
    /* When spec.observe: seccomp_unotify(2)'s listener, -1 where there is none. While anyone holds it open, a
     * refused call waits to be answered (events/listener.h): whoever does not answer closes it. */
    int listener;
    /* Not -1: another process is its parent, reaps it and removes its cgroup once this is closed
     * (standby/standby.h). */
    int lease;
};

#define SANDBOX_INIT                                                                                         \
    {                                                                                                        \
        0, -1, -1, -1, {-1, -1, -1, -1}, CGROUP_INIT, -1, -1                                                 \
    }

struct wall_ops {
    const char *name;
    int strength; /* policy order: a minimum wall means at least this strength (docs/threat-model.md) */

    /* Can this host do it? Returns true, or false with the missing fact and its remedy in e. Cheap enough for
     * every start. */
    bool (*probe)(struct err *e);

    /* What this host cannot give of what the wall offers (rootless without delegation, say), as one line; ""
     * if nothing. */
    void (*shortfall)(char *text, size_t cap);

    /*
     * Builds the sandbox and starts the workload. Returns once all walls stand and untrusted code may run, or
     * -1 with e and nothing left behind. A workload that cannot be executed is not an error here: it exits
     * 126 or 127 and its message can be read from sandbox.control.
     */
    int (*start)(const struct sandbox_spec *spec, struct sandbox *s, struct err *e);

    /* Delivers a signal to the workload's process group. Returns 0 or -errno. */
    int (*signal)(const struct sandbox *s, int sig);

    /* Memory and cpu in use; zeros where the host does not account. */
    void (*stats)(const struct sandbox *s, struct cgroup_stats *out);

    /* Kills whatever is left, reaps init, removes cgroups, closes descriptors. *status (may be NULL) gets the
     * wait status. Idempotent. */
    void (*destroy)(struct sandbox *s, int *status);

    /* Removes what sandboxes of dead owners left behind (SIGKILL, power loss). Safe while others run. */
    void (*sweep)(void);

    /* Would a sandbox's helpers trace (ptrace(2)) here? NULL: never. Cheap, without a trial. */
    bool (*traces)(void);

    /* Can its sandboxes be built before it is known what they run (standby/standby.h)? */
    bool stands_by;

    /* Writes the OCI bundle of this sandbox to a new directory, for any OCI runtime to run. NULL if the wall
     * has none. */
    int (*write_bundle)(const struct sandbox_spec *spec, const char *dir, struct err *e);
};

/* What walls are told once, before any of them is used. Strings are borrowed for good; NULL: the default. */
struct wall_config {
    const char *state_dir;    /* where what was found out about this host may be kept; NULL: nowhere */
    const char *oci_runtime;  /* name or absolute path of the OCI runtime; default runsc */
    const char *oci_platform; /* runsc's platform: auto (default), kvm, systrap, ptrace */
};
void wall_configure(const struct wall_config *config);
const struct wall_config *wall_config(void);

/* By name, or NULL. */
const struct wall_ops *wall_find(const char *name);
/* The i-th wall, or NULL past the end. */
const struct wall_ops *wall_at(size_t i);
