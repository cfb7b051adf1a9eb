/*
 * api_error.h - an error in the JSON shape that clients of the provider's API already understand.
 */
#pragma once
#include "modelproxy/allowlist.h"

/*
 * {"type":"error","error":{"type":..,"message":..}} (Anthropic) or
 * {"error":{"message":..,"type":..,"code":..}} (OpenAI). The type is derived from the HTTP status, in the
 * provider's own vocabulary. Returns a malloc'ed string.
 */
char *api_error_json(enum shape shape, unsigned status, const char *message);
