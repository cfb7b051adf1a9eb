/*
 * The attacks, family by family. The inside part of an attack is the function of the same id in attacks/; an
 * id that only one side knows is an error of that attack (the attacker answers "unknown").
 */
#include "base/cleanup.h"
#include "redteam/redteam.h"

const struct family families[] = {
    {1, "network", "Out through the network", network_attacks},
    {2, "engines", "Sockets through which a host is administered", engine_attacks},
    {3, "siblings", "The neighbour", sibling_attacks},
    {4, "hostfs", "The host's file system", hostfs_attacks},
    {5, "selfmod", "More rights without a human", selfmod_attacks},
    {6, "keys", "Keys and secrets", key_attacks},
    {7, "queues", "The session's queues", queue_attacks},
    {8, "privilege", "More privilege", privilege_attacks},
    {9, "kernel", "The kernel's surface", kernel_attacks},
    {10, "resources", "Everything the host has", resource_attacks},
    {11, "ports", "The ports themselves", port_attacks},
    {12, "supply", "A poisoned package", supply_attacks},
    {13, "cell", "The kernel inside a cell", cell_attacks},
};
const size_t nfamilies = ARRAY_LEN(families);
