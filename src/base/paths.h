/*
 * paths.h - where the parts of IronClaw lie, found from the running binary so that a build tree works
 * uninstalled.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

enum { PATHS_MAX_LEN = 512 };

/*
 * Full path of a helper program ("ironclaw-init"): <dir of this binary>/libexec/ironclaw/NAME (build output),
 * <dir>/../libexec/ironclaw/NAME (installed), <dir>/NAME (called from inside libexec). Returns 0 or -1 with
 * e.
 */
int paths_helper(const char *name, char *out, size_t cap, struct err *e);

/*
 * The default state directory: $IRONCLAW_STATE_DIR, else /var/lib/ironclaw for root, else
 * $XDG_STATE_HOME/ironclaw or
 * ~/.local/state/ironclaw.
 */
int paths_state_dir(char *out, size_t cap, struct err *e);
