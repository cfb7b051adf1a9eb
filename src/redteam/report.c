/*
 * The containment report: what was attacked, on what, with which programs, and what came of it, signed.
 *
 *   {"report":<the report, one line of JSON>,"signature":"<128 hex digits>"}
 *
 * The signature covers the digest of the report's bytes exactly as they stand in the file, and the frame
 * around them is fixed: no byte of the file can change without being noticed. Whoever verifies needs the
 * deployment's public key (audit.pub) and nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/landlock.h"
#include "base/paths.h"
#include "redteam/redteam.h"
#include "redteam/report_file.h"
#include "vault/report_format.h"

enum { BINARY_MAX = 256 << 20, BINARIES_MAX = 64 };

/* ---- making ---- */

/* SHA-256 of a file as hex, so that anybody's sha256sum can check it. */
static int hash_file(const char *path, char hex[65], struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char buf[65536], digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_state st;
    ssize_t n;

    if (fd < 0)
        return err_sys(e, errno, "cannot open %s", path);
    (void)crypto_hash_sha256_init(&st);
    while ((n = io_read_full(fd, buf, sizeof(buf))) > 0)
        (void)crypto_hash_sha256_update(&st, buf, (unsigned long long)n);
    if (n < 0)
        return err_sys(e, errno, "cannot read %s", path);
    (void)crypto_hash_sha256_final(&st, digest);
    io_hex(hex, digest, sizeof(digest));
    return 0;
}

/* Directory of this program, where the others lie; the command is above it. */
static int own_directory(char *out, size_t cap, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    char *slash;

    if (n < 0)
        return err_sys(e, errno, "cannot find this program's own path");
    out[n] = 0;
    slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every program of this installation: {"name","sha256"}, by name. NULL with e. */
static json_t *binaries(struct err *e)
{
    char dir[PATHS_MAX_LEN / 2], path[PATHS_MAX_LEN], hex[65], *names[BINARIES_MAX];
    json_t *list = json_array();
    const struct dirent *d;
    size_t n = 0;
    DIR *all;
    int rc = own_directory(dir, sizeof(dir), e);

    all = rc < 0 ? NULL : opendir(dir);
    while (all && n < BINARIES_MAX - 1 && (d = readdir(all)))
        if (!strncmp(d->d_name, "ironclaw-", 9))
            names[n++] = x_strdup(d->d_name);
    if (all)
        (void)closedir(all);
    names[n++] = x_strdup("ironclaw");
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) {
        bool command = !strcmp(names[i], "ironclaw");
        (void)io_format(path, sizeof(path), "%s/%s%s", dir, command ? "../../" : "", names[i]);
        if (command && access(path, F_OK) < 0)
            (void)io_format(path, sizeof(path), "%s/../../bin/ironclaw", dir);
        if (rc == 0 && (rc = hash_file(path, hex, e)) == 0)
            (void)json_array_append_new(list, json_pack("{s:s,s:s}", "name", names[i], "sha256", hex));
        free(names[i]);
    }
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *host_facts(void)
{
    struct utsname u = {0};

    (void)uname(&u);
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:i,s:I}", "kernel", u.release, "kernel_version", u.version,
                     "machine", u.machine, "cgroups",
                     access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "v2" : "v1", "root",
                     (int)(geteuid() == 0), "landlock_abi", landlock_abi(), "processors",
                     (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
}

static json_t *sign(struct api *api, const char *text, struct err *e)
{
    unsigned char digest[32];
    char hex[REPORT_DIGEST_HEX + 1];
    json_t *body, *answer = NULL;

    (void)crypto_generichash(digest, sizeof(digest), (const unsigned char *)text, strlen(text), NULL, 0);
    io_hex(hex, digest, sizeof(digest));
    body = json_pack("{s:s}", "digest", hex);
    (void)api_need(api, "POST", "/v1/reports/sign", body, &answer, e);
    json_decref(body);
    return answer;
}

int report_write(const struct results *r, struct api *signer, bool complete, const char *path, struct err *e)
{
    json_t *list, *report, *answer = NULL, *key = NULL;
    CLEANUP_FREE char *text = NULL;
    CLEANUP_FREE char *file = NULL;
    CLEANUP_FREE char *table = NULL;
    CLEANUP_FREE char *table_path = x_asprintf("%s.txt", path);
    CLEANUP_FREE char *key_path = x_asprintf("%s.pub", path);
    CLEANUP_FCLOSE FILE *f = NULL;
    const char *signature, *public_key;
    size_t len = 0;
    int rc = -1;

    if (sodium_init() < 0)
        return err_set(e, EIO, "libsodium does not start");
    list = binaries(e);
    if (!list || api_need(signer, "GET", "/v1/audit/key", NULL, &key, e) < 0) {
        json_decref(list);
        return -1;
    }
    report = json_pack("{s:s,s:i,s:I,s:b,s:b,s:{s:s,s:o},s:o,s:O,s:O,s:O}", "schema", REPORT_SCHEMA,
                       "version", REPORT_VERSION, "time", (json_int_t)io_wall_ms(), "held", (int)!r->failed,
                       "complete", (int)complete, "ironclaw", "version", IRONCLAW_VERSION, "binaries", list,
                       "host", host_facts(), "walls", r->walls, "results", r->list, "public_key",
                       json_object_get(key, "public_key"));
    text = report ? json_dumps(report, JSON_COMPACT) : NULL;
    json_decref(report);
    json_decref(key);
    if (!text || strlen(text) > REPORT_FILE_MAX - 256)
        return err_set(e, E2BIG, "the report does not fit into %d MiB", REPORT_FILE_MAX >> 20);
    answer = sign(signer, text, e);
    signature = json_string_value(json_object_get(answer, "signature"));
    public_key = json_string_value(json_object_get(answer, "public_key"));
    f = open_memstream(&table, &len);
    if (signature && public_key && f) {
        file = x_asprintf("%s%s%s%s%s", REPORT_HEAD, text, REPORT_MIDDLE, signature, REPORT_TAIL);
        output_table(f, r);
        (void)fflush(f);
        rc = io_replace_file(AT_FDCWD, path, file, strlen(file), 0644, e);
        if (rc == 0)
            rc = io_replace_file(AT_FDCWD, table_path, table, len, 0644, e);
        if (rc == 0)
            rc = io_replace_file(AT_FDCWD, key_path, public_key, strlen(public_key), 0644, e);
    }
    json_decref(answer);
    return rc;
}

/* ---- verifying ---- */

static int read_key(const char *path, unsigned char key[crypto_sign_PUBLICKEYBYTES], struct err *e)
{
    CLEANUP_FREE char *hex = NULL;
    size_t len = 0, got = 0;

    if (io_read_file(AT_FDCWD, path, 256, &hex, &len, e) < 0)
        return err_wrap(e, "the public key is needed");
    if (sodium_hex2bin(key, crypto_sign_PUBLICKEYBYTES, hex, len, "\n", &got, NULL) < 0 ||
        got != crypto_sign_PUBLICKEYBYTES)
        return err_set(e, EINVAL, "%s does not hold an Ed25519 public key (64 hexadecimal digits)", path);
    return 0;
}

static int check_signature(const struct report_file *f, const unsigned char *key, struct err *e)
{
    unsigned char digest[32], signature[crypto_sign_BYTES];
    char hex[REPORT_DIGEST_HEX + 1], text[REPORT_SIGNED_MAX];
    size_t got = 0;

    (void)crypto_generichash(digest, sizeof(digest), (const unsigned char *)f->body, f->body_len, NULL, 0);
    io_hex(hex, digest, sizeof(digest));
    if (sodium_hex2bin(signature, sizeof(signature), f->signature, REPORT_SIGNATURE_HEX, NULL, &got, NULL) <
            0 ||
        got != sizeof(signature) ||
        crypto_sign_verify_detached(signature, (const unsigned char *)text, report_signed_text(hex, text),
                                    key) != 0)
        return err_set(
            e, EBADMSG,
            "the signature does not hold: the report was changed, or another deployment's key signed it");
    return 0;
}

/* The programs that are installed here, against those that the report is about. */
static int check_binaries(const json_t *report, struct err *e)
{
    const json_t *listed = json_object_get(json_object_get(report, "ironclaw"), "binaries");
    json_t *here = binaries(e), *b, *h;
    size_t i, k;
    int rc = here ? 0 : -1;

    json_array_foreach(here, i, h)
    {
        const char *name = json_string_value(json_object_get(h, "name")), *seen = NULL;
        json_array_foreach(listed, k, b)
        {
            if (!strcmp(json_string_value(json_object_get(b, "name")), name))
                seen = json_string_value(json_object_get(b, "sha256"));
        }
        if (rc == 0 && (!seen || strcmp(seen, json_string_value(json_object_get(h, "sha256"))) != 0))
            rc = err_set(e, ESTALE, "the report is about another build: the installed %s %s", name,
                         seen ? "is not the one that was attacked" : "was not part of it");
    }
    if (rc == 0 && json_array_size(here) != json_array_size(listed))
        rc = err_set(e, ESTALE,
                     "the report is about another build: it lists programs that are not installed here");
    json_decref(here);
    return rc;
}

static int load(const char *path, const char *key_path, json_t **report, struct err *e)
{
    unsigned char key[crypto_sign_PUBLICKEYBYTES];
    CLEANUP_FREE char *text = NULL;
    struct report_file f;
    size_t len = 0;

    *report = NULL;
    if (sodium_init() < 0)
        return err_set(e, EIO, "libsodium does not start");
    if (read_key(key_path, key, e) < 0 || io_read_file(AT_FDCWD, path, REPORT_FILE_MAX, &text, &len, e) < 0 ||
        report_file_split(text, len, &f, e) < 0 || check_signature(&f, key, e) < 0)
        return -1;
    *report = report_file_parse(&f, e);
    return *report ? 0 : -1;
}

int report_verify(const char *path, const char *key_path, struct err *e)
{
    json_t *report = NULL, *r;
    size_t i, n[4] = {0};
    int rc = load(path, key_path, &report, e);

    if (rc == 0)
        rc = check_binaries(report, e);
    if (rc == 0) {
        json_array_foreach(json_object_get(report, "results"), i, r)
        {
            for (size_t v = 0; v < ARRAY_LEN(n); v++)
                n[v] +=
                    !strcmp(json_string_value(json_object_get(r, "verdict")), verdict_name((enum verdict)v));
        }
        (void)printf("ok: the signature holds, the installed programs are those that were attacked\n"
                     "%zu passed, %zu known gaps, %zu failed, %zu errors, on %s (%s%s)\n",
                     n[VERDICT_PASS], n[VERDICT_GAP], n[VERDICT_FAIL], n[VERDICT_ERROR],
                     json_string_value(json_object_get(json_object_get(report, "host"), "kernel")),
                     json_is_true(json_object_get(report, "held")) ? "held" : "NOT held",
                     json_is_true(json_object_get(report, "complete")) ? "" : "; only some attacks were run");
    }
    json_decref(report);
    return rc;
}
