/*
 * provider.c - model providers. A key is sealed to the vault's public key before it leaves this process, so
 * neither the api process nor a TLS terminator ever sees it; only the vault can open it.
 */
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"
#include "ipc/messages.h"

static const struct column columns[] = {{"NAME", "name", COLUMN_TEXT},
                                        {"KIND", "kind", COLUMN_TEXT},
                                        {"URL", "url", COLUMN_TEXT},
                                        {"KEY", "has_key", COLUMN_TEXT}};

/* Reads the key without its final newline. Returns a buffer to wipe, or NULL after saying what is wrong. */
static char *read_key(const char *path, size_t *len)
{
    struct err e = ERR_INIT;
    char *key = NULL;
    int rc = strcmp(path, "-") ? io_read_file(AT_FDCWD, path, PROVIDER_KEY_MAX, &key, len, &e)
                               : io_read_fd(STDIN_FILENO, "stdin", PROVIDER_KEY_MAX, &key, len, &e);

    if (rc < 0) {
        (void)cli_fail(CLI_FAILED, "%s", e.text);
        return NULL;
    }
    while (*len > 0 && (key[*len - 1] == '\n' || key[*len - 1] == '\r' || key[*len - 1] == ' '))
        (*len)--;
    for (size_t i = 0; i < *len; i++) {
        if ((unsigned char)key[i] > 0x20 && (unsigned char)key[i] < 0x7f)
            continue;
        *len = 0;
        break;
    }
    if (*len > 0)
        return key;
    free(key);
    (void)cli_fail(CLI_FAILED, "%s does not hold a key: one line of printable characters", path);
    return NULL;
}

/* Returns {"sealed_key": base64}, or NULL after saying what is wrong. */
static json_t *seal(const char *key, size_t len, const json_t *reply)
{
    const char *text = json_string_value(json_object_get(reply, "public_key"));
    unsigned char public_key[crypto_box_PUBLICKEYBYTES], box[PROVIDER_KEY_MAX + crypto_box_SEALBYTES];
    char encoded[sodium_base64_ENCODED_LEN(PROVIDER_KEY_MAX + crypto_box_SEALBYTES,
                                           sodium_base64_VARIANT_ORIGINAL)];
    size_t got = 0;

    if (sodium_init() < 0 || !text ||
        sodium_base642bin(public_key, sizeof(public_key), text, strlen(text), NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got != sizeof(public_key) || crypto_box_seal(box, (const unsigned char *)key, len, public_key) != 0) {
        (void)cli_fail(CLI_FAILED,
                       "the control plane's sealing key is not an X25519 key, so nothing was sent");
        return NULL;
    }
    (void)sodium_bin2base64(encoded, sizeof(encoded), box, len + crypto_box_SEALBYTES,
                            sodium_base64_VARIANT_ORIGINAL);
    return json_pack("{s:s}", "sealed_key", encoded);
}

int provider_set(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/providers/%s", a->pos[0]);
    json_t *reply = NULL, *body = NULL;
    char *key;
    size_t len = 0;
    int rc = cli_check_name("a provider", a->pos[0]);

    if (rc)
        return rc;
    if (!args_has(a, "key-file"))
        return cli_fail(CLI_USAGE, "say where the key is: --key-file FILE, or - for stdin (never on the "
                                   "command line, where others can read it)");
    c = client_open(a, &rc);
    if (!c)
        return rc;
    key = read_key(args_get(a, "key-file"), &len);
    if (!key)
        return CLI_FAILED;
    rc = client_call(c, "GET", "/v1/sealing-key", NULL, &reply);
    if (rc == 0 && !(body = seal(key, len, reply)))
        rc = CLI_FAILED;
    sodium_memzero(key, len);
    free(key);
    json_decref(reply);
    if (rc == 0)
        rc = client_call(c, "PUT", path, body, NULL);
    json_decref(body);
    return rc;
}

int provider_list(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *reply = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", "/v1/providers", NULL, &reply)) == 0)
        output_table(reply, "providers", columns, ARRAY_LEN(columns), args_has(a, "json"));
    json_decref(reply);
    return rc;
}

int provider_rm(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = x_asprintf("/v1/providers/%s", a->pos[0]);
    int rc = cli_check_name("a provider", a->pos[0]);

    if (rc)
        return rc;
    c = client_open(a, &rc);
    return c ? client_call(c, "DELETE", path, NULL, NULL) : rc;
}
