/*
 * notice.h - what another process of ours reports to the events process: a type, whose it is, and the values
 * of the type's members, in the order of event_kinds[] (ipc/messages.h, EVENTS_NOTICE).
 *
 * Nobody waits for it and nobody depends on it: when the events process is away or slow, notices are dropped,
 * and their number is told when it is back.
 */
#pragma once
#include "events/event.h"
#include "ipc/messages.h"
#include "ipc/wire.h"

enum { NOTICE_WALL_MAX = 15, NOTICE_MAX = 1024, NOTICE_BACKLOG_MAX = 64 * 1024 };

struct notice {
    enum event_type type;
    char session[SESSION_ID_MAX + 1], agent[AGENT_NAME_MAX + 1], wall[NOTICE_WALL_MAX + 1];
    uint64_t count;
    union event_value values[EVENT_FIELDS_MAX];
    char texts[EVENT_FIELDS_MAX][EVENT_VALUE_MAX + 1]; /* what values[].text points to */
};

void notice_put(struct wire_out *o, enum event_type type, const char *session, const char *agent,
                const char *wall, uint64_t count, const union event_value *values);

/* Reads one; false when it does not parse. `n` must stay where it is. */
bool notice_get(struct wire_in *in, struct notice *n);

struct daemon;
/* Sends one, or counts it as dropped. Texts are copied. d may be NULL: then nothing happens. */
void event_note(struct daemon *d, enum event_type type, const char *session, const char *agent,
                const char *wall, uint64_t count, const union event_value *values);

/* event_note() with the values as a list of initialisers: EVENT_NOTE(d, type, s, a, w, n, {.text = "x"},
 * {.number = 1}) */
#define EVENT_NOTE(d, type, session, agent, wall, count, ...)                                                \
    event_note(d, type, session, agent, wall, count, (const union event_value[EVENT_FIELDS_MAX]){__VA_ARGS__})
