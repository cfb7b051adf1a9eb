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
#include "gateway/owed.h"
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
    b->hub.audit_anchor = anchors_open(b->dir, ANCHORS_AUDIT, b->hub.keys, &e);
    assert_non_null(b->hub.audit_anchor);
    b->hub.audit = audit_open(root, b->hub.keys, b->hub.audit_anchor, b->base, &e);
    if (!b->hub.audit)
        fail_msg("%s", e.text);
    b->hub.registry = registry_open(root, &e);
    if (!b->hub.registry || owed_settle(&b->hub, &e) < 0 || change_recover(&b->hub, &e) < 0)
        fail_msg("%s", e.text);
}

static void box_close(struct box *b)
{
    (void)sqlite3_close_v2(b->hub.registry);
    audit_close(b->hub.audit);
    anchors_close(b->hub.audit_anchor);
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

/* How many records of this type about this token or change stand in the log. */
static unsigned recorded(struct box *b, const char *type, const char *key, const char *id)
{
    struct err e = ERR_INIT;
    json_t *list = audit_list(b->hub.audit, 0, 10000, &e), *record;
    unsigned n = 0;
    size_t i;

    assert_non_null(list);
    json_array_foreach(list, i, record) n +=
        strcmp(json_string_value(json_object_get(record, "type")), type) == 0 &&
        strcmp(json_string_value(json_object_get(record, key)), id) == 0;
    json_decref(list);
    return n;
}

static json_t *new_token(struct box *b)
{
    struct problem p = {0};
    json_t *token = tokens_create(&b->hub, &admin, "ci", "read", 0, &p);

    if (!token)
        fail_msg("%s", p.text);
    return token;
}

static void check_owed_revocation(bool restart)
{
    struct token_info who;
    struct problem p = {0};
    struct box b;
    json_t *token;
    const char *id;

    box_open(&b);
    token = new_token(&b);
    id = json_string_value(json_object_get(token, "id"));
    fault_audit(ENOSPC);
    assert_int_equal(tokens_revoke(&b.hub, &admin, id, &p), 0);
    assert_int_equal(tokens_check(&b.hub, json_string_value(json_object_get(token, "token")), &who, &p), -1);
    assert_string_equal(p.code, "token_revoked");
    assert_int_equal(recorded(&b, "token.revoked", "token", id), 0);
    fault_clear();
    if (restart) {
        box_close(&b);
        box_open(&b);
    } else {
        owed_retry(&b.hub);
    }
    assert_int_equal(recorded(&b, "token.revoked", "token", id), 1);
    owed_retry(&b.hub);
    assert_int_equal(recorded(&b, "token.revoked", "token", id), 1);
    json_decref(token);
    box_close(&b);
}

static void test_a_full_audit_log_does_not_keep_a_token_alive_and_the_record_follows(void **state)
{
    (void)state;
    check_owed_revocation(false);
}

static void test_a_record_that_was_owed_at_a_stop_is_written_at_the_next_start(void **state)
{
    (void)state;
    check_owed_revocation(true);
}

static void test_a_token_is_not_made_without_its_record(void **state)
{
    struct problem p = {0};
    struct box b;
    json_t *list;

    (void)state;
    box_open(&b);
    fault_audit(EIO);
    assert_null(tokens_create(&b.hub, &admin, "ci", "admin", 0, &p));
    fault_clear();
    list = tokens_list(&b.hub, &p);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    box_close(&b);
}

/* Revocation on a failing disk: whatever n-th operation fails, one that was confirmed holds and is on record.
 */
static void test_a_confirmed_revocation_holds_and_is_on_record(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct problem p = {0}, after = {0};
        struct token_info who;
        struct box b;
        json_t *token;
        bool confirmed, fired, dead;
        const char *id;

        box_open(&b);
        token = new_token(&b);
        id = json_string_value(json_object_get(token, "id"));
        fault_at(n, ENOSPC);
        confirmed = tokens_revoke(&b.hub, &admin, id, &p) == 0;
        fired = fault_fired();
        fault_clear();
        box_close(&b);
        box_open(&b);
        dead = tokens_check(&b.hub, json_string_value(json_object_get(token, "token")), &who, &after) < 0;
        assert_true(dead || !confirmed);
        assert_true((recorded(&b, "token.revoked", "token", id) > 0) == dead);
        json_decref(token);
        box_close(&b);
        if (!fired)
            break;
        assert_true(n < 200);
    }
}

/* Approved while audit.log was full: asked again, the decision stands in the log before the application. */
static void test_a_decision_is_on_record_before_it_is_applied(void **state)
{
    struct problem p = {0};
    char id[24];
    json_t *change;
    struct box b;

    (void)state;
    box_open(&b);
    submit(&b, "agent.create", "coder", "{\"name\":\"coder\"}", id);
    fault_audit(ENOSPC);
    assert_false(decide(&b, id));
    assert_false(decide(&b, id));
    assert_null(agent_get(&b.hub, "coder", &p));
    fault_clear();
    assert_true(decide(&b, id));
    change = change_get(&b.hub, id, false, &p);
    assert_string_equal(json_string_value(json_object_get(change, "state")), "applied");
    json_decref(change);
    assert_int_equal(recorded(&b, "change.pending", "change", id), 1);
    assert_int_equal(recorded(&b, "change.approved", "change", id), 1);
    assert_int_equal(recorded(&b, "change.applied", "change", id), 1);
    box_close(&b);
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
        CASE(test_a_full_audit_log_does_not_keep_a_token_alive_and_the_record_follows),
        CASE(test_a_record_that_was_owed_at_a_stop_is_written_at_the_next_start),
        CASE(test_a_token_is_not_made_without_its_record),
        CASE(test_a_confirmed_revocation_holds_and_is_on_record),
        CASE(test_a_decision_is_on_record_before_it_is_applied),
        CASE(test_paths_that_leave_their_place_are_not_normal),
        CASE(test_a_diff_marks_what_changed_and_keeps_the_rest),
    };
    sql_init();
    fault_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
