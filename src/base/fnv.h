/*
 * fnv.h - FNV-1a, 64 bits (RFC 9923): tells short texts apart quickly. Not against anybody who chooses them:
 * what matters is compared besides, or starts from a secret.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)

/* Goes on with `hash`: FNV_BASIS, what an earlier call gave, or a secret. */
static inline uint64_t fnv1a(uint64_t hash, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ ((const uint8_t *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}
