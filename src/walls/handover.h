/*
 * handover.h - what the walls share on the way from caller to sandbox: the child process that builds it and
 * ends with it, and the control socket between the two. Child to host: one byte (enum), then text or
 * descriptors.
 */
#pragma once
#include "walls/wall.h"

enum { CONTROL_ERROR = 'E', CONTROL_PORTS = 'P', CONTROL_TERMINAL = 'T', CONTROL_READY = 'R' };
/* Between an OCI container's init and its keeper as well: the workload's exit status; a signal for it. */
enum { CONTROL_EXIT = 'X', CONTROL_SIGNAL = 'S' };

/* ---- in the child */

/* One message; descriptors stay the caller's. */
void handover_send(int control, char kind, const char *text, const int *fds, int nfds);
/* Opens the sandbox's own pseudo-terminal on /dev/pts: the master goes to the host, *slave stays. */
int handover_terminal(int control, int *slave, struct err *e);
/* A directory handed in as a descriptor would be a way out of the new root; a disk is worse. */
int handover_check_stdio(const struct sandbox_spec *spec, struct err *e);

/* ---- in the host */

/* clone3 with the CLONE_* flags, into the cgroup on v2. As fork(2), and *pidfd. */
pid_t handover_clone(const struct cgroup *cgroup, uint64_t flags, int *pidfd);
/* Takes the child's messages until every wall stands, at most timeout_ms (-1: no limit). Only our own code
 * runs in it before that. */
int handover_await(struct sandbox *s, int timeout_ms, struct err *e);

/* struct wall_ops of a sandbox that is one pid namespace. */
int handover_signal(const struct sandbox *s, int sig);
void handover_stats(const struct sandbox *s, struct cgroup_stats *out);
void handover_destroy(struct sandbox *s, int *status);
