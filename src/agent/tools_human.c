/*
 * tools_human.c - the tools that reach people: a message, a question, a request for more rights.
 */
#include <stdint.h>
#include <string.h>

#include "agent/tools.h"
#include "base/cleanup.h"
#include "base/io.h"

static void run_send(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *text = tool_string(input, "text", r);
    struct err e = ERR_INIT;

    if (!text)
        return;
    if (queue_append(q, "message", text, 0, &e) < 0)
        tool_fail(r, "the message was not sent: %s", e.text);
    else
        r->text = x_strdup("sent");
}

static void run_ask(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *question = tool_string(input, "question", r);

    (void)q;
    if (!question)
        return;
    /* main.c appends the question together with "consumed": both become durable in one step. */
    r->text = text_clean(question, strlen(question), QUEUE_TEXT_MAX);
    r->ends_turn = true;
}

/*
 * What an agent asks for comes on top of what it has: a request for tools becomes the union of its present
 * list and the new names. (Only an operator replaces or shortens a list.) Returns a new document, or NULL
 * with r failed.
 */
static json_t *tools_with_present(struct queue *q, const json_t *document, struct tool_result *r)
{
    struct err e = ERR_INIT;
    json_t *answer = queue_call(q, json_pack("{s:s}", "op", "config"), &e), *merged, *t;
    const json_t *lists[2];
    json_t *all = json_array();
    size_t i, k;

    if (!answer) {
        tool_fail(r, "the present list of tools cannot be read: %s", e.text);
        json_decref(all);
        return NULL;
    }
    lists[0] = json_object_get(json_object_get(answer, "config"), "tools");
    lists[1] = json_object_get(document, "tools");
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        json_array_foreach(lists[l], i, t)
        {
            for (k = 0; k < json_array_size(all) && !json_equal(json_array_get(all, k), t); k++)
                ;
            if (k == json_array_size(all))
                (void)json_array_append(all, t);
        }
    }
    json_decref(answer);
    merged = json_copy((json_t *)(uintptr_t)document);
    (void)json_object_set_new(merged, "tools", all);
    return merged;
}

static void run_change(struct queue *q, const json_t *input, struct tool_result *r)
{
    const char *kind = tool_string(input, "kind", r), *reason = kind ? tool_string(input, "reason", r) : NULL;
    json_t *document = json_object_get(input, "document"), *answer, *change;
    struct err e = ERR_INIT;
    const char *id, *state;

    if (!reason)
        return;
    if (!json_is_object(document)) {
        tool_fail(r, "the argument \"document\" must be an object such as {\"tools\": [\"shell\"]}");
        return;
    }
    if (!strcmp(kind, "tools") && json_is_array(json_object_get(document, "tools")))
        document = tools_with_present(q, document, r);
    else
        json_incref(document);
    if (!document)
        return;
    answer = queue_call(q,
                        json_pack("{s:s, s:s, s:o, s:s}", "op", "change", "kind", kind, "document", document,
                                  "reason", reason),
                        &e);
    if (!answer) {
        tool_fail(r, "the change was not accepted: %s", e.text);
        return;
    }
    change = json_object_get(answer, "change");
    id = json_string_value(json_object_get(change, "id"));
    state = json_string_value(json_object_get(change, "state"));
    if (state && !strcmp(state, "pending")) {
        r->text = x_asprintf(
            "The change %s is held for a human to decide. Do not wait for it: carry on without it or say "
            "what you will do once it is approved.",
            id ? id : "");
    } else {
        CLEANUP_FREE char *verdicts =
            json_dumps(json_object_get(change, "verdicts"), JSON_COMPACT | JSON_ENCODE_ANY);
        tool_fail(r, "the change was %s: %s", state ? state : "refused",
                  verdicts ? verdicts : "no reason given");
    }
    json_decref(answer);
}

const struct tool tools_human[] = {
    {"send_message", "Sends a message to the human at once, before the final answer.",
     "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"]}",
     run_send},
    {"ask_human", "Asks the human a question and waits; their next message is the result.",
     "{\"type\":\"object\",\"properties\":{\"question\":{\"type\":\"string\"}},\"required\":[\"question\"]}",
     run_ask},
    {"request_change",
     "Asks for a change of your own configuration, such as another tool. It is held until a human decides.",
     "{\"type\":\"object\",\"properties\":{\"kind\":{\"type\":\"string\",\"enum\":[\"tools\",\"env\","
     "\"image\",\"wall\","
     "\"limits\",\"provider\",\"mounts\",\"peers\",\"instructions\"]},\"document\":{\"type\":\"object\","
     "\"description\":\"the new value; for the kind tools those to be added to the ones you have, e.g. "
     "{\\\"tools\\\":[\\\"shell\\\"]}\"},\"reason\":{\"type\":\"string\"}},"
     "\"required\":[\"kind\",\"document\",\"reason\"]}",
     run_change},
};
const size_t tools_human_n = ARRAY_LEN(tools_human);
