/*
 * The durable queues: whatever is done to the files is found and named; whatever the disk refuses costs
 * nothing that was acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "fault_vfs.h"
#include "vault/queue_store.h"
#include "vault/sql.h"

static char root[] = "/tmp/queue-store-XXXXXX";
static const struct queue_ref A = {"s-a", 0}, B = {"s-b", 1};

struct box {
    int dir;
    struct keys *keys;
    struct anchors *anchors;
    struct queue_store *store;
};

static void box_open(struct box *b)
{
    struct err e = ERR_INIT;

    b->dir = open(root, O_RDONLY | O_DIRECTORY);
    b->keys = keys_new();
    if (keys_load(b->keys, b->dir, -1, &e) < 0)
        fail_msg("%s", e.text);
    b->anchors = anchors_open(b->dir, ANCHORS_QUEUES, b->keys, &e);
    assert_non_null(b->anchors);
    b->store = queue_store_new(root, b->keys, b->anchors);
}

static void box_close(struct box *b)
{
    queue_store_free(b->store);
    anchors_close(b->anchors);
    keys_close(b->keys);
    (void)close(b->dir);
}

static int append(struct box *b, struct queue_ref r, enum direction d, const char *text, enum damage *damage)
{
    struct queue_append a = {.direction = d, .kind = RECORD_MESSAGE, .text = text, .len = strlen(text)};
    uint64_t seq, time;
    struct err e = ERR_INIT;

    return queue_append(b->store, r, &a, &seq, &time, NULL, damage, &e);
}

static bool count_one(void *arg, const struct queue_item *item)
{
    (void)item;
    ++*(unsigned *)arg;
    return true;
}

static unsigned count(struct box *b, struct queue_ref r, enum direction d, enum damage *damage)
{
    unsigned n = 0;
    struct err e = ERR_INIT;

    return queue_read(b->store, r, d, 0, count_one, &n, damage, &e) < 0 ? 0 : n;
}

/* Two sessions with five records in each direction, closed again. */
static int fresh(void **state)
{
    struct box b;
    struct err e = ERR_INIT;
    enum damage damage;

    (void)state;
    memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(root));
    box_open(&b);
    assert_int_equal(queue_create(b.store, A, &e), 0);
    assert_int_equal(queue_create(b.store, B, &e), 0);
    for (int d = 0; d < DIRECTION_COUNT; d++)
        for (int i = 0; i < 5; i++) {
            assert_int_equal(append(&b, A, (enum direction)d, "text of a", &damage), 0);
            assert_int_equal(append(&b, B, (enum direction)d, "text of b", &damage), 0);
        }
    box_close(&b);
    return 0;
}

static int gone(void **state)
{
    (void)state;
    fault_clear();
    return io_remove_tree(AT_FDCWD, root, NULL);
}

static char *path(const char *name)
{
    return x_asprintf("%s/%s", root, name);
}

static void run_sql(const char *name, const char *sql)
{
    char *p = path(name);
    sqlite3 *db;

    assert_int_equal(sqlite3_open_v2(p, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    (void)sqlite3_close(db);
    free(p);
}

static void copy(const char *from, const char *to)
{
    char *src = path(from), *data;
    size_t len;

    assert_int_equal(io_read_file(AT_FDCWD, src, 1 << 20, &data, &len, NULL), 0);
    free(src);
    src = path(to);
    assert_int_equal(io_replace_file(AT_FDCWD, src, data, len, 0600, NULL), 0);
    free(src);
    free(data);
}

/* Session A is refused with this name, B is not. */
static void expect_damage(enum damage wanted)
{
    struct box b;
    enum damage damage = DAMAGE_NONE;
    struct queue_heads heads;
    struct err e = ERR_INIT;

    box_open(&b);
    assert_int_equal(queue_heads(b.store, A, &heads, &damage, &e), -1);
    assert_string_equal(damage_name(damage), damage_name(wanted));
    assert_non_null(strstr(e.text, damage_name(wanted)));
    assert_int_equal(queue_heads(b.store, B, &heads, &damage, &e), 0);
    assert_int_equal(heads.in, 5);
    box_close(&b);
}

static void test_records_come_back_in_order_after_reopening(void **state)
{
    struct box b;
    enum damage damage;

    (void)state;
    box_open(&b);
    assert_int_equal(count(&b, A, DIRECTION_IN, &damage), 5);
    assert_int_equal(append(&b, A, DIRECTION_IN, "more", &damage), 0);
    assert_int_equal(count(&b, A, DIRECTION_IN, &damage), 6);
    assert_int_equal(queue_store_close_idle(b.store, 0), 0);
    assert_int_equal(count(&b, A, DIRECTION_IN, &damage), 6);
    box_close(&b);
}

static void test_more_sessions_than_open_slots_work(void **state)
{
    struct box b;
    struct err e = ERR_INIT;
    enum damage damage;
    char ids[20][8];

    (void)state;
    box_open(&b);
    for (uint32_t i = 0; i < 20; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "s-%u", i + 10);
        assert_int_equal(queue_create(b.store, (struct queue_ref){ids[i], i + 10}, &e), 0);
    }
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < 20; i++)
            assert_int_equal(append(&b, (struct queue_ref){ids[i], i + 10}, DIRECTION_IN, "x", &damage), 0);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(count(&b, (struct queue_ref){ids[i], i + 10}, DIRECTION_IN, &damage), 3);
    box_close(&b);
}

static void test_the_triggers_refuse_update_delete_and_gaps(void **state)
{
    static const char *const refused[] = {"UPDATE records SET kind=2", "DELETE FROM records",
                                          "DELETE FROM identity",
                                          "INSERT INTO records VALUES(9,1,x'00',x'00',NULL)"};
    char *p = path("sessions/s-a/inbound.db");
    sqlite3 *db;

    (void)state;
    assert_int_equal(sqlite3_open_v2(p, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sqlite3_exec(db, refused[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
    (void)sqlite3_close(db);
    free(p);
}

static void test_a_wrong_key_is_named(void **state)
{
    (void)state;
    copy("sessions/s-b/session.key", "sessions/s-a/session.key");
    expect_damage(DAMAGE_WRONG_KEY);
}

static void test_a_missing_file_is_named(void **state)
{
    char *p = path("sessions/s-a/outbound.db");

    (void)state;
    assert_int_equal(unlink(p), 0);
    free(p);
    expect_damage(DAMAGE_MISSING);
}

static void test_a_truncated_file_is_named_at_every_length(void **state)
{
    char *p = path("sessions/s-a/inbound.db");
    struct stat st;

    (void)state;
    assert_int_equal(stat(p, &st), 0);
    for (off_t len = st.st_size - 1; len > 0; len = len * 3 / 4) {
        assert_int_equal(truncate(p, len), 0);
        expect_damage(DAMAGE_TRUNCATED);
    }
    free(p);
}

static void test_the_file_of_another_session_or_direction_is_named(void **state)
{
    (void)state;
    copy("sessions/s-b/inbound.db", "sessions/s-a/inbound.db");
    expect_damage(DAMAGE_WRONG_FILE);
    copy("sessions/s-a/outbound.db", "sessions/s-a/inbound.db");
    expect_damage(DAMAGE_WRONG_FILE);
}

static void test_an_altered_record_is_named(void **state)
{
    (void)state;
    run_sql(
        "sessions/s-a/inbound.db",
        "DROP TRIGGER records_no_update; UPDATE records SET sealed = substr(sealed,1,60) || "
        "CASE substr(sealed,61,1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(sealed,62) WHERE seq = 3");
    expect_damage(DAMAGE_RECORD_ALTERED);
}

static void test_an_altered_kind_is_named(void **state)
{
    (void)state;
    run_sql("sessions/s-a/outbound.db",
            "DROP TRIGGER records_no_update; UPDATE records SET kind = 2 WHERE seq = 1");
    expect_damage(DAMAGE_RECORD_ALTERED);
}

static void test_a_deleted_record_is_named(void **state)
{
    (void)state;
    run_sql("sessions/s-a/inbound.db", "DROP TRIGGER records_no_delete; DELETE FROM records WHERE seq = 2");
    expect_damage(DAMAGE_CHAIN_BROKEN);
}

static void test_swapped_records_are_named(void **state)
{
    (void)state;
    run_sql("sessions/s-a/inbound.db",
            "DROP TRIGGER records_no_update; UPDATE records SET seq = 99 WHERE seq = 2;"
            "UPDATE records SET seq = 2 WHERE seq = 3; UPDATE records SET seq = 3 WHERE seq = 99");
    expect_damage(DAMAGE_CHAIN_BROKEN);
}

static void test_deleted_newest_records_are_a_roll_back(void **state)
{
    (void)state;
    run_sql("sessions/s-a/inbound.db", "DROP TRIGGER records_no_delete; DELETE FROM records WHERE seq = 5");
    expect_damage(DAMAGE_ROLLED_BACK);
}

static void test_an_older_copy_of_the_file_is_a_roll_back(void **state)
{
    struct box b;
    enum damage damage;

    (void)state;
    copy("sessions/s-a/inbound.db", "old.db");
    box_open(&b);
    assert_int_equal(append(&b, A, DIRECTION_IN, "newer", &damage), 0);
    box_close(&b);
    copy("old.db", "sessions/s-a/inbound.db");
    expect_damage(DAMAGE_ROLLED_BACK);
}

static void test_a_wiped_anchor_is_named(void **state)
{
    static const char zero[256];
    char *p = path("vault/anchors");
    int fd = open(p, O_WRONLY);

    (void)state;
    free(p);
    assert_int_equal(pwrite(fd, zero, sizeof(zero), 0), sizeof(zero));
    (void)close(fd);
    expect_damage(DAMAGE_ANCHOR);
}

static void test_one_torn_anchor_copy_costs_nothing(void **state)
{
    struct box b;
    enum damage damage;

    (void)state;
    for (unsigned copy_at = 0; copy_at < 2; copy_at++) {
        char *p = path("vault/anchors"), junk[40];
        int fd = open(p, O_RDWR);
        free(p);
        memset(junk, 0x5a, sizeof(junk));
        assert_int_equal(pwrite(fd, junk, sizeof(junk), (off_t)copy_at * 128), sizeof(junk));
        (void)close(fd);
        box_open(&b);
        assert_int_equal(count(&b, A, DIRECTION_IN, &damage), 5 + 2 * copy_at);
        /* Two appends write both copies anew. */
        assert_int_equal(append(&b, A, DIRECTION_IN, "x", &damage), 0);
        assert_int_equal(append(&b, A, DIRECTION_IN, "x", &damage), 0);
        box_close(&b);
    }
}

/* Any flipped bit is either without effect on what is read, or refused by some name; never a crash, never
 * other text. */
static bool text_is_ours(void *arg, const struct queue_item *item)
{
    (void)arg;
    assert_int_equal(item->len, 9);
    assert_memory_equal(item->text, "text of a", 9);
    return true;
}

static void test_no_flipped_bit_changes_what_is_read(void **state)
{
    char *p = path("sessions/s-a/inbound.db");
    struct stat st;
    int fd = open(p, O_RDWR);
    unsigned refused = 0;

    (void)state;
    free(p);
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = 0; at < st.st_size; at += 211) {
        struct box b;
        struct err e = ERR_INIT;
        enum damage damage = DAMAGE_NONE;
        unsigned char byte, bad;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        bad = byte ^ (unsigned char)(1U << (at % 8));
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        box_open(&b);
        if (queue_read(b.store, A, DIRECTION_IN, 0, text_is_ours, NULL, &damage, &e) < 0)
            refused++;
        box_close(&b);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    (void)close(fd);
    assert_true(refused > 0);
}

/* Ahead of its anchor: the process died between commit and anchor. */
static void test_records_ahead_of_the_anchor_are_kept(void **state)
{
    struct box b;
    enum damage damage;

    (void)state;
    copy("vault/anchors", "anchors.old");
    box_open(&b);
    assert_int_equal(append(&b, A, DIRECTION_IN, "committed", &damage), 0);
    box_close(&b);
    copy("anchors.old", "vault/anchors");
    box_open(&b);
    assert_int_equal(count(&b, A, DIRECTION_IN, &damage), 6);
    box_close(&b);
}

static void test_the_idempotency_key_is_remembered_across_restarts(void **state)
{
    struct queue_append a = {
        .direction = DIRECTION_IN, .kind = RECORD_MESSAGE, .text = "x", .len = 1, .idempotency = "key"};
    struct err e = ERR_INIT;
    enum damage damage;
    uint64_t first, second, t1, t2;
    bool repeated;
    struct box b;

    (void)state;
    box_open(&b);
    assert_int_equal(queue_append(b.store, A, &a, &first, &t1, &repeated, &damage, &e), 0);
    assert_false(repeated);
    box_close(&b);
    box_open(&b);
    assert_int_equal(queue_append(b.store, A, &a, &second, &t2, &repeated, &damage, &e), 0);
    assert_true(repeated);
    assert_int_equal(first, second);
    assert_int_equal(t1, t2);
    box_close(&b);
}

/*
 * The n-th write or sync fails, for n = 1, 2, 3 ... until none does. Each time: the append either succeeds or
 * reports the error; what was acknowledged is there at the next opening; and the session is not called
 * damaged.
 */
static void run_with_faults(int fault)
{
    unsigned acked = 5, failures = 0;

    for (unsigned n = 1;; n++) {
        enum damage damage = DAMAGE_NONE;
        struct box b;
        bool fired;
        int rc;
        box_open(&b);
        fault_at(n, fault);
        rc = append(&b, A, DIRECTION_IN, "under fault", &damage);
        fired = fault_fired();
        fault_clear();
        assert_int_equal(damage, DAMAGE_NONE);
        assert_true(rc == 0 || fired);
        acked += rc == 0;
        failures += rc < 0;
        /* The same process goes on, and so does the next one. */
        assert_true(count(&b, A, DIRECTION_IN, &damage) >= acked);
        box_close(&b);
        box_open(&b);
        unsigned now = count(&b, A, DIRECTION_IN, &damage);
        assert_int_equal(damage, DAMAGE_NONE);
        assert_true(now >= acked && now <= acked + 1);
        acked = now; /* what was written but not acknowledged may stay */
        box_close(&b);
        if (!fired)
            break;
    }
    assert_true(failures >= 3);
}

static void test_nothing_acknowledged_is_lost_when_the_disk_is_full(void **state)
{
    (void)state;
    run_with_faults(ENOSPC);
}

static void test_nothing_acknowledged_is_lost_on_input_output_errors(void **state)
{
    (void)state;
    run_with_faults(EIO);
}

static void test_a_creation_that_fails_half_way_can_be_removed_and_repeated(void **state)
{
    struct queue_ref c = {"s-c", 7};

    (void)state;
    for (unsigned n = 1;; n++) {
        struct err e = ERR_INIT;
        enum damage damage;
        struct box b;
        bool fired;
        int rc;
        box_open(&b);
        fault_at(n, ENOSPC);
        rc = queue_create(b.store, c, &e);
        fired = fault_fired();
        fault_clear();
        assert_true(rc == 0 || fired);
        if (rc == 0)
            assert_int_equal(append(&b, c, DIRECTION_OUT, "x", &damage), 0);
        assert_int_equal(queue_remove(b.store, c, &e), 0);
        box_close(&b);
        if (!fired)
            break;
        assert_true(n < 500);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, gone)
    const struct CMUnitTest tests[] = {
        CASE(test_records_come_back_in_order_after_reopening),
        CASE(test_more_sessions_than_open_slots_work),
        CASE(test_the_triggers_refuse_update_delete_and_gaps),
        CASE(test_a_wrong_key_is_named),
        CASE(test_a_missing_file_is_named),
        CASE(test_a_truncated_file_is_named_at_every_length),
        CASE(test_the_file_of_another_session_or_direction_is_named),
        CASE(test_an_altered_record_is_named),
        CASE(test_an_altered_kind_is_named),
        CASE(test_a_deleted_record_is_named),
        CASE(test_swapped_records_are_named),
        CASE(test_deleted_newest_records_are_a_roll_back),
        CASE(test_an_older_copy_of_the_file_is_a_roll_back),
        CASE(test_a_wiped_anchor_is_named),
        CASE(test_one_torn_anchor_copy_costs_nothing),
        CASE(test_no_flipped_bit_changes_what_is_read),
        CASE(test_records_ahead_of_the_anchor_are_kept),
        CASE(test_the_idempotency_key_is_remembered_across_restarts),
        CASE(test_nothing_acknowledged_is_lost_when_the_disk_is_full),
        CASE(test_nothing_acknowledged_is_lost_on_input_output_errors),
        CASE(test_a_creation_that_fails_half_way_can_be_removed_and_repeated),
    };
    sql_init();
    fault_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
