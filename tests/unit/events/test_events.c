/* Formatting, classes of arguments, bursts, the ring's shares, syslog, notices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <linux/audit.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "events/burst.h"
#include "events/notice.h"
#include "events/ring.h"
#include "events/syscalls.h"
#include "events/syslog.h"

static json_t *formatted(enum event_type type, const union event_value *values)
{
    struct event_head h = {7, 1700000000123, type, "s-1", "coder", "container", 3};
    char detail[EVENT_DETAIL_MAX], line[EVENT_LINE_MAX];
    json_t *doc;
    size_t len;

    (void)event_detail(type, values, detail);
    len = event_line(&h, detail, line);
    assert_int_equal(len, strlen(line));
    for (const char *p = line; *p; p++)
        assert_in_range(*p, 0x20, 0x7e);
    doc = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(doc);
    return doc;
}

static void an_event_has_one_shape(void **state)
{
    union event_value v[EVENT_FIELDS_MAX] = {{.number = 137}, {.text = "oom"}};
    json_t *doc = formatted(EVENT_SANDBOX_EXIT, v), *same;

    (void)state;
    same = json_pack("{s:i,s:I,s:s,s:s,s:s,s:s,s:i,s:{s:i,s:s}}", "seq", 7, "time_ms",
                     (json_int_t)1700000000123, "type", "sandbox.exit", "session", "s-1", "agent", "coder",
                     "wall", "container", "count", 3, "detail", "code", 137, "reason", "oom");
    assert_true(json_equal(doc, same));
    json_decref(doc);
    json_decref(same);
}

static const char *reason_of(json_t *doc)
{
    return json_string_value(json_object_get(json_object_get(doc, "detail"), "reason"));
}

static void text_of_a_sandbox_stays_text(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\"b\\c", "a\"b\\c"},
        {"line\nnext\r\x1b[2J", "line\nnext\r\x1b[2J"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {NULL, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        union event_value v[EVENT_FIELDS_MAX] = {{.text = "queue"}, {.text = cases[i].in}};
        json_t *doc = formatted(EVENT_PORT_DENIED, v);
        assert_string_equal(reason_of(doc), cases[i].out);
        json_decref(doc);
    }
}

static void the_longest_values_fit(void **state)
{
    char text[1000];
    union event_value v[EVENT_FIELDS_MAX];

    (void)state;
    memset(text, 1, sizeof(text) - 1); /* each becomes six characters */
    text[sizeof(text) - 1] = 0;
    for (int i = 0; i < EVENT_FIELDS_MAX; i++)
        v[i].text = text;
    json_t *doc = formatted(EVENT_POLICY_REFUSED, v);
    assert_int_equal(strlen(json_string_value(json_object_get(json_object_get(doc, "detail"), "verifiers"))),
                     EVENT_VALUE_MAX);
    json_decref(doc);
}

static void calls_have_names_and_classes(void **state)
{
    uint64_t args[6] = {0};
    char a[160], b[32];

    (void)state;
    assert_string_equal(syscall_name(SYS_mount, b, sizeof(b)), "mount");
    assert_string_equal(syscall_name(1000, b, sizeof(b)), "syscall_1000");
    assert_string_equal(syscall_name(-1, b, sizeof(b)), "syscall_-1");
    assert_string_equal(syscall_arch(AUDIT_ARCH_I386, b, sizeof(b)), "0x40000003");
    assert_int_equal(syscall_class(SYS_mount, args), 0);
    args[0] = 0xdeadbeef00000000ULL | AF_PACKET; /* the kernel looks at the low half */
    assert_string_equal(syscall_class_text(SYS_socket, syscall_class(SYS_socket, args), a, sizeof(a)),
                        "AF_PACKET");
    args[0] = 0x7fffffff;
    assert_string_equal(syscall_class_text(SYS_socket, syscall_class(SYS_socket, args), a, sizeof(a)),
                        "other");
    args[0] = CLONE_NEWUSER | CLONE_NEWNS | CLONE_VM | 17;
    assert_string_equal(syscall_class_text(SYS_clone, syscall_class(SYS_clone, args), a, sizeof(a)),
                        "CLONE_NEWUSER|CLONE_NEWNS");
    args[0] = UINT64_MAX;
    (void)syscall_class_text(SYS_unshare, syscall_class(SYS_unshare, args), a, sizeof(a));
    assert_true(strlen(a) < EVENT_VALUE_MAX + 40);
}

struct told {
    unsigned n;
    uint64_t sum, dropped;
};

static void on_tell(void *arg, enum event_type type, const char *detail, uint64_t count)
{
    struct told *t = arg;

    t->n++;
    *(type == EVENT_DROPPED ? &t->dropped : &t->sum) += count;
    assert_true((detail == NULL) == (type == EVENT_DROPPED));
}

static void a_burst_is_told_at_once_and_then_as_one(void **state)
{
    struct burst b = {0};
    struct told t = {0};

    (void)state;
    assert_false(burst_count(&b, EVENT_AUTH_DENIED, 5, 1));
    assert_true(burst_open(&b, EVENT_AUTH_DENIED, 5, "{}", 1));
    for (int i = 0; i < 1000; i++)
        assert_true(burst_count(&b, EVENT_AUTH_DENIED, 5, 1));
    assert_false(burst_count(&b, EVENT_PORT_DENIED, 5, 1));
    assert_true(burst_flush(&b, on_tell, &t));
    assert_int_equal(t.n, 1);
    assert_int_equal(t.sum, 1000);
    assert_false(burst_flush(&b, on_tell, &t)); /* quiet: forgotten */
    assert_null(b.kinds);
    assert_int_equal(t.n, 1);
}

static void kinds_without_room_are_counted_as_dropped(void **state)
{
    struct burst b = {0};
    struct told t = {0};
    unsigned told = 0;

    (void)state;
    for (uint64_t k = 0; k < 100; k++)
        told += burst_open(&b, EVENT_SYSCALL_DENIED, k, "{}", 2);
    assert_int_equal(told, BURST_KINDS);
    (void)burst_flush(&b, on_tell, &t);
    assert_int_equal(t.dropped, 2 * (100 - BURST_KINDS));
    burst_free(&b);
}

static void append(struct ring *r, struct ring_share *s, uint64_t seq)
{
    char text[101];
    struct event_head h = {.seq = seq, .type = EVENT_SYSCALL_DENIED};

    memset(text, 'x', 100);
    text[100] = 0;
    ring_append(r, s, &h, text, 100);
}

static void count_evicted(void *arg, const struct ring_item *item)
{
    (void)item;
    (*(unsigned *)arg)++;
}

static void a_flood_pushes_out_its_own_events(void **state)
{
    unsigned evicted = 0, kept = 0;
    struct ring r = {.max = 20000, .on_evict = count_evicted, .arg = &evicted};
    struct ring_share quiet = {0}, noisy = {0};
    uint64_t seq = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        append(&r, &quiet, ++seq);
    for (int i = 0; i < 10000; i++)
        append(&r, &noisy, ++seq);
    assert_true(r.bytes <= r.max && r.bytes == quiet.bytes + noisy.bytes);
    for (const struct ring_item *i = ring_after(&r, 0); i; i = i->next) {
        assert_true(!i->next || i->next->seq > i->seq);
        kept++;
    }
    assert_int_equal(kept + evicted, 10010);
    assert_int_equal(ring_after(&r, 0)->seq, 1);
    assert_int_equal(ring_after(&r, 9)->seq, 10);
    assert_true(ring_after(&r, 10)->seq > 9000);
    assert_null(ring_after(&r, seq));
    assert_int_equal(ring_after(&r, seq - 1)->seq, seq);
    ring_free(&r);
    assert_true(r.bytes == 0 && !r.oldest && !r.newest && !r.shares);
}

static void an_event_larger_than_the_ring_is_no_trouble(void **state)
{
    struct ring r = {.max = 10};
    struct ring_share s = {0};

    (void)state;
    append(&r, &s, 1);
    assert_null(ring_after(&r, 0));
    assert_int_equal(r.bytes, 0);
}

static void syslog_is_rfc_5424(void **state)
{
    char text[SYSLOG_MAX];

    (void)state;
    (void)syslog_message(EVENT_SYSCALL_DENIED, 1700000000007, "box", "{}", text);
    assert_string_equal(text, "<28>1 2023-11-14T22:13:20.007Z box ironclaw - syscall.denied - {}");
    for (int t = 0; t < EVENT_TYPES; t++)
        assert_in_range(strlen(event_kinds[t].name), 1, 32); /* MSGID */
}

static void a_notice_arrives_as_it_was_sent(void **state)
{
    const union event_value v[EVENT_FIELDS_MAX] = {{.number = 9}, {.text = "signal"}};
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct wire_in in;
    struct notice n;

    (void)state;
    notice_put(&o, EVENT_SANDBOX_KILLED, "s-1", "coder", "container", 1, v);
    in = wire_in_init(o.buf, o.len);
    assert_true(notice_get(&in, &n) && wire_in_done(&in));
    assert_int_equal(n.type, EVENT_SANDBOX_KILLED);
    assert_string_equal(n.session, "s-1");
    assert_int_equal(n.values[0].number, 9);
    assert_string_equal(n.values[1].text, "signal");
    for (size_t len = 0; len < o.len; len++) {
        in = wire_in_init(o.buf, len);
        assert_false(notice_get(&in, &n));
    }
}

static void a_notice_of_no_type_or_with_a_name_that_is_none_is_refused(void **state)
{
    const union event_value v[EVENT_FIELDS_MAX] = {{.number = 9}, {.text = "signal"}};
    static const char *const names[] = {"../x", "a b", "\n"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        struct wire_in in;
        struct notice n;
        notice_put(&o, EVENT_SANDBOX_KILLED, names[i], "", "", 1, v);
        in = wire_in_init(o.buf, o.len);
        assert_false(notice_get(&in, &n));
        o.buf[0] = EVENT_TYPES;
        in = wire_in_init(o.buf, o.len);
        assert_false(notice_get(&in, &n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_has_one_shape),
        cmocka_unit_test(text_of_a_sandbox_stays_text),
        cmocka_unit_test(the_longest_values_fit),
        cmocka_unit_test(calls_have_names_and_classes),
        cmocka_unit_test(a_burst_is_told_at_once_and_then_as_one),
        cmocka_unit_test(kinds_without_room_are_counted_as_dropped),
        cmocka_unit_test(a_flood_pushes_out_its_own_events),
        cmocka_unit_test(an_event_larger_than_the_ring_is_no_trouble),
        cmocka_unit_test(syslog_is_rfc_5424),
        cmocka_unit_test(a_notice_arrives_as_it_was_sent),
        cmocka_unit_test(a_notice_of_no_type_or_with_a_name_that_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
