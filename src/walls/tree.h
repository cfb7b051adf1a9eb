/*
 * tree.h - the pieces that the file system of a sandbox is built of, whichever wall stands around it. Sources
 * are detached mounts (open_tree(2)), so nothing depends on where they lie on the host; targets are found in
 * the new tree alone.
 */
#pragma once
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "walls/wall.h"

#define TREE_RO    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define TREE_RW    (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define TREE_TMPFS (MS_NOSUID | MS_NODEV)

/* The masks that container engines agree on (OCI runtime defaults): what leaks host facts or takes commands.
 * NULL-terminated. */
extern const char *const tree_masked[], *const tree_read_only[];

/* Adds MOUNT_ATTR_* to a mount. `what` names it in errors. */
int tree_set_attr(int fd, uint64_t attr, bool recursive, const char *what, struct err *e);
/* A detached copy of what is mounted at dirfd/name (name "": of dirfd itself), with MOUNT_ATTR_* added. */
int tree_detach(int dirfd, const char *name, uint64_t attr, bool recursive, struct err *e);
/* Attaches a detached mount at root/target. */
int tree_attach(int fd, int root, const char *target, struct err *e);
int tree_make_file(int root, const char *path, struct err *e);
/* An existing directory is fine. */
int tree_make_dir(int root, const char *path, mode_t mode, struct err *e);
int tree_mount_tmpfs(const char *target, const char *options, unsigned long flags, struct err *e);

/* Every top-level entry of the image that is not the sandbox's own: links copied, files and directories bound
 * read-only. */
int tree_add_image(int image, int root, struct err *e);
/* Is this name in an image's root one that the sandbox provides itself (dev, proc, tmp, ...)? */
bool tree_is_own(const char *name);
/* Is this mount target a place that is the sandbox's own? */
bool tree_is_reserved(const char *target);
/* Attaches `fd` where m->target leads in the tree below `root`; its parents are made in our root, or must
 * exist in the image. */
int tree_add_mount(const struct sandbox_mount *m, int root, int fd, struct err *e);

/* A user namespace (descriptor) with these lines as its maps (user_namespaces(7)). The caller needs the right
 * to write them. */
int tree_user_namespace(const char *uid_map, const char *gid_map, struct err *e);
/* Id-maps a detached mount so that files of its owner belong to `uid` in it. `helper` is a uid that makes
 * files there which it gives to `uid` at once, or 0. */
int tree_map_owner(int fd, const char *what, uint32_t uid, uint32_t helper, struct err *e);
