#include "vault/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/*
 * master.key: "ICMKEY01", u8 kind, then
 *   kind 0: the 32 bytes themselves
 *   kind 1: salt (16), opslimit (u64 LE), memlimit (u64 LE), nonce (24), ciphertext (32), tag (16); all that
 * stands before the nonce is authenticated Argon2id cost: 3 passes over 64 MiB (RFC 9106, second recommended
 * option, with one lane as libsodium has it).
 */
enum {
    MAGIC_BYTES = 8,
    KIND_RAW = 0,
    KIND_PASSPHRASE = 1,
    HEAD_BYTES = MAGIC_BYTES + 1,
    RAW_FILE = HEAD_BYTES + KEY_BYTES,
    WRAP_HEAD = HEAD_BYTES + crypto_pwhash_SALTBYTES + 16,
    WRAP_FILE = WRAP_HEAD + SEAL_OVERHEAD + KEY_BYTES,
    ARGON_PASSES = 3,
    ARGON_MEMORY = 64 << 20,
    ARGON_PASSES_MAX = 64, /* a damaged file must not cost minutes or gigabytes */
    ARGON_MEMORY_MAX = 1 << 30,
};
static const char magic[MAGIC_BYTES + 1] = "ICMKEY01";

/* Everything secret, in one locked area. */
struct keys {
    unsigned char master[KEY_BYTES];
    unsigned char audit_secret[crypto_sign_SECRETKEYBYTES];
    unsigned char audit_public[crypto_sign_PUBLICKEYBYTES];
    unsigned char sealing_secret[crypto_box_SECRETKEYBYTES];
    unsigned char sealing_public[crypto_box_PUBLICKEYBYTES];
    unsigned char slots[KEY_SLOTS][KEY_BYTES];
    unsigned char scratch[KEY_BYTES];
    char passphrase[PASSPHRASE_MAX + 1];
};

struct keys *keys_new(void)
{
    struct keys *k;

    if (sodium_init() < 0)
        abort();
    k = sodium_malloc(sizeof(*k));
    if (!k)
        abort();
    sodium_memzero(k, sizeof(*k));
    return k;
}

void keys_close(struct keys *k)
{
    if (k)
        sodium_free(k); /* wipes first */
}

static void seal_with(const unsigned char *key, const void *ad, size_t ad_len, const void *plain, size_t len,
                      unsigned char *out)
{
    unsigned long long sealed;

    randombytes_buf(out, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
                                                     &sealed, plain, len, ad, ad_len, NULL, out, key);
}

static int unseal_with(const unsigned char *key, const void *ad, size_t ad_len, const unsigned char *in,
                       size_t len, unsigned char *out)
{
    unsigned long long opened;

    if (len < SEAL_OVERHEAD)
        return -1;
    return crypto_aead_xchacha20poly1305_ietf_decrypt(
        out, &opened, NULL, in + crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
        len - crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, ad, ad_len, in, key);
}

void keys_seal(const struct keys *k, const char *purpose, const void *plain, size_t len, unsigned char *out)
{
    seal_with(k->master, purpose, strlen(purpose), plain, len, out);
}

int keys_unseal(const struct keys *k, const char *purpose, const unsigned char *in, size_t len,
                unsigned char *out)
{
    return unseal_with(k->master, purpose, strlen(purpose), in, len, out);
}

void keys_derive(const struct keys *k, const char *purpose, unsigned char out[KEY_BYTES])
{
    (void)crypto_generichash(out, KEY_BYTES, (const unsigned char *)purpose, strlen(purpose), k->master,
                             KEY_BYTES);
}

void keys_sign(const struct keys *k, const void *data, size_t len, unsigned char signature[64])
{
    (void)crypto_sign_detached(signature, NULL, data, len, k->audit_secret);
}

const unsigned char *keys_audit_public(const struct keys *k)
{
    return k->audit_public;
}

const unsigned char *keys_sealing_public(const struct keys *k)
{
    return k->sealing_public;
}

int keys_open_box(const struct keys *k, const unsigned char *box, size_t len, unsigned char *out)
{
    return crypto_box_seal_open(out, box, len, k->sealing_public, k->sealing_secret);
}

unsigned char *keys_slot(struct keys *k, unsigned slot)
{
    return k->slots[slot % KEY_SLOTS];
}

/* Fills k->passphrase; its length, or -1 with e. */
static ssize_t read_passphrase(struct keys *k, int fd, struct err *e)
{
    ssize_t n;

    if (fd < 0)
        return 0;
    n = io_read_full(fd, k->passphrase, PASSPHRASE_MAX + 1);
    if (n < 0)
        return errno == EBADF ? 0 : err_sys(e, errno, "cannot read the passphrase from its descriptor");
    if (n > PASSPHRASE_MAX)
        return err_set(e, E2BIG, "the passphrase is longer than %d bytes", PASSPHRASE_MAX);
    if (n > 0 && k->passphrase[n - 1] == '\n')
        n--;
    return n;
}

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void store_u64(unsigned char *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static int stretch(struct keys *k, size_t passphrase_len, const unsigned char *salt, uint64_t ops,
                   uint64_t mem, struct err *e)
{
    if (crypto_pwhash(k->scratch, KEY_BYTES, k->passphrase, passphrase_len, salt, ops, (size_t)mem,
                      crypto_pwhash_ALG_ARGON2ID13) != 0)
        return err_set(e, ENOMEM, "not enough memory to stretch the passphrase (%llu MiB needed)",
                       (unsigned long long)(mem >> 20));
    return 0;
}

static int create_master(struct keys *k, int dir, size_t passphrase_len, struct err *e)
{
    unsigned char file[WRAP_FILE];
    size_t len = RAW_FILE;
    int rc;

    io_random(k->master, KEY_BYTES);
    memcpy(file, magic, MAGIC_BYTES);
    if (passphrase_len == 0) {
        file[MAGIC_BYTES] = KIND_RAW;
        memcpy(file + HEAD_BYTES, k->master, KEY_BYTES);
    } else {
        unsigned char *salt = file + HEAD_BYTES;
        file[MAGIC_BYTES] = KIND_PASSPHRASE;
        io_random(salt, crypto_pwhash_SALTBYTES);
        store_u64(salt + crypto_pwhash_SALTBYTES, ARGON_PASSES);
        store_u64(salt + crypto_pwhash_SALTBYTES + 8, ARGON_MEMORY);
        if (stretch(k, passphrase_len, salt, ARGON_PASSES, ARGON_MEMORY, e) < 0)
            return -1;
        seal_with(k->scratch, file, WRAP_HEAD, k->master, KEY_BYTES, file + WRAP_HEAD);
        len = WRAP_FILE;
    }
    rc = io_replace_file(dir, "master.key", file, len, 0600, e);
    sodium_memzero(file, sizeof(file));
    return rc < 0 ? err_wrap(e, "cannot store the new master key") : 0;
}

static int open_master(struct keys *k, const unsigned char *file, size_t len, size_t passphrase_len,
                       struct err *e)
{
    const unsigned char *salt = file + HEAD_BYTES;
    uint64_t ops, mem;

    if (len < HEAD_BYTES || memcmp(file, magic, MAGIC_BYTES) != 0)
        return err_set(e, EBADMSG, "vault/master.key is not a master key file; restore it from a backup");
    if (file[MAGIC_BYTES] == KIND_RAW && len == RAW_FILE) {
        if (passphrase_len > 0)
            return err_set(
                e, EINVAL,
                "a passphrase was given, but vault/master.key is not protected by one; start without it");
        memcpy(k->master, file + HEAD_BYTES, KEY_BYTES);
        return 0;
    }
    if (file[MAGIC_BYTES] != KIND_PASSPHRASE || len != WRAP_FILE)
        return err_set(e, EBADMSG, "vault/master.key has %zu bytes and is damaged; restore it from a backup",
                       len);
    if (passphrase_len == 0)
        return err_set(e, EACCES, "vault/master.key is protected by a passphrase; give it to 'ironclaw up'");
    ops = load_u64(salt + crypto_pwhash_SALTBYTES);
    mem = load_u64(salt + crypto_pwhash_SALTBYTES + 8);
    if (ops < 1 || ops > ARGON_PASSES_MAX || mem < crypto_pwhash_MEMLIMIT_MIN || mem > ARGON_MEMORY_MAX)
        return err_set(
            e, EBADMSG,
            "vault/master.key asks for an impossible Argon2id cost and is damaged; restore it from a backup");
    if (stretch(k, passphrase_len, salt, ops, mem, e) < 0)
        return -1;
    if (unseal_with(k->scratch, file, WRAP_HEAD, file + WRAP_HEAD, len - WRAP_HEAD, k->master) < 0)
        return err_set(e, EACCES, "wrong passphrase for vault/master.key");
    return 0;
}

/*
 * Loads one key pair seed sealed in `name`, or creates it. `pair_exists` says that its public half is already
 * known to others: then a missing file is an error, not a fresh start.
 */
static int load_seed(struct keys *k, int dir, const char *name, bool pair_exists, struct err *e)
{
    unsigned char sealed[KEY_BYTES + SEAL_OVERHEAD];
    CLEANUP_FREE char *file = NULL;
    size_t len = 0;

    if (faccessat(dir, name, F_OK, 0) == 0) {
        if (io_read_file(dir, name, sizeof(sealed), &file, &len, e) < 0)
            return -1;
        if (len != sizeof(sealed) || keys_unseal(k, name, (const unsigned char *)file, len, k->scratch) < 0)
            return err_set(e, EBADMSG,
                           "vault/%s does not open with this master key (wrong-key or altered); restore the "
                           "vault directory from a backup",
                           name);
        return 0;
    }
    if (pair_exists)
        return err_set(e, ENOENT, "vault/%s is missing although it was in use; restore it from a backup",
                       name);
    io_random(k->scratch, KEY_BYTES);
    keys_seal(k, name, k->scratch, KEY_BYTES, sealed);
    return io_replace_file(dir, name, sealed, sizeof(sealed), 0600, e);
}

static int load_master(struct keys *k, int dir, size_t passphrase_len, struct err *e)
{
    char *file = NULL;
    size_t len = 0;
    int rc;

    if (faccessat(dir, "master.key", F_OK, 0) < 0) {
        if (errno != ENOENT)
            return err_sys(e, errno, "cannot look at vault/master.key");
        if (faccessat(dir, "audit.key", F_OK, 0) == 0)
            return err_set(
                e, ENOENT,
                "vault/master.key is missing although keys sealed under it exist; restore it from a backup");
        return create_master(k, dir, passphrase_len, e);
    }
    if (io_read_file(dir, "master.key", 4096, &file, &len, e) < 0)
        return -1;
    rc = open_master(k, (const unsigned char *)file, len, passphrase_len, e);
    sodium_memzero(file, len);
    free(file);
    return rc;
}

int keys_load(struct keys *k, int state_fd, int passphrase_fd, struct err *e)
{
    CLEANUP_CLOSE int dir = -1;
    char hex[crypto_sign_PUBLICKEYBYTES * 2 + 2];
    bool published = faccessat(state_fd, "audit.pub", F_OK, 0) == 0;
    ssize_t n = read_passphrase(k, passphrase_fd, e);
    int rc = -1;

    if (n < 0 || io_mkdirs(state_fd, "vault", 0700, e) < 0)
        goto out;
    dir = openat(state_fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0) {
        (void)err_sys(e, errno, "cannot open the directory vault");
        goto out;
    }
    if (load_master(k, dir, (size_t)n, e) < 0 || load_seed(k, dir, "audit.key", published, e) < 0)
        goto out;
    (void)crypto_sign_seed_keypair(k->audit_public, k->audit_secret, k->scratch);
    if (load_seed(k, dir, "sealing.key", false, e) < 0)
        goto out;
    (void)crypto_box_seed_keypair(k->sealing_public, k->sealing_secret, k->scratch);
    if (!published) {
        io_hex(hex, k->audit_public, crypto_sign_PUBLICKEYBYTES);
        hex[sizeof(hex) - 2] = '\n';
        if (io_replace_file(state_fd, "audit.pub", hex, sizeof(hex) - 1, 0644, e) < 0)
            goto out;
    }
    rc = 0;
out:
    sodium_memzero(k->passphrase, sizeof(k->passphrase));
    sodium_memzero(k->scratch, sizeof(k->scratch));
    return rc;
}
