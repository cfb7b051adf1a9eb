/*
 * log.h - one line per event on standard error: "LEVEL process: text". Never pass a secret.
 */
#pragma once

/* Names this process in every line; called once at start. The string must stay valid. */
void log_name(const char *name);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
