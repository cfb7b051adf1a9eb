/*
 * handover.h - what the walls share on the way from caller to sandbox: the child process that builds it and
 * ends with it, and the control socket between the two. Child to host: one byte (enum), then text or
 * descriptors.
 */
#pragma once
#include "walls/wall.h"

enum { CONTROL_ERROR = 'E', CONTROL_PORTS = 'P', CONTROL_TERMINAL = 'T', CONTROL_READY = 'R' };
/* One byte more: the workload's exit status. From an OCI container's init to its keeper, and from a warden.
 */
enum { CONTROL_EXIT = 'X' };
/* From the host: a signal for the workload (OCI containers); what a cell is to run (warden/warden.h). */
enum { CONTROL_SIGNAL = 'S', CONTROL_ACTIVATE = 'A' };

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

/* Readable once the sandbox has ended, or is about to. */
int handover_end_fd(const struct sandbox *s);
/*
 * Waits until the sandbox has ended. Returns its wait status; `text` gets the sentence of a launch or kernel
 * error that its init left, or "". handover_destroy() remains to be called.
 */
int handover_wait(struct sandbox *s, char *text, size_t cap);

/* struct wall_ops of a sandbox that is one pid namespace. */
int handover_signal(const struct sandbox *s, int sig);
void handover_stats(const struct sandbox *s, struct cgroup_stats *out);
void handover_destroy(struct sandbox *s, int *status);
