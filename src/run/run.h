/*
 * run.h - `ironclaw run`: one sealed command, no daemon.
 */
#pragma once
#include "base/err.h"
#include "events/burst.h"
#include "walls/wall.h"

/* Everything `ironclaw run` was asked for. Strings are borrowed from argv. */
struct run_options {
    const char *wall, *image, *rootfs, *workspace, *state_dir;
    const char *oci_runtime, *platform; /* of the gvisor wall; NULL: the environment's, else the default */
    const char *write_bundle;           /* directory to write an OCI bundle to, instead of running */
    unsigned standby;                   /* keep this many cells ready, instead of running */
    uint64_t timeout_ms;                /* 0: none */
    bool terminal;
    struct cgroup_limits limits;
    const char *events; /* NULL: nobody wants to know */
    struct sandbox_mount mounts[SANDBOX_MOUNTS_MAX];
    size_t nmounts;
    char **env; /* malloc'ed "NAME=VALUE", NULL-terminated */
    char **command;
};

enum { RUN_USAGE = 2, RUN_CANNOT_LAUNCH = 125 };

/* Parses the words after "run". Returns 0, 1 if help was printed, or -1 with e. */
int run_parse(int argc, char **argv, struct run_options *o, struct err *e);

/* Runs it and returns the exit status for the shell. */
int run_main(int argc, char **argv);

/*
 * events.c: --events. All functions do nothing when it was not given (`fd` < 0). A file that takes nothing
 * any more is given up, never waited for.
 */
struct run_events {
    int fd, listener;       /* listener: borrowed from the sandbox; -1 none */
    uint64_t seq, flush_at; /* flush_at: monotonic ns, 0 nothing to flush */
    const char *wall;
    struct burst burst;
};
int run_events_open(struct run_events *ev, const char *path, const char *wall, struct err *e);
void run_events_launched(struct run_events *ev, const struct sandbox *s);
/* A report is there, or somebody hung up. */
void run_events_readable(struct run_events *ev);
void run_events_flush(struct run_events *ev);
/* Before the cgroup goes. `status`: wait status of the sandbox. */
void run_events_ended(struct run_events *ev, const struct cgroup *c, const struct cgroup_limits *l,
                      int status, bool timed_out);

/*
 * Connects the caller's descriptors with a sandbox that must not hold the caller's terminal: a
 * pseudo-terminal (-t), or pipes where a descriptor is a terminal. Everything else is handed on as it is.
 */
struct flow {
    int from, to;   /* -1: none */
    size_t at, len; /* data[at..len) was read and not yet written */
    char data[4096];
};
struct relay {
    int inside[3];        /* what the sandbox gets; -1: /dev/null */
    int pumps[3];         /* our end of a pipe, or -1 */
    bool made[3];         /* inside[i] is ours to close after start */
    int master;           /* the sandbox's terminal, or -1 */
    bool raw;             /* the caller's terminal is in raw mode */
    struct flow flows[3]; /* input, output, error */
};
int relay_prepare(struct relay *r, bool terminal, struct err *e);
void relay_started(struct relay *r, int master);
/* Moves data, forwards signals and answers refused calls until the sandbox ends (pidfd readable) or
 * `deadline_ns` passes (returns 1). */
int relay_run(struct relay *r, const struct sandbox *s, const struct wall_ops *wall, int signals,
              uint64_t deadline_ns, struct run_events *ev);
/* What the sandbox wrote before it ended, then the caller's terminal as it was. */
void relay_finish(struct relay *r);
