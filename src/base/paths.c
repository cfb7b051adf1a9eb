#include "base/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

int paths_helper(const char *name, char *out, size_t cap, struct err *e)
{
    static const char *const places[] = {"/libexec/ironclaw/", "/../libexec/ironclaw/", "/"};
    char self[PATHS_MAX_LEN];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return err_sys(e, errno, "cannot find this program's own path (is /proc mounted?)");
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (io_format(out, cap, "%s%s%s", self, places[i], name) && access(out, X_OK) == 0)
            return 0;
    return err_set(e, ENOENT, "cannot find %s beside %s/ironclaw (is the installation complete?)", name,
                   self);
}

int paths_state_dir(char *out, size_t cap, struct err *e)
{
    const char *set = getenv("IRONCLAW_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool fits;

    if (set && *set)
        fits = io_format(out, cap, "%s", set);
    else if (geteuid() == 0)
        fits = io_format(out, cap, "/var/lib/ironclaw");
    else if (xdg && *xdg)
        fits = io_format(out, cap, "%s/ironclaw", xdg);
    else if (home && *home)
        fits = io_format(out, cap, "%s/.local/state/ironclaw", home);
    else
        return err_set(e, ENOENT, "no state directory: set IRONCLAW_STATE_DIR or HOME");
    return fits ? 0 : err_set(e, ENAMETOOLONG, "the state directory's path is too long");
}
