/*
 * The gateway on a failing disk: the n-th write or sync of registry.db fails, for every n; then everything is
 * opened again, as after a crash. An approval that was confirmed is applied, exactly once; one that was not
 * is either pending or applied, never half of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "fault_vfs.h"
#include "gateway/change.h"
#include "gateway/diff.h"
#include "gateway/registry.h"
#include "gateway/verify.h"
#include "vault/hub.h"
#include "vault/sql.h"

static char root[] = "/tmp/gateway-XXXXXX";

struct box {
    struct hub hub;
    struct event_base *base;
    json_t *config;
    int dir;
};

static void box_open(struct box *b)
{
    struct err e = ERR_INIT;

    memset(b, 0, sizeof(*b));
    b->dir = open(root, O_RDONLY | O_DIRECTORY);
    b->base = event_base_new();
    b->config = json_loads("{\"limits_default\":{\"memory\":1048576,\"cpus\":1.0,\"pids\":8}}", 0, NULL);
    b->hub.config = b->config;
    b->hub.keys = keys_new();
    assert_int_equal(keys_load(b->hub.keys, b->dir, -1, &e), 0);
    b->hub.audit = audit_open(root, b->hub.keys, b->base, &e);
    assert_non_null(b->hub.audit);
    b->hub.registry = registry_open(root, &e);
    if (!b->hub.registry || change_recover(&b->hub, &e) < 0)
        fail_msg("%s", e.text);
}

static void box_close(struct box *b)
{
    (void)sqlite3_close_v2(b->hub.registry);
    audit_close(b->hub.audit);
    keys_close(b->hub.keys);
    json_decref(b->config);
    event_base_free(b->base);
    (void)close(b->dir);
}

static int fresh(void **state)
{
    (void)state;
    memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
    return mkdtemp(root) ? 0 : -1;
}

static int gone(void **state)
{
    (void)state;
    fault_clear();
    return io_remove_tree(AT_FDCWD, root, NULL);
}

static const struct submitter by = {.id = "token:t", .name = "root"};
static const struct token_info admin = {.id = "t", .name = "root", .scope = SCOPE_ADMIN};

static void submit(struct box *b, const char *kind, const char *agent, const char *document, char id[24])
{
    struct problem p = {0};
    json_t *doc = json_loads(document, 0, NULL),
           *change = change_submit(&b->hub, &by, kind, agent, doc, "", &p);

    if (!change)
        fail_msg("%s", p.text);
    (void)io_format(id, 24, "%s", json_string_value(json_object_get(change, "id")));
    json_decref(change);
    json_decref(doc);
}

static bool decide(struct box *b, const char *id)
{
    struct problem p = {0};
    json_t *change = change_decide(&b->hub, &admin, id, true, "", &p);

    assert_true(change || p.status >= 500);
    json_decref(change);
    return change != NULL;
}

static void run_with_faults(int code)
{
    json_int_t revision = 1;
    unsigned failures = 0;
    char id[24];
    struct box b;

    box_open(&b);
    submit(&b, "agent.create", "coder", "{\"name\":\"coder\"}", id);
    assert_true(decide(&b, id));
    box_close(&b);
    for (unsigned n = 1;; n++) {
        struct problem p = {0};
        bool confirmed, fired, applied;
        json_t *change, *agent;
        box_open(&b);
        submit(&b, "tools", "coder", "{\"tools\":[\"shell\"]}", id);
        fault_at(n, code);
        confirmed = decide(&b, id);
        fired = fault_fired();
        fault_clear();
        box_close(&b);
        box_open(&b);
        change = change_get(&b.hub, id, false, &p);
        agent = agent_get(&b.hub, "coder", &p);
        applied = strcmp(json_string_value(json_object_get(change, "state")), "applied") == 0;
        assert_true(applied || strcmp(json_string_value(json_object_get(change, "state")), "pending") == 0);
        assert_true(applied || !confirmed);
        revision += applied;
        assert_int_equal(json_integer_value(json_object_get(agent, "revision")), revision);
        json_decref(change);
        json_decref(agent);
        box_close(&b);
        failures += !confirmed;
        if (!fired)
            break;
        assert_true(n < 200);
    }
    assert_true(failures >= 3);
}

static void test_an_approval_on_a_full_disk_is_applied_once_or_not_at_all(void **state)
{
    (void)state;
    run_with_faults(ENOSPC);
}

static void test_an_approval_with_io_errors_is_applied_once_or_not_at_all(void **state)
{
    (void)state;
    run_with_faults(EIO);
}

static void test_paths_that_leave_their_place_are_not_normal(void **state)
{
    static const char *const bad[] = {"",       "a",     "./a", "/a/..", "/../a",
                                      "/a/./b", "/a//b", "/a/", "//",    "/a\n/b"};
    static const char *const good[] = {"/", "/a", "/a/b", "/..a", "/a../b", "/.a"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(verify_path_is_normal(bad[i]));
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(verify_path_is_normal(good[i]));
}

static void test_a_diff_marks_what_changed_and_keeps_the_rest(void **state)
{
    char *diff = diff_lines("a\nb\nc\nd\n", "a\nB\nc\nd\ne\n");

    (void)state;
    assert_string_equal(diff, " a\n-b\n+B\n c\n d\n+e\n");
    free(diff);
    diff = diff_lines("", "x\n");
    assert_string_equal(diff, "+x\n");
    free(diff);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        CASE(test_an_approval_on_a_full_disk_is_applied_once_or_not_at_all),
        CASE(test_an_approval_with_io_errors_is_applied_once_or_not_at_all),
        CASE(test_paths_that_leave_their_place_are_not_normal),
        CASE(test_a_diff_marks_what_changed_and_keeps_the_rest),
    };
    sql_init();
    fault_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
