/*
 * seal.h - what the warden gives up before it looks at anything that a cell wrote.
 */
#pragma once
#include "base/err.h"

/* Landlock without a rule (no file, no signal and no abstract socket beyond), and the system calls of a relay
 * only; any other kills the process. 0 or -1 with e. */
int warden_seal(struct err *e);
