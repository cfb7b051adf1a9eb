/*
 * owed.h - audit records that are owed: written to the registry in the transaction that they tell of, and
 * moved to audit.log after it. So what is done is recorded even if audit.log cannot be written at that
 * moment: the record then follows as soon as it can, at the latest at the next start.
 */
#pragma once
#include <jansson.h>

#include "base/err.h"

struct hub;

/* Inside a transaction of the registry. `fields` is stolen (also on failure). 0, or -1 with e. */
int owed_put(struct hub *h, const char *type, json_t *fields, struct err *e);

/*
 * Moves what is owed to audit.log, oldest first. 0 when nothing is left; -1 with e: the rest stays owed. A
 * record stands there twice if the process dies between the two steps, never not at all.
 */
int owed_settle(struct hub *h, struct err *e);

/* After a commit, and from time to time: as owed_settle(), a failure is logged. Costs nothing when nothing is
 * owed. */
void owed_retry(struct hub *h);
