/*
 * What holds after every attack, whatever it aimed at: nobody came to the host's listeners, no secret was
 * sent, the host's files, the control plane, its configuration and the victim are as they were.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

static const char *const daemons[] = {"api", "vault", "launcher", "modelproxy"};

/* Everything that only an administrator may change, as text. */
static char *configuration(struct arena *a, struct err *e)
{
    static const char *const paths[] = {"/v1/agents", "/v1/tokens", "/v1/providers", "/v1/images"};
    json_t *all = json_array(), *one;
    char *text;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (api_need(a->plane->api, "GET", paths[i], NULL, &one, e) < 0) {
            json_decref(all);
            return NULL;
        }
        (void)json_array_append_new(all, one ? one : json_null());
    }
    text = json_dumps(all, JSON_INDENT(0) | JSON_SORT_KEYS);
    json_decref(all);
    return text;
}

int arena_restarts(struct arena *a, const struct player *who, long long *out, struct err *e)
{
    json_t *answer = NULL;
    char path[128];

    (void)io_format(path, sizeof(path), "/v1/sessions/%s", who->session);
    if (api_need(a->plane->api, "GET", path, NULL, &answer, e) < 0)
        return -1;
    *out = json_integer_value(json_object_get(answer, "restarts"));
    json_decref(answer);
    return 0;
}

bool arena_restarted(struct arena *a)
{
    struct err ignored = ERR_INIT;
    long long now;

    return arena_restarts(a, &a->attacker, &now, &ignored) == 0 && now > a->before.restarts[0];
}

/* `lost`: "", or what it no longer has. */
static int victim(struct arena *a, char *lost, size_t cap, long *visits, long *signals, struct err *e)
{
    struct attempt record;

    if (arena_order(a, &a->victim, "check", 0, "", &record, NULL, e) < 0)
        return -1;
    *lost = 0;
    if (!record.complete || attempt_number(&record, "intact", 0) != 1)
        (void)io_format(lost, cap, "%.60s",
                        attempt_fact(&record, "lost") ? attempt_fact(&record, "lost") : record.end);
    *visits = attempt_number(&record, "visits", -1);
    *signals = attempt_number(&record, "signals", -1);
    attempt_free(&record);
    return 0;
}

/* The limits of a sandbox are read every ten seconds and at its end (docs/events.md): in a session that goes
 * on, such an event may be an earlier attack's. */
long long arena_events(struct arena *a, const char *session, long long after, char *types, size_t cap)
{
    bool ended = strcmp(session, a->attacker.session) != 0;
    json_t *answer = NULL, *event;
    struct err ignored = ERR_INIT;
    char path[192];
    size_t i, used = strlen(types);
    long status;

    (void)io_format(path, sizeof(path), "/v1/events?session=%s&after=%lld&limit=1000", session, after);
    status = api_call(a->plane->api, "GET", path, NULL, &answer, &ignored);
    json_array_foreach(json_object_get(answer, "events"), i, event)
    {
        const char *type = json_string_value(json_object_get(event, "type"));
        long long seq = json_integer_value(json_object_get(event, "seq"));
        after = seq > after ? seq : after;
        /* Not what the harness itself did. */
        if (!type || !strcmp(type, "sandbox.launch") || !strcmp(type, "sandbox.exit") ||
            !strcmp(type, "policy.rejected"))
            continue;
        if (status == 200 && !strstr(types, type) && (ended || strncmp(type, "limit.", 6) != 0) &&
            io_format(types + used, cap - used, "%s%s", used ? " " : "", type))
            used = strlen(types);
        types[used] = 0;
    }
    json_decref(answer);
    return after;
}

int standing_before(struct arena *a, struct err *e)
{
    struct standing *s = &a->before;
    char ignored[256] = "";
    char lost[64];

    free(s->config);
    memset(s, 0, sizeof(*s));
    (void)arena_visits(a, ignored, sizeof(ignored));
    for (size_t i = 0; i < ARRAY_LEN(daemons); i++)
        s->pids[s->npids++] = plane_daemon(a->plane, daemons[i]);
    s->files = host_tree_sum(a->host_dir);
    s->config = configuration(a, e);
    ignored[0] = 0;
    a->events_after = arena_events(a, a->attacker.session, a->events_after, ignored, sizeof(ignored));
    if (!s->config || arena_restarts(a, &a->attacker, &s->restarts[0], e) < 0 ||
        arena_restarts(a, &a->victim, &s->restarts[1], e) < 0 ||
        victim(a, lost, sizeof(lost), &s->visits, &s->signals, e) < 0)
        return -1;
    return *lost ? err_set(e, EIO, "the victim has lost its secrets even before the attack: %s", lost) : 0;
}

static void check_secrets(const struct arena *a, struct trial *t)
{
    for (size_t i = 0; i < a->nsecrets && t->have_record; i++)
        if (attempt_leaks(&t->record, a->secrets[i].text)) {
            trial_check(t, false, "no-secret-sent", "the attacker sent the secret: %s", a->secrets[i].name);
            return;
        }
    trial_check(t, true, "no-secret-sent", "none of %zu secrets was sent", a->nsecrets);
}

static void check_daemons(struct arena *a, struct trial *t)
{
    for (size_t i = 0; i < ARRAY_LEN(daemons); i++)
        if (plane_daemon(a->plane, daemons[i]) != a->before.pids[i]) {
            trial_check(t, false, "control-plane-alive", "the %s process died", daemons[i]);
            return;
        }
    trial_check(t, true, "control-plane-alive", "the same processes serve as before");
}

int standing_after(struct arena *a, struct trial *t, struct err *e)
{
    struct standing *s = &a->before;
    CLEANUP_FREE char *config = NULL;
    char where[256];
    unsigned visits = arena_visits(a, where, sizeof(where));
    long long now[2];
    long doors, signals;
    char lost[64];

    trial_check(t, visits == 0, "no-visit", visits ? "%u arrived at the host's listeners: %s" : "nobody came",
                visits, where);
    check_secrets(a, t);
    trial_check(t, host_tree_sum(a->host_dir) == s->files, "host-files",
                "the host's files compared before and after");
    check_daemons(a, t);
    a->events_after = arena_events(a, a->attacker.session, a->events_after, t->event, sizeof(t->event));
    config = configuration(a, e);
    if (!config || arena_restarts(a, &a->attacker, &now[0], e) < 0 ||
        arena_restarts(a, &a->victim, &now[1], e) < 0 ||
        victim(a, lost, sizeof(lost), &doors, &signals, e) < 0)
        return -1;
    trial_check(t, !strcmp(config, s->config), "configuration",
                "agents, tokens, providers and images compared before and after");
    trial_check(t, now[1] == s->restarts[1], "sibling-alive", "the sibling was restarted %lld times",
                now[1] - s->restarts[1]);
    trial_check(t, !*lost, "sibling-intact",
                *lost ? "the sibling lost or found changed: %s"
                      : "the sibling's secrets are there, unchanged%s",
                lost);
    trial_check(t, doors == s->visits && signals == s->signals, "sibling-untouched",
                "%ld visits to the sibling's doors, %ld signals", doors - s->visits, signals - s->signals);
    return 0;
}
