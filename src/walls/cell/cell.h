/*
 * cell.h - the cell wall (docs/cell.md): a kernel in userspace behind a narrow system call filter.
 *
 *   start.c   (host)    image, cgroup, clone3 into new namespaces
 *   activate.c (host)   what a standing cell is to run
 *   setup.c   (child)   the envelope around an empty root; the three descriptors; executes the warden
 *   warden/   (pid 1)   seals itself, starts the cell, carries its streams
 *   cell/     (beside)  the kernel; nothing on the host side trusts it
 */
#pragma once
#include "walls/wall.h"
#include "warden/warden.h"

extern const struct wall_ops cell_wall;

enum { CELL_BINARIES = 3 };

/*
 * Builds a cell that stands and waits: `spec` without argv, envp and stdio. As wall_ops.start otherwise; what
 * it is to run is given by cell_activate().
 */
int cell_prepare(const struct sandbox_spec *spec, struct sandbox *s, struct err *e);

/* What a standing cell is told once: to run the argv, with the envp and, without a terminal, the stdio of a
 * specification. */
struct cell_command {
    struct warden_activation message;
    int fds[WARDEN_ACTIVATION_FDS], nfds;
    int strings, null; /* opened for it */
};
/* Returns 0, or -1 with e and nothing to close. stdio is borrowed until cell_command_close(). */
int cell_command_open(struct cell_command *c, const struct sandbox_spec *spec, struct err *e);
void cell_command_close(struct cell_command *c);
/* Tells it. `control`: of the cell. Returns 0, or -1 with e. */
int cell_activate(int control, const struct cell_command *c, struct err *e);

/* Runs in the cloned child, never returns: on failure the sentence goes to `control` and the child exits 125.
 * `image`: the EROFS file. `binaries`: warden, kernel and
 * file server, open for execution; the last is -1 if the host shows no directory. */
void cell_child(const struct sandbox_spec *spec, const struct cgroup *cgroup, int control, int image,
                const int binaries[CELL_BINARIES], bool rootless) __attribute__((noreturn));

/*
 * The EROFS image of a root file system, opened read-only, or -1. For <state>/images/NAME/rootfs (struct
 * wall_config.state_dir) it is made once and kept beside it, as image.erofs; for any other directory it is
 * made anew, without a name.
 */
int cell_image_open(const char *rootfs, struct err *e);
/* The program that makes images, or NULL with the package to install. */
const char *cell_image_maker(struct err *e);
