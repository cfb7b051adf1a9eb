/*
 * client.h - one call of the HTTP API: over the unix socket, or over TLS with --url.
 */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "cli/cli.h"

struct client;

/* Finds the control plane and the token. Returns NULL after saying what is wrong; *status is then the exit
 * status. */
struct client *client_open(const struct args *a, int *status);
void client_close(struct client *c);
static inline void client_cleanup_(struct client **c)
{
    client_close(*c);
}
#define CLEANUP_CLIENT __attribute__((cleanup(client_cleanup_)))

/* Calls without a token from now on: for the bootstrap. */
void client_forget_token(struct client *c);

/*
 * One call. `body` may be NULL. On success (2xx) returns 0 and *out is a new reference (json_null() without a
 * body); otherwise says what is wrong and returns an exit status. out may be NULL.
 */
int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out);

/* As client_call(), but silent on failure: for what is only nice to have. */
int client_try(struct client *c, const char *method, const char *path, json_t **out);

/*
 * One server-sent event; `data` is borrowed. Returns false to end the stream.
 */
typedef bool (*client_event_cb)(void *arg, const char *event, const json_t *data);

/*
 * Opens an event stream, calls `opened` once the server has accepted it, then `on_event` for each event until
 * it returns false, the server ends the stream or `timeout_ms` have passed. Returns 0 when on_event ended it,
 * 1 when the server did, 2 on timeout, or -1 after saying what is wrong (*status is then the exit status).
 * `opened` may return an exit status other than 0, which ends the stream as well.
 */
int client_stream(struct client *c, const char *path, uint64_t timeout_ms, int (*opened)(void *arg),
                  client_event_cb on_event, void *arg, int *status);

/* As client_stream(), but says nothing when it fails, and lasts. */
int client_stream_quiet(struct client *c, const char *path, uint64_t timeout_ms, client_event_cb on_event,
                        void *arg, int *status);

/* The state directory in use: --state-dir, IRONCLAW_STATE_DIR or the default. malloc'ed; NULL when there is
 * none. */
char *client_state_dir(const struct args *a);
/* Where 'token bootstrap' keeps the token: IRONCLAW_TOKEN_FILE or the default. malloc'ed; NULL when there is
 * none. */
char *client_token_file(void);
