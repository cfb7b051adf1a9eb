/* The mock provider's script: which rule answers, placeholders, and that wrong scripts are refused by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "modelproxy/mock_api.h"
#include "modelproxy/mock_script.h"

/* The answer of a script (JSON; NULL for the built-in one) to an Anthropic request. */
static void answer(const char *script, const char *request, struct mock_answer *a)
{
    json_t *doc = script ? json_loads(script, 0, NULL) : NULL;
    struct err e = ERR_INIT;
    struct mock_script *s = mock_script_new(doc, &e);
    struct mock_request r;

    assert_string_equal(e.text, "");
    assert_int_equal(mock_api_read(ENDPOINT_MESSAGES, request, strlen(request), &r, &e), 0);
    mock_script_answer(s, &r.question, a);
    mock_request_free(&r);
    mock_script_free(s);
    json_decref(doc);
}

static void expect_text(const char *script, const char *request, const char *text)
{
    struct mock_answer a;

    answer(script, request, &a);
    assert_int_equal(a.kind, MOCK_TEXT);
    assert_string_equal(a.chunks[0], text);
    mock_answer_free(&a);
}

static void expect_tool(const char *request, const char *tool, const char *input)
{
    CLEANUP_FREE char *got = NULL;
    struct mock_answer a;

    answer(NULL, request, &a);
    assert_int_equal(a.kind, MOCK_TOOL);
    assert_string_equal(a.tool, tool);
    got = json_dumps(a.input, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(got, input);
    mock_answer_free(&a);
}

#define SAY(text) "{\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"
#define SAY_WITH(tool, text)                                                                                 \
    "{\"tools\":[{\"name\":\"" tool "\"}],\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]}"

static void the_first_rule_that_matches_answers(void **state)
{
    static const char script[] = "[{\"match\":\"rain\",\"reply\":\"wet\"},{\"regex\":\"^r[a-z]+$\",\"reply\":"
                                 "\"r\"},{\"reply\":\"else\"}]";

    (void)state;
    expect_text(script, SAY("the rain"), "wet");
    expect_text(script, SAY("rest"), "r");
    expect_text(script, SAY("rest."), "else");
}

static void placeholders_are_filled_once_and_never_looked_at_again(void **state)
{
    (void)state;
    expect_text("[{\"regex\":\"^(.)(.*)$\",\"reply\":\"${2}${1} ${text} ${model} ${nope} $ ${\"}]",
                SAY("a${1}"), "${1}a a${1} mock ${nope} $ ${");
}

static void the_builtin_script_calls_the_tools_that_are_offered(void **state)
{
    (void)state;
    expect_tool(SAY_WITH("shell", "run: ls -l | wc"), "shell", "{\"command\":\"ls -l | wc\"}");
    expect_tool(SAY_WITH("write_file", "write: a/b.txt: x: y"), "write_file",
                "{\"content\":\"x: y\",\"path\":\"a/b.txt\"}");
    expect_tool(SAY_WITH("read_file", "read: f"), "read_file", "{\"path\":\"f\"}");
    expect_tool(SAY_WITH("list_files", "list: ."), "list_files", "{\"path\":\".\"}");
    expect_tool(SAY_WITH("ask_human", "ask: why?"), "ask_human", "{\"question\":\"why?\"}");
    expect_tool(SAY_WITH("request_change", "need: shell: to run"), "request_change",
                "{\"document\":{\"tools\":[\"shell\"]},\"kind\":\"tools\",\"reason\":\"to run\"}");
    expect_text(NULL, SAY("run: ls"),
                "I would use a tool for 'run', but this conversation does not offer it to me.");
    expect_text(NULL, SAY("hi"), "Hello, this is the mock model. You said: hi");
}

static void a_tools_result_is_quoted_under_its_name(void **state)
{
    (void)state;
    expect_text(
        NULL,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":[{\"type\":"
        "\"tool_use\",\"id\":\"t1\",\"name\":\"shell\",\"input\":{}}]},{\"role\":\"user\",\"content\":[{"
        "\"type\":"
        "\"tool_result\",\"tool_use_id\":\"t1\",\"content\":[{\"type\":\"text\",\"text\":\"42\"}]}]}]}",
        "The tool shell answered: 42");
}

static void wrong_scripts_are_refused_with_the_rule_and_the_reason(void **state)
{
    static const struct {
        const char *script, *says;
    } bad[] = {
        {"{}", "list"},
        {"[7]", "rule 1"},
        {"[{\"reply\":\"x\"},{\"reply\":7}]", "rule 2"},
        {"[{\"repyl\":\"x\"}]", "repyl"},
        {"[{\"match\":\"x\"}]", "exactly one"},
        {"[{\"reply\":\"x\",\"error\":{\"status\":500}}]", "exactly one"},
        {"[{\"match\":\"x\",\"regex\":\"y\",\"reply\":\"\"}]", "one of match"},
        {"[{\"regex\":\"(\",\"reply\":\"x\"}]", "regular expression"},
        {"[{\"error\":{\"status\":200}}]", "400 to 599"},
        {"[{\"error\":{\"status\":500,\"oops\":1}}]", "oops"},
        {"[{\"chunks\":[]}]", "chunks"},
        {"[{\"chunks\":[1]}]", "chunks"},
        {"[{\"tool\":{\"input\":{}}}]", "name"},
        {"[{\"reply\":\"x\",\"stream_delay_ms\":-1}]", "stream_delay_ms"},
        {"[{\"reply\":\"x\",\"unoffered\":true}]", "unoffered"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_t *doc = json_loads(bad[i].script, 0, NULL);
        struct err e = ERR_INIT;
        assert_non_null(doc);
        assert_null(mock_script_new(doc, &e));
        assert_non_null(strstr(e.text, bad[i].says));
        json_decref(doc);
    }
}

static void a_script_without_a_matching_rule_says_so(void **state)
{
    struct mock_answer a;

    (void)state;
    answer("[]", SAY("x"), &a);
    assert_int_equal(a.kind, MOCK_ERROR);
    assert_int_equal(a.status, 500);
    mock_answer_free(&a);
}

static void the_same_request_gives_the_same_bytes_at_every_endpoint(void **state)
{
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x "
                               "y\"}],\"input\":\"x\",\"prompt\":\"x\",\"stream\":true}";

    (void)state;
    for (int endpoint = ENDPOINT_MESSAGES; endpoint <= ENDPOINT_MODELS; endpoint++) {
        struct mock_pieces first = {NULL, 0, 0}, second;
        for (int i = 0; i < 2; i++) {
            struct mock_script *s = mock_script_new(NULL, NULL);
            struct mock_request r;
            struct mock_answer a;
            assert_int_equal(mock_api_read((enum endpoint)endpoint, body, sizeof(body) - 1, &r, NULL), 0);
            mock_script_answer(s, &r.question, &a);
            mock_api_write(&r, &a, i ? &second : &first);
            mock_answer_free(&a);
            mock_request_free(&r);
            mock_script_free(s);
        }
        assert_true(first.n > 0);
        assert_int_equal(first.n, second.n);
        for (size_t i = 0; i < first.n; i++)
            assert_string_equal(first.text[i], second.text[i]);
        mock_pieces_free(&first);
        mock_pieces_free(&second);
    }
}

static void requests_that_are_not_what_the_api_requires_are_refused(void **state)
{
    static const char *const bad[] = {"", "[]", "null", "{", "{\"messages\":1,\"messages\":2}", "{}"};
    struct mock_request r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(mock_api_read(ENDPOINT_MESSAGES, bad[i], strlen(bad[i]), &r, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_answers),
        cmocka_unit_test(placeholders_are_filled_once_and_never_looked_at_again),
        cmocka_unit_test(the_builtin_script_calls_the_tools_that_are_offered),
        cmocka_unit_test(a_tools_result_is_quoted_under_its_name),
        cmocka_unit_test(wrong_scripts_are_refused_with_the_rule_and_the_reason),
        cmocka_unit_test(a_script_without_a_matching_rule_says_so),
        cmocka_unit_test(the_same_request_gives_the_same_bytes_at_every_endpoint),
        cmocka_unit_test(requests_that_are_not_what_the_api_requires_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
