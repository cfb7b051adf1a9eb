#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/io.h"
#include "standby/standby.h"

bool standby_key(const struct sandbox_spec *spec, struct standby_key *k)
{
    struct stat st;

    memset(k, 0, sizeof(*k));
    if (stat(spec->rootfs, &st) < 0 || !io_format(k->rootfs, sizeof(k->rootfs), "%s", spec->rootfs))
        return false;
    (void)io_format(k->version, sizeof(k->version), "%s", IRONCLAW_VERSION);
    k->memory_bytes = spec->limits.memory_bytes;
    k->image_device = st.st_dev;
    k->image_inode = st.st_ino;
    k->cpu_milli = spec->limits.cpu_milli;
    k->pids = spec->limits.pids;
    k->asked = (spec->limits.memory_asked ? 1U : 0U) | (spec->limits.cpu_asked ? 2U : 0U) |
               (spec->limits.pids_asked ? 4U : 0U);
    return true;
}

bool standby_address(const char *state, const struct standby_key *k, struct sockaddr_un *a)
{
    uint64_t hash = FNV_BASIS; /* only to tell names apart; what fits is decided by comparing keys */

    /* Not the image's inode: a server finds out by itself that an image was replaced. */
    hash = fnv1a(hash, k->rootfs, sizeof(k->rootfs));
    hash = fnv1a(hash, &k->memory_bytes, sizeof(k->memory_bytes));
    hash = fnv1a(hash, &k->cpu_milli, sizeof(k->cpu_milli));
    hash = fnv1a(hash, &k->pids, sizeof(k->pids));
    hash = fnv1a(hash, &k->asked, sizeof(k->asked));
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    return *state &&
           io_format(a->sun_path, sizeof(a->sun_path), "%s/standby-%016llx", state, (unsigned long long)hash);
}

bool standby_is_own_peer(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}
