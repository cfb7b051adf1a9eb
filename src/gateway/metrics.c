#include "gateway/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "sessions/session.h"
#include "vault/hub.h"
#include "vault/sql.h"

static void count_state(void *arg, struct session *s)
{
    ((unsigned *)arg)[s->state]++;
}

static void counter(FILE *f, const char *name, const char *help, const char *labels, uint64_t value,
                    bool head)
{
    if (head)
        (void)fprintf(f, "# HELP ironclaw_%s %s\n# TYPE ironclaw_%s counter\n", name, help, name);
    (void)fprintf(f, "ironclaw_%s%s %llu\n", name, labels, (unsigned long long)value);
}

static int changes(struct hub *h, FILE *f, struct problem *p)
{
    static const char *const states[] = {"pending", "refused", "rejected", "approved", "applied", "failed"};
    struct err e = ERR_INIT;
    int64_t n = 0;

    (void)fputs("# HELP ironclaw_changes Changes by state.\n# TYPE ironclaw_changes gauge\n", f);
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (sql_int(h->registry, &e, 0, &n, "SELECT count(*) FROM changes WHERE state = ?", "s", states[i]) <
            0)
            return problem_from_err(p, &e);
        (void)fprintf(f, "ironclaw_changes{state=\"%s\"} %lld\n", states[i], (long long)n);
    }
    return 0;
}

char *metrics_text(struct hub *h, struct problem *p)
{
    static const char *const drops[DROPS] = {[DROP_JSONL] = "{sink=\"jsonl\"}",
                                             [DROP_SYSLOG] = "{sink=\"syslog\"}",
                                             [DROP_BURST] = "{sink=\"burst\"}",
                                             [DROP_NOTICES] = "{sink=\"notices\"}",
                                             [DROP_LISTENER] = "{sink=\"listener\"}"};
    const struct counters *c = &h->counters;
    unsigned by_state[SESSION_STATES] = {0};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    int rc;

    if (!f)
        abort();
    sessions_each(h, count_state, by_state);
    (void)fputs("# HELP ironclaw_sessions Sessions by state.\n# TYPE ironclaw_sessions gauge\n", f);
    for (int s = 0; s < SESSION_STATES; s++)
        (void)fprintf(f, "ironclaw_sessions{state=\"%s\"} %u\n", session_state_name((enum session_state)s),
                      by_state[s]);
    rc = changes(h, f, p);
    counter(f, "messages_total", "Messages stored durably.", "{direction=\"in\"}", c->messages_in, true);
    counter(f, "messages_total", "", "{direction=\"out\"}", c->messages_out, false);
    counter(f, "model_calls_total", "Calls to the model port.", "{outcome=\"ok\"}", c->model_ok, true);
    counter(f, "model_calls_total", "", "{outcome=\"refused\"}", c->model_refused, false);
    counter(f, "model_tokens_total", "Tokens used by sessions.", "{direction=\"in\"}", c->tokens_in, true);
    counter(f, "model_tokens_total", "", "{direction=\"out\"}", c->tokens_out, false);
    counter(f, "rejected_tokens_total", "API requests with an unknown token.", "", c->rejected_tokens, true);
    counter(f, "events_total", "Events of the event stream.", "", c->events, true);
    counter(f, "events_evicted_total", "Events that left the ring for newer ones.", "", c->events_evicted,
            true);
    for (int d = 0; d < DROPS; d++)
        counter(f, "events_dropped_total", "Events that somebody did not get.", drops[d],
                c->events_dropped[d], d == 0);
    (void)fputs("# HELP ironclaw_process_up Whether a part of the control plane is connected.\n"
                "# TYPE ironclaw_process_up gauge\nironclaw_process_up{process=\"vault\"} 1\n",
                f);
    for (int peer = PEER_API; peer < PEER_COUNT; peer++)
        if (peer != PEER_VAULT && peer != PEER_UPSTREAM) /* upstream is started on demand */
            (void)fprintf(f, "ironclaw_process_up{process=\"%s\"} %d\n", peer_name((enum peer)peer),
                          h->d->links[peer] != NULL);
    (void)fclose(f);
    if (rc < 0) {
        free(text);
        return NULL;
    }
    return text;
}
