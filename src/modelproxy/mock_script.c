#include "modelproxy/mock_script.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { GROUPS = 10 };

struct rule {
    char *match;               /* NULL: no such condition */
    regex_t *regex;            /* NULL: no such condition */
    char *after_tool;          /* NULL: no such condition; "*" any tool */
    bool unoffered;            /* a tool call although the request does not offer that tool */
    struct mock_answer answer; /* with its placeholders */
};

struct mock_script {
    struct rule *rules;
    size_t n;
};

/* What the mock provider does without a script: enough to drive the built-in agent through all of its tools.
 */
static const char builtin[] =
    "[{\"after_tool\":\"*\",\"reply\":\"The tool ${tool} answered: ${result}\"},"
    "{\"regex\":\"^run: *(.+)$\",\"tool\":{\"name\":\"shell\",\"input\":{\"command\":\"${1}\"}}},"
    "{\"regex\":\"^write: *([^:]+): *(.*)$\","
    "\"tool\":{\"name\":\"write_file\",\"input\":{\"path\":\"${1}\",\"content\":\"${2}\"}}},"
    "{\"regex\":\"^read: *(.+)$\",\"tool\":{\"name\":\"read_file\",\"input\":{\"path\":\"${1}\"}}},"
    "{\"regex\":\"^list: *(.+)$\",\"tool\":{\"name\":\"list_files\",\"input\":{\"path\":\"${1}\"}}},"
    "{\"regex\":\"^say: *(.+)$\",\"tool\":{\"name\":\"send_message\",\"input\":{\"text\":\"${1}\"}}},"
    "{\"regex\":\"^ask: *(.+)$\",\"tool\":{\"name\":\"ask_human\",\"input\":{\"question\":\"${1}\"}}},"
    "{\"regex\":\"^need: *([^: ]+): *(.+)$\",\"tool\":{\"name\":\"request_change\","
    "\"input\":{\"kind\":\"tools\",\"document\":{\"tools\":[\"${1}\"]},\"reason\":\"${2}\"}}},"
    "{\"regex\":\"^(run|write|read|list|say|ask|need):\","
    "\"reply\":\"I would use a tool for '${1}', but this conversation does not offer it to me.\"},"
    "{\"reply\":\"Hello, this is the mock model. You said: ${text}\"}]";

/* ---- loading ---- */

static const char *const rule_keys[] = {"match", "regex", "after_tool",      "reply",    "chunks",
                                        "tool",  "error", "stream_delay_ms", "unoffered"};

static bool known_key(const char *key, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(keys[i], key))
            return true;
    return false;
}

static void set_text(struct mock_answer *a, const json_t *text)
{
    a->chunks = x_calloc(1, sizeof(*a->chunks));
    a->chunks[0] = x_strdup(json_string_value(text));
    a->nchunks = 1;
}

static int load_chunks(struct mock_answer *a, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);

    if (n < 1 || n > MOCK_CHUNKS_MAX)
        return err_set(e, EINVAL, "chunks must be a list of 1 to %d strings", MOCK_CHUNKS_MAX);
    a->chunks = x_calloc(n, sizeof(*a->chunks));
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return err_set(e, EINVAL, "chunks must be a list of strings");
        a->chunks[a->nchunks++] = x_strdup(text);
    }
    return 0;
}

static int load_tool(struct mock_answer *a, json_t *tool, struct err *e)
{
    json_t *input = json_object_get(tool, "input");
    const char *name = json_string_value(json_object_get(tool, "name"));

    if (!name || !*name || (input && !json_is_object(input)) || json_object_size(tool) > (input ? 2U : 1U))
        return err_set(e, EINVAL, "tool must have a name and may have an input map");
    a->kind = MOCK_TOOL;
    a->tool = x_strdup(name);
    a->input = input ? json_incref(input) : json_object();
    return 0;
}

static int load_error(struct mock_answer *a, json_t *error, struct err *e)
{
    static const char *const keys[] = {"status", "message", "retry_after"};
    json_int_t status = json_integer_value(json_object_get(error, "status"));
    json_t *message = json_object_get(error, "message"), *retry = json_object_get(error, "retry_after");
    const char *key;
    json_t *value;

    json_object_foreach(error, key, value)
    {
        if (!known_key(key, keys, ARRAY_LEN(keys)))
            return err_set(e, EINVAL, "error has the unknown key %.64s", key);
    }
    if (status < 400 || status > 599)
        return err_set(e, EINVAL, "error needs a status from 400 to 599");
    if ((message && !json_is_string(message)) ||
        (retry &&
         (!json_is_integer(retry) || json_integer_value(retry) < 0 || json_integer_value(retry) > 86400)))
        return err_set(e, EINVAL, "error's message must be a string, its retry_after 0 to 86400 seconds");
    a->kind = MOCK_ERROR;
    a->status = (unsigned)status;
    a->retry_after_s = (unsigned)json_integer_value(retry);
    a->message = x_strdup(message ? json_string_value(message) : "the mock provider was told to fail");
    return 0;
}

static int load_action(struct rule *r, json_t *doc, struct err *e)
{
    json_t *reply = json_object_get(doc, "reply"), *chunks = json_object_get(doc, "chunks");
    json_t *tool = json_object_get(doc, "tool"), *error = json_object_get(doc, "error");
    json_t *delay = json_object_get(doc, "stream_delay_ms"), *unoffered = json_object_get(doc, "unoffered");

    if (!!reply + !!chunks + !!tool + !!error != 1)
        return err_set(e, EINVAL, "it needs exactly one of reply, chunks, tool, error");
    if (delay && (!json_is_integer(delay) || json_integer_value(delay) < 0 ||
                  json_integer_value(delay) > MOCK_DELAY_MAX_MS))
        return err_set(e, EINVAL, "stream_delay_ms must be 0 to %d", MOCK_DELAY_MAX_MS);
    if (unoffered && (!json_is_boolean(unoffered) || !tool))
        return err_set(e, EINVAL, "unoffered must be true or false, and belongs to a tool");
    r->unoffered = json_is_true(unoffered);
    r->answer.delay_ms = (uint32_t)json_integer_value(delay);
    if (tool)
        return load_tool(&r->answer, tool, e);
    if (error)
        return load_error(&r->answer, error, e);
    r->answer.kind = MOCK_TEXT;
    if (chunks)
        return load_chunks(&r->answer, chunks, e);
    if (!json_is_string(reply))
        return err_set(e, EINVAL, "reply must be a string");
    set_text(&r->answer, reply);
    return 0;
}

static int load_rule(struct rule *r, json_t *doc, struct err *e)
{
    json_t *match = json_object_get(doc, "match"), *regex = json_object_get(doc, "regex");
    json_t *after = json_object_get(doc, "after_tool"), *value;
    const char *key;

    if (!json_is_object(doc))
        return err_set(e, EINVAL, "it is not a map");
    json_object_foreach(doc, key, value)
    {
        if (!known_key(key, rule_keys, ARRAY_LEN(rule_keys)))
            return err_set(e, EINVAL, "unknown key %.64s", key);
    }
    if ((match && !json_is_string(match)) || (regex && !json_is_string(regex)) ||
        (after && !json_is_string(after)) || !!match + !!regex + !!after > 1)
        return err_set(e, EINVAL, "it may have one of match, regex, after_tool, and that is a string");
    if (match)
        r->match = x_strdup(json_string_value(match));
    if (after)
        r->after_tool = x_strdup(json_string_value(after));
    if (regex) {
        regex_t compiled;
        char text[128];
        int rc = regcomp(&compiled, json_string_value(regex), REG_EXTENDED);
        if (rc != 0) {
            (void)regerror(rc, NULL, text, sizeof(text));
            return err_set(e, EINVAL, "regex is not a POSIX extended regular expression: %s", text);
        }
        r->regex = x_malloc(sizeof(*r->regex));
        *r->regex = compiled;
    }
    return load_action(r, doc, e);
}

struct mock_script *mock_script_new(const json_t *doc, struct err *e)
{
    json_t *own = doc ? NULL : json_loads(builtin, 0, NULL);
    const json_t *list = doc ? doc : own;
    struct mock_script *s = x_calloc(1, sizeof(*s));
    size_t n = json_array_size(list);

    if (!json_is_array(list) || n > MOCK_RULES_MAX) {
        (void)err_set(e, EINVAL, "a mock script is a list of at most %d rules", MOCK_RULES_MAX);
        json_decref(own);
        mock_script_free(s);
        return NULL;
    }
    s->rules = x_calloc(n, sizeof(*s->rules));
    for (size_t i = 0; i < n; i++) {
        s->n = i + 1;
        if (load_rule(&s->rules[i], json_array_get(list, i), e) < 0) {
            (void)err_wrap(e, "mock script, rule %zu", i + 1);
            json_decref(own);
            mock_script_free(s);
            return NULL;
        }
    }
    json_decref(own);
    return s;
}

void mock_answer_free(struct mock_answer *a)
{
    for (size_t i = 0; i < a->nchunks; i++)
        free(a->chunks[i]);
    free(a->chunks);
    free(a->tool);
    free(a->message);
    json_decref(a->input);
    memset(a, 0, sizeof(*a));
}

void mock_question_free(struct mock_question *q)
{
    free(q->text);
    free(q->tool);
    free(q->result);
    free(q->model);
    json_decref(q->tools);
    memset(q, 0, sizeof(*q));
}

void mock_script_free(struct mock_script *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        struct rule *r = &s->rules[i];
        free(r->match);
        free(r->after_tool);
        if (r->regex)
            regfree(r->regex);
        free(r->regex);
        mock_answer_free(&r->answer);
    }
    free(s->rules);
    free(s);
}

/* ---- answering ---- */

struct filling {
    const struct mock_question *q;
    const char *text; /* what the groups point into */
    regmatch_t groups[GROUPS];
};

/* The value of a placeholder: its start and length; false when there is no such placeholder. */
static bool placeholder(const struct filling *f, const char *name, size_t len, const char **value, size_t *n)
{
    const struct {
        const char *name, *value;
    } words[] = {
        {"text", f->q->text}, {"result", f->q->result}, {"tool", f->q->tool}, {"model", f->q->model}};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strlen(words[i].name) == len && !memcmp(words[i].name, name, len)) {
            *value = words[i].value;
            *n = strlen(*value);
            return true;
        }
    }
    if (len == 1 && name[0] >= '0' && name[0] <= '9') {
        const regmatch_t *g = &f->groups[name[0] - '0'];
        *value = g->rm_so >= 0 ? f->text + g->rm_so : "";
        *n = g->rm_so >= 0 ? (size_t)(g->rm_eo - g->rm_so) : 0;
        return true;
    }
    return false;
}

/* Replaces ${name}; an unknown one stays as it is. Values are inserted, never looked at again. */
static char *fill(const struct filling *f, const char *pattern)
{
    char *out = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&out, &size);

    if (!to)
        abort();
    while (*pattern) {
        const char *end = pattern[0] == '$' && pattern[1] == '{' ? strchr(pattern, '}') : NULL;
        const char *value;
        size_t n;
        if (end && placeholder(f, pattern + 2, (size_t)(end - pattern) - 2, &value, &n)) {
            (void)fwrite(value, 1, n, to);
            pattern = end + 1;
        } else {
            (void)fputc(*pattern++, to);
        }
    }
    if (fclose(to) != 0)
        abort();
    return out;
}

/* A copy of a JSON value with the placeholders in all of its strings replaced. */
static json_t *fill_json(const struct filling *f, const json_t *v)
{
    json_t *out, *item;
    const char *key;
    size_t i;

    switch (json_typeof(v)) {
    case JSON_STRING: {
        CLEANUP_FREE char *text = fill(f, json_string_value(v));
        out = json_string(text);
        return out ? out : json_string(""); /* a group may have cut a character in two */
    }
    case JSON_OBJECT:
        out = json_object();
        json_object_foreach((json_t *)(uintptr_t)v, key, item)
        {
            (void)json_object_set_new(out, key, fill_json(f, item));
        }
        return out;
    case JSON_ARRAY:
        out = json_array();
        json_array_foreach(v, i, item)
        {
            (void)json_array_append_new(out, fill_json(f, item));
        }
        return out;
    default:
        return json_deep_copy(v);
    }
}

static bool offered(const struct mock_question *q, const char *tool)
{
    const json_t *name;
    size_t i;

    json_array_foreach(q->tools, i, name)
    {
        if (json_is_string(name) && !strcmp(json_string_value(name), tool))
            return true;
    }
    return false;
}

static bool applies(const struct rule *r, struct filling *f)
{
    const struct mock_question *q = f->q;

    for (size_t i = 0; i < GROUPS; i++)
        f->groups[i].rm_so = f->groups[i].rm_eo = -1;
    if (r->after_tool) {
        if (!*q->tool || (strcmp(r->after_tool, "*") != 0 && strcmp(r->after_tool, q->tool) != 0))
            return false;
    } else if ((r->match || r->regex) && *q->tool) {
        return false;
    }
    if (r->match && !strstr(q->text, r->match))
        return false;
    if (r->regex && regexec(r->regex, f->text, GROUPS, f->groups, 0) != 0)
        return false;
    return r->answer.kind != MOCK_TOOL || r->unoffered || offered(q, r->answer.tool);
}

void mock_script_answer(const struct mock_script *s, const struct mock_question *q, struct mock_answer *a)
{
    /* Expressions look at the first 64 KiB only: their cost is not linear. */
    CLEANUP_FREE char *text = x_strndup(q->text, MOCK_TEXT_MAX);
    struct filling f = {.q = q, .text = text};

    memset(a, 0, sizeof(*a));
    for (size_t i = 0; i < s->n; i++) {
        const struct mock_answer *from = &s->rules[i].answer;
        if (!applies(&s->rules[i], &f))
            continue;
        a->kind = from->kind;
        a->delay_ms = from->delay_ms;
        a->status = from->status;
        a->retry_after_s = from->retry_after_s;
        a->message = from->message ? fill(&f, from->message) : NULL;
        a->tool = from->tool ? x_strdup(from->tool) : NULL;
        a->input = from->input ? fill_json(&f, from->input) : NULL;
        a->chunks = x_calloc(from->nchunks, sizeof(*a->chunks));
        for (; a->nchunks < from->nchunks; a->nchunks++)
            a->chunks[a->nchunks] = fill(&f, from->chunks[a->nchunks]);
        return;
    }
    a->kind = MOCK_ERROR;
    a->status = 500;
    a->message =
        x_strdup("no rule of the mock script matches this request: add one without a condition at its end");
}
