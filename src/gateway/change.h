/*
 * change.h - the only way configuration changes: somebody proposes, verifiers may refuse, a human decides,
 * the gateway applies.
 *
 *   submit -> refused                                  (a verifier said no)
 *          -> pending -> rejected                      (a token with the admin scope said no)
 *                     -> approved -> applied | failed  (it said yes)
 *
 * Approval and application are two transactions; a change found approved at start is applied then, so it is
 * applied exactly once also when the process dies in between. An agent may propose for itself, and never
 * decides.
 *
 * A change as JSON:
 * {"id","kind","agent","state","submitted_by","submitted_at","reason","verdicts":[{"verifier","ok",
 * "reason"}],"decided_by","decided_at","comment","error","document"} (null while undecided; error: why it
 * failed).
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/problem.h"

struct hub;
struct token_info;

/* Who proposes: a token ("token:<id>"), or the agent of a session ("agent:<name>/<session>"). */
struct submitter {
    const char *id;   /* what four_eyes compares */
    const char *name; /* for people */
    bool is_agent;
};

/*
 * Proposes. `document` is what the kind calls for (agent_document.h); borrowed. Returns the stored change
 * (state pending or refused), or NULL with p when it is not even a proposal (unknown kind or agent, name
 * taken, queue full).
 */
json_t *change_submit(struct hub *h, const struct submitter *by, const char *kind, const char *agent,
                      const json_t *document, const char *reason, struct problem *p);

/* Decides. The same decision again returns the change as it is; the opposite one is a 409. */
json_t *change_decide(struct hub *h, const struct token_info *by, const char *id, bool approve,
                      const char *comment, struct problem *p);

/* One change; with_diff adds "diff", a unified diff of the agent before and after. NULL with p. */
json_t *change_get(struct hub *h, const char *id, bool with_diff, struct problem *p);

/*
 * The newest `limit` changes, newest first; state NULL or a state's name. after: 0, or *next of the page
 * before. *next is not 0 when there are more, or they do not fit into one answer.
 */
json_t *change_list(struct hub *h, const char *state, uint64_t after, uint32_t limit, uint64_t *next,
                    struct problem *p);

/* At start: applies what was approved, writes audit records that are owed. */
int change_recover(struct hub *h, struct err *e);

/* The stored document of an agent with "revision", or NULL (not found, or an error in p when given). */
json_t *agent_get(struct hub *h, const char *name, struct problem *p);
json_t *agent_list(struct hub *h, bool *truncated, struct problem *p);
