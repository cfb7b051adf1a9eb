/*
 * The parts of the gVisor wall that read what others say: the runtime's list of options, and the messages of
 * the container's init, which come out of the sandbox.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "walls/gvisor/gvisor.h"

static void both_spellings_of_the_socket_option_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(gvisor_flags_of("  -host-uds value\n    \tcontrols\n"), RUNSC_HOST_UDS);
    assert_int_equal(gvisor_flags_of("  --host-uds=open\n"), RUNSC_HOST_UDS);
    assert_int_equal(gvisor_flags_of("  -fsgofer-host-uds\n    \tDEPRECATED: use host-uds=all\n"),
                     RUNSC_FSGOFER_HOST_UDS);
}

static void an_option_is_a_whole_word_at_the_start_of_a_line(void **state)
{
    (void)state;
    assert_int_equal(gvisor_flags_of("  -overlay2 value\n  -overlay\n"), RUNSC_OVERLAY2);
    assert_int_equal(gvisor_flags_of("  -overlay\n    \tuse --overlay2=all:memory\n"), 0);
    assert_int_equal(gvisor_flags_of("see --rootless\n"), 0);
    assert_int_equal(gvisor_flags_of("  -rootlessly\n"), 0);
    assert_int_equal(gvisor_flags_of("-rootless"), RUNSC_ROOTLESS);
    assert_int_equal(gvisor_flags_of(""), 0);
}

static struct gvisor_message parsed(const char *data, size_t len)
{
    struct gvisor_message m;

    gvisor_message_parse(data, len, &m);
    return m;
}

static void messages_of_init_are_taken_literally_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(parsed("R", 1).kind, MESSAGE_READY);
    assert_int_equal(parsed("Rx", 2).kind, MESSAGE_INVALID);
    assert_int_equal(parsed("", 0).kind, MESSAGE_INVALID);
    assert_int_equal(parsed("P", 1).kind, MESSAGE_INVALID);
    assert_int_equal(parsed("X\xff", 2).kind, MESSAGE_EXIT);
    assert_int_equal(parsed("X\xff", 2).code, 255);
    assert_int_equal(parsed("X", 1).kind, MESSAGE_INVALID);
    assert_int_equal(parsed("X12", 3).kind, MESSAGE_INVALID);
}

static void an_error_cannot_write_to_the_callers_terminal(void **state)
{
    struct gvisor_message m = parsed("Ecannot\x1b[2J\nrun\0hidden", 21);

    (void)state;
    assert_int_equal(m.kind, MESSAGE_ERROR);
    assert_string_equal(m.text, "cannot?[2J?run");
}

static void a_long_error_is_cut(void **state)
{
    char data[2 * ERR_TEXT_MAX];
    struct gvisor_message m;

    (void)state;
    memset(data, 'E', sizeof(data));
    m = parsed(data, sizeof(data));
    assert_int_equal(strlen(m.text), ERR_TEXT_MAX - 1);
}

static void only_utf8_goes_into_json(void **state)
{
    static const char *const good[] = {"", "plain", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    static const char *const bad[] = {
        "\xff", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\x80", "\xe2\x82"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(bundle_is_utf8(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bundle_is_utf8(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_the_socket_option_are_told_apart),
        cmocka_unit_test(an_option_is_a_whole_word_at_the_start_of_a_line),
        cmocka_unit_test(messages_of_init_are_taken_literally_or_not_at_all),
        cmocka_unit_test(an_error_cannot_write_to_the_callers_terminal),
        cmocka_unit_test(a_long_error_is_cut),
        cmocka_unit_test(only_utf8_goes_into_json),
    };

    return cmocka_run_group_tests_name("gvisor", tests, NULL, NULL);
}
