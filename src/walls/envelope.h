/*
 * envelope.h - what every wall of our own puts around a process tree, whatever runs in it: an unprivileged
 * uid in a user namespace of its own, no capability, no_new_privs, resource limits. The namespaces themselves
 * come with the child (handover_clone), the file system is the wall's own.
 */
#pragma once
#include "walls/wall.h"

/* Without the rights that building a sandbox as root takes. */
bool envelope_is_rootless(void);
/* struct wall_ops.probe and .shortfall: user namespaces, control groups, Landlock. */
bool envelope_probe(struct err *e);
void envelope_shortfall(char *text, size_t cap);
/* Does our user namespace have this uid? Only asked when something failed: the initial one has them all. */
bool envelope_is_mapped(uint32_t uid);

/* ---- in the child, in this order */

/* Signals as a new process has them, death with the parent, umask. */
void envelope_begin(void);
/* Rootless: maps the caller's one uid. proc_self: /proc/self of the host's /proc, opened before it went out
 * of sight. */
int envelope_map_ids(int proc_self, uint32_t uid, uint32_t gid, struct err *e);
/* The whole root read-only, nosuid, nodev. */
int envelope_seal_root(struct err *e);
/* The sandbox's uid in its own user namespace (root only), empty bounding set, resource limits. */
int envelope_become(const struct sandbox_spec *spec, int proc_self, bool rootless, struct err *e);
/* No capability, no_new_privs, death with the parent (a changed uid had cleared that). */
int envelope_give_up(struct err *e);
