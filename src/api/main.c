/*
 * main.c - ironclaw-api: HTTP in front of the vault.
 *
 * It parses what strangers send and holds nothing worth stealing: no key, no file, no right to start
 * anything. It checks form (framing, size, rate, JSON) and forwards; tokens and scopes are the vault's
 * business. Sealed before the first byte of a client is read.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "api/server.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/daemon.h"
#include "proc/seal.h"

enum { PEM_MAX = 64 * 1024, UID_OFFSET = 2 };

static struct server server;

static void on_vault_up(void *ctx, struct link *l)
{
    struct server *s = ctx;

    s->vault = l;
}

static void on_vault_down(void *ctx)
{
    struct server *s = ctx;

    /* Outstanding calls were answered with ok == false already, see link.h. */
    s->vault = NULL;
}

static void on_stop(struct daemon *d)
{
    daemon_exit(d, 0);
}

/* Reads a PEM file from its descriptor and closes it: after sealing there is no way back to it. */
static char *read_pem(int fd, const char *what, struct err *e)
{
    char *text = NULL;

    if (io_read_fd(fd, what, PEM_MAX, &text, NULL, e) < 0)
        return NULL;
    (void)close(fd);
    return text;
}

static int listen_all(struct server *s, struct err *e)
{
    size_t n = json_array_size(json_object_get(s->daemon->config, "listen"));
    int fd = DAEMON_FD_EXTRA;

    if (server_listen(s, fd++, NULL, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++, fd += 3) {
        CLEANUP_FREE char *cert = read_pem(fd + 1, "the certificate of a listener", e);
        CLEANUP_FREE char *key = cert ? read_pem(fd + 2, "the private key of a listener", e) : NULL;
        int rc = key ? server_listen(s, fd, cert, key, e) : -1;
        if (key)
            explicit_bzero(key, strlen(key));
        if (rc < 0)
            return err_wrap(e, "listen[%zu]", i);
    }
    return 0;
}

static uint32_t setting(const json_t *config, const char *name, uint32_t fallback)
{
    json_int_t v = json_integer_value(json_object_get(json_object_get(config, "api"), name));

    return v > 0 && v <= UINT32_MAX ? (uint32_t)v : fallback;
}

int main(void)
{
    static struct daemon d;
    struct err e = ERR_INIT;
    struct seal_profile profile = {.groups = SEAL_BASE | SEAL_ACCEPT, .chroot_to = ""};
    int status;

    daemon_init(&d, PEER_API);
    d.on_stop = on_stop;
    server.daemon = &d;
    server.request_timeout_s = setting(d.config, "body_timeout_s", 10);
    server.max_connections = setting(d.config, "max_connections", 128);
    rate_init(&server.rate, setting(d.config, "rate_per_minute", 1200));
    if (listen_all(&server, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    daemon_expect(&d, PEER_VAULT, NULL, 0, &server, on_vault_up, on_vault_down);
    profile.uid = (uint32_t)json_integer_value(json_object_get(d.config, "uid_base")) + UID_OFFSET;
    if (seal_process(&profile, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    status = daemon_run(&d);
    server_stop(&server);
    return status;
}
