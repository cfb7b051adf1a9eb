/*
 * wire.h - typed fields in one message between our own processes.
 *
 * Little endian, no padding: u8, u32, u64 as they are; bytes and strings as u32 length + contents. Both sides
 * read and write the same sequence of fields; there is no self-description to get wrong. Errors are sticky:
 * after the first one every further call does nothing, and one check at the end (wire_in_done,
 * wire_out.failed) is enough.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One message holds at most this much (a 256 KiB chat message plus its envelope; must stay below twice the
 * default net.core.wmem_max, see link.c). */
enum { WIRE_MAX = 384 * 1024 };

struct wire_out {
    uint8_t *buf; /* malloc'ed; owned by the struct, freed with wire_out_free() */
    size_t len, cap;
    bool failed; /* the message grew beyond WIRE_MAX */
};

#define WIRE_OUT_INIT                                                                                        \
    {                                                                                                        \
        NULL, 0, 0, false                                                                                    \
    }

void wire_put_u8(struct wire_out *o, uint8_t v);
void wire_put_u32(struct wire_out *o, uint32_t v);
void wire_put_u64(struct wire_out *o, uint64_t v);
void wire_put_bytes(struct wire_out *o, const void *p, size_t len);
void wire_put_str(struct wire_out *o, const char *s); /* NULL is written as "" */
/* Wipes the buffer before it is freed, so it may have carried a secret. */
void wire_out_free(struct wire_out *o);
#define CLEANUP_WIRE __attribute__((cleanup(wire_out_free)))

struct wire_in {
    const uint8_t *p; /* borrowed */
    size_t left;
    bool failed; /* something was missing, too long or not a string */
};

struct wire_in wire_in_init(const void *p, size_t len);
uint8_t wire_get_u8(struct wire_in *i);
uint32_t wire_get_u32(struct wire_in *i);
uint64_t wire_get_u64(struct wire_in *i);
/* Borrows the bytes inside the message: *len is set, NULL on failure. Fails when longer than max. */
const uint8_t *wire_get_bytes(struct wire_in *i, size_t max, size_t *len);
/* Copies a string into dst[cap]; fails when it does not fit with its NUL or contains a NUL. dst is always
 * terminated. */
void wire_get_str(struct wire_in *i, char *dst, size_t cap);
/* As wire_get_str(), but malloc'ed (caller frees); NULL on failure. */
char *wire_get_strdup(struct wire_in *i, size_t max);
/* True when nothing failed and nothing is left over. */
bool wire_in_done(const struct wire_in *i);
