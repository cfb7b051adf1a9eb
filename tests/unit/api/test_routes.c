/*
 * The route table, the query string and the rate limit, without a socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/query.h"
#include "api/rate.h"
#include "api/routes.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "ipc/messages.h"

static enum route_result match(const char *method, const char *path, const struct route **r, char *subject,
                               char *allow)
{
    return route_match(method, path, r, subject, allow, 64);
}

static void a_path_finds_its_operation_and_subject(void **state)
{
    static const struct {
        const char *method, *path, *subject;
        uint32_t op;
    } cases[] = {
        {"GET", "/v1/agents", "", API_AGENT_LIST},
        {"POST", "/v1/agents", "", API_AGENT_CREATE},
        {"PATCH", "/v1/agents/a.b-c_9", "a.b-c_9", API_AGENT_UPDATE},
        {"GET", "/v1/sessions/s-1/messages", "s-1", API_MESSAGE_LIST},
        {"POST", "/v1/sessions/s-1/stop", "s-1", API_SESSION_STOP},
        {"GET", "/v1/changes/pending", "", API_CHANGE_LIST},
        {"GET", "/v1/changes/c-1", "c-1", API_CHANGE_GET},
        {"GET", "/v1/audit/key", "", API_AUDIT_KEY},
        {"PUT", "/v1/providers/openai", "openai", API_PROVIDER_SET},
        {"GET", "/healthz", "", ROUTE_HEALTHZ},
    };
    const struct route *r;
    char subject[64], allow[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (match(cases[i].method, cases[i].path, &r, subject, allow) != ROUTE_OK)
            fail_msg("%s %s was not found", cases[i].method, cases[i].path);
        assert_int_equal(r->op, cases[i].op);
        assert_string_equal(subject, cases[i].subject);
    }
}

static void nothing_else_is_found(void **state)
{
    static const char *const paths[] = {"",
                                        "/",
                                        "v1/agents",
                                        "/v1/agents/",
                                        "//v1/agents",
                                        "/v1//agents",
                                        "/v1/agents/a/",
                                        "/v1/agents/a/b",
                                        "/v1/sessions/s-1/stop/now",
                                        "/v1/sessions//stop",
                                        "/V1/agents",
                                        "/healthz/",
                                        "/v1/changes/pending/x"};
    static const char *const bad_names[] = {"/v1/agents/A",          "/v1/agents/..",  "/v1/agents/.a",
                                            "/v1/agents/a%20",       "/v1/agents/a b", "/v1/agents/-a",
                                            "/v1/sessions/a..b/stop"};
    const struct route *r;
    char subject[64], allow[64], longest[200] = "/v1/agents/";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (match("GET", paths[i], &r, subject, allow) != ROUTE_NOT_FOUND || r)
            fail_msg("'%s' was found", paths[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad_names); i++)
        assert_int_equal(match("GET", bad_names[i], &r, subject, allow), ROUTE_BAD_NAME);
    memset(longest + strlen("/v1/agents/"), 'a', 63);
    assert_int_equal(match("GET", longest, &r, subject, allow), ROUTE_OK);
    assert_int_equal(strlen(subject), 63);
    longest[strlen("/v1/agents/") + 63] = 'a';
    assert_int_equal(match("GET", longest, &r, subject, allow), ROUTE_BAD_NAME);
}

static void another_method_lists_those_there_are(void **state)
{
    const struct route *r;
    char subject[64], allow[64];

    (void)state;
    assert_int_equal(match("PUT", "/v1/agents/a", &r, subject, allow), ROUTE_METHOD_NOT_ALLOWED);
    assert_string_equal(allow, "GET, PATCH, DELETE");
    assert_int_equal(match("get", "/v1/agents", &r, subject, allow), ROUTE_METHOD_NOT_ALLOWED);
    assert_int_equal(match("POST", "/v1/changes/pending", &r, subject, allow), ROUTE_METHOD_NOT_ALLOWED);
    assert_string_equal(allow, "GET");
}

static void no_two_routes_are_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < nroutes; i++)
        for (size_t j = i + 1; j < nroutes; j++)
            /* But for a list and the same as a stream, which the Accept header chooses. */
            if (!strcmp(routes[i].path, routes[j].path) && !strcmp(routes[i].method, routes[j].method) &&
                (routes[i].flags & ROUTE_STREAM || route_streamed(&routes[i]) != &routes[j]))
                fail_msg("%s %s is there twice", routes[i].method, routes[i].path);
}

static const struct route *with(unsigned flags)
{
    static struct route r;

    r = (struct route){.method = "GET", .path = "/", .flags = flags};
    return &r;
}

static void a_parameter_is_taken_once_in_range_and_where_it_belongs(void **state)
{
    struct query q = query_default();
    struct err e = ERR_INIT;
    const struct route *all = with(ROUTE_AFTER | ROUTE_LIMIT | ROUTE_WAIT | ROUTE_AGENT);

    (void)state;
    assert_int_equal(q.limit, ROUTE_LIMIT_DEFAULT);
    assert_int_equal(query_take(&q, all, "after", "9223372036854775807", &e), 0);
    assert_int_equal(query_take(&q, all, "limit", "1000", &e), 0);
    assert_int_equal(query_take(&q, all, "wait", "60", &e), 0);
    assert_int_equal(query_take(&q, all, "agent", "coder", &e), 0);
    assert_true(q.after == INT64_MAX && q.limit == 1000 && q.wait_ms == 60000);
    assert_string_equal(q.subject, "coder");
    assert_int_equal(query_take(&q, all, "after", "1", &e), -1);
    q = query_default();
    assert_int_equal(query_take(&q, all, "after", "9223372036854775808", &e), -1);
    assert_int_equal(query_take(&q, all, "limit", "0", &e), -1);
    assert_int_equal(query_take(&q, all, "limit", "1001", &e), -1);
    assert_int_equal(query_take(&q, all, "wait", "61", &e), -1);
    q = query_default();
    assert_int_equal(query_take(&q, all, "agent", "A", &e), -1);
    assert_int_equal(query_take(&q, all, "after", NULL, &e), -1);
    assert_int_equal(query_take(&q, with(0), "after", "1", &e), -1);
    assert_non_null(strstr(e.text, "'after' does not exist here"));
}

static void a_budget_is_used_up_and_comes_back(void **state)
{
    struct rate r;
    uint64_t now = 1000000000, client;

    (void)state;
    rate_init(&r, 60);
    client = rate_hash(&r, 't', "token");
    for (int i = 0; i < 60; i++)
        assert_int_equal(rate_take(&r, client, now), 0);
    assert_in_range(rate_take(&r, client, now), 1, 2); /* one request a second, rounded up */
    assert_int_equal(rate_take(&r, client, now + 1100000000), 0);
    assert_true(rate_take(&r, client, now + 1100000000) > 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(rate_take(&r, client, now + 3600000000000), 0); /* never more than one budget */
    assert_true(rate_take(&r, client, now + 3600000000000) > 0);
}

static void clients_do_not_share_and_a_full_table_forgets_the_idlest(void **state)
{
    struct rate r;
    uint64_t now = 1;
    char name[16];

    (void)state;
    rate_init(&r, 1);
    assert_true(rate_hash(&r, 't', "x") != rate_hash(&r, 'p', "x"));
    assert_int_equal(rate_take(&r, rate_hash(&r, 't', "first"), now++), 0);
    assert_true(rate_take(&r, rate_hash(&r, 't', "first"), now++) > 0);
    for (int i = 0; i < RATE_BUCKETS - 1; i++) {
        (void)io_format(name, sizeof(name), "%d", i);
        assert_int_equal(rate_take(&r, rate_hash(&r, 't', name), now++), 0);
    }
    assert_true(rate_known(&r, rate_hash(&r, 't', "first")));
    assert_int_equal(rate_take(&r, rate_hash(&r, 't', "one more"), now++), 0);
    assert_false(rate_known(&r, rate_hash(&r, 't', "first")));
    assert_true(rate_known(&r, rate_hash(&r, 't', "0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_finds_its_operation_and_subject),
        cmocka_unit_test(nothing_else_is_found),
        cmocka_unit_test(another_method_lists_those_there_are),
        cmocka_unit_test(no_two_routes_are_the_same),
        cmocka_unit_test(a_parameter_is_taken_once_in_range_and_where_it_belongs),
        cmocka_unit_test(a_budget_is_used_up_and_comes_back),
        cmocka_unit_test(clients_do_not_share_and_a_full_table_forgets_the_idlest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
