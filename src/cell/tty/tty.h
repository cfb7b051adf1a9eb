/*
 * tty.h - terminals as the rest of the kernel sees them. Kernel lock held.
 */
#pragma once
#include "cell/proc/process.h"

/* Opens descriptors 0-2 of the calling process on the console: a terminal, or the host's three streams. */
int tty_open_console(bool terminal);
/* Process group in front of the console's terminal; 0: none. */
int tty_foreground(void);
/* Pid 1: input and window size of the console's terminal. */
void tty_service(void);
/* A session leader ended. */
void tty_session_ends(struct process *p);
