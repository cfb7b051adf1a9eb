#include "gateway/providers.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/io.h"
#include "gateway/owed.h"
#include "gateway/registry.h"
#include "vault/hub.h"
#include "vault/sql.h"

enum { BOX_MAX = PROVIDER_KEY_MAX + crypto_box_SEALBYTES };

static void purpose_of(const char *name, char out[128])
{
    (void)io_format(out, 128, "provider-key:%s", name);
}

static int has_key(struct hub *h, const char *name, int64_t *found, struct problem *p)
{
    struct err e = ERR_INIT;

    if (sql_int(h->registry, &e, 0, found, "SELECT count(*) FROM providers WHERE name = ?", "s", name) < 0)
        return problem_from_err(p, &e);
    return 0;
}

static int check_name(struct hub *h, const char *name, struct problem *p)
{
    if (!json_object_get(json_object_get(h->config, "providers"), name))
        return problem_set(p, 404, "not_found", "provider \"%s\" is not in the configuration", name);
    return 0;
}

json_t *providers_list(struct hub *h, struct problem *p)
{
    json_t *list = json_array(), *entry;
    json_t *configured = json_object_get(h->config, "providers");
    const char *name;
    int64_t found = 0;

    if (!json_object_get(configured, "mock"))
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:s,s:b}", "name", "mock", "kind", "mock", "url", "", "has_key", 0));
    json_object_foreach(configured, name, entry)
    {
        const char *kind = json_string_value(json_object_get(entry, "kind"));
        const char *url = json_string_value(json_object_get(entry, "url"));
        if (has_key(h, name, &found, p) < 0) {
            json_decref(list);
            return NULL;
        }
        (void)json_array_append_new(list,
                                    json_pack("{s:s,s:s,s:s,s:b}", "name", name, "kind", kind ? kind : name,
                                              "url", url ? url : "", "has_key", (int)(found > 0)));
    }
    return list;
}

/* Header values end at a line break: a key with one could smuggle a header. */
static bool key_is_sane(const unsigned char *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (key[i] < 0x21 || key[i] > 0x7e)
            return false;
    return len > 0;
}

/* A process that keeps the old key asks for the new one instead. */
static void forget(const struct hub *h, const char *name)
{
    struct link *upstream = h->d->links[PEER_UPSTREAM];
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (!upstream)
        return;
    wire_put_str(&o, name);
    (void)link_notify(upstream, UP_FORGET, &o, NULL, 0);
}

int providers_set(struct hub *h, const char *by, const char *name, const char *sealed_base64,
                  struct problem *p)
{
    unsigned char box[BOX_MAX], key[PROVIDER_KEY_MAX], stored[PROVIDER_KEY_MAX + SEAL_OVERHEAD];
    char purpose[128];
    struct err e = ERR_INIT;
    size_t len = 0, key_len;
    bool sane;
    int rc;

    if (check_name(h, name, p) < 0)
        return -1;
    if (sodium_base642bin(box, sizeof(box), sealed_base64, strlen(sealed_base64), "\n", &len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) < 0 ||
        len < crypto_box_SEALBYTES || keys_open_box(h->keys, box, len, key) < 0)
        return problem_set(p, 400, "not_sealed",
                           "\"sealed_key\" must be base64 of the key sealed with this vault's sealing key");
    key_len = len - crypto_box_SEALBYTES;
    sane = key_is_sane(key, key_len);
    purpose_of(name, purpose);
    keys_seal(h->keys, purpose, key, key_len, stored);
    sodium_memzero(key, sizeof(key));
    if (!sane)
        return problem_set(p, 400, "invalid",
                           "a provider key must be printable ASCII without spaces and line breaks");
    if (registry_begin(h->registry, &e) < 0)
        return problem_from_err(p, &e);
    rc = sql_run(h->registry, &e,
                 "INSERT INTO providers VALUES(?, ?, ?) ON CONFLICT(name) DO UPDATE SET sealed = "
                 "excluded.sealed, updated = "
                 "excluded.updated",
                 "sbi", name, (const void *)stored, key_len + SEAL_OVERHEAD, (int64_t)io_wall_ms()) < 0
             ? -1
             : 0;
    if (rc == 0)
        rc = owed_put(h, "provider.key_set", json_pack("{s:s,s:s}", "provider", name, "by", by), &e);
    if (registry_end(h->registry, rc, &e) < 0)
        return problem_from_err(p, &e);
    owed_retry(h);
    forget(h, name);
    return 0;
}

int providers_remove(struct hub *h, const char *by, const char *name, struct problem *p)
{
    struct err e = ERR_INIT;
    int n, rc;

    if (registry_begin(h->registry, &e) < 0)
        return problem_from_err(p, &e);
    n = sql_run(h->registry, &e, "DELETE FROM providers WHERE name = ?", "s", name);
    rc = n < 0 ? -1 : 0;
    if (n > 0)
        rc = owed_put(h, "provider.key_removed", json_pack("{s:s,s:s}", "provider", name, "by", by), &e);
    if (registry_end(h->registry, rc, &e) < 0)
        return problem_from_err(p, &e);
    if (n == 0)
        return problem_set(p, 404, "not_found", "no key is stored for provider \"%s\"", name);
    owed_retry(h);
    forget(h, name);
    return 0;
}

int providers_key(struct hub *h, const char *name, unsigned char *out, size_t *len, struct err *e)
{
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, e, "SELECT sealed FROM providers WHERE name = ?", "s", name);
    char purpose[128];
    int rc = st ? sql_step(st, e) : -1;
    size_t n;

    if (rc < 0)
        return -1;
    if (rc == 0)
        return err_set(e, ENOENT,
                       "no key is stored for provider \"%s\"; run 'ironclaw provider set %s --key-file F'",
                       name, name);
    n = (size_t)sqlite3_column_bytes(st, 0);
    purpose_of(name, purpose);
    if (n < SEAL_OVERHEAD || n > PROVIDER_KEY_MAX + SEAL_OVERHEAD ||
        keys_unseal(h->keys, purpose, sqlite3_column_blob(st, 0), n, out) < 0)
        return err_set(e, EBADMSG,
                       "the stored key of provider \"%s\" does not open (wrong-key or altered); set it again",
                       name);
    *len = n - SEAL_OVERHEAD;
    return 0;
}
