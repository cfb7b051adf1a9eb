/*
 * session_impl.h - between session.c (life cycle), session_data.c (what it says and hears) and launch.c (its
 * spec).
 */
#pragma once
#include "sessions/queue_request.h"
#include "sessions/session.h"

enum { BUCKETS = 256 };

struct sessions {
    struct session *buckets[BUCKETS];
    uint32_t count;
};

/* Takes the next action towards what is desired. May free the session when it is being removed. */
void session_step(struct session *s);

/* Changes and stores `desired`. 0, or -1 with p. */
int session_desire(struct session *s, bool run, struct problem *p);

/* What its sandbox may ask of its queue. */
extern const struct queue_backend session_backend;

/* The resolved sandbox spec for LAUNCH_START as JSON text (malloc'ed). agent: its document. */
char *launch_spec(const struct session *s, const json_t *agent);
