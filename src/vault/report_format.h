/*
 * report_format.h - what the signature of a containment report covers: a text of its own kind, so that it can
 * never be mistaken for a checkpoint of the audit log, which the same key signs ("ironclaw audit checkpoint 1
 * ...").
 */
#pragma once
#include <stddef.h>
#include <stdio.h>

enum { REPORT_DIGEST_HEX = 64, REPORT_SIGNED_MAX = 128 };

/* digest: lower-case hex BLAKE2b-256 of the report's bytes. Returns the text's length. */
static inline size_t report_signed_text(const char *digest, char dst[REPORT_SIGNED_MAX])
{
    return (size_t)snprintf(dst, REPORT_SIGNED_MAX, "ironclaw containment report 1 %.64s", digest);
}
