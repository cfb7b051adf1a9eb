/*
 * warden.h - ironclaw-warden, pid 1 of a cell's pid namespace: what it is given.
 *
 *     ironclaw-warden LETTERS PIDS CPUS MEMORY N (r|w)TARGET*N COMMAND [ARGUMENT]...
 *
 * LETTERS: 't' descriptor 0 is the slave of the sandbox's terminal, 'p' there are ports. PIDS, MEMORY:
 * limits, 0: none. Its environment is the workload's.
 */
#pragma once

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
};

/* Listening sockets in the warden's otherwise empty root. */
#define WARDEN_QUEUE "/queue"
#define WARDEN_MODEL "/model"
