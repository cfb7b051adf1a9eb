#include "vault/record.h"

#include <sodium.h>
#include <string.h>

#include "base/le.h"
#include "base/io.h"

enum {
    VERSION = 1,
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    BODY_HEAD = 8 + 8 + 8 + 1,
    SESSION_MAX = 63,
    AD_MAX = RECORD_CLEAR + 4 + RECORD_HASH + 1 + SESSION_MAX,
};
static const char hash_domain[] = "ironclaw record 1";

const char *damage_name(enum damage d)
{
    static const char *const names[DAMAGE_COUNT] = {
        [DAMAGE_NONE] = "none",
        [DAMAGE_WRONG_KEY] = "wrong-key",
        [DAMAGE_MISSING] = "missing",
        [DAMAGE_TRUNCATED] = "truncated",
        [DAMAGE_FILE] = "file-damaged",
        [DAMAGE_WRONG_FILE] = "wrong-file",
        [DAMAGE_RECORD_ALTERED] = "record-altered",
        [DAMAGE_CHAIN_BROKEN] = "chain-broken",
        [DAMAGE_ROLLED_BACK] = "rolled-back",
        [DAMAGE_ANCHOR] = "anchor-damaged",
    };

    return d < DAMAGE_COUNT ? names[d] : "unknown";
}

/* The bytes that stand in clear before the nonce. */
static void put_clear(unsigned char out[RECORD_CLEAR], const struct record_head *h)
{
    out[0] = VERSION;
    out[1] = (unsigned char)h->direction;
    le_put(out + 2, h->seq, 8);
}

/* The head in its canonical form: associated data of the seal, and the start of what is hashed. Returns its
 * length. */
static size_t put_head(unsigned char ad[AD_MAX], const struct record_head *h)
{
    size_t n = strnlen(h->session, SESSION_MAX);
    unsigned char *at = ad + RECORD_CLEAR;

    put_clear(ad, h);
    le_put(at, h->kind, 4);
    memcpy(at + 4, h->prev, RECORD_HASH);
    at += 4 + RECORD_HASH;
    *at++ = (unsigned char)n;
    memcpy(at, h->session, n);
    return (size_t)(at - ad) + n;
}

static void hash_record(unsigned char hash[RECORD_HASH], const unsigned char *ad, size_t ad_len,
                        const unsigned char *sealed, size_t len)
{
    crypto_generichash_state st;

    (void)crypto_generichash_init(&st, NULL, 0, RECORD_HASH);
    (void)crypto_generichash_update(&st, (const unsigned char *)hash_domain, sizeof(hash_domain));
    (void)crypto_generichash_update(&st, ad, ad_len);
    (void)crypto_generichash_update(&st, sealed, len);
    (void)crypto_generichash_final(&st, hash, RECORD_HASH);
}

unsigned char *record_seal(const unsigned char key[RECORD_KEY], const struct record_head *h,
                           const struct record_body *b, size_t *len, unsigned char hash[RECORD_HASH])
{
    unsigned char ad[AD_MAX];
    size_t ad_len = put_head(ad, h);
    size_t idem = b->has_idem ? RECORD_IDEM : 0;
    size_t plain_len = BODY_HEAD + idem + b->text_len;
    unsigned char *plain = x_malloc(plain_len);
    unsigned char *sealed = x_malloc(RECORD_CLEAR + NONCE + plain_len + TAG);

    le_put(plain, b->time, 8);
    le_put(plain + 8, b->consumed, 8);
    le_put(plain + 16, b->reply_to, 8);
    plain[24] = b->has_idem;
    memcpy(plain + BODY_HEAD, b->idem, idem);
    if (b->text_len > 0)
        memcpy(plain + BODY_HEAD + idem, b->text, b->text_len);
    put_clear(sealed, h);
    randombytes_buf(sealed + RECORD_CLEAR, NONCE);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + RECORD_CLEAR + NONCE, NULL, plain, plain_len,
                                                     ad, ad_len, NULL, sealed + RECORD_CLEAR, key);
    sodium_memzero(plain, plain_len);
    free(plain);
    *len = RECORD_CLEAR + NONCE + plain_len + TAG;
    hash_record(hash, ad, ad_len, sealed, *len);
    return sealed;
}

enum damage record_open(const unsigned char key[RECORD_KEY], const struct record_head *h,
                        const unsigned char *sealed, size_t len, struct record_body *body,
                        unsigned char **plain, unsigned char hash[RECORD_HASH])
{
    unsigned char ad[AD_MAX];
    size_t ad_len = put_head(ad, h), plain_len, idem;
    unsigned char *out;

    *plain = NULL;
    if (len < RECORD_CLEAR + NONCE + BODY_HEAD + TAG || sealed[0] != VERSION)
        return DAMAGE_RECORD_ALTERED;
    if (sealed[1] != h->direction)
        return sealed[1] < DIRECTION_COUNT ? DAMAGE_WRONG_FILE : DAMAGE_RECORD_ALTERED;
    if (le_get(sealed + 2, 8) != h->seq)
        return DAMAGE_CHAIN_BROKEN;
    plain_len = len - RECORD_CLEAR - NONCE - TAG;
    out = x_malloc(plain_len);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed + RECORD_CLEAR + NONCE,
                                                   len - RECORD_CLEAR - NONCE, ad, ad_len,
                                                   sealed + RECORD_CLEAR, key) < 0) {
        free(out);
        return DAMAGE_RECORD_ALTERED;
    }
    idem = out[24] ? RECORD_IDEM : 0;
    if (out[24] > 1 || plain_len < BODY_HEAD + idem) {
        sodium_memzero(out, plain_len);
        free(out);
        return DAMAGE_RECORD_ALTERED;
    }
    memset(body, 0, sizeof(*body));
    body->time = le_get(out, 8);
    body->consumed = le_get(out + 8, 8);
    body->reply_to = le_get(out + 16, 8);
    body->has_idem = idem > 0;
    memcpy(body->idem, out + BODY_HEAD, idem);
    body->text = (const char *)out + BODY_HEAD + idem;
    body->text_len = plain_len - BODY_HEAD - idem;
    hash_record(hash, ad, ad_len, sealed, len);
    *plain = out;
    return DAMAGE_NONE;
}

void record_plain_free(unsigned char *plain, const struct record_body *b)
{
    if (!plain)
        return;
    sodium_memzero(plain, (size_t)((const unsigned char *)b->text - plain) + b->text_len);
    free(plain);
}
