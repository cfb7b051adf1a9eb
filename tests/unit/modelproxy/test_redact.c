/* The redactor: what a provider key may look like in an answer, and that cuts in the stream change nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sodium.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "upstream/redact.h"

static const char key[] = "sk-test/0123456789+abcdef";

struct sink {
    char text[8192];
    size_t len;
};

static void collect(void *arg, const void *data, size_t len)
{
    struct sink *s = arg;

    assert_true(s->len + len < sizeof(s->text));
    memcpy(s->text + s->len, data, len);
    s->len += len;
    s->text[s->len] = 0;
}

/* Redacts text that arrives in two or three parts, cut at a and b. */
static void run(const char *secret, const char *text, size_t a, size_t b, struct sink *out)
{
    struct secret *s = secret_new(secret, strlen(secret));
    struct redactor r;
    size_t len = strlen(text);

    out->len = 0;
    out->text[0] = 0;
    redactor_init(&r);
    assert_true(redactor_add(&r, s));
    secret_unref(s);
    redactor_feed(&r, text, a, collect, out);
    redactor_feed(&r, text + a, b - a, collect, out);
    redactor_feed(&r, text + b, len - b, collect, out);
    redactor_flush(&r, collect, out);
    redactor_free(&r);
}

/* Every way of cutting the text into three gives the expected output. */
static void check_all_cuts(const char *secret, const char *text, const char *expected)
{
    struct sink out;
    size_t len = strlen(text);

    for (size_t a = 0; a <= len; a++) {
        for (size_t b = a; b <= len; b++) {
            run(secret, text, a, b, &out);
            assert_string_equal(out.text, expected);
        }
    }
}

static void the_key_itself_is_replaced_wherever_the_stream_is_cut(void **state)
{
    (void)state;
    check_all_cuts(key, "say sk-test/0123456789+abcdef!", "say [redacted]!");
    check_all_cuts(key, "sk-test/0123456789+abcdefsk-test/0123456789+abcdef", "[redacted][redacted]");
}

static void text_that_only_begins_like_the_key_passes_unchanged(void **state)
{
    (void)state;
    check_all_cuts(key, "sk-test/0123 sk-sk-test sk-test/0123456789+abcde",
                   "sk-test/0123 sk-sk-test sk-test/0123456789+abcde");
    check_all_cuts(key, "sk-tesk-test/0123456789+abcdefg", "sk-te[redacted]g");
}

static void common_spellings_are_replaced_wherever_the_stream_is_cut(void **state)
{
    static const char *const forms[] = {
        "736b2d746573742f303132333435363738392b616263646566", /* hex */
        "736B2D746573742F303132333435363738392B616263646566",
        "sk-test\\/0123456789+abcdef", /* JSON with escaped slash */
        "sk-test%2F0123456789%2Babcdef",
        "sk-test%2f0123456789%2babcdef",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        CLEANUP_FREE char *text = x_asprintf("<%s>", forms[i]);
        check_all_cuts(key, text, "<[redacted]>");
    }
}

static void escapes_of_every_character_are_replaced(void **state)
{
    CLEANUP_FREE char *json = x_calloc(1, sizeof(key) * 6), *url = x_calloc(1, sizeof(key) * 3);
    struct sink out;

    (void)state;
    for (size_t i = 0; key[i]; i++) {
        (void)snprintf(json + i * 6, 7, "\\u%04x", (unsigned char)key[i]);
        (void)snprintf(url + i * 3, 4, "%%%02X", (unsigned char)key[i]);
    }
    run(key, json, 7, 20, &out);
    assert_string_equal(out.text, "[redacted]");
    run(key, url, 4, 9, &out);
    assert_string_equal(out.text, "[redacted]");
}

/* The key inside a longer text that is base64-encoded as a whole: at each alignment, in both alphabets. */
static void base64_of_a_text_that_holds_the_key_shows_no_character_of_it(void **state)
{
    static const int variants[] = {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_URLSAFE_NO_PADDING};

    (void)state;
    for (size_t shift = 0; shift < 6; shift++) {
        for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
            char plain[128], encoded[256];
            size_t len, cut;
            struct sink out;
            (void)snprintf(plain, sizeof(plain), "%.*s%s:tail", (int)shift, "header", key);
            assert_non_null(sodium_bin2base64(encoded, sizeof(encoded), (const unsigned char *)plain,
                                              strlen(plain), variants[v]));
            for (cut = 0; cut <= strlen(encoded); cut++) {
                run(key, encoded, cut, cut, &out);
                assert_non_null(strstr(out.text, REDACTED));
            }
            /* What is left of it is at most the groups at the edges. */
            len = strlen(out.text) - strlen(REDACTED);
            assert_true(len <= strlen(encoded) - (strlen(key) * 8 / 6 - 1));
        }
    }
}

static void nothing_is_held_back_that_could_not_be_the_beginning_of_a_key(void **state)
{
    struct secret *s = secret_new(key, strlen(key));
    struct redactor r;
    struct sink out = {.len = 0};

    (void)state;
    redactor_init(&r);
    assert_true(redactor_add(&r, s));
    redactor_feed(&r, "data: hello\n\n", 13, collect, &out);
    assert_string_equal(out.text, "data: hello\n\n");
    redactor_feed(&r, "x sk-test", 9, collect, &out);
    assert_string_equal(out.text, "data: hello\n\nx ");
    assert_true(r.held_len < s->cap);
    redactor_feed(&r, "y", 1, collect, &out);
    assert_string_equal(out.text, "data: hello\n\nx sk-testy");
    redactor_free(&r);
    secret_unref(s);
}

static void several_keys_are_known_at_once(void **state)
{
    struct secret *a = secret_new("first-key-0001", 14), *b = secret_new("first-key-0001-longer", 21);
    struct redactor r;
    struct sink out = {.len = 0};
    const char *text = "first-key-0001-longer first-key-0001 first-key-0001-long.";

    (void)state;
    redactor_init(&r);
    assert_true(redactor_add(&r, a));
    assert_true(redactor_add(&r, b));
    for (size_t i = 0; text[i]; i++)
        redactor_feed(&r, text + i, 1, collect, &out);
    redactor_flush(&r, collect, &out);
    assert_string_equal(out.text, "[redacted] [redacted] [redacted]-long.");
    redactor_free(&r);
    secret_unref(a);
    secret_unref(b);
}

static void a_key_with_quotes_is_found_raw_and_escaped(void **state)
{
    (void)state;
    check_all_cuts("pa\"ss\\word1", "pa\"ss\\word1 pa\\\"ss\\\\word1", "[redacted] [redacted]");
}

static void a_key_too_short_to_tell_from_text_is_not_looked_for(void **state)
{
    struct sink out;

    (void)state;
    run("none", "none of it", 2, 5, &out);
    assert_string_equal(out.text, "none of it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_itself_is_replaced_wherever_the_stream_is_cut),
        cmocka_unit_test(text_that_only_begins_like_the_key_passes_unchanged),
        cmocka_unit_test(common_spellings_are_replaced_wherever_the_stream_is_cut),
        cmocka_unit_test(escapes_of_every_character_are_replaced),
        cmocka_unit_test(base64_of_a_text_that_holds_the_key_shows_no_character_of_it),
        cmocka_unit_test(nothing_is_held_back_that_could_not_be_the_beginning_of_a_key),
        cmocka_unit_test(several_keys_are_known_at_once),
        cmocka_unit_test(a_key_with_quotes_is_found_raw_and_escaped),
        cmocka_unit_test(a_key_too_short_to_tell_from_text_is_not_looked_for),
    };

    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
