/*
 * Family 1, host side. The listeners of the arena are the witnesses: the standing check "no-visit" fails as
 * soon as anything arrives at one of them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

static int arm_ports(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "tcp", "%d", a->tcp_port);
    trial_param(t, "udp", "%d", a->udp_port);
    trial_param(t, "vsock", "%d", a->vsock_port);
    trial_param(t, "abstract", "%s", a->abstract);
    if (a->host_address[0])
        trial_param(t, "host_address", "%s", a->host_address);
    return 0;
}

/* No process of the sandbox is in the host's network, and the one it is in has nothing but loopback. */
static void judge_namespace(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), looked = 0, other = 0;
    bool own = n > 0;

    for (size_t i = 0; i < n; i++) {
        CLEANUP_FREE char *dev = host_proc_text(pids[i], "net/dev");
        char *save = NULL, *line = dev ? strtok_r(dev, "\n", &save) : NULL;
        int same = host_same_namespace(pids[i], "net");
        if (same >= 0)
            looked++;
        own = own && same != 1;
        for (unsigned k = 0; line; line = strtok_r(NULL, "\n", &save), k++)
            if (same == 0 && k >= 2 && strncmp(line + strspn(line, " "), "lo:", 3) != 0)
                other++;
    }
    trial_check(t, own && looked > 0, "own-network", "%zu processes, %zu looked at: %s in the host's network",
                n, looked, own ? "none" : "some");
    trial_check(t, other == 0, "only-loopback", "%zu interfaces besides loopback, seen from the host", other);
}

const struct attack network_attacks[] = {
    {.id = "net.interfaces",
     .boundary = B4_EGRESS,
     .title = "find and change network interfaces",
     .steps = {"list", "proc-net-dev", "lo-down", "lo-mtu"},
     .judge = judge_namespace},
    {.id = "net.host-loopback",
     .boundary = B1_WALL,
     .title = "reach services on the host's loopback",
     .steps = {"tcp-0", "tcp-3", "tcp6", "tcp6-mapped", "udp"},
     .arm = arm_ports},
    {.id = "net.outside",
     .boundary = B4_EGRESS,
     .title = "reach the internet, a metadata service, the host's address",
     .steps = {"internet", "resolver", "metadata"},
     .arm = arm_ports},
    {.id = "net.dns",
     .boundary = B4_EGRESS,
     .title = "ask name servers",
     .steps = {"query-0", "query-1", "query-2", "query-3"}},
    {.id = "net.raw-sockets",
     .boundary = B4_EGRESS,
     .title = "raw, packet and exotic sockets",
     .steps = {"packet-raw", "ip-raw", "ip6-raw", "xdp", "alg", "ax25"}},
    {.id = "net.netlink",
     .boundary = B1_WALL,
     .title = "configure the kernel through netlink",
     .steps = {"netfilter", "audit", "sock-diag", "iscsi", "route-change"}},
    {.id = "net.abstract-unix",
     .boundary = B1_WALL,
     .title = "reach abstract unix sockets of the host and of a sibling",
     .steps = {"proc-net-unix", "stream", "dgram", "victim"},
     .arm = arm_ports},
    {.id = "net.vsock",
     .boundary = B1_WALL,
     .title = "reach the host or hypervisor through vsock",
     .steps = {"device", "local", "host", "hypervisor", "any"},
     .arm = arm_ports},
    {.id = NULL},
};
