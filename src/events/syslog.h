/*
 * syslog.h - an event as a syslog message (RFC 5424), one datagram each.
 *
 *     <28>1 2026-11-23T12:00:00.123Z host ironclaw - syscall.denied - {"seq":...}
 *
 * Facility daemon; the severity is the type's. The message is the event's JSON: ASCII, so it needs no byte
 * order mark.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "events/event.h"

enum { SYSLOG_MAX = EVENT_LINE_MAX + 192, SYSLOG_HOST_MAX = 64 };

/* `host`: printable ASCII without spaces, or "-". Returns the length. */
size_t syslog_message(enum event_type type, uint64_t time_ms, const char *host, const char *line,
                      char dst[SYSLOG_MAX]);

/* This host's name as syslog wants it, "-" if it has none. */
void syslog_host(char dst[SYSLOG_HOST_MAX]);
