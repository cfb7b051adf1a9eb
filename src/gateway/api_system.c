/*
 * api_system.c - operations on the system itself: readiness, metrics, audit, keys, providers, images.
 *
 * provider: {"name","kind","url","has_key"}. Audit records are the lines of audit.log as they stand.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "gateway/api.h"
#include "gateway/metrics.h"
#include "gateway/providers.h"
#include "vault/report_format.h"

static unsigned ready(struct api_call *c, json_t **reply, struct problem *p)
{
    const struct daemon *d = c->h->d;

    (void)p;
    *reply = json_pack("{s:b,s:b}", "ready", d->links[PEER_LAUNCHER] && d->links[PEER_MODELPROXY],
                       "bootstrapped", (int)c->h->tokens.bootstrapped);
    return 200;
}

static unsigned metrics(struct api_call *c, json_t **reply, struct problem *p)
{
    char *text = metrics_text(c->h, p);

    *reply = text ? json_pack("{s:s}", "text", text) : NULL;
    free(text);
    return 200;
}

static unsigned audit(struct api_call *c, json_t **reply, struct problem *p)
{
    struct err e = ERR_INIT;
    json_t *records = audit_list(c->h->audit, c->after, c->limit, &e);

    if (!records)
        (void)problem_from_err(p, &e);
    *reply = records ? json_pack("{s:o}", "records", records) : NULL;
    return 200;
}

static unsigned audit_key(struct api_call *c, json_t **reply, struct problem *p)
{
    char hex[65];

    (void)p;
    io_hex(hex, keys_audit_public(c->h->keys), 32);
    *reply = json_pack("{s:s}", "public_key", hex);
    return 200;
}

/* The audit record comes first: a signature that nobody can account for would be worth nothing. */
static unsigned report_sign(struct api_call *c, json_t **reply, struct problem *p)
{
    const char *digest = api_text(c, "digest", NULL, p);
    char text[REPORT_SIGNED_MAX], hex[2 * 64 + 1], key[65];
    unsigned char signature[64];
    struct err e = ERR_INIT;

    if (!digest)
        return 0;
    if (strlen(digest) != REPORT_DIGEST_HEX || strspn(digest, "0123456789abcdef") != REPORT_DIGEST_HEX) {
        (void)problem_set(p, 400, "invalid", "\"digest\" must be 64 lower-case hexadecimal digits");
        return 0;
    }
    if (audit_append(c->h->audit, AUDIT_DURABLE, "report.signed",
                     json_pack("{s:s,s:s}", "digest", digest, "by", c->who.id), &e) < 0) {
        (void)problem_from_err(p, &e);
        return 0;
    }
    keys_sign(c->h->keys, text, report_signed_text(digest, text), signature);
    io_hex(hex, signature, sizeof(signature));
    io_hex(key, keys_audit_public(c->h->keys), 32);
    *reply = json_pack("{s:s,s:s}", "public_key", key, "signature", hex);
    return 200;
}

static unsigned sealing_key(struct api_call *c, json_t **reply, struct problem *p)
{
    char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];

    (void)p;
    (void)sodium_bin2base64(text, sizeof(text), keys_sealing_public(c->h->keys), 32,
                            sodium_base64_VARIANT_ORIGINAL);
    *reply = json_pack("{s:s}", "public_key", text);
    return 200;
}

static unsigned provider_list(struct api_call *c, json_t **reply, struct problem *p)
{
    json_t *list = providers_list(c->h, p);

    *reply = list ? json_pack("{s:o}", "providers", list) : NULL;
    return 200;
}

static unsigned provider_set(struct api_call *c, json_t **reply, struct problem *p)
{
    const char *sealed = api_text(c, "sealed_key", NULL, p);

    (void)reply;
    return sealed && providers_set(c->h, c->who.id, c->subject, sealed, p) == 0 ? 204 : 0;
}

static unsigned provider_remove(struct api_call *c, json_t **reply, struct problem *p)
{
    (void)reply;
    return providers_remove(c->h, c->who.id, c->subject, p) == 0 ? 204 : 0;
}

/* ---- asked of the launcher ---- */

struct asked {
    struct hub *h;
    struct api_ref ref;
};

static void on_images(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct asked *a = arg;
    struct problem p = {0};
    json_t *images = NULL;
    size_t len = 0;
    const uint8_t *text;

    (void)more;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    text = wire_get_bytes(in, WIRE_MAX, &len);
    if (ok && text)
        images = json_loadb((const char *)text, len, 0, NULL);
    if (json_is_array(images)) {
        api_answer(a->h, a->ref, 200, json_pack("{s:O}", "images", images));
    } else {
        (void)problem_set(&p, 503, "launcher_unavailable", "the launcher is restarting; try again");
        api_answer(a->h, a->ref, p.status, problem_json(&p));
    }
    json_decref(images);
    free(a);
}

static unsigned images(struct api_call *c, json_t **reply, struct problem *p)
{
    struct link *launcher = c->h->d->links[PEER_LAUNCHER];
    struct asked *a = x_malloc(sizeof(*a));

    (void)reply;
    *a = (struct asked){c->h, c->ref};
    if (!launcher || link_call(launcher, LAUNCH_IMAGES, NULL, NULL, 0, on_images, a) == 0) {
        free(a);
        (void)problem_set(p, 503, "launcher_unavailable", "the launcher is restarting; try again");
    }
    return 0;
}

const struct api_operation api_system_operations[] = {
    {API_READY, "ready", SCOPE_NONE, ready},
    {API_METRICS, "metrics", SCOPE_READ, metrics},
    {API_AUDIT_LIST, "audit list", SCOPE_READ, audit},
    {API_AUDIT_KEY, "audit key", SCOPE_READ, audit_key},
    {API_REPORT_SIGN, "report sign", SCOPE_ADMIN, report_sign},
    {API_SEALING_KEY, "sealing key", SCOPE_READ, sealing_key},
    {API_PROVIDER_LIST, "provider list", SCOPE_READ, provider_list},
    {API_PROVIDER_SET, "provider set", SCOPE_ADMIN, provider_set},
    {API_PROVIDER_REMOVE, "provider remove", SCOPE_ADMIN, provider_remove},
    {API_IMAGE_LIST, "image list", SCOPE_READ, images},
    {0, NULL, SCOPE_NONE, NULL},
};
