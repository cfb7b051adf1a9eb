/* The redactor of event streams: a key that a model says piece by piece, each piece in an event of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sse.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "upstream/redact_events.h"

static const char key[] = "sk-ant-01/9zYx";

struct sink {
    char text[65536];
    size_t len;
};

struct stream {
    struct secret *secret;
    struct redactor bytes;
    struct redact_events events;
    struct sink out;
};

static void collect(void *arg, const void *data, size_t len)
{
    struct sink *s = arg;

    assert_true(s->len + len < sizeof(s->text));
    memcpy(s->text + s->len, data, len);
    s->len += len;
    s->text[s->len] = 0;
}

static void begin_max(struct stream *s, size_t max)
{
    s->out.len = 0;
    s->out.text[0] = 0;
    s->secret = secret_new(key, strlen(key));
    redactor_init(&s->bytes);
    assert_true(redactor_add(&s->bytes, s->secret));
    redact_events_init(&s->events, &s->bytes, max, collect, &s->out);
}

static void begin(struct stream *s)
{
    begin_max(s, EVENT_BYTES_MAX);
}

static void say(struct stream *s, const char *text)
{
    redact_events_feed(&s->events, text, strlen(text));
}

static void end(struct stream *s)
{
    redact_events_end(&s->events);
    redact_events_free(&s->events);
    redactor_free(&s->bytes);
    secret_unref(s->secret);
}

/* ---- the shapes ---- */

/* How a provider says one piece of a text, what it says when the text is over, and where a client finds it.
 */
struct dialect {
    const char *name;
    const char *event;   /* the `event` line, or NULL */
    const char *piece;   /* format of the data: the text as a JSON string */
    const char *closing; /* the event that ends the text, whole */
    const char *path[6]; /* to the text within the data; "0" is the first of a list */
};

#define CHAT_HEAD                                                                                            \
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"choices\":"
#define CHAT_STOP  "data: " CHAT_HEAD "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define BLOCK_STOP "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"

static const struct dialect dialects[] = {
    {"text of a block",
     "content_block_delta",
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":%s}}",
     BLOCK_STOP,
     {"delta", "text"}},
    {"thinking of a block",
     "content_block_delta",
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":%s}}",
     BLOCK_STOP,
     {"delta", "thinking"}},
    {"input of a block's tool",
     "content_block_delta",
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_"
     "json\":%s}}",
     BLOCK_STOP,
     {"delta", "partial_json"}},
    {"content of a choice",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"delta\":{\"content\":%s},\"finish_reason\":null}]}",
     CHAT_STOP,
     {"choices", "0", "delta", "content"}},
    {"refusal of a choice",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"delta\":{\"refusal\":%s},\"finish_reason\":null}]}",
     CHAT_STOP,
     {"choices", "0", "delta", "refusal"}},
    {"reasoning of a choice",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"delta\":{\"reasoning_content\":%s},\"finish_reason\":null}]}",
     CHAT_STOP,
     {"choices", "0", "delta", "reasoning_content"}},
    {"old function call",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":%s}},\"finish_reason\":null}]}",
     CHAT_STOP,
     {"choices", "0", "delta", "function_call", "arguments"}},
    {"arguments of a tool call",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":%s}}]},"
               "\"finish_reason\":null}]}",
     CHAT_STOP,
     {"choices", "0", "delta", "tool_calls", "0", "function"}}, /* and "arguments" */
    {"text of a completion",
     NULL,
     CHAT_HEAD "[{\"index\":0,\"text\":%s,\"finish_reason\":null}]}",
     "data: " CHAT_HEAD "[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n",
     {"choices", "0", "text"}},
    {"text of an output item",
     "response.output_text.delta",
     "{\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,"
     "\"delta\":%s}",
     "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"item_id\":\"i\","
     "\"output_index\":0,\"content_index\":0}\n\n",
     {"delta"}},
    {"arguments of an output item",
     "response.function_call_arguments.delta",
     "{\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"i\",\"output_index\":0,\"delta\":%"
     "s}",
     "event: response.function_call_arguments.done\ndata: "
     "{\"type\":\"response.function_call_arguments.done\","
     "\"item_id\":\"i\",\"output_index\":0}\n\n",
     {"delta"}},
};

/* The next event of a dialect: text[len], if there is any. */
static void say_piece(struct stream *s, const struct dialect *d, const char *text, size_t len)
{
    json_t *string = json_stringn(text, len);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY), data[2048];

    if (d->event) {
        say(s, "event: ");
        say(s, d->event);
        say(s, "\n");
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(data, sizeof(data), d->piece, quoted);
#pragma GCC diagnostic pop
    say(s, "data: ");
    say(s, data);
    say(s, "\n\n");
    free(quoted);
    json_decref(string);
}

/* What a client puts together of a stream. */
struct reader {
    const struct dialect *d;
    struct sink text;
    size_t events;
    bool closed;
};

static void read_event(void *arg, const char *event, const char *data, size_t len)
{
    struct reader *r = arg;
    json_t *doc = json_loadb(data, len, 0, NULL), *at = doc;

    assert_non_null(doc);
    r->events++;
    for (size_t i = 0; i < ARRAY_LEN(r->d->path) && r->d->path[i]; i++)
        at = json_is_array(at) ? json_array_get(at, 0) : json_object_get(at, r->d->path[i]);
    if (json_is_object(at))
        at = json_object_get(at, "arguments");
    if (json_is_string(at) && json_string_length(at) > 0) {
        assert_false(r->closed); /* the text had ended */
        collect(&r->text, json_string_value(at), json_string_length(at));
        assert_string_equal(event, r->d->event ? r->d->event : "");
    }
    if (strstr(r->d->closing, data))
        r->closed = true;
    json_decref(doc);
}

static void read_stream(struct reader *r, const struct dialect *d, const struct sink *out)
{
    struct sse sse;

    memset(r, 0, sizeof(*r));
    r->d = d;
    sse_init(&sse, 65536, read_event, r);
    assert_true(sse_feed(&sse, out->text, out->len));
    sse_free(&sse);
}

/* Says the text in three pieces, cut at a and b, and gives what a client makes of it. */
static void check_pieces(const struct dialect *d, const char *text, size_t a, size_t b, const char *expected)
{
    static struct stream s;
    static struct reader r;

    begin(&s);
    say_piece(&s, d, text, a);
    say_piece(&s, d, text + a, b - a);
    say_piece(&s, d, text + b, strlen(text) - b);
    say(&s, d->closing);
    end(&s);
    read_stream(&r, d, &s.out);
    if (strcmp(r.text.text, expected) != 0)
        print_error("%s, cut at %zu and %zu:\n%s\n", d->name, a, b, s.out.text);
    assert_string_equal(r.text.text, expected);
    assert_true(r.closed);
}

static void check_all_cuts(const char *text, const char *expected)
{
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++)
        for (size_t a = 0; a <= strlen(text); a++)
            for (size_t b = a; b <= strlen(text); b++)
                check_pieces(&dialects[i], text, a, b, expected);
}

/* ---- what is promised ---- */

static void a_key_is_found_wherever_it_is_split_over_two_or_three_events(void **state)
{
    (void)state;
    check_all_cuts("<sk-ant-01/9zYx>", "<[redacted]>");
}

static void a_key_at_the_end_of_a_text_is_found(void **state)
{
    (void)state;
    check_all_cuts("so sk-ant-01/9zYx", "so [redacted]");
}

static void a_key_said_letter_by_letter_is_found(void **state)
{
    static struct stream s;
    static struct reader r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++) {
        begin(&s);
        for (size_t at = 0; key[at]; at++)
            say_piece(&s, &dialects[i], key + at, 1);
        say(&s, dialects[i].closing);
        end(&s);
        read_stream(&r, &dialects[i], &s.out);
        assert_string_equal(r.text.text, "[redacted]");
    }
}

/* The arguments of a tool are JSON in a string: the key has escapes of its own there. */
static void the_escaped_spelling_of_a_key_in_the_arguments_of_a_tool_is_found(void **state)
{
    (void)state;
    check_all_cuts("{\"a\":\"sk-ant-01\\/9zYx\"}", "{\"a\":\"[redacted]\"}");
}

static void a_text_that_only_begins_like_the_key_loses_nothing_and_keeps_its_order(void **state)
{
    (void)state;
    check_all_cuts("sk-ask-ant-01/9zY. s", "sk-ask-ant-01/9zY. s");
}

static void what_is_held_comes_out_before_the_text_ends(void **state)
{
    static struct stream s;
    static struct reader r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++) {
        begin(&s);
        say_piece(&s, &dialects[i], "yes", 3);
        assert_null(strstr(s.out.text, "yes"));
        assert_non_null(strstr(s.out.text, "\"ye\""));
        say(&s, dialects[i].closing);
        read_stream(&r, &dialects[i], &s.out);
        assert_string_equal(r.text.text, "yes");
        assert_true(r.closed);
        end(&s);
    }
}

static void what_is_held_comes_out_when_the_answer_just_ends(void **state)
{
    static const char *const ends[] = {"", "data: [DONE]\n\n", ": no more"};
    static struct stream s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialects); i++) {
        for (size_t j = 0; j < ARRAY_LEN(ends); j++) {
            begin(&s);
            say_piece(&s, &dialects[i], "yes", 3);
            say(&s, ends[j]);
            end(&s);
            assert_non_null(strstr(s.out.text, "\"s\""));
            assert_true(s.out.len > strlen(ends[j]));
            assert_string_equal(s.out.text + s.out.len - strlen(ends[j]), ends[j]);
        }
    }
}

static void the_end_of_a_choice_in_its_last_piece_takes_what_is_held_along(void **state)
{
    static struct stream s;

    (void)state;
    begin(&s);
    say(&s, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ye\"}}]}\n\n");
    say(&s,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"sk\"},\"finish_reason\":\"stop\"}]}\n\n");
    assert_string_equal(
        s.out.text,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ye\"}}]}\n\n"
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"sk\"},\"finish_reason\":\"stop\"}]}\n\n");
    end(&s);
}

#define BLOCK(index, text)                                                                                   \
    "data: {\"type\":\"content_block_delta\",\"index\":" #index                                              \
    ",\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}\n\n"

static void blocks_that_are_interleaved_are_looked_at_one_by_one(void **state)
{
    static struct stream s;

    (void)state;
    begin(&s);
    say(&s, BLOCK(0, "a sk-ant") BLOCK(1, "b sk-") "data: {\"type\":\"ping\"}\n\n: waiting\n\n");
    say(&s, BLOCK(0, "-01/9zYx!") BLOCK(1, "y"));
    assert_string_equal(s.out.text,
                        BLOCK(0, "a ") BLOCK(1, "b ") "data: {\"type\":\"ping\"}\n\n: waiting\n\n" BLOCK(
                            0, "[redacted]!") BLOCK(1, "sk-y"));
    end(&s);
}

static void two_choices_and_two_tool_calls_of_one_event_are_kept_apart(void **state)
{
#define BOTH(a, b, c)                                                                                        \
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" a                                           \
    "\"}},{\"index\":1,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"" b             \
    "\"}},{\"index\":1,\"function\":{\"arguments\":\"" c "\"}}]}}]}\n\n"
    static struct stream s;

    (void)state;
    begin(&s);
    say(&s, BOTH("1sk-a", "2sk-an", "3sk-ant") BOTH("nt-01/9zYx", "x", "-01/9zYx."));
    assert_string_equal(s.out.text, BOTH("1", "2", "3") BOTH("[redacted]", "sk-anx", "[redacted]."));
    end(&s);
}

static void log_probabilities_do_not_spell_out_what_the_text_hides(void **state)
{
    static struct stream s;

    (void)state;
    begin(&s);
    say(&s, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"sk-ant\"},\"logprobs\":{\"content\":[{"
            "\"token\":\"sk-ant\"}]}}]}\n\n");
    say(&s,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"-01/9zYx\"},\"logprobs\":{\"content\":[{"
        "\"token\":\"-01/9zYx\"}]}}]}\n\n");
    end(&s);
    assert_null(strstr(s.out.text, "token"));
    assert_non_null(strstr(s.out.text, "[redacted]"));
}

/* Feeds the text whole, and cut everywhere; it must come out as expected. */
static void check_bytes(const char *text, size_t max, const char *expected)
{
    static struct stream s;
    size_t len = strlen(text);

    for (size_t cut = 0; cut <= len; cut++) {
        begin_max(&s, max);
        redact_events_feed(&s.events, text, cut);
        redact_events_feed(&s.events, text + cut, len - cut);
        end(&s);
        assert_string_equal(s.out.text, expected);
    }
    begin_max(&s, max);
    for (size_t i = 0; i < len; i++)
        redact_events_feed(&s.events, text + i, 1);
    end(&s);
    assert_string_equal(s.out.text, expected);
}

static void what_needs_no_change_passes_byte_for_byte(void **state)
{
    static const char *const streams[] = {
        "data:  {\"type\" : \"content_block_delta\", \"index\": 0,\"delta\":{\"text\":\"\\u0068i \\/\"}}\n\n",
        "\xef\xbb\xbf"
        "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"x\":1.50}\r\n\r\n",
        "id: 1\rdata: {}\r\rretry: 5\r\r\r\n\r\n\n\n",
        ": a comment\n\n:\nevent: x\ndata\n\ndata:\n\n",
        "data: {\"type\":1,\"choices\":[3,{\"delta\":[]}],\"delta\":{\"text\":4}}\n\n",
        "no event at all\n",
        "data: {\"no\":\"end\"}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        check_bytes(streams[i], EVENT_BYTES_MAX, streams[i]);
}

static void an_event_is_passed_on_as_soon_as_it_is_complete(void **state)
{
    static struct stream s;

    (void)state;
    begin(&s);
    for (int i = 0; i < 3; i++) {
        size_t before = s.out.len;
        say(&s, BLOCK(0, "one piece"));
        assert_int_equal(s.out.len - before, strlen(BLOCK(0, "one piece")));
    }
    end(&s);
}

static void other_lines_and_line_ends_of_a_changed_event_stay(void **state)
{
    (void)state;
    check_bytes(": c\r\nevent: e\r\ndata: {\"type\":\"content_block_delta\",\r\nid: 4\r\ndata: "
                "\"index\":0,\"delta\":{"
                "\"text\":\"sk-ant-01/9zYx\"}}\r\nretry: 1\r\n\r\n",
                EVENT_BYTES_MAX,
                ": c\r\nevent: e\r\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"text\":"
                "\"[redacted]\"}}\r\nid: 4\r\nretry: 1\r\n\r\n");
    check_bytes("data:{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"sk-ant-\"}}\r\r"
                "data:{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"01/9zYx\"}}\r\r",
                EVENT_BYTES_MAX,
                "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\"}}\r\r"
                "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"[redacted]\"}}\r\r");
}

static void what_is_no_json_passes_the_byte_redactor_after_what_was_held(void **state)
{
    (void)state;
    check_bytes("data: {\"broken sk-ant-01/9zYx\n\n: sk-ant-01/9zYx\n\nsk-ant-01/9zYx", EVENT_BYTES_MAX,
                "data: {\"broken [redacted]\n\n: [redacted]\n\n[redacted]");
    check_bytes(BLOCK(0, "yes") "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\n\n",
                EVENT_BYTES_MAX,
                BLOCK(0, "ye")
                    BLOCK(0, "s") "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"x\n\n");
}

static void the_key_elsewhere_in_an_event_is_redacted_as_before(void **state)
{
    (void)state;
    check_bytes("event: sk-ant-01/9zYx\ndata: {\"type\":\"ping\",\"x\":\"sk-ant-01\\/9zYx\"}\n\n",
                EVENT_BYTES_MAX, "event: [redacted]\ndata: {\"type\":\"ping\",\"x\":\"[redacted]\"}\n\n");
}

static void an_event_that_is_too_long_passes_the_byte_redactor_after_what_was_held(void **state)
{
    static const char small[] = BLOCK(0, "yes");
    static const char expected[] = BLOCK(0, "ye") BLOCK(0, "s");
    char filler[401], *text, *wanted;

    (void)state;
    memset(filler, 'x', 400);
    filler[400] = 0;
    text = x_asprintf("%sdata: {\"sk-ant-01/9zYx\":\"%s\"}\n\n%s", small, filler,
                      BLOCK(0, "a sk-") BLOCK(0, "b"));
    wanted = x_asprintf("%sdata: {\"[redacted]\":\"%s\"}\n\n%s", expected, filler,
                        BLOCK(0, "a ") BLOCK(0, "sk-b"));
    check_bytes(text, 200, wanted);
    free(text);
    free(wanted);
}

static void more_texts_than_can_be_held_lose_nothing(void **state)
{
    static struct stream s;
    char line[256];
    size_t pieces = 0;

    (void)state;
    begin(&s);
    for (int i = 0; i < 3 * PENDING_MAX; i++) {
        (void)snprintf(
            line, sizeof(line),
            "data: {\"type\":\"content_block_delta\",\"index\":%d,\"delta\":{\"text\":\"sk\"}}\n\n", i);
        say(&s, line);
        assert_true(s.events.npending <= PENDING_MAX);
    }
    end(&s);
    for (const char *p = s.out.text; (p = strstr(p, "\"sk\"")); p++)
        pieces++;
    assert_int_equal(pieces, 3 * PENDING_MAX);
}

static void more_texts_than_can_be_held_in_one_event_lose_nothing(void **state)
{
    static struct stream s;
    json_t *choices = json_array(), *doc = json_pack("{s:o}", "choices", choices);
    CLEANUP_FREE char *data = NULL;
    size_t pieces = 0;

    (void)state;
    for (int i = 0; i < 2 * PENDING_MAX; i++)
        (void)json_array_append_new(choices, json_pack("{s:i, s:s}", "index", i, "text", "sk"));
    data = json_dumps(doc, 0);
    begin(&s);
    say(&s, "data: ");
    say(&s, data);
    say(&s, "\n\n");
    end(&s);
    for (const char *p = s.out.text; (p = strstr(p, "\"sk\"")); p++)
        pieces++;
    assert_int_equal(pieces, 2 * PENDING_MAX);
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_wherever_it_is_split_over_two_or_three_events),
        cmocka_unit_test(a_key_at_the_end_of_a_text_is_found),
        cmocka_unit_test(a_key_said_letter_by_letter_is_found),
        cmocka_unit_test(the_escaped_spelling_of_a_key_in_the_arguments_of_a_tool_is_found),
        cmocka_unit_test(a_text_that_only_begins_like_the_key_loses_nothing_and_keeps_its_order),
        cmocka_unit_test(what_is_held_comes_out_before_the_text_ends),
        cmocka_unit_test(what_is_held_comes_out_when_the_answer_just_ends),
        cmocka_unit_test(the_end_of_a_choice_in_its_last_piece_takes_what_is_held_along),
        cmocka_unit_test(blocks_that_are_interleaved_are_looked_at_one_by_one),
        cmocka_unit_test(two_choices_and_two_tool_calls_of_one_event_are_kept_apart),
        cmocka_unit_test(log_probabilities_do_not_spell_out_what_the_text_hides),
        cmocka_unit_test(what_needs_no_change_passes_byte_for_byte),
        cmocka_unit_test(an_event_is_passed_on_as_soon_as_it_is_complete),
        cmocka_unit_test(other_lines_and_line_ends_of_a_changed_event_stay),
        cmocka_unit_test(what_is_no_json_passes_the_byte_redactor_after_what_was_held),
        cmocka_unit_test(the_key_elsewhere_in_an_event_is_redacted_as_before),
        cmocka_unit_test(an_event_that_is_too_long_passes_the_byte_redactor_after_what_was_held),
        cmocka_unit_test(more_texts_than_can_be_held_lose_nothing),
        cmocka_unit_test(more_texts_than_can_be_held_in_one_event_lose_nothing),
    };

    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
