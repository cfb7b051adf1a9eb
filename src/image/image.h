/*
 * image.h - the root file systems that sandboxes start from: directories below <state>/images/<name>/rootfs,
 * each with a manifest.json beside it. All are read-only to every sandbox.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

/*
 * Path of the image's root file system. "base" is built on first use, and again when the busybox or the agent
 * it was built from changed. Other names must exist.
 */
int image_path(const char *state_dir, const char *name, char *out, size_t cap, struct err *e);

/* Builds "base" if it is missing or out of date: a static busybox with its applets and the built-in agent.
 * Safe to race: the tree is made beside its place and renamed into it. */
int image_build_base(const char *state_dir, struct err *e);
