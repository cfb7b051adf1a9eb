/*
 * main.c - the built-in agent: receives a message, asks the model, runs the tools it calls, appends the
 * answer.
 *
 * It lives inside the sandbox and is as untrusted as any other program there. What it must not lose is the
 * host's to keep: a message counts as handled only when the answer is appended with "consumed", in one
 * durable step; an agent that dies before gets the same message again. The conversation is rebuilt from the
 * queue's history at start.
 *
 * While idle it is blocked in one read(2).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/conversation.h"
#include "agent/model_client.h"
#include "agent/queue_client.h"
#include "agent/tools.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"

enum {
    TOOL_ROUNDS_MAX = 16,
    MODEL_ATTEMPTS = 4,
    RECV_WAIT_S = 60,
    HISTORY_RECORDS = 200,
    RETRY_WAIT_MAX_S = 20,
    RECONNECT_ATTEMPTS = 60,
};

volatile sig_atomic_t agent_stopping;
static volatile sig_atomic_t busy; /* a tool is under way and is finished first */

struct agent {
    struct queue queue;
    struct conversation talk;
    char *instructions, *model;
    json_t *tools; /* definitions */
};

/* Ending at any other moment loses nothing: a message that is not consumed comes again. */
static void on_term(int sig)
{
    (void)sig;
    agent_stopping = 1;
    if (!busy)
        _exit(0);
}

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* ---- start ---- */

static int load_config(struct agent *a, struct err *e)
{
    json_t *answer = queue_call(&a->queue, json_pack("{s:s}", "op", "config"), e);
    const json_t *config = json_object_get(answer, "config");

    if (!answer)
        return -1;
    a->instructions = x_strdup(str(config, "instructions"));
    a->model = x_strdup(str(config, "model"));
    a->tools = tool_definitions(json_object_get(config, "tools"));
    json_decref(answer);
    return 0;
}

static int load_history(struct agent *a, struct err *e)
{
    json_t *answer =
        queue_call(&a->queue, json_pack("{s:s, s:i}", "op", "history", "limit", HISTORY_RECORDS), e);
    const json_t *record;
    size_t i;

    if (!answer)
        return -1;
    json_array_foreach(json_object_get(answer, "records"), i, record)
    {
        if (!strcmp(str(record, "direction"), "in"))
            conversation_user(&a->talk, str(record, "text"));
        else if (strcmp(str(record, "kind"), "notice") != 0)
            conversation_assistant(&a->talk, str(record, "text"));
    }
    conversation_trim(&a->talk);
    json_decref(answer);
    return 0;
}

/* The queue's server may be restarting: its listening socket stays, so connecting waits in the backlog. */
static int connect_queue(struct agent *a, struct err *e)
{
    for (int i = 0; i < RECONNECT_ATTEMPTS; i++) {
        if (queue_connect(&a->queue, e) == 0)
            return 0;
        (void)sleep(1);
    }
    return -1;
}

/* ---- one message ---- */

static void on_text(void *arg, const char *text)
{
    struct agent *a = arg;
    struct err e = ERR_INIT;

    /* Watching is a courtesy: a delta that cannot be shown is no failure. */
    if (a->queue.fd >= 0)
        json_decref(queue_call(&a->queue, json_pack("{s:s, s:s}", "op", "delta", "text", text), &e));
}

static int ask_model(struct agent *a, struct model_answer *answer, struct err *e)
{
    struct model_options o = {.model = a->model,
                              .instructions = a->instructions,
                              .messages = a->talk.messages,
                              .tools = a->tools,
                              .on_text = on_text,
                              .arg = a};

    for (unsigned attempt = 0;; attempt++) {
        unsigned wait = 1U << attempt;
        if (model_ask(&o, answer, e) == 0)
            return 0;
        if (attempt + 1 >= MODEL_ATTEMPTS || !model_worth_retry(answer->status) ||
            answer->retry_after_s > RETRY_WAIT_MAX_S)
            return -1;
        if (answer->retry_after_s > wait)
            wait = answer->retry_after_s;
        model_answer_free(answer);
        (void)sleep(wait);
    }
}

static bool is_offered(const struct agent *a, const char *name)
{
    const json_t *t;
    size_t i;

    json_array_foreach(a->tools, i, t)
    {
        if (!strcmp(str(t, "name"), name))
            return true;
    }
    return false;
}

static void run_busy(struct agent *a, const struct tool *t, const json_t *input, struct tool_result *r)
{
    busy = 1;
    t->run(&a->queue, input, r);
    busy = 0;
    if (agent_stopping)
        _exit(0);
}

/* Runs one call and describes its result as a tool_result block; without "content" while a human is asked. */
static json_t *run_tool(struct agent *a, const json_t *call, char **question)
{
    const char *name = str(call, "name");
    struct tool_result r = {.text = NULL};
    json_t *block = json_pack("{s:s, s:s}", "type", "tool_result", "tool_use_id", str(call, "id"));

    if (json_is_true(json_object_get(call, "malformed")))
        tool_fail(&r, "the input of this call is not a JSON object: call the tool again with valid JSON");
    else if (!is_offered(a, name))
        tool_fail(&r, "there is no tool \"%s\" for you: request_change can ask for one", name);
    else
        run_busy(a, tool_find(name), json_object_get(call, "input"), &r);
    if (r.ends_turn && *question) {
        tool_fail(&r, "ask one question at a time");
        r.ends_turn = false;
    }
    if (r.ends_turn)
        *question = TAKE_PTR(r.text);
    else
        (void)json_object_set_new(block, "content", json_string(r.text && *r.text ? r.text : "(no output)"));
    if (r.is_error)
        (void)json_object_set_new(block, "is_error", json_true());
    free(r.text);
    return block;
}

/* Runs all calls of an answer. Returns their results, or NULL when there was none. */
static json_t *run_tools(struct agent *a, json_t *blocks, char **question)
{
    json_t *results = NULL, *block;
    size_t i;

    json_array_foreach(blocks, i, block)
    {
        if (strcmp(str(block, "type"), "tool_use") != 0)
            continue;
        if (!results)
            results = json_array();
        (void)json_array_append_new(results, run_tool(a, block, question));
        (void)json_object_del(block, "malformed");
    }
    return results;
}

static char *answer_text(const json_t *blocks)
{
    char *out = NULL;
    size_t size = 0, i;
    const json_t *block;
    FILE *to = open_memstream(&out, &size);

    if (!to)
        abort();
    json_array_foreach(blocks, i, block)
    {
        if (!strcmp(str(block, "type"), "text"))
            (void)fputs(str(block, "text"), to);
    }
    if (fclose(to) != 0)
        abort();
    return out;
}

/* The end of a turn: what the human sees, and the message marked as handled. Survives a restart of the
 * queue's server. */
static int finish(struct agent *a, const char *kind, const char *text, uint64_t seq, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        if (a->queue.fd < 0 && connect_queue(a, e) < 0)
            return -1;
        /* Not "busy": an append is durable with its message consumed, or neither is. To wait for an answer
         * that may never come (the queue's server died) would only hold up the end. */
        int rc = queue_append(&a->queue, kind, *text ? text : "(no answer)", seq, e);
        if (rc == 0 || a->queue.fd >= 0)
            return rc; /* done, or refused; only a lost connection is worth another try */
    }
    return -1;
}

static int handle(struct agent *a, const char *text, uint64_t seq, struct err *e)
{
    conversation_user(&a->talk, text);
    for (int round = 0; round <= TOOL_ROUNDS_MAX; round++) {
        struct model_answer answer;
        CLEANUP_FREE char *said = NULL, *question = NULL;
        json_t *results;

        conversation_trim(&a->talk);
        if (ask_model(a, &answer, e) < 0) {
            said = x_asprintf("I cannot answer now: %s", e->text);
            model_answer_free(&answer);
            conversation_assistant(&a->talk, said);
            return finish(a, "notice", said, seq, e);
        }
        said = answer_text(answer.blocks);
        if (round == TOOL_ROUNDS_MAX) {
            /* The last answer may still call tools; leaving them out keeps the conversation well-formed. */
            model_answer_free(&answer);
            free(said);
            said = x_asprintf("I stopped after %d rounds of tools without an answer.", TOOL_ROUNDS_MAX);
            conversation_assistant(&a->talk, said);
            return finish(a, "notice", said, seq, e);
        }
        results = run_tools(a, answer.blocks, &question);
        conversation_blocks(&a->talk, json_incref(answer.blocks));
        model_answer_free(&answer);
        if (!results)
            return finish(a, "message", said, seq, e);
        conversation_results(&a->talk, results);
        if (question)
            return finish(a, "question", question, seq, e);
    }
    return 0;
}

static void serve(struct agent *a, struct err *e)
{
    for (;;) {
        json_t *answer, *message;
        int rc = 0;

        if (a->queue.fd < 0 && connect_queue(a, e) < 0)
            return;
        answer = queue_call(&a->queue, json_pack("{s:s, s:i}", "op", "recv", "wait", RECV_WAIT_S), e);
        if (!answer && a->queue.fd < 0) {
            (void)sleep(1);
            continue;
        }
        if (!answer)
            return;
        message = json_object_get(answer, "message");
        if (json_is_object(message))
            rc = handle(a, str(message, "text"),
                        (uint64_t)json_integer_value(json_object_get(message, "seq")), e);
        json_decref(answer);
        if (rc < 0 && a->queue.fd >= 0)
            return;
    }
}

int main(void)
{
    struct agent a = {.queue = {.fd = -1}};
    struct sigaction term = {.sa_handler = on_term};
    const char *workspace = getenv("IRONCLAW_WORKSPACE");
    struct err e = ERR_INIT;

    log_name("agent");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigaction(SIGTERM, &term, NULL);
    if (chdir(workspace ? workspace : "/workspace") < 0)
        log_warn("there is no /workspace: tools work in the current directory");
    conversation_init(&a.talk);
    if (connect_queue(&a, &e) == 0 && load_config(&a, &e) == 0 && load_history(&a, &e) == 0)
        serve(&a, &e); /* returns on failure only */
    log_error("%s", e.text);
    queue_close(&a.queue);
    conversation_free(&a.talk);
    json_decref(a.tools);
    free(a.instructions);
    free(a.model);
    return 1;
}
