#include "vault/audit_format.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"

static const char hash_lead[] = ",\"hash\":\"";
static const char prev_lead[] = ",\"prev\":\"";
static const char seq_lead[] = "{\"seq\":";

void audit_line_hash(const char *body, size_t len, char *dst)
{
    crypto_generichash_state st;
    unsigned char hash[32];

    (void)crypto_generichash_init(&st, NULL, 0, sizeof(hash));
    (void)crypto_generichash_update(&st, (const unsigned char *)body, len);
    (void)crypto_generichash_update(&st, (const unsigned char *)"}", 1);
    (void)crypto_generichash_final(&st, hash, sizeof(hash));
    io_hex(dst, hash, sizeof(hash));
}

size_t audit_signed_text(uint64_t seq, uint64_t time, const char *prev, char dst[AUDIT_SIGNED_MAX])
{
    (void)io_format(dst, AUDIT_SIGNED_MAX, "ironclaw audit checkpoint 1 %llu %llu %s",
                    (unsigned long long)seq, (unsigned long long)time, prev);
    return strlen(dst);
}

static bool take_hex(const char *at, char *dst)
{
    for (int i = 0; i < AUDIT_HASH_HEX; i++) {
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
            return false;
        dst[i] = at[i];
    }
    dst[AUDIT_HASH_HEX] = 0;
    return true;
}

bool audit_line_split(const char *line, size_t len, size_t *body_len, char *hash, char *prev, uint64_t *seq)
{
    const size_t hash_tail = sizeof(hash_lead) - 1 + AUDIT_HASH_HEX + 2; /* "} at the end */
    const size_t prev_tail = sizeof(prev_lead) - 1 + AUDIT_HASH_HEX + 1;
    char digits[24];
    const char *at;
    size_t n = 0;

    if (len < sizeof(seq_lead) + prev_tail + hash_tail || memcmp(line + len - 2, "\"}", 2) != 0)
        return false;
    at = line + len - hash_tail;
    if (memcmp(at, hash_lead, sizeof(hash_lead) - 1) != 0 || !take_hex(at + sizeof(hash_lead) - 1, hash))
        return false;
    *body_len = len - hash_tail;
    at = line + *body_len - prev_tail;
    if (memcmp(at, prev_lead, sizeof(prev_lead) - 1) != 0 || !take_hex(at + sizeof(prev_lead) - 1, prev) ||
        line[*body_len - 1] != '"' || memcmp(line, seq_lead, sizeof(seq_lead) - 1) != 0)
        return false;
    at = line + sizeof(seq_lead) - 1;
    while (n < sizeof(digits) - 1 && at[n] >= '0' && at[n] <= '9')
        n++;
    memcpy(digits, at, n);
    digits[n] = 0;
    return at[n] == ',' && io_parse_u64(digits, UINT64_MAX, seq);
}
