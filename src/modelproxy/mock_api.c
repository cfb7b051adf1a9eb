#include "modelproxy/mock_api.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fnv.h"
#include "base/io.h"

enum { BYTES_PER_TOKEN = 4, EMBEDDING_SIZE = 8 };

static const char *str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void put_piece(struct mock_pieces *p, char *text)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 8;
        p->text = x_realloc(p->text, p->cap * sizeof(*p->text));
    }
    p->text[p->n++] = text;
}

/* Adds a document (`doc` is consumed). */
static void put_doc(struct mock_pieces *p, json_t *doc)
{
    char *text = json_dumps(doc, JSON_COMPACT);

    json_decref(doc);
    put_piece(p, text ? text : x_strdup("{}"));
}

/* Adds one event; `name` NULL for a stream without event names. */
static void put_event(struct mock_pieces *p, const char *name, json_t *doc)
{
    char *text = json_dumps(doc, JSON_COMPACT);

    json_decref(doc);
    put_piece(p, name ? x_asprintf("event: %s\ndata: %s\n\n", name, text ? text : "{}")
                      : x_asprintf("data: %s\n\n", text ? text : "{}"));
    free(text);
}

void mock_pieces_free(struct mock_pieces *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->text[i]);
    free(p->text);
    memset(p, 0, sizeof(*p));
}

void mock_request_free(struct mock_request *r)
{
    mock_question_free(&r->question);
}

/* ---- reading ---- */

/* The text of a content field: a string, or a list of blocks with "text" (other kinds of block are skipped).
 */
static char *content_text(const json_t *content)
{
    char *out = NULL;
    size_t size = 0, i;
    const json_t *block;
    FILE *to;

    if (json_is_string(content))
        return x_strdup(json_string_value(content));
    to = open_memstream(&out, &size);
    if (!to)
        abort();
    json_array_foreach(content, i, block)
    {
        (void)fputs(str(block, "text"), to);
    }
    if (fclose(to) != 0)
        abort();
    return out;
}

static const json_t *block_of_type(const json_t *content, const char *type)
{
    const json_t *block;
    size_t i;

    json_array_foreach(content, i, block)
    {
        if (!strcmp(str(block, "type"), type))
            return block;
    }
    return NULL;
}

static void set(char **dst, char *value)
{
    free(*dst);
    *dst = value;
}

/* Name of the tool call `id`, as an earlier message made it. */
static char *tool_name(const json_t *messages, const char *id)
{
    const json_t *m, *call;
    size_t i, j;

    json_array_foreach(messages, i, m)
    {
        if (!strcmp(str(m, "type"), "function_call") && !strcmp(str(m, "call_id"), id))
            return x_strdup(str(m, "name"));
        json_array_foreach(json_object_get(m, "content"), j, call)
        {
            if (!strcmp(str(call, "type"), "tool_use") && !strcmp(str(call, "id"), id))
                return x_strdup(str(call, "name"));
        }
        json_array_foreach(json_object_get(m, "tool_calls"), j, call)
        {
            if (!strcmp(str(call, "id"), id))
                return x_strdup(str(json_object_get(call, "function"), "name"));
        }
    }
    return x_strdup("unknown");
}

/* Walks the messages of any of the three chat APIs; the last user text and a tool result after it are what
 * counts. */
static void read_messages(const json_t *messages, struct mock_question *q)
{
    const char *call = NULL; /* id of the tool call whose result came last */
    const json_t *m, *output = NULL;
    size_t i;

    json_array_foreach(messages, i, m)
    {
        const json_t *content = json_object_get(m, "content");
        const json_t *result = block_of_type(content, "tool_result");
        if (!strcmp(str(m, "role"), "tool")) {
            call = str(m, "tool_call_id");
            output = content;
        } else if (!strcmp(str(m, "type"), "function_call_output")) {
            call = str(m, "call_id");
            output = json_object_get(m, "output");
        } else if (!strcmp(str(m, "role"), "user") && result) {
            call = str(result, "tool_use_id");
            output = json_object_get(result, "content");
        } else if (!strcmp(str(m, "role"), "user")) {
            call = NULL;
            set(&q->text, content_text(content));
        }
    }
    if (call) {
        set(&q->tool, tool_name(messages, call));
        set(&q->result, content_text(output));
    }
}

static void read_tools(const json_t *tools, json_t *names)
{
    const json_t *tool;
    size_t i;

    json_array_foreach(tools, i, tool)
    {
        const char *name = str(json_object_get(tool, "function"), "name");
        (void)json_array_append_new(names, json_string(*name ? name : str(tool, "name")));
    }
}

int mock_api_read(enum endpoint endpoint, const char *body, size_t len, struct mock_request *r, struct err *e)
{
    json_error_t je;
    json_t *doc =
        endpoint == ENDPOINT_MODELS ? json_object() : json_loadb(body, len, JSON_REJECT_DUPLICATES, &je);
    const json_t *input = json_object_get(doc, "input");
    const char *need = endpoint == ENDPOINT_EMBEDDINGS || endpoint == ENDPOINT_RESPONSES ? "input"
                       : endpoint == ENDPOINT_COMPLETIONS                                ? "prompt"
                                                                                         : "messages";
    struct mock_question *q = &r->question;

    memset(r, 0, sizeof(*r));
    if (!json_is_object(doc)) {
        (void)err_set(e, EINVAL, "the request body is not a JSON object: %s", doc ? "another type" : je.text);
        json_decref(doc);
        return -1;
    }
    if (endpoint != ENDPOINT_MODELS && !json_object_get(doc, need)) {
        json_decref(doc);
        return err_set(e, EINVAL, "the request has no \"%s\"", need);
    }
    (void)io_format(r->id, sizeof(r->id), "%016llx", (unsigned long long)fnv1a(FNV_BASIS, body, len));
    r->endpoint = endpoint;
    r->stream = json_is_true(json_object_get(doc, "stream"));
    r->stream_usage = json_is_true(json_object_get(json_object_get(doc, "stream_options"), "include_usage"));
    r->input_tokens = len / BYTES_PER_TOKEN + 1;
    *q = (struct mock_question){.text = x_strdup(""),
                                .tool = x_strdup(""),
                                .result = x_strdup(""),
                                .model = x_strdup(*str(doc, "model") ? str(doc, "model") : "mock"),
                                .tools = json_array()};
    read_tools(json_object_get(doc, "tools"), q->tools);
    if (endpoint == ENDPOINT_COMPLETIONS)
        set(&q->text, x_strdup(str(doc, "prompt")));
    else if (json_is_string(input))
        set(&q->text, x_strdup(json_string_value(input)));
    else
        read_messages(json_is_array(input) ? input : json_object_get(doc, "messages"), q);
    json_decref(doc);
    return 0;
}

/* ---- writing ---- */

static uint64_t output_tokens(const struct mock_answer *a)
{
    size_t bytes = 0;

    for (size_t i = 0; i < a->nchunks; i++)
        bytes += strlen(a->chunks[i]);
    if (a->input) {
        CLEANUP_FREE char *text = json_dumps(a->input, JSON_COMPACT);
        bytes += text ? strlen(text) : 0;
    }
    return bytes / BYTES_PER_TOKEN + 1;
}

/* The answer's text as one string, valid UTF-8 as far as its pieces are. */
static json_t *whole_text(const struct mock_answer *a)
{
    char *all = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&all, &size);
    json_t *text;

    if (!to)
        abort();
    for (size_t i = 0; i < a->nchunks; i++)
        (void)fputs(a->chunks[i], to);
    if (fclose(to) != 0)
        abort();
    text = json_string(all);
    free(all);
    return text ? text : json_string("(text that is not UTF-8)");
}

static char *input_text(const struct mock_answer *a)
{
    char *text = a->input ? json_dumps(a->input, JSON_COMPACT) : NULL;

    return text ? text : x_strdup("{}");
}

/* Calls `put` for each part of the text that becomes an event: the script's chunks, or words. */
static void each_part(const struct mock_answer *a, void (*put)(void *arg, json_t *text), void *arg)
{
    if (a->nchunks > 1) {
        for (size_t i = 0; i < a->nchunks; i++) {
            json_t *text = json_string(a->chunks[i]);
            put(arg, text ? text : json_string("?"));
        }
        return;
    }
    for (const char *p = a->nchunks ? a->chunks[0] : ""; *p;) {
        size_t n = strcspn(p, " ");
        json_t *text;
        n += strspn(p + n, " ");
        text = json_stringn(p, n);
        put(arg, text ? text : json_string("?"));
        p += n;
    }
}

struct writer {
    const struct mock_request *r;
    struct mock_pieces *out;
};

static void put_anthropic_delta(void *arg, json_t *text)
{
    struct writer *w = arg;

    put_event(w->out, "content_block_delta",
              json_pack("{s:s, s:i, s:{s:s, s:o}}", "type", "content_block_delta", "index", 0, "delta",
                        "type", "text_delta", "text", text));
}

static json_t *anthropic_block(const struct mock_request *r, const struct mock_answer *a, bool empty)
{
    char id[40];

    if (a->kind == MOCK_TEXT)
        return json_pack("{s:s, s:o}", "type", "text", "text", empty ? json_string("") : whole_text(a));
    (void)io_format(id, sizeof(id), "toolu_mock_%s", r->id);
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id", id, "name", a->tool, "input",
                     empty ? json_object() : json_deep_copy(a->input));
}

static void write_anthropic(const struct mock_request *r, const struct mock_answer *a,
                            struct mock_pieces *out)
{
    const char *stop = a->kind == MOCK_TOOL ? "tool_use" : "end_turn";
    struct writer w = {r, out};
    char id[40];
    json_t *message;

    (void)io_format(id, sizeof(id), "msg_mock_%s", r->id);
    message =
        json_pack("{s:s, s:s, s:s, s:s, s:[], s:n, s:n, s:{s:I, s:i}}", "id", id, "type", "message", "role",
                  "assistant", "model", r->question.model, "content", "stop_reason", "stop_sequence", "usage",
                  "input_tokens", (json_int_t)r->input_tokens, "output_tokens", 1);
    if (!r->stream) {
        (void)json_array_append_new(json_object_get(message, "content"), anthropic_block(r, a, false));
        (void)json_object_set_new(message, "stop_reason", json_string(stop));
        (void)json_object_set_new(json_object_get(message, "usage"), "output_tokens",
                                  json_integer((json_int_t)output_tokens(a)));
        put_doc(out, message);
        return;
    }
    put_event(out, "message_start", json_pack("{s:s, s:o}", "type", "message_start", "message", message));
    put_event(out, "content_block_start",
              json_pack("{s:s, s:i, s:o}", "type", "content_block_start", "index", 0, "content_block",
                        anthropic_block(r, a, true)));
    if (a->kind == MOCK_TEXT) {
        each_part(a, put_anthropic_delta, &w);
    } else {
        CLEANUP_FREE char *input = input_text(a);
        put_event(out, "content_block_delta",
                  json_pack("{s:s, s:i, s:{s:s, s:s}}", "type", "content_block_delta", "index", 0, "delta",
                            "type", "input_json_delta", "partial_json", input));
    }
    put_event(out, "content_block_stop", json_pack("{s:s, s:i}", "type", "content_block_stop", "index", 0));
    put_event(out, "message_delta",
              json_pack("{s:s, s:{s:s, s:n}, s:{s:I}}", "type", "message_delta", "delta", "stop_reason", stop,
                        "stop_sequence", "usage", "output_tokens", (json_int_t)output_tokens(a)));
    put_event(out, "message_stop", json_pack("{s:s}", "type", "message_stop"));
}

static json_t *openai_usage(const struct mock_request *r, const struct mock_answer *a)
{
    json_int_t in = (json_int_t)r->input_tokens, out = (json_int_t)output_tokens(a);

    if (r->endpoint == ENDPOINT_RESPONSES)
        return json_pack("{s:I, s:I, s:I}", "input_tokens", in, "output_tokens", out, "total_tokens",
                         in + out);
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", in, "completion_tokens", out, "total_tokens",
                     in + out);
}

/* A chat.completion or text_completion envelope with one choice (consumed). `created` is fixed: answers are
 * deterministic. */
static json_t *openai_doc(const struct mock_request *r, bool chunk, json_t *choice)
{
    bool chat = r->endpoint == ENDPOINT_CHAT;
    char id[40];

    (void)io_format(id, sizeof(id), "%s-mock-%s", chat ? "chatcmpl" : "cmpl", r->id);
    return json_pack("{s:s, s:s, s:i, s:s, s:[o]}", "id", id, "object",
                     !chat   ? "text_completion"
                     : chunk ? "chat.completion.chunk"
                             : "chat.completion",
                     "created", 0, "model", r->question.model, "choices", choice);
}

static json_t *chat_tool_calls(const struct mock_request *r, const struct mock_answer *a)
{
    CLEANUP_FREE char *input = input_text(a);
    char id[40];

    (void)io_format(id, sizeof(id), "call_mock_%s", r->id);
    return json_pack("[{s:i, s:s, s:s, s:{s:s, s:s}}]", "index", 0, "id", id, "type", "function", "function",
                     "name", a->tool, "arguments", input);
}

static void put_openai_delta(void *arg, json_t *text)
{
    struct writer *w = arg;
    json_t *choice =
        w->r->endpoint == ENDPOINT_CHAT
            ? json_pack("{s:i, s:{s:o}, s:n}", "index", 0, "delta", "content", text, "finish_reason")
            : json_pack("{s:i, s:o, s:n}", "index", 0, "text", text, "finish_reason");

    put_event(w->out, NULL, openai_doc(w->r, true, choice));
}

static void write_openai_stream(const struct mock_request *r, const struct mock_answer *a,
                                struct mock_pieces *out)
{
    bool chat = r->endpoint == ENDPOINT_CHAT;
    const char *finish = a->kind == MOCK_TOOL ? "tool_calls" : "stop";
    struct writer w = {r, out};

    if (chat)
        put_event(out, NULL,
                  openai_doc(r, true,
                             json_pack("{s:i, s:{s:s}, s:n}", "index", 0, "delta", "role", "assistant",
                                       "finish_reason")));
    if (a->kind == MOCK_TOOL)
        put_event(out, NULL,
                  openai_doc(r, true,
                             json_pack("{s:i, s:{s:o}, s:n}", "index", 0, "delta", "tool_calls",
                                       chat_tool_calls(r, a), "finish_reason")));
    else
        each_part(a, put_openai_delta, &w);
    put_event(
        out, NULL,
        openai_doc(r, true,
                   chat ? json_pack("{s:i, s:{}, s:s}", "index", 0, "delta", "finish_reason", finish)
                        : json_pack("{s:i, s:s, s:s}", "index", 0, "text", "", "finish_reason", finish)));
    if (r->stream_usage) {
        json_t *last = openai_doc(r, true, json_null());
        (void)json_array_clear(json_object_get(last, "choices"));
        (void)json_object_set_new(last, "usage", openai_usage(r, a));
        put_event(out, NULL, last);
    }
    put_piece(out, x_strdup("data: [DONE]\n\n"));
}

static void write_openai(const struct mock_request *r, const struct mock_answer *a, struct mock_pieces *out)
{
    const char *finish = a->kind == MOCK_TOOL ? "tool_calls" : "stop";
    json_t *choice, *doc;

    if (r->stream) {
        write_openai_stream(r, a, out);
        return;
    }
    if (r->endpoint == ENDPOINT_COMPLETIONS)
        choice = json_pack("{s:i, s:o, s:s}", "index", 0, "text", whole_text(a), "finish_reason", finish);
    else if (a->kind == MOCK_TOOL)
        choice = json_pack("{s:i, s:{s:s, s:n, s:o}, s:s}", "index", 0, "message", "role", "assistant",
                           "content", "tool_calls", chat_tool_calls(r, a), "finish_reason", finish);
    else
        choice = json_pack("{s:i, s:{s:s, s:o}, s:s}", "index", 0, "message", "role", "assistant", "content",
                           whole_text(a), "finish_reason", finish);
    doc = openai_doc(r, false, choice);
    (void)json_object_set_new(doc, "usage", openai_usage(r, a));
    put_doc(out, doc);
}

static void put_response_delta(void *arg, json_t *text)
{
    struct writer *w = arg;

    put_event(w->out, "response.output_text.delta",
              json_pack("{s:s, s:i, s:i, s:o}", "type", "response.output_text.delta", "output_index", 0,
                        "content_index", 0, "delta", text));
}

static void write_response(const struct mock_request *r, const struct mock_answer *a, struct mock_pieces *out)
{
    CLEANUP_FREE char *input = input_text(a);
    struct writer w = {r, out};
    char id[40], call[40];
    json_t *item, *doc;

    (void)io_format(id, sizeof(id), "resp_mock_%s", r->id);
    (void)io_format(call, sizeof(call), "call_mock_%s", r->id);
    if (a->kind == MOCK_TOOL)
        item = json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "function_call", "id", call, "call_id", call,
                         "name", a->tool, "arguments", input);
    else
        item = json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:[], s:o}]}", "type", "message", "id", id, "role",
                         "assistant", "status", "completed", "content", "type", "output_text", "annotations",
                         "text", whole_text(a));
    doc = json_pack("{s:s, s:s, s:i, s:s, s:s, s:[O], s:o}", "id", id, "object", "response", "created_at", 0,
                    "status", "completed", "model", r->question.model, "output", item, "usage",
                    openai_usage(r, a));
    if (!r->stream) {
        json_decref(item);
        put_doc(out, doc);
        return;
    }
    put_event(out, "response.created",
              json_pack("{s:s, s:{s:s, s:s, s:s, s:[]}}", "type", "response.created", "response", "id", id,
                        "object", "response", "status", "in_progress", "output"));
    if (a->kind == MOCK_TEXT)
        each_part(a, put_response_delta, &w);
    put_event(
        out, "response.output_item.done",
        json_pack("{s:s, s:i, s:o}", "type", "response.output_item.done", "output_index", 0, "item", item));
    put_event(out, "response.completed",
              json_pack("{s:s, s:o}", "type", "response.completed", "response", doc));
}

/* A unit-free vector derived from the request's hash: deterministic, and different for different texts. */
static void write_embedding(const struct mock_request *r, struct mock_pieces *out)
{
    uint64_t h = strtoull(r->id, NULL, 16);
    json_t *vector = json_array();

    for (int i = 0; i < EMBEDDING_SIZE; i++, h >>= 8)
        (void)json_array_append_new(vector, json_real((double)(h & 255) / 255.0));
    put_doc(out, json_pack("{s:s, s:[{s:s, s:i, s:o}], s:s, s:{s:I, s:I}}", "object", "list", "data",
                           "object", "embedding", "index", 0, "embedding", vector, "model", r->question.model,
                           "usage", "prompt_tokens", (json_int_t)r->input_tokens, "total_tokens",
                           (json_int_t)r->input_tokens));
}

void mock_api_write(const struct mock_request *r, const struct mock_answer *a, struct mock_pieces *out)
{
    memset(out, 0, sizeof(*out));
    switch (r->endpoint) {
    case ENDPOINT_MESSAGES:
        write_anthropic(r, a, out);
        break;
    case ENDPOINT_COUNT_TOKENS:
        put_doc(out, json_pack("{s:I}", "input_tokens", (json_int_t)r->input_tokens));
        break;
    case ENDPOINT_CHAT:
    case ENDPOINT_COMPLETIONS:
        write_openai(r, a, out);
        break;
    case ENDPOINT_RESPONSES:
        write_response(r, a, out);
        break;
    case ENDPOINT_EMBEDDINGS:
        write_embedding(r, out);
        break;
    case ENDPOINT_MODELS:
        put_doc(out, json_pack("{s:s, s:[{s:s, s:s, s:i, s:s}]}", "object", "list", "data", "id", "mock",
                               "object", "model", "created", 0, "owned_by", "ironclaw"));
        break;
    }
}
