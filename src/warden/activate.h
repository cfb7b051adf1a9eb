/*
 * activate.h - the host's one message to a warden: what its cell is to run, and with which standard streams.
 */
#pragma once
#include "base/err.h"
#include "warden/relay.h"

/*
 * Takes the message that waits on the control socket: strings go to the memory file, the console's
 * descriptors to the relay, and the cell is told to go on. Returns 1 when that is done, 0 when there is no
 * message yet (or the host is gone: poll(2) says so), -1 with e for one that cannot be.
 */
int warden_activate(struct relay *r, struct err *e);
