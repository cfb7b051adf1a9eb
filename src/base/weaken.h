/*
 * weaken.h - negative controls: switching one protection off, to see whether the red team notices.
 *
 * Only a build with -Dweakened=true has these switches (./run weakened); in every other build weakened() is
 * the constant false, and neither the names of the switches nor the code behind them is left in a binary
 * (tests/e2e/test_redteam.py looks). IRONCLAW_WEAKEN in the environment of the control plane names the
 * protections to leave out, with commas.
 */
#pragma once
#include <stdbool.h>

#ifdef IRONCLAW_WEAKENED
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static inline bool weakened(const char *protection)
{
    const char *list = getenv("IRONCLAW_WEAKEN");
    size_t len = strlen(protection);

    for (; list && *list; list += strcspn(list, ","), list += *list == ',')
        if (strcspn(list, ",") == len && !strncmp(list, protection, len))
            return true;
    return false;
}

/* The environment of the sandbox's init, which has switches of its own: the given one and IRONCLAW_WEAKEN. */
static inline char *const *weaken_environment(char *const *envp)
{
    static char *out[512], line[512];
    const char *list = getenv("IRONCLAW_WEAKEN");
    size_t n = 0;

    while (n < 510 && envp[n]) {
        out[n] = envp[n];
        n++;
    }
    if (list && strlen(list) < sizeof(line) - 17) {
        memcpy(line, "IRONCLAW_WEAKEN=", 16);
        memcpy(line + 16, list, strlen(list) + 1);
        out[n++] = line;
    }
    out[n] = NULL;
    return out;
}
#else
#define weakened(protection)     false
#define weaken_environment(envp) (envp)
#endif
