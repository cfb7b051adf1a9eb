/*
 * chat.c - one conversation: send a message, show the answer as it grows, then show it whole.
 *
 * The event stream is opened before the message is sent, so nothing is missed; it is opened again from the
 * last message seen when a part of the control plane restarts. Each message carries an idempotency key:
 * sending it again after a restart cannot deliver it twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli/client.h"
#include "cli/output.h"
#include "ipc/messages.h"

enum { TIMEOUT_S = 300, PAGE = 1000 };

struct chat {
    struct client *client;
    const char *agent;
    char session[SESSION_ID_MAX + 24];
    const char *text; /* to send; NULL once sent */
    char key[33];     /* its idempotency key */
    uint64_t after;   /* last outbound record seen */
    uint64_t sent;    /* number of our message */
    bool live;        /* deltas are shown as they come */
    bool json;
    char *shown; /* deltas printed so far */
    size_t shown_len;
    json_t *answer;
};

static int find_session(struct chat *c, const char *wanted)
{
    CLEANUP_FREE char *path = x_asprintf("/v1/sessions?agent=%s", c->agent);
    const json_t *row;
    json_t *reply = NULL, *body;
    json_int_t newest = -1;
    const char *id;
    size_t i;
    int rc;

    if (wanted) {
        rc = cli_check_name("a session", wanted);
        (void)io_format(c->session, sizeof(c->session), "%s", wanted);
        return rc;
    }
    rc = client_call(c->client, "GET", path, NULL, &reply);
    if (rc)
        return rc;
    json_array_foreach(json_object_get(reply, "sessions"), i, row)
    {
        json_int_t created = json_integer_value(json_object_get(row, "created"));
        id = json_string_value(json_object_get(row, "id"));
        if (id && io_valid_name(id) && created > newest) {
            newest = created;
            (void)io_format(c->session, sizeof(c->session), "%s", id);
        }
    }
    json_decref(reply);
    if (c->session[0])
        return 0;
    reply = NULL;
    body = json_pack("{s:s}", "agent", c->agent);
    rc = client_call(c->client, "POST", "/v1/sessions", body, &reply);
    json_decref(body);
    id = json_string_value(json_object_get(reply, "id"));
    if (rc == 0 && (!id || !io_valid_name(id)))
        rc = cli_fail(CLI_FAILED, "the answer holds no session id");
    if (rc == 0)
        (void)io_format(c->session, sizeof(c->session), "%s", id);
    json_decref(reply);
    return rc;
}

/* Moves `after` to the end of what the agent has said so far. */
static int skip_old(struct chat *c)
{
    size_t n;

    do {
        CLEANUP_FREE char *path = x_asprintf("/v1/sessions/%s/messages?after=%llu&limit=%d", c->session,
                                             (unsigned long long)c->after, PAGE);
        json_t *reply = NULL, *list;
        int rc = client_call(c->client, "GET", path, NULL, &reply);
        if (rc)
            return rc;
        list = json_object_get(reply, "messages");
        n = json_array_size(list);
        if (n > 0)
            c->after = (uint64_t)json_integer_value(json_object_get(json_array_get(list, n - 1), "seq"));
        json_decref(reply);
    } while (n > 0); /* a page may be short because its messages are long */
    return 0;
}

static int send_message(void *arg)
{
    struct chat *c = arg;
    CLEANUP_FREE char *path = x_asprintf("/v1/sessions/%s/messages", c->session);
    json_t *body, *reply = NULL;
    int rc;

    if (!c->text)
        return 0; /* the stream was opened again */
    body = json_pack("{s:s,s:s}", "text", c->text, "idempotency_key", c->key);
    if (!body)
        return cli_fail(CLI_USAGE, "the message must be UTF-8 text");
    rc = client_call(c->client, "POST", path, body, &reply);
    json_decref(body);
    if (rc == 0) {
        c->sent = (uint64_t)json_integer_value(json_object_get(reply, "seq"));
        c->text = NULL;
    }
    json_decref(reply);
    return rc;
}

static void show_delta(struct chat *c, const char *text)
{
    size_t len = strlen(text);

    if (!c->live || len > MESSAGE_MAX - c->shown_len)
        return;
    c->shown = x_realloc(c->shown, c->shown_len + len + 1);
    memcpy(c->shown + c->shown_len, text, len + 1);
    c->shown_len += len;
    output_untrusted(stdout, text);
    (void)fflush(stdout);
}

static bool on_event(void *arg, const char *event, const json_t *data)
{
    struct chat *c = arg;
    const char *text = json_string_value(json_object_get(data, "text"));
    const char *kind = json_string_value(json_object_get(data, "kind"));
    const json_t *answers = json_object_get(data, "in_reply_to");
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(data, "seq"));

    if (!strcmp(event, "delta") && text) {
        show_delta(c, text);
        return true;
    }
    if (strcmp(event, "message") != 0 || !text || !kind || seq <= c->after)
        return true;
    c->after = seq;
    if (!strcmp(kind, "notice")) {
        (void)fputs("[notice] ", stderr);
        output_untrusted(stderr, text);
        (void)fputc('\n', stderr);
        return true;
    }
    if (json_is_integer(answers) && (uint64_t)json_integer_value(answers) < c->sent)
        return true; /* the answer to an earlier message */
    c->answer = json_deep_copy(data);
    return false;
}

static void show_answer(struct chat *c)
{
    const char *text = json_string_value(json_object_get(c->answer, "text"));
    const char *kind = json_string_value(json_object_get(c->answer, "kind"));

    if (c->json) {
        output_json(c->answer);
        return;
    }
    if (c->shown && !strcmp(c->shown, text)) {
        (void)printf("\n");
        return;
    }
    if (c->shown)
        (void)printf("\n");
    if (!strcmp(kind, "question"))
        (void)printf("[question] ");
    output_untrusted(stdout, text);
    (void)printf("\n");
}

/* What the agent asked for and a human has not decided. */
static void show_held(struct chat *c)
{
    json_t *reply = NULL;
    const json_t *row;
    size_t i;

    if (client_try(c->client, "GET", "/v1/changes/pending", &reply) != 0)
        return;
    json_array_foreach(json_object_get(reply, "changes"), i, row)
    {
        const char *agent = json_string_value(json_object_get(row, "agent"));
        const char *id = json_string_value(json_object_get(row, "id"));
        const char *kind = json_string_value(json_object_get(row, "kind"));
        if (!agent || !id || !kind || strcmp(agent, c->agent) != 0 || !io_valid_name(id))
            continue;
        (void)fprintf(stderr, "[held] the change %s (%s) waits for approval: ironclaw change show %s\n", id,
                      kind, id);
    }
    json_decref(reply);
}

static int converse(struct chat *c, const char *text, uint64_t timeout_s)
{
    uint64_t start = io_monotonic_ns() / 1000000, end = start + timeout_s * 1000;
    unsigned char raw[16];
    int rc = 0, how;

    io_random(raw, sizeof(raw));
    io_hex(c->key, raw, sizeof(raw));
    c->text = text;
    do {
        CLEANUP_FREE char *path =
            x_asprintf("/v1/sessions/%s/stream?after=%llu", c->session, (unsigned long long)c->after);
        uint64_t now = io_monotonic_ns() / 1000000;
        how = now < end ? client_stream(c->client, path, end - now, send_message, on_event, c, &rc) : 2;
        if (how == 1)
            (void)usleep(200000); /* it ended early: a part of the control plane is being restarted */
    } while (how == 1);
    if (how == 0) {
        show_answer(c);
        if (!c->json)
            show_held(c);
    } else if (how == 2) {
        rc = cli_fail(CLI_FAILED,
                      "no answer came within %llu s; it may still come: ironclaw session history %s",
                      (unsigned long long)timeout_s, c->session);
    }
    json_decref(c->answer);
    c->answer = NULL;
    free(c->shown);
    c->shown = NULL;
    c->shown_len = 0;
    return rc;
}

static int interactive(struct chat *c, uint64_t timeout_s)
{
    bool tty = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = 0;

    for (;;) {
        if (tty)
            (void)fputs("> ", stderr);
        n = getline(&line, &cap, stdin);
        if (n < 0)
            break;
        line[strcspn(line, "\r\n")] = 0;
        if (!*line)
            continue;
        rc = converse(c, line, timeout_s);
        if (rc && (!tty || rc != CLI_FAILED))
            break;
    }
    if (tty && n < 0)
        (void)fputc('\n', stderr);
    free(line);
    return rc;
}

int chat_run(const struct args *a)
{
    CLEANUP_CLIENT struct client *client = NULL;
    struct chat c = {.agent = a->pos[0], .json = args_has(a, "json")};
    const char *timeout = args_get(a, "timeout");
    uint64_t seconds = TIMEOUT_S;
    int rc = cli_check_name("an agent", a->pos[0]);

    if (rc)
        return rc;
    if (timeout && (!io_parse_u64(timeout, 86400, &seconds) || seconds == 0))
        return cli_fail(CLI_USAGE, "--timeout takes 1 to 86400 seconds");
    if (a->npos > 1 && (!*a->pos[1] || strlen(a->pos[1]) > MESSAGE_MAX))
        return cli_fail(CLI_USAGE, "a message has 1 to %d bytes", MESSAGE_MAX);
    c.live = isatty(STDOUT_FILENO) && !c.json;
    client = client_open(a, &rc);
    if (!client)
        return rc;
    c.client = client;
    rc = find_session(&c, args_get(a, "session"));
    if (rc == 0)
        rc = skip_old(&c);
    if (rc)
        return rc;
    return a->npos > 1 ? converse(&c, a->pos[1], seconds) : interactive(&c, seconds);
}
