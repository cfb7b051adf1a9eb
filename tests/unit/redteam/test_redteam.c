/*
 * What crosses from a hostile program to the host, and what comes back from a report's file: taken apart
 * strictly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/attempt.h"
#include "redteam/report_file.h"

static const char record[] = "report 0123456789abcdef net.dns\n"
                             "step query-0 -1 101 127.0.0.53 is not there\n"
                             "step list 3 0\n"
                             "fact uid 1000\n"
                             "fact words several of them\n"
                             "claim it believes so\n"
                             "proof key 6963782d41\n"
                             "end done\n";

static int parse(struct attempt *a, const char *text)
{
    struct err e = ERR_INIT;

    return attempt_parse(a, text, strlen(text), &e);
}

static void a_whole_record_is_taken_apart(void **state)
{
    struct attempt a;

    (void)state;
    assert_int_equal(parse(&a, record), 0);
    assert_string_equal(a.attack, "net.dns");
    assert_true(a.complete);
    assert_int_equal(attempt_step_find(&a, "query-0")->ret, -1);
    assert_int_equal(attempt_step_find(&a, "query-0")->error, 101);
    assert_string_equal(attempt_step_find(&a, "query-0")->detail, "127.0.0.53 is not there");
    assert_string_equal(attempt_step_find(&a, "list")->detail, "");
    assert_null(attempt_step_find(&a, "query"));
    assert_int_equal(attempt_number(&a, "uid", -1), 1000);
    assert_int_equal(attempt_number(&a, "words", -1), -1);
    assert_int_equal(a.nclaims, 1);
    attempt_free(&a);
}

static void a_record_that_was_cut_short_is_not_complete(void **state)
{
    static const char *const ends[] = {"end timeout\n", "end killed 9\n", "end exit 1\n", "end unknown\n",
                                       "end \n"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        CLEANUP_FREE char *text = x_asprintf("report 0123456789abcdef x\nstep a 0 0\n%s", ends[i]);
        struct attempt a;
        assert_int_equal(parse(&a, text), 0);
        assert_false(a.complete);
        attempt_free(&a);
    }
}

static void what_is_no_record_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "report",
                                      "report 0123456789abcdef x\n",
                                      "step a 0 0\nend done\n",
                                      "report 0123456789abcde x\nend done\n",
                                      "report 0123456789abcdeX x\nend done\n",
                                      "report 0123456789abcdef X Y\nend done\n",
                                      "report 0123456789abcdef x\nend done\nstep a 0 0\n",
                                      "report 0123456789abcdef x\nstep a b 0\nend done\n",
                                      "report 0123456789abcdef x\nstep a 0 5000\nend done\n",
                                      "report 0123456789abcdef x\nstep A 0 0\nend done\n",
                                      "report 0123456789abcdef x\nverdict PASS\nend done\n",
                                      "report 0123456789abcdef x\nfact ../x 1\nend done\n"};
    struct attempt a;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(parse(&a, bad[i]), -1);
    assert_int_equal(attempt_parse(&a, "report 0123456789abcdef x\0end done\n", 36, NULL), -1);
}

static void a_record_of_too_many_lines_or_bytes_is_refused(void **state)
{
    CLEANUP_FREE char *text = x_malloc(ATTEMPT_TEXT_MAX + 2);
    struct attempt a;

    (void)state;
    memset(text, '\n', ATTEMPT_LINES_MAX + 1);
    assert_int_equal(attempt_parse(&a, text, ATTEMPT_LINES_MAX + 1, NULL), -1);
    memset(text, 'a', ATTEMPT_TEXT_MAX + 1);
    assert_int_equal(attempt_parse(&a, text, ATTEMPT_TEXT_MAX + 1, NULL), -1);
}

static void a_secret_is_found_wherever_it_stands(void **state)
{
    struct attempt a;

    (void)state;
    assert_int_equal(parse(&a, record), 0);
    assert_true(attempt_leaks(&a, "not there"));  /* a step's detail */
    assert_true(attempt_leaks(&a, "several of")); /* a fact */
    assert_true(attempt_leaks(&a, "believes"));   /* a claim */
    assert_true(attempt_leaks(&a, "icx-A"));      /* a proof's bytes */
    assert_false(attempt_leaks(&a, "icx-B"));
    attempt_free(&a);
}

/* ---- the report's file ---- */

#define HEX16     "0123456789abcdef"
#define SIGNATURE HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16 HEX16
/* clang-format off */
#define BODY                                                                                                 \
    "{\"schema\":\"ironclaw-containment-report\",\"version\":1,\"time\":1,\"held\":true,"                      \
    "\"complete\":true,\"ironclaw\":{\"version\":\"1\",\"binaries\":[{\"name\":\"ironclaw\",\"sha256\":\""      \
    HEX16 HEX16 HEX16 HEX16 "\"}]},\"host\":{\"kernel\":\"k\",\"machine\":\"m\"},\"walls\":[],"               \
    "\"results\":[{\"attack\":\"a\",\"family\":1,\"wall\":\"w\",\"boundary\":\"B1\",\"verdict\":\"PASS\","     \
    "\"why\":\"\",\"event\":\"none\",\"checks\":[]}],\"public_key\":\"k\"}"
/* clang-format on */

static json_t *load(const char *body)
{
    CLEANUP_FREE char *text =
        x_asprintf("%s%s%s%s%s", REPORT_HEAD, body, REPORT_MIDDLE, SIGNATURE, REPORT_TAIL);
    struct report_file f;

    assert_int_equal(report_file_split(text, strlen(text), &f, NULL), 0);
    assert_int_equal(f.body_len, strlen(body));
    assert_memory_equal(f.signature, SIGNATURE, REPORT_SIGNATURE_HEX);
    return report_file_parse(&f, NULL);
}

static void a_report_of_the_right_shape_is_read(void **state)
{
    json_t *o = load(BODY);

    (void)state;
    assert_non_null(o);
    json_decref(o);
}

static void no_byte_of_the_frame_may_differ(void **state)
{
    static const char whole[] = REPORT_HEAD BODY REPORT_MIDDLE SIGNATURE REPORT_TAIL;
    const size_t len = sizeof(whole) - 1, body_end = strlen(REPORT_HEAD) + strlen(BODY);
    struct report_file f;

    (void)state;
    for (size_t i = 0; i < len; i++) {
        CLEANUP_FREE char *copy = x_strdup(whole);
        bool in_body = i >= strlen(REPORT_HEAD) && i < body_end;
        bool in_signature = i >= body_end + strlen(REPORT_MIDDLE) && i < len - strlen(REPORT_TAIL);
        copy[i] = in_signature ? 'G' : '~';
        if (!in_body)
            assert_int_equal(report_file_split(copy, len, &f, NULL), -1);
        assert_int_equal(report_file_split(whole, i, &f, NULL), -1); /* and no length but the whole */
    }
}

static void a_report_that_contradicts_itself_or_lacks_something_is_refused(void **state)
{
    static const char *const changes[][2] = {{"\"PASS\"", "\"FAIL\""},
                                             {"\"version\":1,\"time\"", "\"version\":2,\"time\""},
                                             {"\"held\":true", "\"held\":false"},
                                             {"\"B1\"", "\"B6\""},
                                             {"\"PASS\"", "\"GOOD\""},
                                             {"\"complete\":true,", ""},
                                             {"\"kernel\":\"k\",", ""},
                                             {"containment-report", "other-report"},
                                             {"\"time\":1", "\"time\":\"1\""}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        const char *at = strstr(BODY, changes[i][0]);
        CLEANUP_FREE char *text =
            x_asprintf("%.*s%s%s", (int)(at - BODY), BODY, changes[i][1], at + strlen(changes[i][0]));
        assert_null(load(text));
    }
    assert_null(load("[]"));
    assert_null(load("{\"schema\":1}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_record_is_taken_apart),
        cmocka_unit_test(a_record_that_was_cut_short_is_not_complete),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(a_record_of_too_many_lines_or_bytes_is_refused),
        cmocka_unit_test(a_secret_is_found_wherever_it_stands),
        cmocka_unit_test(a_report_of_the_right_shape_is_read),
        cmocka_unit_test(no_byte_of_the_frame_may_differ),
        cmocka_unit_test(a_report_that_contradicts_itself_or_lacks_something_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
