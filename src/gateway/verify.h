/*
 * verify.h - the deterministic verifiers: small functions that look at a proposed agent document and may only
 * reject.
 *
 * None of them can approve anything. All verdicts are stored with the change and shown to whoever decides.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>

/*
 * Runs every verifier over the normalised document `after`. Returns a new array [{"verifier","ok","reason"}];
 * *ok is false when any rejected.
 */
json_t *verify_agent(const json_t *after, const json_t *config, bool *ok);

/* Lexical check of an absolute path: no "..", ".", empty or trailing components. Nothing is resolved. */
bool verify_path_is_normal(const char *path);
