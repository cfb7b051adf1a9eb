/*
 * base/io: parsers take exactly what they promise, files are replaced whole, trees are removed without
 * leaving them.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"

static int dir_setup(void **state)
{
    char *path = x_strdup("/tmp/ironclaw-io-XXXXXX");

    *state = path;
    return mkdtemp(path) ? 0 : -1;
}

static int dir_teardown(void **state)
{
    struct err e = ERR_INIT;
    int rc = io_remove_tree(AT_FDCWD, *state, &e);

    free(*state);
    return rc;
}

static void numbers_are_whole_strings_of_digits_within_the_limit(void **state)
{
    static const char *const bad[] = {
        "", " 1", "1 ", "+1", "-1", "0x1", "1e3", "18446744073709551616", "99999999999999999999999", "1\n"};
    uint64_t v = 7;

    (void)state;
    assert_true(io_parse_u64("0", 0, &v));
    assert_int_equal(v, 0);
    assert_true(io_parse_u64("18446744073709551615", UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_false(io_parse_u64("11", 10, &v));
    assert_false(io_parse_u64(NULL, 10, &v));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(io_parse_u64(bad[i], UINT64_MAX, &v));
    assert_true(v == UINT64_MAX); /* untouched by a refusal */
}

static void sizes_have_a_unit_and_fit_a_signed_number(void **state)
{
    static const char *const bad[] = {"",
                                      "M",
                                      "0",
                                      "0M",
                                      "1MB",
                                      "1.5G",
                                      "-1M",
                                      "1 M",
                                      "9007199254740992K",
                                      "8388608T",
                                      "9223372036854775808"};
    uint64_t v;

    (void)state;
    assert_true(io_parse_size("4096", &v) && v == 4096);
    assert_true(io_parse_size("512k", &v) && v == 512U << 10);
    assert_true(io_parse_size("64M", &v) && v == 64U << 20);
    assert_true(io_parse_size("3G", &v) && v == 3ULL << 30);
    assert_true(io_parse_size("2T", &v) && v == 2ULL << 40);
    assert_true(io_parse_size("9223372036854775807", &v) && v == INT64_MAX);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(io_parse_size(bad[i], &v));
}

static void names_cannot_leave_a_directory(void **state)
{
    static const char *const bad[] = {"", ".", "..", "a..b", "-a", "_a", ".a", "a/b", "A", "a b", "\xc3\xa4"};
    char longest[65];

    (void)state;
    assert_true(io_valid_name("a"));
    assert_true(io_valid_name("s-0.1_x"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(io_valid_name(bad[i]));
    memset(longest, 'a', sizeof(longest));
    longest[64] = 0;
    assert_false(io_valid_name(longest));
    longest[63] = 0;
    assert_true(io_valid_name(longest));
}

static void a_text_that_does_not_fit_is_empty(void **state)
{
    char small[4];

    (void)state;
    assert_true(io_format(small, sizeof(small), "%s", "abc"));
    assert_false(io_format(small, sizeof(small), "%s", "abcd"));
    assert_string_equal(small, "");
}

static void a_file_is_replaced_whole_with_the_mode_asked_for(void **state)
{
    struct err e = ERR_INIT;
    CLEANUP_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY);
    CLEANUP_FREE char *text = NULL;
    size_t len;
    struct stat st;

    assert_int_equal(io_replace_file(dir, "f", "old", 3, 0600, &e), 0);
    assert_int_equal(symlinkat("victim", dir, "f.tmp"),
                     0); /* a planted temporary is replaced, not followed */
    assert_int_equal(io_replace_file(dir, "f", "newer", 5, 0640, &e), 0);
    assert_int_equal(io_read_file(dir, "f", 100, &text, &len, &e), 0);
    assert_string_equal(text, "newer");
    assert_int_equal(fstatat(dir, "f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(faccessat(dir, "victim", F_OK, 0), -1);
    assert_int_equal(faccessat(dir, "f.tmp", F_OK, 0), -1);
    assert_int_equal(io_replace_file(dir, "missing/f", "x", 1, 0600, &e), -1);
    assert_non_null(strstr(e.text, "missing/f"));
}

static void a_file_above_the_limit_is_an_error_that_names_it(void **state)
{
    struct err e = ERR_INIT;
    CLEANUP_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY);
    char *text = NULL;

    assert_int_equal(io_replace_file(dir, "big", "0123456789", 10, 0600, &e), 0);
    assert_int_equal(io_read_file(dir, "big", 9, &text, NULL, &e), -1);
    assert_non_null(strstr(e.text, "big"));
    assert_int_equal(io_read_file(dir, "big", 10, &text, NULL, &e), 0);
    free(text);
}

static void removing_a_tree_does_not_follow_links(void **state)
{
    struct err e = ERR_INIT;
    CLEANUP_CLOSE int dir = open(*state, O_RDONLY | O_DIRECTORY);

    assert_int_equal(io_mkdirs(dir, "keep/deep", 0755, &e), 0);
    assert_int_equal(io_mkdirs(dir, "tree/a/b/c", 0755, &e), 0);
    assert_int_equal(symlinkat("../keep", dir, "tree/link"), 0);
    assert_int_equal(symlinkat("/", dir, "tree/a/root"), 0);
    assert_int_equal(io_remove_tree(dir, "tree", &e), 0);
    assert_int_equal(faccessat(dir, "tree", F_OK, 0), -1);
    assert_int_equal(faccessat(dir, "keep/deep", F_OK, 0), 0);
    assert_int_equal(symlinkat("keep", dir, "alias"), 0);
    assert_int_equal(io_remove_tree(dir, "alias", &e), 0); /* the link goes, not what it names */
    assert_int_equal(faccessat(dir, "keep/deep", F_OK, 0), 0);
    assert_int_equal(io_remove_tree(dir, "never-there", &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_strings_of_digits_within_the_limit),
        cmocka_unit_test(sizes_have_a_unit_and_fit_a_signed_number),
        cmocka_unit_test(names_cannot_leave_a_directory),
        cmocka_unit_test(a_text_that_does_not_fit_is_empty),
        cmocka_unit_test_setup_teardown(a_file_is_replaced_whole_with_the_mode_asked_for, dir_setup,
                                        dir_teardown),
        cmocka_unit_test_setup_teardown(a_file_above_the_limit_is_an_error_that_names_it, dir_setup,
                                        dir_teardown),
        cmocka_unit_test_setup_teardown(removing_a_tree_does_not_follow_links, dir_setup, dir_teardown),
    };

    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
