#include "vault/audit_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "vault/audit_format.h"

const char *audit_fault_name(enum audit_fault f)
{
    static const char *const names[] = {"ok", "edited", "dropped", "reordered", "bad-signature", "torn"};

    return f < ARRAY_LEN(names) ? names[f] : "unknown";
}

static int read_key(const char *path, unsigned char key[crypto_sign_PUBLICKEYBYTES], struct err *e)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *beside =
        slash ? x_asprintf("%.*s/audit.pub", (int)(slash - path), path) : x_strdup("audit.pub");
    CLEANUP_FREE char *hex = NULL;
    size_t len = 0, got = 0;

    if (io_read_file(AT_FDCWD, beside, 256, &hex, &len, e) < 0)
        return err_wrap(e, "the public key is needed to verify %s", path);
    if (sodium_hex2bin(key, crypto_sign_PUBLICKEYBYTES, hex, len, "\n", &got, NULL) < 0 ||
        got != crypto_sign_PUBLICKEYBYTES)
        return err_set(e, EINVAL, "%s does not hold an Ed25519 public key (64 hex digits)", beside);
    return 0;
}

/* For a checkpoint line: 1 signature good, 0 not a checkpoint, -1 bad. */
static int check_signature(const char *line, size_t len, const unsigned char *key, uint64_t seq,
                           const char *prev)
{
    json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    const char *type = json_string_value(json_object_get(o, "type"));
    const char *hex = json_string_value(json_object_get(o, "signature"));
    unsigned char signature[crypto_sign_BYTES];
    char text[AUDIT_SIGNED_MAX];
    size_t n, got = 0;
    int rc = 0;

    if (!o || !type) {
        rc = -1;
    } else if (strcmp(type, "checkpoint") == 0) {
        n = audit_signed_text(seq, (uint64_t)json_integer_value(json_object_get(o, "time")), prev, text);
        rc = hex && sodium_hex2bin(signature, sizeof(signature), hex, strlen(hex), NULL, &got, NULL) == 0 &&
                     got == sizeof(signature) &&
                     crypto_sign_verify_detached(signature, (const unsigned char *)text, n, key) == 0
                 ? 1
                 : -1;
    }
    json_decref(o);
    return rc;
}

/* Line `expected` is not here: is it further down (reordered) or nowhere (dropped)? */
static enum audit_fault missing_kind(FILE *f, char *line, uint64_t expected)
{
    char hash[AUDIT_HASH_HEX + 1], prev[AUDIT_HASH_HEX + 1];
    uint64_t seq;
    size_t body;

    while (fgets(line, AUDIT_LINE_MAX + 1, f))
        if (audit_line_split(line, strcspn(line, "\n"), &body, hash, prev, &seq) && seq == expected)
            return AUDIT_REORDERED;
    return AUDIT_DROPPED;
}

static enum audit_fault check_line(FILE *f, char *line, const unsigned char *key, char *head,
                                   struct audit_report *r)
{
    char hash[AUDIT_HASH_HEX + 1], prev[AUDIT_HASH_HEX + 1], computed[AUDIT_HASH_HEX + 1];
    size_t len = strcspn(line, "\n"), body;
    uint64_t seq, expected = r->records + 1;
    int signature;

    if (line[len] != '\n')
        return feof(f) ? AUDIT_TORN : AUDIT_EDITED;
    if (!audit_line_split(line, len, &body, hash, prev, &seq))
        return AUDIT_EDITED;
    audit_line_hash(line, body, computed);
    if (strcmp(computed, hash) != 0)
        return AUDIT_EDITED;
    if (seq < expected)
        return AUDIT_REORDERED;
    if (seq > expected)
        return missing_kind(f, line, expected);
    if (strcmp(prev, head) != 0)
        return AUDIT_EDITED;
    signature = check_signature(line, len, key, seq, prev);
    if (signature < 0)
        return AUDIT_BAD_SIGNATURE;
    memcpy(head, hash, sizeof(hash));
    r->records++;
    r->checkpoints += signature > 0;
    r->unsigned_tail = signature > 0 ? 0 : r->unsigned_tail + 1;
    return AUDIT_OK;
}

int audit_verify_file(const char *path, const unsigned char *public_key, struct audit_report *report,
                      struct err *e)
{
    unsigned char key[crypto_sign_PUBLICKEYBYTES];
    CLEANUP_FCLOSE FILE *f = NULL;
    CLEANUP_FREE char *line = x_malloc(AUDIT_LINE_MAX + 1);
    char head[AUDIT_HASH_HEX + 1];

    memset(report, 0, sizeof(*report));
    if (sodium_init() < 0)
        return err_set(e, EIO, "libsodium does not start");
    if (public_key)
        memcpy(key, public_key, sizeof(key));
    else if (read_key(path, key, e) < 0)
        return -1;
    f = fopen(path, "re");
    if (!f)
        return err_sys(e, errno, "cannot open %s", path);
    memset(head, '0', AUDIT_HASH_HEX);
    head[AUDIT_HASH_HEX] = 0;
    for (uint64_t number = 1; fgets(line, AUDIT_LINE_MAX + 1, f); number++) {
        report->fault = check_line(f, line, key, head, report);
        if (report->fault != AUDIT_OK) {
            report->line = number;
            break;
        }
    }
    if (ferror(f))
        return err_sys(e, errno, "cannot read %s", path);
    return 0;
}
