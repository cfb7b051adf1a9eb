/*
 * ipc/wire and ipc/link: fields survive the trip or fail as a whole; a peer that breaks the rules is cut off;
 * every call is answered exactly once.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "ipc/link.h"
#include "ipc/wire.h"

enum { ECHO = 7, WITH_FD = 8, SILENT = 9 };

static void put_all(struct wire_out *o)
{
    wire_put_u8(o, 0xab);
    wire_put_u32(o, 0xdeadbeef);
    wire_put_u64(o, 0x0123456789abcdef);
    wire_put_str(o, "text");
    wire_put_bytes(o, "\0\1\2", 3);
}

static bool get_all(const uint8_t *p, size_t len)
{
    struct wire_in in = wire_in_init(p, len);
    char text[8];
    size_t n;
    bool same = wire_get_u8(&in) == 0xab;
    const uint8_t *bytes;

    same = wire_get_u32(&in) == 0xdeadbeef && same;
    same = wire_get_u64(&in) == 0x0123456789abcdef && same;
    wire_get_str(&in, text, sizeof(text));
    bytes = wire_get_bytes(&in, 3, &n);
    same = !strcmp(text, "text") && bytes && n == 3 && !memcmp(bytes, "\0\1\2", 3) && same;
    if (wire_in_done(&in))
        assert_true(same);
    return wire_in_done(&in);
}

static void fields_come_back_as_they_were_written(void **state)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    (void)state;
    put_all(&o);
    assert_false(o.failed);
    assert_true(get_all(o.buf, o.len));
}

static void a_message_cut_at_any_length_or_too_long_fails(void **state)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    (void)state;
    put_all(&o);
    for (size_t len = 0; len < o.len; len++) {
        CLEANUP_FREE uint8_t *copy =
            malloc(len ? len : 1); /* exact, so that a sanitizer sees one byte too many */
        memcpy(copy, o.buf, len);
        assert_false(get_all(copy, len));
    }
    wire_put_u8(&o, 0);
    assert_false(get_all(o.buf, o.len));
}

static void strings_with_a_nul_or_without_room_fail_and_leave_an_empty_text(void **state)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    struct wire_in in;
    char text[4] = "zzz";

    (void)state;
    wire_put_bytes(&o, "a\0b", 3);
    in = wire_in_init(o.buf, o.len);
    wire_get_str(&in, text, sizeof(text));
    assert_true(in.failed);
    assert_string_equal(text, "");
    in = wire_in_init(o.buf, o.len);
    assert_null(wire_get_strdup(&in, 10));
    wire_out_free(&o);
    wire_put_str(&o, "four");
    in = wire_in_init(o.buf, o.len);
    wire_get_str(&in, text, sizeof(text));
    assert_true(in.failed);
}

static void a_message_above_the_limit_is_marked_and_not_sent(void **state)
{
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
    CLEANUP_FREE char *big = calloc(1, WIRE_MAX);

    (void)state;
    wire_put_bytes(&o, big, WIRE_MAX - 4);
    assert_false(o.failed);
    wire_put_u8(&o, 1);
    assert_true(o.failed);
    wire_put_u8(&o, 1);
    assert_true(o.len <= WIRE_MAX);
}

/* ---- links: `l` is ours, `peer` the raw other end
 * ---------------------------------------------------------- */

struct fixture {
    struct event_base *base;
    struct link *l;
    int peer, closed, requests, answers, refused;
    char why[160];
};

static bool on_echo(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct fixture *f = ctx;
    uint32_t v = wire_get_u32(in);
    CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;

    if (!wire_in_done(in))
        return false;
    f->requests++;
    wire_put_u32(&o, v);
    return link_reply(req->link, req->id, false, &o, NULL, 0) == 0;
}

static bool on_fd(void *ctx, const struct link_req *req, struct wire_in *in)
{
    struct fixture *f = ctx;

    f->requests++;
    (void)close(req->fds[0]);
    return wire_in_done(in);
}

static const struct link_rule rules[] = {{ECHO, "echo", 4, 4, 0, on_echo},
                                         {WITH_FD, "with-fd", 0, 0, 1, on_fd}};

static void on_closed(void *arg, struct link *l, const char *why)
{
    struct fixture *f = arg;

    (void)l;
    f->closed++;
    f->l = NULL;
    (void)snprintf(f->why, sizeof(f->why), "%s", why);
}

static void on_answer(void *arg, bool ok, bool more, struct wire_in *in, int *fds, int nfds)
{
    struct fixture *f = arg;

    (void)more;
    (void)in;
    for (int i = 0; i < nfds; i++)
        (void)close(fds[i]);
    if (ok)
        f->answers++;
    else
        f->refused++;
}

static int link_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int pair[2];

    if (!f || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    f->base = event_base_new();
    f->peer = pair[1];
    f->l = link_new(f->base, pair[0], "tester", rules, ARRAY_LEN(rules), f, on_closed, f);
    *state = f;
    return 0;
}

static void turn(struct fixture *f)
{
    for (int i = 0; i < 8; i++)
        (void)event_base_loop(f->base, EVLOOP_NONBLOCK);
}

static int link_teardown(void **state)
{
    struct fixture *f = *state;

    if (f->l)
        link_close(f->l, "the test ended");
    turn(f);
    if (f->peer >= 0)
        (void)close(f->peer);
    event_base_free(f->base);
    free(f);
    return 0;
}

static void send_frame(struct fixture *f, uint32_t type, uint32_t flags, uint64_t id, const void *body,
                       size_t len, int nfds)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * 4)];
        struct cmsghdr align;
    } control = {{0}};
    uint8_t frame[64] = {0};
    struct iovec iov = {.iov_base = frame, .iov_len = 16 + len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(frame, &type, 4);
    memcpy(frame + 4, &flags, 4);
    memcpy(frame + 8, &id, 8);
    if (len > 0)
        memcpy(frame + 16, body, len);
    if (nfds > 0) {
        struct cmsghdr *c;
        int fds[4] = {2, 2, 2, 2};
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    assert_true(sendmsg(f->peer, &msg, MSG_NOSIGNAL) > 0);
    turn(f);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void a_permitted_request_is_answered(void **state)
{
    struct fixture *f = *state;
    uint8_t answer[64];

    send_frame(f, ECHO, 0, 42, "\1\2\3\4", 4, 0);
    assert_int_equal(f->requests, 1);
    assert_int_equal(recv(f->peer, answer, sizeof(answer), MSG_DONTWAIT), 20);
    assert_memory_equal(answer + 4, "\1\0\0\0\52\0\0\0\0\0\0\0\1\2\3\4", 16);
}

static void cut_off(struct fixture *f, const char *what)
{
    assert_int_equal(f->closed, 1);
    assert_non_null(strstr(f->why, what));
    assert_int_equal(f->requests, 0);
}

static void an_unknown_request_cuts_the_peer_off(void **state)
{
    send_frame(*state, 99, 0, 1, NULL, 0, 0);
    cut_off(*state, "unknown request");
}

static void a_request_of_the_wrong_size_cuts_the_peer_off(void **state)
{
    send_frame(*state, ECHO, 0, 1, "\1\2\3\4\5", 5, 0);
    cut_off(*state, "ill-formed");
}

static void descriptors_that_do_not_belong_are_closed_with_the_link(void **state)
{
    int before = open_descriptors();

    send_frame(*state, ECHO, 0, 1, "\1\2\3\4", 4, 3);
    cut_off(*state, "ill-formed");
    assert_int_equal(open_descriptors(), before - 1); /* the link's own is gone, nothing came in its place */
}

static void a_missing_descriptor_cuts_the_peer_off(void **state)
{
    send_frame(*state, WITH_FD, 0, 1, NULL, 0, 0);
    cut_off(*state, "ill-formed");
}

static void a_message_shorter_than_its_header_cuts_the_peer_off(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(send(f->peer, "short", 5, 0), 5);
    turn(f);
    cut_off(f, "truncated");
}

static void a_reply_to_a_forgotten_call_is_dropped_with_its_descriptors(void **state)
{
    struct fixture *f = *state;
    uint64_t id = link_call(f->l, SILENT, NULL, NULL, 0, on_answer, f);
    int before;

    link_forget(f->l, id);
    before = open_descriptors();
    send_frame(f, 0, 1, id, NULL, 0, 2);
    assert_int_equal(f->answers + f->refused, 0);
    assert_int_equal(f->closed, 0);
    assert_int_equal(open_descriptors(), before);
}

static void the_death_of_the_peer_answers_every_call_once(void **state)
{
    struct fixture *f = *state;
    uint64_t first = 0;

    for (int i = 0; i < 5; i++) {
        uint64_t id = link_call(f->l, SILENT, NULL, NULL, 0, on_answer, f);
        first = first ? first : id;
    }
    send_frame(f, 0, 1, first, NULL, 0, 0);
    send_frame(f, 0, 1, first, NULL, 0, 0); /* a second answer to the same call is none */
    assert_int_equal(f->answers, 1);
    (void)close(f->peer);
    f->peer = -1;
    turn(f);
    assert_int_equal(f->refused, 4);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->closed, 1);
}

static void a_slow_reader_makes_a_backlog_that_drains_in_order(void **state)
{
    struct fixture *f = *state;
    uint8_t frame[1024];
    uint32_t next = 0, sent = 0, number;
    char filler[512] = {0};

    for (; sent < 4000; sent++) {
        CLEANUP_WIRE struct wire_out o = WIRE_OUT_INIT;
        wire_put_u32(&o, sent);
        wire_put_bytes(&o, filler, sizeof(filler));
        assert_int_equal(link_notify(f->l, SILENT, &o, NULL, 0), 0);
    }
    assert_true(link_backlog(f->l) > 0);
    while (next < sent) {
        if (recv(f->peer, frame, sizeof(frame), MSG_DONTWAIT) < 0) {
            assert_int_equal(errno, EAGAIN);
            (void)event_base_loop(f->base, EVLOOP_ONCE);
            continue;
        }
        memcpy(&number, frame + 16, 4);
        assert_int_equal(number, next);
        next++;
    }
    turn(f);
    assert_int_equal(link_backlog(f->l), 0);
}

#define LINKED(test) cmocka_unit_test_setup_teardown(test, link_setup, link_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back_as_they_were_written),
        cmocka_unit_test(a_message_cut_at_any_length_or_too_long_fails),
        cmocka_unit_test(strings_with_a_nul_or_without_room_fail_and_leave_an_empty_text),
        cmocka_unit_test(a_message_above_the_limit_is_marked_and_not_sent),
        LINKED(a_permitted_request_is_answered),
        LINKED(an_unknown_request_cuts_the_peer_off),
        LINKED(a_request_of_the_wrong_size_cuts_the_peer_off),
        LINKED(descriptors_that_do_not_belong_are_closed_with_the_link),
        LINKED(a_missing_descriptor_cuts_the_peer_off),
        LINKED(a_message_shorter_than_its_header_cuts_the_peer_off),
        LINKED(a_reply_to_a_forgotten_call_is_dropped_with_its_descriptors),
        LINKED(the_death_of_the_peer_answers_every_call_once),
        LINKED(a_slow_reader_makes_a_backlog_that_drains_in_order),
    };

    return cmocka_run_group_tests_name("ipc", tests, NULL, NULL);
}
