/*
 * audit.log: what was written verifies with the public key alone; what is edited, dropped or reordered is
 * found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "vault/audit.h"
#include "vault/audit_verify.h"

enum { RECORDS = 150, LINES_MAX = 400 };
static char root[] = "/tmp/audit-XXXXXX";
static char *log_path;
static char *lines[LINES_MAX];
static size_t nlines;

/* Opens, writes n records, closes. False when the log is refused; `why` then names the damage. */
static bool try_records(unsigned n, struct err *why)
{
    struct err e = ERR_INIT;
    int dir = open(root, O_RDONLY | O_DIRECTORY);
    struct keys *k = keys_new();
    struct event_base *base = event_base_new();
    struct anchors *anchor;
    struct audit *a;

    assert_int_equal(keys_load(k, dir, -1, &e), 0);
    anchor = anchors_open(dir, ANCHORS_AUDIT, k, &e);
    assert_non_null(anchor);
    a = audit_open(root, k, anchor, base, why);
    for (unsigned i = 0; a && i < n; i++)
        assert_int_equal(audit_append(a, AUDIT_BATCHED, "test",
                                      json_pack("{s:i,s:s}", "n", (int)i, "text", "a \"b\" \n"), &e),
                         0);
    audit_close(a);
    anchors_close(anchor);
    event_base_free(base);
    keys_close(k);
    (void)close(dir);
    return a != NULL;
}

static void write_records(unsigned n)
{
    struct err e = ERR_INIT;

    if (!try_records(n, &e))
        fail_msg("%s", e.text);
}

static void store_lines(void);

static void expect_refused(const char *damage)
{
    struct err e = ERR_INIT;

    store_lines();
    assert_false(try_records(1, &e));
    assert_int_equal(e.code, EBADMSG);
    assert_non_null(strstr(e.text, damage));
}

static char *anchor_path(void)
{
    return x_asprintf("%s/" ANCHORS_AUDIT, root);
}

static void load_lines(void)
{
    size_t len;
    char *text, *at, *end;

    assert_int_equal(io_read_file(AT_FDCWD, log_path, 1 << 22, &text, &len, NULL), 0);
    nlines = 0;
    for (at = text; (end = strchr(at, '\n')); at = end + 1)
        lines[nlines++] = x_strndup(at, (size_t)(end - at));
    free(text);
}

static void store_lines(void)
{
    FILE *f = fopen(log_path, "w");

    for (size_t i = 0; i < nlines; i++)
        (void)fprintf(f, "%s\n", lines[i]);
    (void)fclose(f);
}

static int fresh(void **state)
{
    (void)state;
    memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(root));
    log_path = x_asprintf("%s/audit.log", root);
    write_records(RECORDS);
    load_lines();
    return 0;
}

static int gone(void **state)
{
    (void)state;
    for (size_t i = 0; i < nlines; i++)
        free(lines[i]);
    free(log_path);
    return io_remove_tree(AT_FDCWD, root, NULL);
}

static void expect(enum audit_fault fault, uint64_t line)
{
    struct audit_report r;
    struct err e = ERR_INIT;

    store_lines();
    assert_int_equal(audit_verify_file(log_path, NULL, &r, &e), 0);
    assert_string_equal(audit_fault_name(r.fault), audit_fault_name(fault));
    assert_int_equal(r.line, line);
}

static void test_an_untouched_log_verifies_to_its_end(void **state)
{
    struct audit_report r;
    struct err e = ERR_INIT;

    (void)state;
    assert_int_equal(audit_verify_file(log_path, NULL, &r, &e), 0);
    assert_int_equal(r.fault, AUDIT_OK);
    assert_int_equal(r.records, nlines);
    assert_int_equal(r.checkpoints, 3); /* two full groups of 64, one at the stop */
    assert_int_equal(r.unsigned_tail, 0);
}

static void test_a_restarted_log_goes_on_in_the_same_chain(void **state)
{
    (void)state;
    write_records(3);
    for (size_t i = 0; i < nlines; i++)
        free(lines[i]);
    load_lines();
    assert_int_equal(nlines, RECORDS + 3 + 4);
    expect(AUDIT_OK, 0);
}

static void test_any_edited_byte_of_a_line_is_found(void **state)
{
    size_t len = strlen(lines[40]);

    (void)state;
    for (size_t at = 0; at < len; at += 3) {
        char saved = lines[40][at];
        lines[40][at] = saved == '0' ? '1' : '0';
        store_lines();
        struct audit_report r;
        assert_int_equal(audit_verify_file(log_path, NULL, &r, NULL), 0);
        assert_true(r.fault != AUDIT_OK);
        assert_int_equal(r.line, 41);
        lines[40][at] = saved;
    }
    expect(AUDIT_OK, 0);
}

static void test_a_dropped_line_is_found(void **state)
{
    (void)state;
    free(lines[40]);
    memmove(lines + 40, lines + 41, (nlines - 41) * sizeof(*lines));
    nlines--;
    expect(AUDIT_DROPPED, 41);
}

static void test_a_dropped_first_line_is_found(void **state)
{
    (void)state;
    free(lines[0]);
    memmove(lines, lines + 1, (nlines - 1) * sizeof(*lines));
    nlines--;
    expect(AUDIT_DROPPED, 1);
}

static void test_reordered_lines_are_found(void **state)
{
    char *swap = lines[40];

    (void)state;
    lines[40] = lines[41];
    lines[41] = swap;
    expect(AUDIT_REORDERED, 41);
}

static void test_a_repeated_line_is_found(void **state)
{
    (void)state;
    free(lines[41]);
    lines[41] = x_strdup(lines[40]);
    expect(AUDIT_REORDERED, 42);
}

static void test_another_key_does_not_verify(void **state)
{
    unsigned char other[32] = {1};
    struct audit_report r;

    (void)state;
    assert_int_equal(audit_verify_file(log_path, other, &r, NULL), 0);
    assert_string_equal(audit_fault_name(r.fault), "bad-signature");
    assert_int_equal(r.line, 65);
}

static void test_a_cut_off_checkpoint_is_an_unsigned_tail_and_no_fault(void **state)
{
    struct audit_report r;

    (void)state;
    free(lines[--nlines]);
    store_lines();
    assert_int_equal(audit_verify_file(log_path, NULL, &r, NULL), 0);
    assert_int_equal(r.fault, AUDIT_OK);
    assert_int_equal(r.unsigned_tail, RECORDS - 128);
}

static void test_a_torn_last_line_is_named(void **state)
{
    struct audit_report r;
    FILE *f = fopen(log_path, "a");

    (void)state;
    (void)fputs("{\"seq\":154,\"ti", f);
    (void)fclose(f);
    assert_int_equal(audit_verify_file(log_path, NULL, &r, NULL), 0);
    assert_string_equal(audit_fault_name(r.fault), "torn");
}

/* The lines up to the first signed checkpoint verify offline: only the running vault knows that there were
 * more. */
static void test_a_log_that_was_cut_back_to_a_signed_checkpoint_is_refused_by_name(void **state)
{
    struct audit_report r;

    (void)state;
    while (nlines > 65)
        free(lines[--nlines]);
    store_lines();
    assert_int_equal(audit_verify_file(log_path, NULL, &r, NULL), 0);
    assert_int_equal(r.fault, AUDIT_OK);
    assert_int_equal(r.unsigned_tail, 0);
    expect_refused("rolled-back");
}

static void test_a_log_without_its_last_checkpoint_is_refused_by_name(void **state)
{
    (void)state;
    free(lines[--nlines]);
    expect_refused("rolled-back");
}

static void test_an_emptied_log_is_refused_by_name(void **state)
{
    (void)state;
    while (nlines > 0)
        free(lines[--nlines]);
    expect_refused("rolled-back");
}

static void test_another_log_of_the_same_length_is_refused_by_name(void **state)
{
    char *anchor = anchor_path(), *other = x_asprintf("%s/kept", root);

    (void)state;
    assert_int_equal(rename(anchor, other), 0);
    assert_int_equal(unlink(log_path), 0);
    write_records(RECORDS);
    assert_int_equal(rename(other, anchor), 0);
    for (size_t i = 0; i < nlines; i++)
        free(lines[i]);
    load_lines();
    expect_refused("rolled-back");
    free(anchor);
    free(other);
}

static void test_a_log_whose_anchor_was_removed_or_forged_is_refused_by_name(void **state)
{
    char *anchor = anchor_path(), *forged, *old;
    size_t len;

    (void)state;
    assert_int_equal(io_read_file(AT_FDCWD, anchor, 4096, &old, &len, NULL), 0);
    forged = x_malloc(len);
    memcpy(forged, old, len);
    for (size_t at = 8; at < len; at += 128)
        forged[at] = (char)(forged[at] - 1); /* an older sequence number in both copies */
    assert_int_equal(io_replace_file(AT_FDCWD, anchor, forged, len, 0600, NULL), 0);
    expect_refused("anchor-damaged");
    assert_int_equal(unlink(anchor), 0);
    expect_refused("anchor-damaged");
    assert_int_equal(io_replace_file(AT_FDCWD, anchor, old, len, 0600, NULL), 0);
    write_records(1);
    free(forged);
    free(old);
    free(anchor);
}

static void test_a_log_and_its_anchor_moved_aside_make_room_for_a_new_log(void **state)
{
    char *anchor = anchor_path();

    (void)state;
    assert_int_equal(unlink(log_path), 0);
    assert_int_equal(unlink(anchor), 0);
    write_records(1);
    free(anchor);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        CASE(test_an_untouched_log_verifies_to_its_end),
        CASE(test_a_restarted_log_goes_on_in_the_same_chain),
        CASE(test_any_edited_byte_of_a_line_is_found),
        CASE(test_a_dropped_line_is_found),
        CASE(test_a_dropped_first_line_is_found),
        CASE(test_reordered_lines_are_found),
        CASE(test_a_repeated_line_is_found),
        CASE(test_another_key_does_not_verify),
        CASE(test_a_cut_off_checkpoint_is_an_unsigned_tail_and_no_fault),
        CASE(test_a_torn_last_line_is_named),
        CASE(test_a_log_that_was_cut_back_to_a_signed_checkpoint_is_refused_by_name),
        CASE(test_a_log_without_its_last_checkpoint_is_refused_by_name),
        CASE(test_an_emptied_log_is_refused_by_name),
        CASE(test_another_log_of_the_same_length_is_refused_by_name),
        CASE(test_a_log_whose_anchor_was_removed_or_forged_is_refused_by_name),
        CASE(test_a_log_and_its_anchor_moved_aside_make_room_for_a_new_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
