/*
 * event.h - what an operator is told while it happens: one shape for every event, one JSON object on one
 * line.
 *
 *   {"seq":N,"time_ms":N,"type":"syscall.denied","session":"s-..","agent":"coder","wall":"container",
 *    "count":N,"detail":{...}}
 *
 * The table event_kinds[] names every type with the members of its detail; api/openapi.json describes the
 * same (schema Event). What is not known is "" (a denied token has no session). `count` tells how many alike
 * things happened since the last event that told of them.
 *
 * Pure: text in, text out. Values may come from a sandbox: the line is ASCII whatever they hold.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_type {
    EVENT_SANDBOX_LAUNCH,
    EVENT_SANDBOX_EXIT,
    EVENT_SANDBOX_KILLED, /* by a signal or for memory; sandbox.exit follows */
    EVENT_SYSCALL_DENIED,
    EVENT_LIMIT_MEMORY,
    EVENT_LIMIT_PIDS,
    EVENT_LIMIT_CPU,
    EVENT_PORT_DENIED,
    EVENT_POLICY_HELD,
    EVENT_POLICY_REFUSED,
    EVENT_POLICY_APPROVED,
    EVENT_POLICY_REJECTED,
    EVENT_AUTH_DENIED,
    EVENT_DROPPED,
    EVENT_TYPES
};

enum {
    EVENT_FIELDS_MAX = 5,
    EVENT_VALUE_MAX = 95, /* bytes of one text value that are shown; the rest is cut off */
    EVENT_DETAIL_MAX = 2560,
    EVENT_LINE_MAX = 3584, /* the longest line, its NUL included */
};

enum event_value_kind { EVENT_TEXT = 1, EVENT_NUMBER, EVENT_FLAG };

struct event_kind {
    const char *name;
    unsigned severity; /* of syslog: 4 warning, 5 notice, 6 informational */
    struct {
        const char *name;
        enum event_value_kind kind; /* 0: no more members */
    } fields[EVENT_FIELDS_MAX + 1];
};
extern const struct event_kind event_kinds[EVENT_TYPES];

union event_value {
    const char *text; /* NULL is "" */
    uint64_t number;  /* EVENT_NUMBER, EVENT_FLAG */
};

struct event_head {
    uint64_t seq, time_ms;
    enum event_type type;
    const char *session, *agent, *wall;
    uint64_t count;
};

/* Members a type has. */
unsigned event_fields(enum event_type type);

/* Writes the detail object, NUL-terminated; values in the order of the table. Returns its length. */
size_t event_detail(enum event_type type, const union event_value *values, char dst[EVENT_DETAIL_MAX]);

/* Writes the whole event without a newline, NUL-terminated; `detail` as event_detail() wrote it. Returns its
 * length. */
size_t event_line(const struct event_head *h, const char *detail, char dst[EVENT_LINE_MAX]);
