/*
 * poll.h - waiting for several files.
 */
#pragma once
#include "cell/base/types.h"

struct file;

/* Waits until f is ready for one of `events` (POLLIN ...), or for an error. 0, -ETIMEDOUT, -ERESTARTSYS. For
 * calls that block on a file from outside of it. */
int poll_wait_file(struct file *f, unsigned events, u64 deadline);
