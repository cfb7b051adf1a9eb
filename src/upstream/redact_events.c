#include "upstream/redact_events.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"

/* ---- texts that grow over events ---- */

enum shape {
    SHAPE_BLOCK, /* Anthropic: a content block; group: its index */
    SHAPE_CHAT,  /* OpenAI: a choice; group: its index */
    SHAPE_TOOL,  /* a tool call of a choice; sub: its index */
    SHAPE_PLAIN, /* OpenAI's completions: the text of a choice */
    SHAPE_ITEM,  /* Responses: an output item; group: output_index; sub: content_index */
};

/* Which text it is. Two pieces with the same place belong together. */
struct place {
    enum shape shape;
    json_int_t group, sub;
    const char *holder; /* the object in which the field stands, where there is more than one; or NULL */
    const char *field;
    const char *item; /* SHAPE_ITEM: item_id, or NULL */
    const char *type; /* SHAPE_ITEM: the event's type, or NULL */
};

struct pending {
    struct pending *next;
    struct place at;
    char *item, *type;
    struct redactor redactor; /* with something held */
    json_t *base;             /* members that every event of this stream repeats */
    bool named;               /* the stream's events have an `event` line */
    uint64_t number;          /* of the event that brought the last piece */
};

struct text {
    char *at;
    size_t len, cap;
};

/* One event, as it arrived and as JSON. */
struct event {
    json_t *doc;
    bool named, changed, last;
};

static void text_add(void *arg, const void *data, size_t len)
{
    struct text *t = arg;

    if (len == 0)
        return;
    if (len > t->cap - t->len) {
        t->cap = (t->len + len) * 2;
        t->at = x_realloc(t->at, t->cap);
    }
    memcpy(t->at + t->len, data, len);
    t->len += len;
}

static void text_free(struct text *t)
{
    free(t->at);
}

#define CLEANUP_TEXT __attribute__((cleanup(text_free)))

static void pass(struct redact_events *e, const void *data, size_t len)
{
    redactor_feed(e->bytes, data, len, e->out, e->arg);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_place(const struct place *a, const struct place *b)
{
    return a->shape == b->shape && a->group == b->group && a->sub == b->sub &&
           same_text(a->holder, b->holder) && !strcmp(a->field, b->field) && same_text(a->item, b->item) &&
           same_text(a->type, b->type);
}

/* Takes an entry off the list; the caller owns it. */
static struct pending *unlink_pending(struct redact_events *e, struct pending **at)
{
    struct pending *p = *at;

    *at = p->next;
    if (!*at)
        e->pending_tail = at;
    e->npending--;
    return p;
}

static void pending_free(struct pending *p)
{
    redactor_free(&p->redactor);
    json_decref(p->base);
    free(p->item);
    free(p->type);
    free(p);
}

/* The members of an event that do not change from piece to piece. */
static json_t *base_of(const struct place *at, json_t *doc)
{
    json_t *base = json_object(), *value;
    const char *name;

    if (at->shape == SHAPE_BLOCK)
        return base;
    json_object_foreach(doc, name, value)
    {
        if (!json_is_object(value) && !json_is_array(value) && !json_is_null(value))
            (void)json_object_set(base, name, value);
    }
    return base;
}

static void hold(struct redact_events *e, const struct place *at, struct redactor *r, const struct event *ev)
{
    struct pending *p = x_calloc(1, sizeof(*p));

    p->at = *at;
    p->at.item = p->item = at->item ? x_strdup(at->item) : NULL;
    p->at.type = p->type = at->type ? x_strdup(at->type) : NULL;
    p->redactor = *r;
    p->base = base_of(at, ev->doc);
    p->named = ev->named;
    p->number = e->number;
    *e->pending_tail = p;
    e->pending_tail = &p->next;
    e->npending++;
}

/* A JSON string of these bytes. A secret that is no UTF-8 can leave half a character behind: a question mark.
 */
static json_t *string_of(struct text *t)
{
    json_t *s = t->at ? json_stringn(t->at, t->len) : json_string("");

    for (size_t i = 0; !s && t->at && i < t->len; i++)
        if ((unsigned char)t->at[i] >= 0x80)
            t->at[i] = '?';
    return s ? s : json_stringn(t->at, t->len);
}

/* ---- events of our own ---- */

static json_t *chat_choice(const struct place *at, json_t *text)
{
    if (at->shape == SHAPE_PLAIN)
        return json_pack("{s:I, s:o, s:n}", "index", at->group, at->field, text, "finish_reason");
    if (at->shape == SHAPE_TOOL)
        return json_pack("{s:I, s:{s:[{s:I, s:{s:o}}]}, s:n}", "index", at->group, "delta", "tool_calls",
                         "index", at->sub, at->holder, at->field, text, "finish_reason");
    if (at->holder)
        return json_pack("{s:I, s:{s:{s:o}}, s:n}", "index", at->group, "delta", at->holder, at->field, text,
                         "finish_reason");
    return json_pack("{s:I, s:{s:o}, s:n}", "index", at->group, "delta", at->field, text, "finish_reason");
}

/* The event that carries one more piece of the text at this place. */
static json_t *piece(const struct pending *p, json_t *text)
{
    const struct place *at = &p->at;
    json_t *doc = json_incref(p->base);

    if (at->shape == SHAPE_BLOCK) {
        const char *type = !strcmp(at->field, "text")       ? "text_delta"
                           : !strcmp(at->field, "thinking") ? "thinking_delta"
                                                            : "input_json_delta";
        (void)json_object_set_new(doc, "type", json_string("content_block_delta"));
        (void)json_object_set_new(doc, "index", json_integer(at->group));
        (void)json_object_set_new(doc, "delta", json_pack("{s:s, s:o}", "type", type, at->field, text));
    } else if (at->shape == SHAPE_ITEM) {
        (void)json_object_set_new(doc, at->field, text);
    } else {
        (void)json_object_set_new(doc, "choices", json_pack("[o]", chat_choice(at, text)));
    }
    return doc;
}

/* Gives out what is held of a text in an event of its own. Takes the entry. */
static void give_out(struct redact_events *e, struct pending *p)
{
    CLEANUP_TEXT struct text held = {NULL, 0, 0};
    CLEANUP_FREE char *data = NULL;
    const char *name;
    json_t *doc;

    redactor_flush(&p->redactor, text_add, &held);
    doc = piece(p, string_of(&held));
    data = json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(17));
    name = json_string_value(json_object_get(doc, "type"));
    if (data && p->named && name) {
        pass(e, "event: ", strlen("event: "));
        pass(e, name, strlen(name));
        pass(e, "\n", 1);
    }
    if (data) {
        pass(e, "data: ", strlen("data: "));
        pass(e, data, strlen(data));
        pass(e, "\n\n", 2);
    }
    json_decref(doc);
    pending_free(p);
}

static void give_out_all(struct redact_events *e)
{
    while (e->pending)
        give_out(e, unlink_pending(e, &e->pending));
}

/* The texts of one block, choice or item have ended. */
static void give_out_group(struct redact_events *e, bool choice, enum shape shape, json_int_t group)
{
    for (struct pending **at = &e->pending; *at;) {
        const struct place *p = &(*at)->at;
        bool is_choice = p->shape != SHAPE_BLOCK && p->shape != SHAPE_ITEM;
        if ((choice ? is_choice : p->shape == shape) && p->group == group)
            give_out(e, unlink_pending(e, at));
        else
            at = &(*at)->next;
    }
}

/* Room for one more text; only what came with earlier events may be given out ahead of this one. */
static bool make_room(struct redact_events *e)
{
    if (e->npending == PENDING_MAX && e->pending && e->pending->number != e->number)
        give_out(e, unlink_pending(e, &e->pending));
    return e->npending < PENDING_MAX;
}

/* ---- pieces in an event ---- */

static void redactor_like(struct redactor *r, const struct redactor *other)
{
    redactor_init(r);
    for (size_t i = 0; i < other->nsecrets; i++)
        (void)redactor_add(r, other->secrets[i]);
}

/* Redacts owner[at->field] as the next piece of its text. Returns whether it had to change. */
static bool take_piece(struct redact_events *e, struct event *ev, const struct place *at, json_t *owner,
                       bool ends)
{
    CLEANUP_TEXT struct text out = {NULL, 0, 0};
    json_t *value = json_object_get(owner, at->field);
    struct pending **found = &e->pending;
    struct redactor r;
    bool changed;

    if (!json_is_string(value))
        return false;
    while (*found && !same_place(&(*found)->at, at))
        found = &(*found)->next;
    if (*found) {
        struct pending *p = unlink_pending(e, found);
        r = p->redactor;
        memset(&p->redactor, 0, sizeof(p->redactor));
        pending_free(p);
    } else {
        redactor_like(&r, e->bytes);
    }
    redactor_feed(&r, json_string_value(value), json_string_length(value), text_add, &out);
    if (r.held_len > 0 && (ends || ev->last || !make_room(e)))
        redactor_flush(&r, text_add, &out);
    changed = out.len != json_string_length(value) ||
              (out.len > 0 && memcmp(out.at, json_string_value(value), out.len) != 0);
    if (changed) {
        (void)json_object_set_new(owner, at->field, string_of(&out));
        ev->changed = true;
    }
    if (r.held_len > 0)
        hold(e, at, &r, ev);
    else
        redactor_free(&r);
    return changed;
}

static json_int_t index_of(const json_t *o, const char *name, json_int_t otherwise)
{
    const json_t *v = json_object_get(o, name);

    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

/* Anthropic's events: https://docs.anthropic.com/en/api/messages-streaming */
static void take_block(struct redact_events *e, struct event *ev, const char *type)
{
    static const char *const fields[] = {"text", "partial_json", "thinking"};
    struct place at = {.shape = SHAPE_BLOCK, .group = index_of(ev->doc, "index", 0)};
    bool start = !strcmp(type, "content_block_start");

    if (start || !strcmp(type, "content_block_stop"))
        give_out_group(e, false, SHAPE_BLOCK, at.group);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        at.field = fields[i];
        (void)take_piece(e, ev, &at, json_object_get(ev->doc, start ? "content_block" : "delta"), false);
    }
}

/* Log probabilities spell out the tokens of a piece. */
static void drop_logprobs(json_t *o, json_t *instead)
{
    if (json_object_get(o, "logprobs"))
        (void)json_object_set(o, "logprobs", instead);
    json_decref(instead);
}

static void take_choice(struct redact_events *e, struct event *ev, json_t *choice, json_int_t group)
{
    static const char *const fields[] = {"content", "refusal", "reasoning_content", "reasoning"};
    struct place at = {.shape = SHAPE_CHAT, .group = group};
    const json_t *reason = json_object_get(choice, "finish_reason");
    json_t *delta = json_object_get(choice, "delta"), *call;
    bool ends = reason && !json_is_null(reason), changed = false;
    size_t i;

    for (i = 0; i < ARRAY_LEN(fields); i++) {
        at.field = fields[i];
        changed |= take_piece(e, ev, &at, delta, ends);
    }
    at.holder = "function_call";
    at.field = "arguments";
    changed |= take_piece(e, ev, &at, json_object_get(delta, at.holder), ends);
    json_array_foreach(json_object_get(delta, "tool_calls"), i, call)
    {
        at = (struct place){
            .shape = SHAPE_TOOL, .group = group, .sub = index_of(call, "index", (json_int_t)i)};
        at.holder = "function";
        at.field = "arguments";
        changed |= take_piece(e, ev, &at, json_object_get(call, at.holder), ends);
        at.holder = "custom";
        at.field = "input";
        changed |= take_piece(e, ev, &at, json_object_get(call, at.holder), ends);
    }
    at = (struct place){.shape = SHAPE_PLAIN, .group = group, .field = "text"};
    changed |= take_piece(e, ev, &at, choice, ends);
    if (changed)
        drop_logprobs(choice, json_null());
    if (ends)
        give_out_group(e, true, SHAPE_CHAT, group);
}

static bool ends_with(const char *s, const char *tail)
{
    size_t a = strlen(s), b = strlen(tail);

    return a >= b && !strcmp(s + a - b, tail);
}

/* The Responses API: response.<what>.delta carries a piece, response.<what>.done the whole. */
static void take_item(struct redact_events *e, struct event *ev, const char *type)
{
    struct place at = {.shape = SHAPE_ITEM, .group = index_of(ev->doc, "output_index", -1), .field = "delta"};

    if (ends_with(type, ".delta")) {
        at.sub = index_of(ev->doc, "content_index", index_of(ev->doc, "summary_index", 0));
        at.item = json_string_value(json_object_get(ev->doc, "item_id"));
        at.type = type;
        if (take_piece(e, ev, &at, ev->doc, false))
            drop_logprobs(ev->doc, json_array());
    } else if (ends_with(type, ".done") && at.group >= 0) {
        give_out_group(e, false, SHAPE_ITEM, at.group);
    } else if (ends_with(type, ".done") || ends_with(type, ".completed") || ends_with(type, ".incomplete") ||
               ends_with(type, ".failed")) {
        give_out_all(e);
    }
}

static void take_doc(struct redact_events *e, struct event *ev)
{
    CLEANUP_FREE char *type = NULL;
    const char *name = json_string_value(json_object_get(ev->doc, "type"));
    json_t *choice;
    size_t i;

    type = x_strdup(name ? name : "");
    if (!strncmp(type, "content_block_", strlen("content_block_")))
        take_block(e, ev, type);
    else if (!strncmp(type, "response.", strlen("response.")))
        take_item(e, ev, type);
    else if (!strncmp(type, "message_", strlen("message_")) || !strcmp(type, "error"))
        give_out_all(e);
    json_array_foreach(json_object_get(ev->doc, "choices"), i, choice)
        take_choice(e, ev, choice, index_of(choice, "index", (json_int_t)i));
}

/* ---- the lines of an event ---- */

/* Length of the line at p without its end; *whole with it. */
static size_t line_len(const char *p, size_t left, size_t *whole)
{
    size_t n = 0;

    while (n < left && p[n] != '\n' && p[n] != '\r')
        n++;
    *whole = n;
    if (*whole < left)
        *whole += p[n] == '\r' && n + 1 < left && p[n + 1] == '\n' ? 2 : 1;
    return n;
}

/* Whether the line is the field `name`, and its value. */
static bool line_field(const char *p, size_t n, const char *name, const char **value, size_t *len)
{
    size_t at = strlen(name);

    if (n < at || memcmp(p, name, at) != 0 || (n > at && p[at] != ':'))
        return false;
    if (at < n)
        at++;
    if (at < n && p[at] == ' ')
        at++;
    *value = p + at;
    *len = n - at;
    return true;
}

/* Writes the event again with other data: every other line stays as it is. */
static void pass_changed(struct redact_events *e, size_t from, const char *data)
{
    bool done = false;
    size_t whole;

    pass(e, e->buf, from);
    for (size_t at = from; at < e->len; at += whole) {
        const char *p = e->buf + at, *value;
        size_t n = line_len(p, e->len - at, &whole), len;
        if (!line_field(p, n, "data", &value, &len)) {
            pass(e, p, whole);
        } else if (!done) {
            done = true;
            pass(e, "data: ", strlen("data: "));
            pass(e, data, strlen(data));
            pass(e, p + n, whole - n);
        }
    }
}

/* The event in buf is complete; last: nothing follows in this answer. */
static void take_event(struct redact_events *e, bool last)
{
    static const char bom[] = "\xef\xbb\xbf";
    CLEANUP_TEXT struct text data = {NULL, 0, 0};
    CLEANUP_FREE char *written = NULL;
    struct event ev = {.last = last};
    size_t from = 0, whole;
    bool has_data = false;

    e->number++;
    if (!e->started && e->len >= 3 && !memcmp(e->buf, bom, 3))
        from = 3;
    e->started = true;
    for (size_t at = from; at < e->len; at += whole) {
        const char *value;
        size_t len, n = line_len(e->buf + at, e->len - at, &whole);
        if (line_field(e->buf + at, n, "data", &value, &len)) {
            if (has_data)
                text_add(&data, "\n", 1);
            text_add(&data, value, len);
            has_data = true;
        } else if (line_field(e->buf + at, n, "event", &value, &len)) {
            ev.named = true;
        }
    }
    if (data.len > 0)
        ev.doc = json_loadb(data.at, data.len, JSON_ALLOW_NUL, NULL);
    if (json_is_object(ev.doc))
        take_doc(e, &ev);
    /* Who knows what it says: [DONE], or text that comes after what is held. */
    if (last || (has_data && !json_is_object(ev.doc)))
        give_out_all(e);
    if (ev.changed)
        written = json_dumps(ev.doc, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!ev.changed)
        pass(e, e->buf, e->len);
    else
        pass_changed(e, from, written ? written : "{}");
    json_decref(ev.doc);
    e->len = 0;
}

/* ---- the stream ---- */

void redact_events_init(struct redact_events *e, struct redactor *bytes, size_t max, redact_out out,
                        void *arg)
{
    memset(e, 0, sizeof(*e));
    e->bytes = bytes;
    e->max = max;
    e->out = out;
    e->arg = arg;
    e->pending_tail = &e->pending;
}

static void gather(struct redact_events *e, const char *p, size_t len)
{
    if (e->passing) {
        pass(e, p, len);
        return;
    }
    if (len > e->max - e->len) { /* too long: what is held comes before it */
        give_out_all(e);
        pass(e, e->buf, e->len);
        pass(e, p, len);
        e->len = 0;
        e->passing = e->started = true;
        return;
    }
    if (e->len + len > e->cap) {
        char *grown = x_malloc(e->cap = (e->len + len) * 2);
        if (e->len > 0)
            memcpy(grown, e->buf, e->len);
        if (e->buf)
            sodium_memzero(e->buf, e->len);
        free(e->buf);
        e->buf = grown;
    }
    memcpy(e->buf + e->len, p, len);
    e->len += len;
}

void redact_events_feed(struct redact_events *e, const void *data, size_t len)
{
    const char *p = data;
    size_t start = 0;

    for (size_t i = 0; i < len; i++) {
        bool second = p[i] == '\n' && e->after_cr; /* of CRLF: the line has ended already */
        bool ends = (p[i] == '\n' || p[i] == '\r') && !second && !e->in_line;
        e->after_cr = p[i] == '\r';
        if (!second)
            e->in_line = p[i] != '\n' && p[i] != '\r';
        if (!ends && !(second && i == start && e->len == 0 && !e->passing))
            continue;
        gather(e, p + start, i + 1 - start);
        start = i + 1;
        if (e->passing)
            e->passing = false;
        else
            take_event(e, false);
    }
    if (start < len)
        gather(e, p + start, len - start);
}

void redact_events_end(struct redact_events *e)
{
    if (e->len > 0)
        take_event(e, true);
    give_out_all(e);
    redactor_flush(e->bytes, e->out, e->arg);
}

void redact_events_free(struct redact_events *e)
{
    while (e->pending)
        pending_free(unlink_pending(e, &e->pending));
    if (e->buf)
        sodium_memzero(e->buf, e->cap);
    free(e->buf);
    memset(e, 0, sizeof(*e));
}
