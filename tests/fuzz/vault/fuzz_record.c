/*
 * A sealed record with any bytes: it either does not open, or opens to what was sealed. The key is fixed, and
 * the input says whether it is taken as it stands or sealed first (so that both sides are reached).
 */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "vault/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char key[RECORD_KEY] = {7};
    struct record_head h = {.session = "s-fuzz", .direction = DIRECTION_IN, .seq = 1, .kind = RECORD_MESSAGE};
    struct record_body body = {0}, got;
    unsigned char hash[RECORD_HASH], again[RECORD_HASH], *plain, *sealed;
    size_t len;

    if (size < 2 || sodium_init() < 0)
        return 0;
    if (record_open(key, &h, data + 1, size - 1, &got, &plain, hash) == DAMAGE_NONE)
        abort(); /* forged */
    body.time = data[0];
    body.has_idem = data[1] & 1;
    body.text = (const char *)data + 1;
    body.text_len = size - 1;
    sealed = record_seal(key, &h, &body, &len, hash);
    if (record_open(key, &h, sealed, len, &got, &plain, again) != DAMAGE_NONE ||
        got.text_len != body.text_len || memcmp(got.text, body.text, body.text_len) != 0 ||
        memcmp(hash, again, sizeof(hash)) != 0)
        abort();
    record_plain_free(plain, &got);
    sealed[(size_t)data[0] * 131 % len] ^= (unsigned char)(data[1] | 1);
    if (record_open(key, &h, sealed, len, &got, &plain, again) == DAMAGE_NONE)
        abort();
    free(sealed);
    return 0;
}
