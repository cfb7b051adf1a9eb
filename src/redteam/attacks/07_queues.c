/*
 * Family 7: the queues: what was said shall stay said, what came in shall come from outside, and nobody
 * else's shall be heard.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"

/* One frame and its answer as a step; the answer's text is proof of what was heard. True if it says ok. */
static bool ask(int queue, const char *name, const char *json)
{
    char *answer = queue_ask(queue, json, strlen(json));
    bool ok = answer && strstr(answer, "\"ok\":true");

    errno = EACCES;
    stepf(name, ok ? 0 : -1, "%.200s", answer ? answer : "the connection was closed");
    if (answer && strlen(answer) > 200)
        proof(name, answer, strlen(answer) < 8192 ? strlen(answer) : 8192);
    free(answer);
    return ok;
}

static void rewrite(const struct order *o)
{
    static const char *const ops[] = {"rewrite", "delete",  "update", "truncate", "remove",
                                      "edit",    "reorder", "clear",  "sql"};
    int queue = queue_open();
    char json[512], name[32];

    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        (void)snprintf(
            json, sizeof(json),
            "{\"op\":\"%s\",\"seq\":1,\"direction\":\"out\",\"text\":\"rewritten %s\",\"query\":\"DELETE "
            "FROM records\"}",
            ops[i], order_text(o, "marker"));
        (void)snprintf(name, sizeof(name), "op-%zu", i);
        if (ask(queue, name, json))
            claim("the operation '%s' was accepted", ops[i]);
    }
    (void)snprintf(
        json, sizeof(json),
        "{\"op\":\"append\",\"kind\":\"notice\",\"text\":\"append %s\",\"seq\":1,\"replace\":true}",
        order_text(o, "marker"));
    (void)ask(queue, "append-at", json);
    if (ask(queue, "consume-future",
            "{\"op\":\"append\",\"kind\":\"notice\",\"text\":\"x\",\"consumed\":999999999}"))
        claim("messages that do not exist yet were consumed");
    if (ask(queue, "consume-negative",
            "{\"op\":\"append\",\"kind\":\"notice\",\"text\":\"x\",\"consumed\":-1}"))
        claim("a negative number was consumed");
    (void)close(queue);
}

static void inbound(const struct order *o)
{
    static const char *const forms[] = {
        "\"op\":\"append\",\"kind\":\"inbound\"",
        "\"op\":\"append\",\"kind\":\"message\",\"direction\":\"in\"",
        "\"op\":\"append\",\"kind\":\"user\"",
        "\"op\":\"send\"",
        "\"op\":\"message\",\"direction\":\"in\"",
        "\"op\":\"inject\"",
        "\"op\":\"append\",\"kind\":\"message\",\"role\":\"user\",\"from\":\"admin\""};
    int queue = queue_open();
    char json[512], name[32];

    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        (void)snprintf(json, sizeof(json), "{%s,\"text\":\"%s\"}", forms[i], order_text(o, "marker"));
        (void)snprintf(name, sizeof(name), "form-%zu", i);
        (void)ask(queue, name, json);
    }
    (void)close(queue);
}

static void other(const struct order *o)
{
    static const char *const ops[] = {"\"op\":\"history\",\"limit\":1000",
                                      "\"op\":\"recv\",\"wait\":0",
                                      "\"op\":\"config\"",
                                      "\"op\":\"hello\"",
                                      "\"op\":\"delta\",\"text\":\"x\"",
                                      "\"op\":\"subscribe\""};
    const char *session = order_text(o, "victim_session");
    int queue = queue_open();
    char json[512], name[32];

    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        (void)snprintf(json, sizeof(json), "{%s,\"session\":\"%s\",\"id\":\"%s\",\"agent\":\"%s\"}", ops[i],
                       session, session, order_text(o, "victim_agent"));
        (void)snprintf(name, sizeof(name), "as-other-%zu", i);
        (void)ask(queue, name, json);
    }
    (void)snprintf(json, sizeof(json),
                   "{\"op\":\"append\",\"kind\":\"message\",\"session\":\"%s\",\"text\":\"%s\"}", session,
                   order_text(o, "marker"));
    (void)ask(queue, "append-to-other", json);
    (void)close(queue);
    (void)try_read("inbound-db", order_text(o, "inbound_db"));
    (void)try_read("session-key", order_text(o, "session_key"));
}

static void replay(const struct order *o)
{
    int queue = queue_open();
    char *answer;
    unsigned again = 0;

    (void)o;
    (void)ask(queue, "consume-back", "{\"op\":\"append\",\"kind\":\"notice\",\"text\":\"x\",\"consumed\":1}");
    (void)ask(queue, "consume-zero", "{\"op\":\"append\",\"kind\":\"notice\",\"text\":\"x\",\"consumed\":0}");
    for (int i = 0; i < 3; i++) {
        (void)close(queue);
        queue = queue_open();
        answer = queue_ask(queue, "{\"op\":\"recv\",\"wait\":0}", 22);
        again += answer && !strstr(answer, "\"message\":null");
        free(answer);
    }
    stepf("again", (long)again, "%u consumed messages came again", again);
    if (again)
        claim("a consumed message was delivered again");
    (void)close(queue);
}

static void flood(const struct order *o)
{
    enum { CONNECTIONS = 40, TEXT = 1000 };
    uint64_t until = now_ms() + 1500;
    unsigned long sent = 0, refused = 0;
    int queues[CONNECTIONS], open_now = 0;
    char text[TEXT + 1], *request;

    (void)o;
    memset(text, 'f', TEXT);
    text[TEXT] = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        queues[i] = queue_open();
        open_now += queues[i] >= 0;
    }
    stepf("connect", open_now, "%d connections", open_now);
    request = queue_append_request("notice", text, 0);
    while (request && now_ms() < until) {
        char *answer = queue_ask(queues[sent % 8], request, strlen(request));
        sent++;
        refused += !answer || !strstr(answer, "\"ok\":true");
        free(answer);
        if (refused > 100)
            break;
    }
    stepf("append", (long)sent, "%lu records, %lu refused", sent, refused);
    free(request);
    for (int i = 0; i < CONNECTIONS; i++)
        (void)close(queues[i]);
}

const struct inside_attack inside_queues[] = {
    {"queue.rewrite", rewrite}, {"queue.inbound", inbound}, {"queue.other", other},
    {"queue.replay", replay},   {"queue.flood", flood},     {NULL, NULL},
};
