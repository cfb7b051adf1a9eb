/*
 * warden.h - ironclaw-warden, pid 1 of a cell's pid namespace: what it is given.
 *
 *     "ironclaw-warden: ID" LETTERS PIDS CPUS MEMORY N (r|w)TARGET*N
 *
 * ID: the sandbox's, for people and the red team. LETTERS: 't' descriptor 0 is the slave of the sandbox's
 * terminal, 'p' there are ports. PIDS, MEMORY: limits, 0: none. What the cell is to run comes later, as one
 * message on the control socket: until then the cell stands and waits.
 */
#pragma once
#include <stdint.h>

/* With descriptors: a file of argc + envc strings, each ended by 0, `length` bytes in all; then standard
 * input, output and error, unless the sandbox has a terminal of its own. */
struct warden_activation {
    uint32_t kind; /* CONTROL_ACTIVATE */
    uint32_t argc, envc, length;
};

enum {
    WARDEN_FD_CONTROL = 3, /* to the host: walls/handover.h */
    WARDEN_FD_IMAGE = 4,
    WARDEN_FD_MEMORY = 5,
    WARDEN_FD_DOORBELL = 6,
    WARDEN_FD_KERNEL = 7, /* ironclaw-cell */
    WARDEN_FD_SELF = 8,   /* while it is executed */
    WARDEN_FD_FILES = 9,  /* ironclaw-files, if there are directories of the host */
    WARDEN_DESCRIPTORS = 10,
    WARDEN_FIRST_ROOT = 10, /* where ironclaw-files expects them too: files/files.h */
    WARDEN_FIXED_WORDS = 6, /* of the command line */
    WARDEN_ACTIVATION_FDS = 4,
};

/* Listening sockets in the warden's otherwise empty root. */
#define WARDEN_QUEUE "/queue"
#define WARDEN_MODEL "/model"
