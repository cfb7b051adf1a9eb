/*
 * keys.c - provider keys. The vault has them; this process asks for one when a request needs it, keeps it in
 * locked memory for KEY_KEPT_S, so that a busy agent does not cost the vault a question per call, and
 * wipes it. The vault says when a key was replaced or removed.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "upstream/upstream.h"

struct asker {
    struct asker *next;
    key_cb cb;
    void *arg;
};

struct key {
    struct key *next;
    struct upstream *u;
    char provider[PROVIDER_NAME_MAX + 1];
    struct secret *secret; /* NULL while the vault is asked */
    struct asker *askers;
    struct event *expiry;
};

static void key_free(struct key *k)
{
    for (struct key **at = &k->u->keys; *at; at = &(*at)->next) {
        if (*at == k) {
            *at = k->next;
            break;
        }
    }
    secret_unref(k->secret);
    event_free(k->expiry);
    free(k);
}

static void on_expiry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    key_free(arg);
}

/* Tells everyone who waits. The list is taken first: a callback may ask again. */
static void tell(struct key *k, struct secret *s, const struct err *e)
{
    struct asker *a;

    while ((a = k->askers)) {
        k->askers = a->next;
        a->cb(a->arg, s, e);
        free(a);
    }
}

static void on_key(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct key *k = arg;
    struct timeval kept = {KEY_KEPT_S, 0};
    struct err e = ERR_INIT;
    char text[ERR_TEXT_MAX];
    const uint8_t *bytes;
    uint32_t code;
    size_t len;

    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    code = wire_get_u32(in);
    wire_get_str(in, text, sizeof(text));
    bytes = wire_get_bytes(in, PROVIDER_KEY_MAX, &len);
    if (!ok || !wire_in_done(in)) {
        (void)err_set(&e, EPIPE, "the vault was interrupted: try again");
    } else if (code != 0) {
        (void)err_set(&e, (int)code, "%s", text);
    } else {
        while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r' || bytes[len - 1] == ' '))
            len--; /* a key file often ends with a newline */
        for (size_t i = 0; i < len; i++)
            if (bytes[i] <= 0x20 || bytes[i] > 0x7e)
                code = EINVAL;
        if (len == 0 || code != 0)
            (void)err_set(&e, EINVAL, "the key of provider %s holds characters that no key has: set it again",
                          k->provider);
        else if (!(k->secret = secret_new(bytes, len)))
            (void)err_set(&e, ENOMEM, "there is no memory for the key of provider %s", k->provider);
    }
    if (k->secret)
        (void)event_add(k->expiry, &kept);
    tell(k, k->secret, &e);
    if (!k->secret)
        key_free(k);
}

void key_get(struct upstream *u, const char *provider, key_cb cb, void *arg)
{
    struct link *vault = u->d.links[PEER_VAULT];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct asker *a;
    struct key *k;

    for (k = u->keys; k; k = k->next)
        if (!strcmp(k->provider, provider))
            break;
    if (k && k->secret) {
        cb(arg, k->secret, NULL);
        return;
    }
    if (!k) {
        struct err e = ERR_INIT;
        k = x_calloc(1, sizeof(*k));
        k->u = u;
        k->expiry = event_new(u->d.base, -1, 0, on_expiry, k);
        if (!k->expiry)
            abort();
        (void)io_format(k->provider, sizeof(k->provider), "%s", provider);
        k->next = u->keys;
        u->keys = k;
        wire_put_str(&o, provider);
        if (!vault || link_call(vault, UP_KEY, &o, NULL, 0, on_key, k) == 0) {
            key_free(k);
            (void)err_set(&e, EPIPE, "the vault is not available: try again in a few seconds");
            cb(arg, NULL, &e);
            return;
        }
    }
    a = x_calloc(1, sizeof(*a));
    *a = (struct asker){.next = k->askers, .cb = cb, .arg = arg};
    k->askers = a;
}

/* One that was just asked for stays: the vault answers that with what it has by then. */
void key_drop(struct upstream *u, const char *provider)
{
    struct key *k, *next;

    for (k = u->keys; k; k = next) {
        next = k->next;
        if (k->secret && !strcmp(k->provider, provider))
            key_free(k);
    }
}

void key_forget(struct upstream *u, void *arg)
{
    for (struct key *k = u->keys; k; k = k->next) {
        for (struct asker **at = &k->askers; *at; at = &(*at)->next) {
            struct asker *a = *at;
            if (a->arg != arg)
                continue;
            *at = a->next;
            free(a);
            return;
        }
    }
}

void keys_each(struct upstream *u, void (*fn)(void *arg, struct secret *s), void *arg)
{
    for (struct key *k = u->keys; k; k = k->next)
        if (k->secret)
            fn(arg, k->secret);
}

void keys_wipe(struct upstream *u)
{
    struct key *k, *next;

    for (k = u->keys; k; k = next) {
        struct asker *a, *after;
        next = k->next;
        for (a = k->askers; a; a = after) {
            after = a->next;
            free(a);
        }
        secret_unref(k->secret);
        event_free(k->expiry);
        free(k);
    }
    u->keys = NULL;
}
