/* What passes the model port (paths, headers), what a session may spend, how tokens are counted, how errors
 * look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "modelproxy/allowlist.h"
#include "modelproxy/api_error.h"
#include "modelproxy/limits.h"
#include "modelproxy/usage.h"

static const uint64_t second = 1000000000ULL;

static void only_paths_of_the_list_pass_byte_for_byte(void **state)
{
    static const char *const good[] = {"/v1/messages",         "/v1/messages/count_tokens",
                                       "/v1/chat/completions", "/v1/completions",
                                       "/v1/responses",        "/v1/embeddings",
                                       "/v1/models",           "/v1/messages?beta=true"};
    static const char *const bad[] = {"",
                                      "/",
                                      "/v1/message",
                                      "/v1/messagess",
                                      "/v1/messages/",
                                      "/v1//messages",
                                      "/v1/%6dessages",
                                      "/V1/messages",
                                      "/v1/messages#",
                                      "/v1/messages/../models",
                                      "//v1/messages",
                                      "http://h/v1/messages",
                                      "v1/messages",
                                      " /v1/messages",
                                      "?"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_non_null(allow_path(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_null(allow_path(bad[i]));
    assert_string_equal(allow_path("/v1/messages?x=../y")->path, "/v1/messages");
}

static void only_headers_of_the_list_pass_and_no_value_ends_a_line(void **state)
{
    (void)state;
    assert_true(allow_header("Content-Type"));
    assert_true(allow_header("anthropic-beta"));
    assert_false(allow_header("Authorization"));
    assert_false(allow_header("x-api-key"));
    assert_false(allow_header("Cookie"));
    assert_false(allow_header(""));
    assert_true(allow_header_value("application/json; charset=utf-8", 255));
    assert_false(allow_header_value("a\nb", 255));
    assert_false(allow_header_value("a\rb", 255));
    assert_false(allow_header_value("a\tb", 255));
    assert_false(allow_header_value("\xc3\xa4", 255));
    assert_false(allow_header_value("abc", 2));
}

static void the_rate_allows_a_minutes_burst_and_then_its_pace(void **state)
{
    struct limits l;
    uint32_t after;

    (void)state;
    limits_init(&l, 60, 100, 0, 0, 0);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
        limits_done(&l, 0);
    }
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_RATE);
    assert_int_equal(after, 2);
    assert_int_equal(limits_admit(&l, second, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, second, &after), LIMIT_RATE);
    /* An hour of silence earns one minute, not sixty. */
    for (int i = 0; i < 60; i++)
        assert_int_equal(limits_admit(&l, 3600 * second, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, 3600 * second, &after), LIMIT_RATE);
}

static void a_clock_that_stands_or_goes_back_earns_nothing(void **state)
{
    struct limits l;
    uint32_t after;

    (void)state;
    limits_init(&l, 1, 9, 0, 0, 100 * second);
    assert_int_equal(limits_admit(&l, 100 * second, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, 50 * second, &after), LIMIT_RATE);
    assert_int_equal(limits_admit(&l, 159 * second, &after), LIMIT_RATE);
    assert_int_equal(limits_admit(&l, 160 * second, &after), LIMIT_OK);
}

static void calls_at_a_time_are_counted_and_given_back(void **state)
{
    struct limits l;
    uint32_t after;

    (void)state;
    limits_init(&l, 0, 2, 0, 0, 0);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_CONCURRENCY);
    limits_done(&l, 5);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
    limits_init(&l, 0, 0, 0, 0, 0);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_CONCURRENCY);
}

static void the_budget_ends_calls_and_never_wraps(void **state)
{
    struct limits l;
    uint32_t after;

    (void)state;
    limits_init(&l, 0, 2, 10, 9, 0);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_OK);
    limits_done(&l, UINT64_MAX);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_BUDGET);
    limits_change(&l, 0, 2, 10, 3);
    assert_int_equal(limits_admit(&l, 0, &after), LIMIT_BUDGET);
}

/* Feeds the answer one byte at a time. */
static void count(const char *type, const char *answer, uint64_t in, uint64_t out)
{
    struct usage u;

    usage_begin(&u, type);
    for (const char *p = answer; *p; p++)
        usage_feed(&u, p, 1);
    usage_end(&u, 400);
    assert_int_equal(u.input, in);
    assert_int_equal(u.output, out);
}

static void tokens_are_read_from_every_kind_of_answer(void **state)
{
    (void)state;
    count("application/json", "{\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}", 3, 4);
    count("application/json",
          "{\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":5,\"output_tokens\":4}}", 8, 4);
    count("application/json", "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}", 3, 4);
    count("text/event-stream; charset=utf-8",
          "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
          "data: {\"usage\":{\"output_tokens\":30}}\n\n",
          9, 30);
    count("text/event-stream",
          "data: {\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n", 1, 2);
}

static void an_answer_that_names_no_tokens_is_estimated_never_free(void **state)
{
    (void)state;
    count("application/json", "not json at all!", 101, 4);
    count("text/event-stream", "data: [DONE]\n\n", 101, 3);
    count("application/json", "{\"usage\":\"many\"}", 101, 4);
}

static void absurd_and_negative_counters_are_not_believed(void **state)
{
    (void)state;
    count("application/json", "{\"usage\":{\"input_tokens\":-5,\"output_tokens\":9223372036854775807}}", 0,
          0);
}

static void errors_have_the_shape_of_their_api(void **state)
{
    CLEANUP_FREE char *a = api_error_json(SHAPE_ANTHROPIC, 429, "slow \"down\""),
                      *o = api_error_json(SHAPE_OPENAI, 502, "x");

    (void)state;
    assert_string_equal(
        a,
        "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow \\\"down\\\"\"}}");
    assert_non_null(strstr(o, "\"code\":\"server_error\""));
    assert_null(strstr(o, "\"type\":\"error\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_paths_of_the_list_pass_byte_for_byte),
        cmocka_unit_test(only_headers_of_the_list_pass_and_no_value_ends_a_line),
        cmocka_unit_test(the_rate_allows_a_minutes_burst_and_then_its_pace),
        cmocka_unit_test(a_clock_that_stands_or_goes_back_earns_nothing),
        cmocka_unit_test(calls_at_a_time_are_counted_and_given_back),
        cmocka_unit_test(the_budget_ends_calls_and_never_wraps),
        cmocka_unit_test(tokens_are_read_from_every_kind_of_answer),
        cmocka_unit_test(an_answer_that_names_no_tokens_is_estimated_never_free),
        cmocka_unit_test(absurd_and_negative_counters_are_not_believed),
        cmocka_unit_test(errors_have_the_shape_of_their_api),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
