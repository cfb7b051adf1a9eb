/*
 * image.h - the root file systems that sandboxes start from: directories below <state>/images/<name>/rootfs,
 * each with a manifest.json beside it. All are read-only to every sandbox.
 *
 * Whoever owns a sandbox holds a shared lock (flock(2)) on its image's directory for as long as the sandbox
 * lives: a sandbox's mounts hold directories, not the names below them. A tree is removed only under an
 * exclusive lock. One that was replaced while in use waits aside as ".old.*" until nobody holds it.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

/*
 * Path of the image's root file system. "base" is built on first use, and again when the busybox or the agent
 * it was built from changed. Other names must exist. *hold gets a descriptor that keeps the image
 * whole until the caller closes it; -1 on failure. Should another version of ironclaw replace "base" between
 * this call and the start, the sandbox starts from the newer tree, which is then not held.
 */
int image_path(const char *state_dir, const char *name, char *out, size_t cap, int *hold, struct err *e);

/* Builds "base" if it is missing or out of date: a static busybox with its applets and the built-in agent;
 * removes replaced trees that nobody holds any more. Safe to race: the tree is made beside its place and
 * renamed into it. */
int image_build_base(const char *state_dir, struct err *e);

/* Removes an image that no sandbox runs on; EBUSY if one does. */
int image_remove(const char *state_dir, const char *name, struct err *e);

/* The first static busybox among the n paths, or NULL with the package to install. Borrowed from `places`. */
const char *image_find_busybox(const char *const *places, size_t n, struct err *e);
