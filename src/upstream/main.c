/*
 * main.c - the upstream process: the only one with provider keys in use and the only one with the network.
 * What it sends was parsed by the model proxy, what it answers was redacted here; it parses nothing of a
 * sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/seal.h"
#include "upstream/upstream.h"

enum { CA_FILE_MAX = 4 << 20, UID_OFFSET = 4 };

static const struct link_rule proxy_rules[] = {
    {UP_REQUEST, "request", 24, 8192, 1, transfer_request},
    {UP_CANCEL, "cancel", 8, 8, 0, transfer_cancel},
    {UP_PAUSE, "pause", 9, 9, 0, transfer_pause},
};

static bool on_forget(void *ctx, const struct link_req *req, struct wire_in *in)
{
    char provider[PROVIDER_NAME_MAX + 1];

    (void)req;
    wire_get_str(in, provider, sizeof(provider));
    if (!wire_in_done(in))
        return false;
    key_drop(ctx, provider);
    return true;
}

static const struct link_rule vault_rules[] = {
    {UP_FORGET, "forget", 4, 4 + PROVIDER_NAME_MAX, 0, on_forget},
};

static void on_proxy_down(void *ctx)
{
    transfers_drop(ctx);
}

/* What the resolver and the TLS library read. A path that does not exist on this host is skipped. */
static int seal(struct upstream *u, struct err *e)
{
    static const char *const wanted[] = {"/etc/resolv.conf",
                                         "/etc/hosts",
                                         "/etc/nsswitch.conf",
                                         "/etc/host.conf",
                                         "/etc/gai.conf",
                                         "/etc/services",
                                         "/etc/ssl",
                                         "/etc/pki",
                                         "/etc/ca-certificates",
                                         "/usr/share/ca-certificates",
                                         "/usr/lib/ssl",
                                         "/usr/local/share/ca-certificates",
                                         "/run/systemd/resolve",
                                         "/run/resolvconf",
                                         "/lib",
                                         "/usr/lib"};
    struct seal_path paths[ARRAY_LEN(wanted)];
    struct seal_profile profile = {.groups = SEAL_BASE | SEAL_FILES | SEAL_CONNECT | SEAL_THREADS,
                                   .paths = paths};

    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (access(wanted[i], R_OK) == 0)
            paths[profile.npaths++] = (struct seal_path){wanted[i], LANDLOCK_READ};
    profile.uid = (uint32_t)json_integer_value(json_object_get(u->d.config, "uid_base")) + UID_OFFSET;
    return seal_process(&profile, e);
}

/* libcurl and its TLS library are the largest part of the control plane: they stay only while they are used.
 */
static void on_idle(evutil_socket_t fd, short what, void *arg)
{
    struct upstream *u = arg;

    (void)fd;
    (void)what;
    if (!u->busy && u->ntransfers == 0)
        daemon_exit(&u->d, 0);
    u->busy = false;
}

static int watch_idle(struct upstream *u, struct err *e)
{
    struct timeval period = {IDLE_EXIT_S, 0};

    u->busy = true;
    u->idle = event_new(u->d.base, -1, EV_PERSIST, on_idle, u);
    return u->idle && event_add(u->idle, &period) == 0 ? 0 : err_set(e, ENOMEM, "cannot watch for idleness");
}

int main(void)
{
    static struct upstream u;
    struct err e = ERR_INIT;
    const char *ca;
    int status;

    daemon_init(&u.d, PEER_UPSTREAM);
    daemon_expect(&u.d, PEER_VAULT, vault_rules, ARRAY_LEN(vault_rules), &u, NULL, NULL);
    daemon_expect(&u.d, PEER_MODELPROXY, proxy_rules, ARRAY_LEN(proxy_rules), &u, NULL, on_proxy_down);
    if (sodium_init() < 0)
        (void)err_set(&e, EIO, "libsodium does not start");
    ca = json_string_value(json_object_get(u.d.config, "provider_ca_file"));
    if (e.code != 0 || (ca && *ca && io_read_file(AT_FDCWD, ca, CA_FILE_MAX, &u.ca, &u.ca_len, &e) < 0) ||
        transfers_init(&u, &e) < 0 || watch_idle(&u, &e) < 0 || seal(&u, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    status = daemon_run(&u.d);
    transfers_drop(&u);
    keys_wipe(&u);
    (void)curl_multi_cleanup(u.multi);
    event_free(u.timer);
    event_free(u.idle);
    event_free(u.drained);
    free(u.ca);
    return status;
}
