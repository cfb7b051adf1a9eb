/*
 * Family 2, host side: a socket of the host that everybody may connect to stands for an engine's, since hosts
 * differ in which engines they run; the API's own socket is the other target.
 */
#include "redteam/redteam.h"

static int arm_sockets(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "unix", "%s", a->unix_path);
    trial_param(t, "api", "%s", a->plane->socket);
    return 0;
}

const struct attack engine_attacks[] = {
    {.id = "engine.sockets",
     .boundary = B1_WALL,
     .title = "reach the sockets of container engines",
     .steps = {"engine-0", "engine-4", "engine-12"}},
    {.id = "engine.system-buses",
     .boundary = B1_WALL,
     .title = "reach D-Bus, systemd, udev, the journal",
     .steps = {"bus-0", "bus-3", "bus-12"}},
    {.id = "engine.any-socket",
     .boundary = B1_WALL,
     .title = "find any socket that is no port",
     .steps = {"search", "host-socket", "api-socket"},
     .arm = arm_sockets},
    {.id = NULL},
};
