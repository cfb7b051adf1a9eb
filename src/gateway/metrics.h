/*
 * metrics.h - the state of the control plane in the Prometheus exposition format, version 0.0.4.
 */
#pragma once
#include "gateway/problem.h"

struct hub;

/* malloc'ed text, or NULL with p. Counters start at zero with the process. */
char *metrics_text(struct hub *h, struct problem *p);
