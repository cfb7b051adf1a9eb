/* The event-stream parser, against the rules of the HTML Living Standard, section 9.2.6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "agent/sse.h"

static char seen[4096];

static void note(void *arg, const char *event, const char *data, size_t len)
{
    size_t used = strlen(seen);

    (void)arg;
    assert_int_equal(strlen(data), len);
    (void)snprintf(seen + used, sizeof(seen) - used, "[%s|%s]", event, data);
}

/* The stream cut into two at every position gives the same events. */
static void check(const char *stream, const char *expected)
{
    size_t len = strlen(stream);

    for (size_t cut = 0; cut <= len; cut++) {
        struct sse s;
        seen[0] = 0;
        sse_init(&s, 1000, note, NULL);
        assert_true(sse_feed(&s, stream, cut));
        assert_true(sse_feed(&s, stream + cut, len - cut));
        sse_free(&s);
        assert_string_equal(seen, expected);
    }
}

static void events_end_with_a_blank_line(void **state)
{
    (void)state;
    check("data: a\n\ndata: b\n\n", "[|a][|b]");
    check("event: x\ndata: a\n\ndata: b\n\n", "[x|a][|b]");
}

static void lines_end_with_lf_cr_or_crlf(void **state)
{
    (void)state;
    check("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[|a][|b][|c]");
    check("data: a\r\ndata: b\r\n\r\n", "[|a\nb]");
}

static void data_lines_are_joined_and_one_space_is_taken(void **state)
{
    (void)state;
    check("data:a\ndata:  b\ndata\n\n", "[|a\n b\n]");
}

static void comments_other_fields_and_empty_events_are_nothing(void **state)
{
    (void)state;
    check(": hi\nid: 1\nretry: 5\nfoo: x\n\nevent: lonely\n\ndata: a\n\n", "[|a]");
}

static void a_byte_order_mark_is_skipped_and_an_unfinished_event_is_dropped(void **state)
{
    (void)state;
    check("\xef\xbb\xbf"
          "data: a\n\ndata: lost\n",
          "[|a]");
}

static void an_event_that_is_too_long_is_dropped_and_the_next_one_is_seen(void **state)
{
    struct sse s;
    char big[300];

    (void)state;
    memset(big, 'x', sizeof(big));
    seen[0] = 0;
    sse_init(&s, 100, note, NULL);
    assert_true(sse_feed(&s, "data: 1\ndata: ", 14));
    assert_false(sse_feed(&s, big, sizeof(big)));
    (void)sse_feed(&s, "\ndata: tail\n\ndata: ok\n\n", 23);
    assert_string_equal(seen, "[|ok]");
    assert_int_equal(s.dropped, 1);
    seen[0] = 0;
    for (int i = 0; i < 60; i++)
        (void)sse_feed(&s, "data: yy\n", 9);
    (void)sse_feed(&s, "\ndata: ok\n\n", 11);
    assert_string_equal(seen, "[|ok]");
    sse_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_end_with_a_blank_line),
        cmocka_unit_test(lines_end_with_lf_cr_or_crlf),
        cmocka_unit_test(data_lines_are_joined_and_one_space_is_taken),
        cmocka_unit_test(comments_other_fields_and_empty_events_are_nothing),
        cmocka_unit_test(a_byte_order_mark_is_skipped_and_an_unfinished_event_is_dropped),
        cmocka_unit_test(an_event_that_is_too_long_is_dropped_and_the_next_one_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
