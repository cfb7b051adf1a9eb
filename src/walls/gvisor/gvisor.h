/*
 * gvisor.h - the gVisor wall: the sandbox is an OCI bundle under `runsc`, whose own kernel serves the
 * workload's system calls. Any other OCI runtime can stand in its place (walls/wall.h, struct wall_config).
 *
 * Who does what, in order:
 *   start.c    (host)   finds the runtime and what it can do (runtime.c, probe.c), cgroup, clones the keeper
 *   keeper.c   (child)  pid 1 of a pid namespace around everything: builds the tree (keeper_root.c) and the
 * bundle (bundle.c), creates the port sockets, enters a user namespace in which root is an unprivileged uid
 * of the host, runs the runtime, relays control messages, ends with it init/      (pid 1 of the container)
 * system call filter, TCP relays, the workload
 *
 * Killing any of them leaves nothing: the keeper's end ends its pid namespace, and with its mount namespace
 * go the bundle, the sockets and the runtime's state. None of them has a name on the host.
 */
#pragma once
#include "walls/wall.h"

extern const struct wall_ops gvisor_wall;

/* ---- runtime.c: the OCI runtime's binary */

enum gvisor_kind { RUNTIME_RUNSC, RUNTIME_RUNC, RUNTIME_CRUN, RUNTIME_OTHER };

/* Command line options of a runsc, found in what it says about itself. */
enum gvisor_flag {
    RUNSC_HOST_UDS = 1U << 0,         /* --host-uds=open */
    RUNSC_FSGOFER_HOST_UDS = 1U << 1, /* --fsgofer-host-uds, its old spelling */
    RUNSC_DIRECTFS = 1U << 2,
    RUNSC_OVERLAY2 = 1U << 3,
    RUNSC_IGNORE_CGROUPS = 1U << 4,
    RUNSC_ROOTLESS = 1U << 5,
};

struct gvisor_runtime {
    char path[512];
    enum gvisor_kind kind;
    unsigned flags;    /* enum gvisor_flag; 0 unless runsc */
    char platform[16]; /* runsc: kvm, systrap or ptrace; else "" */
    long long size, mtime_ns;
};

/* Finds the configured binary and checks that nobody else may write to it. Cheap. */
int gvisor_runtime_find(struct gvisor_runtime *r, struct err *e);
/* Asks the binary what it is and which options it has. Two short processes. */
int gvisor_runtime_identify(struct gvisor_runtime *r, struct err *e);
/* The options in the text of `runsc help flags`. */
unsigned gvisor_flags_of(const char *help);
/* The command line that runs the bundle /bundle as container `id` (borrowed): NULL-terminated, freed with one
 * free(). `room` holds what is formatted. */
char **gvisor_command(const struct gvisor_runtime *r, const char *id, bool terminal, char *room, size_t cap);

/* ---- probe.c */

/* Finds the runtime and a platform that works on this host, by trying; remembered in the state directory. */
int gvisor_runtime_ready(struct gvisor_runtime *r, struct err *e);

/* ---- start.c */

/* Starts a sandbox on this very runtime and platform. */
int gvisor_start_on(const struct gvisor_runtime *r, const struct sandbox_spec *spec, int timeout_ms,
                    struct sandbox *s, struct err *e);

/* ---- bundle.c: the OCI bundle */

struct bundle {
    const struct sandbox_spec *spec;
    const char *place;         /* directory that sources of mounts lie below: run, workspace, m/0, m/1... */
    const char *flags;         /* init's letters (init/init.c) */
    uint32_t root_id, user_id; /* what uid and gid 0 and 1000 are outside of the container */
    bool assembled; /* image and mounts are in rootfs and below `place`; else config.json names host paths */
    bool resources; /* let the runtime set the limits; else our cgroup alone */
};

/* config.json as malloc'ed text, or NULL with e. */
char *bundle_config(const struct bundle *b, struct err *e);
/* Writes a bundle that any OCI runtime can run to `dir`, which must not exist or be empty. */
int bundle_write(const struct sandbox_spec *spec, const char *dir, struct err *e);
/* The directories of a root file system that are the sandbox's own and get mounts. */
int bundle_make_own(int rootfs, struct err *e);
/* What the other uid of a sandbox is: the runtime's own. Files never belong to it. */
uint32_t bundle_root_id(uint32_t uid);
/* Is this text UTF-8? JSON can carry nothing else. */
bool bundle_is_utf8(const char *text);

/* ---- keeper.c */

/* Runs in the cloned child, never returns. */
void gvisor_keeper(const struct gvisor_runtime *r, const struct sandbox_spec *spec,
                   const struct cgroup *cgroup, int control) __attribute__((noreturn));

/* ---- keeper_root.c */

/* Assembles /runtime, /bundle, /state and the system's libraries in a new root and enters it. */
int gvisor_build_root(const struct gvisor_runtime *r, const struct sandbox_spec *spec, struct err *e);

/* ---- message.c: what the container's init says to the keeper. It comes out of the sandbox: trust nothing.
 */

enum gvisor_message_kind { MESSAGE_INVALID, MESSAGE_READY, MESSAGE_ERROR, MESSAGE_EXIT };
struct gvisor_message {
    enum gvisor_message_kind kind;
    int code;                /* MESSAGE_EXIT: 0 to 255 */
    char text[ERR_TEXT_MAX]; /* MESSAGE_ERROR: printable */
};
void gvisor_message_parse(const char *data, size_t len, struct gvisor_message *m);
/* Copies text for a person: control characters become '?'. */
void gvisor_printable(char *dst, size_t cap, const char *src, size_t len);
