/*
 * watcher.h - reports to the events process what befalls sandboxes: launch, limits, end.
 *
 * Control groups count how often a limit was hit. Not every kernel can wake us for it, and none for cpu
 * throttling; so running sandboxes are looked at one slice after the other, each once in WATCH_EVERY_S, and a
 * last time when they end.
 */
#pragma once
#include "launcher/sessions.h"
#include "proc/daemon.h"

enum { WATCH_EVERY_S = 10 };

void watcher_init(struct daemon *d, struct launcher *l);

/* The events process is there (again): sandboxes that run are named to it. */
void watcher_events_up(struct launcher *l);
void watcher_events_down(struct launcher *l);

/* For struct launcher. */
void watcher_launched(struct launcher *l, struct launched *s);
void watcher_hits(struct launcher *l, struct launched *s);

/* After on_last_hits: why it ended. `code` and `reason` as in struct launcher. */
void watcher_exited(struct launched *s, int code, const char *reason);
