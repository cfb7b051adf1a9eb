/* The agent's conversation: roles alternate, tool calls keep their results, old turns go first; cleaning of
 * text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "agent/conversation.h"
#include "agent/queue_client.h"
#include "base/cleanup.h"
#include "base/io.h"

static const char *role(const struct conversation *c, size_t i)
{
    return json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
}

static json_t *content(const struct conversation *c, size_t i)
{
    return json_object_get(json_array_get(c->messages, i), "content");
}

static void texts_of_one_role_are_joined_and_the_user_begins(void **state)
{
    struct conversation c;

    (void)state;
    conversation_init(&c);
    conversation_assistant(&c, "early");
    conversation_user(&c, "one");
    conversation_user(&c, "");
    conversation_assistant(&c, "two");
    assert_int_equal(json_array_size(c.messages), 4);
    assert_string_equal(role(&c, 0), "user");
    assert_int_equal(json_array_size(content(&c, 2)), 2);
    assert_string_equal(role(&c, 3), "assistant");
    conversation_free(&c);
}

static void the_answer_to_a_question_becomes_the_tools_result(void **state)
{
    struct conversation c;
    json_t *result;

    (void)state;
    conversation_init(&c);
    conversation_user(&c, "go");
    conversation_blocks(&c, json_pack("[{s:s,s:s}]", "type", "tool_use", "id", "t"));
    conversation_results(&c, json_pack("[{s:s,s:s}]", "type", "tool_result", "tool_use_id", "t"));
    assert_int_equal(json_array_size(c.messages), 2);
    conversation_user(&c, "blue");
    result = json_array_get(content(&c, 2), 0);
    assert_string_equal(json_string_value(json_object_get(result, "content")), "blue");
    conversation_free(&c);
}

static void trimming_drops_whole_turns_and_never_tears_a_call_from_its_result(void **state)
{
    CLEANUP_FREE char *big = x_calloc(1, 100001);
    struct conversation c;

    (void)state;
    memset(big, 'x', 100000);
    conversation_init(&c);
    for (int i = 0; i < 10; i++) {
        conversation_user(&c, big);
        conversation_blocks(&c, json_pack("[{s:s,s:s}]", "type", "tool_use", "id", "t"));
        conversation_results(
            &c, json_pack("[{s:s,s:s,s:s}]", "type", "tool_result", "tool_use_id", "t", "content", "r"));
        conversation_blocks(&c, json_pack("[{s:s,s:s}]", "type", "text", "text", "ok"));
        conversation_trim(&c);
        assert_int_equal(json_array_size(c.messages) % 4, 0);
        assert_string_equal(json_string_value(json_object_get(json_array_get(content(&c, 0), 0), "type")),
                            "text");
        assert_true(json_dumpb(c.messages, NULL, 0, JSON_COMPACT) <= CONVERSATION_MAX);
    }
    assert_int_equal(json_array_size(c.messages), 20);
    conversation_free(&c);
}

static void a_long_chat_of_short_messages_is_bounded_too(void **state)
{
    struct conversation c;

    (void)state;
    conversation_init(&c);
    for (int i = 0; i < 2 * CONVERSATION_MESSAGES_MAX; i++) {
        conversation_user(&c, "hi");
        conversation_assistant(&c, "hello");
        conversation_trim(&c);
    }
    assert_int_equal(json_array_size(c.messages), CONVERSATION_MESSAGES_MAX);
    assert_string_equal(role(&c, 0), "user");
    conversation_free(&c);
}

static void the_last_turn_stays_however_large_it_is(void **state)
{
    CLEANUP_FREE char *big = x_calloc(1, CONVERSATION_MAX + 2);
    struct conversation c;

    (void)state;
    memset(big, 'x', CONVERSATION_MAX + 1);
    conversation_init(&c);
    conversation_user(&c, "old");
    conversation_assistant(&c, "old");
    conversation_user(&c, big);
    conversation_trim(&c);
    assert_int_equal(json_array_size(c.messages), 1);
    conversation_free(&c);
}

static void text_becomes_valid_utf8_whatever_the_bytes(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } cases[] = {
        {"plain", 5, "plain"},
        {"a\0b", 3, "a?b"},
        {"\xff\xfe", 2, "??"},
        {"\xc3\xa4", 2, "\xc3\xa4"},
        {"\xc3", 1, "?"},
        {"\xc0\xaf", 2, "??"},
        {"\xed\xa0\x80", 3, "???"},
        {"\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80"},
        {"\xf4\x90\x80\x80", 4, "????"},
        {"\xe0\x80\x80", 3, "???"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_FREE char *got = text_clean(cases[i].in, cases[i].len, 100);
        assert_string_equal(got, cases[i].out);
    }
}

static void a_cut_is_said_and_never_splits_a_character(void **state)
{
    CLEANUP_FREE char *got = text_clean("aaa\xc3\xa4"
                                        "bbb",
                                        8, 4);

    (void)state;
    assert_string_equal(got, "aaa\n[cut here: 3 of 8 bytes shown]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_one_role_are_joined_and_the_user_begins),
        cmocka_unit_test(the_answer_to_a_question_becomes_the_tools_result),
        cmocka_unit_test(trimming_drops_whole_turns_and_never_tears_a_call_from_its_result),
        cmocka_unit_test(a_long_chat_of_short_messages_is_bounded_too),
        cmocka_unit_test(the_last_turn_stays_however_large_it_is),
        cmocka_unit_test(text_becomes_valid_utf8_whatever_the_bytes),
        cmocka_unit_test(a_cut_is_said_and_never_splits_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
