/*
 * audit.c - the audit log: read through the API, verified offline.
 */
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"
#include "vault/audit_verify.h"

int audit_show(const struct args *a)
{
    const char *after = args_get(a, "after"), *limit = args_get(a, "limit");
    CLEANUP_CLIENT struct client *c = NULL;
    CLEANUP_FREE char *path = NULL;
    json_t *reply = NULL, *row;
    uint64_t n;
    size_t i;
    int rc;

    if ((after && !io_parse_u64(after, INT64_MAX, &n)) || (limit && !io_parse_u64(limit, 1000, &n)))
        return cli_fail(CLI_USAGE, "--after and --limit take whole numbers");
    path = x_asprintf("/v1/audit?after=%s&limit=%s", after ? after : "0", limit ? limit : "1000");
    c = client_open(a, &rc);
    if (c)
        rc = client_call(c, "GET", path, NULL, &reply);
    if (rc == 0 && args_has(a, "json")) {
        output_json(reply);
    } else if (rc == 0) {
        /* One record a line, as in the log itself: its fields differ from event to event. */
        json_array_foreach(json_object_get(reply, "records"), i, row)
        {
            CLEANUP_FREE char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY);
            output_untrusted(stdout, text ? text : "");
            (void)printf("\n");
        }
    }
    json_decref(reply);
    return rc;
}

static int read_public_key(const char *path, unsigned char key[crypto_sign_PUBLICKEYBYTES])
{
    CLEANUP_FREE char *text = NULL;
    struct err e = ERR_INIT;
    size_t len = 0;

    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, &e) < 0)
        return cli_fail(CLI_FAILED, "%s", e.text);
    if (sodium_hex2bin(key, crypto_sign_PUBLICKEYBYTES, text, strcspn(text, " \r\n"), NULL, &len, NULL) !=
            0 ||
        len != crypto_sign_PUBLICKEYBYTES)
        return cli_fail(CLI_FAILED, "%s does not hold a public key: 64 hexadecimal digits", path);
    return 0;
}

int audit_verify(const struct args *a)
{
    CLEANUP_FREE char *dir = args_has(a, "log") ? NULL : client_state_dir(a);
    CLEANUP_FREE char *path = NULL;
    unsigned char key[crypto_sign_PUBLICKEYBYTES];
    bool given = args_has(a, "public-key");
    struct audit_report r = {0};
    struct err e = ERR_INIT;
    int rc;

    if (!args_has(a, "log") && !dir)
        return cli_fail(CLI_USAGE, "HOME is not set; say which log to verify with --log FILE");
    path = args_has(a, "log") ? x_strdup(args_get(a, "log")) : x_asprintf("%s/audit.log", dir);
    if (sodium_init() < 0)
        return cli_fail(CLI_FAILED, "libsodium does not work on this host");
    rc = given ? read_public_key(args_get(a, "public-key"), key) : 0;
    if (rc)
        return rc;
    if (audit_verify_file(path, given ? key : NULL, &r, &e) < 0)
        return cli_fail(CLI_FAILED, "%s", e.text);
    if (args_has(a, "json")) {
        json_t *doc = json_pack("{s:s,s:I,s:I,s:I,s:I}", "result", audit_fault_name(r.fault), "line",
                                (json_int_t)r.line, "records", (json_int_t)r.records, "checkpoints",
                                (json_int_t)r.checkpoints, "unsigned_tail", (json_int_t)r.unsigned_tail);
        output_json(doc);
        json_decref(doc);
    } else if (r.fault == AUDIT_OK) {
        (void)printf("ok: %llu records, %llu signed checkpoints, %llu records after the last one\n",
                     (unsigned long long)r.records, (unsigned long long)r.checkpoints,
                     (unsigned long long)r.unsigned_tail);
    }
    if (r.fault != AUDIT_OK)
        return cli_fail(CLI_FAILED, "%s is not sound: %s at line %llu; what follows that line proves nothing",
                        path, audit_fault_name(r.fault), (unsigned long long)r.line);
    return CLI_OK;
}
