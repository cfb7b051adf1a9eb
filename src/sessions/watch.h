/*
 * watch.h - API callers that wait for what a session says: long polls and event streams.
 *
 * A watch belongs to its session and remembers the last outbound number it was given; records always come
 * from the store, so a slow reader loses none. Only deltas, which are not stored, are dropped when the link
 * to api is full.
 */
#pragma once
#include "sessions/session.h"

/* Answers with outbound records above `after`; when there are none, waits up to wait_ms. */
void watch_poll(struct session *s, struct api_ref ref, uint64_t after, uint32_t limit, uint32_t wait_ms);
/* Streams {"event","data"} until cancelled or the session is gone. */
void watch_stream(struct session *s, struct api_ref ref, uint64_t after);
void watch_cancel(struct hub *h, uint64_t call_id);
/* The link to api is gone: nobody is left to be told. */
void watch_drop_all(struct hub *h);

/* A new outbound record; a piece of text that is not stored; a change of state. */
void watch_record(struct session *s);
void watch_delta(struct session *s, const char *text, size_t len);
void watch_state(struct session *s);
/* The session is gone: ends all of its watches. */
void watch_end(struct session *s);

/* {"messages":[{"seq","kind","text","time","in_reply_to"?}],"last":n} or NULL with p. last: number to pass as
 * `after` next. */
json_t *watch_messages(struct session *s, uint64_t after, uint32_t limit, struct problem *p);
/*
 * The newest `limit` records of both directions in time order, [{"direction","seq","kind","text","time"}].
 * only_handled leaves out inbound messages that the agent has not consumed. since_ms: only later ones.
 */
json_t *watch_history(struct session *s, bool only_handled, uint64_t since_ms, uint32_t limit, size_t bytes,
                      struct problem *p);
const char *record_kind_name(uint32_t kind);
