/*
 * caps.h - dropping capabilities (capabilities(7)): inheritable, permitted, effective, ambient and bounding
 * sets.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Removes every capability that is not in the bit mask `keep` from the bounding set. Needs CAP_SETPCAP. */
int caps_drop_bounding(uint64_t keep, struct err *e);

/* Leaves exactly the capabilities of the bit mask `keep` in the permitted and effective sets and empties the
 * inheritable and ambient sets. */
int caps_limit(uint64_t keep, struct err *e);

/* True if the calling thread has every capability of the mask in its effective set. */
bool caps_have(uint64_t mask);
