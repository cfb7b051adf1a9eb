#include "events/event.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"

#define TEXT(name)                                                                                           \
    {                                                                                                        \
        name, EVENT_TEXT                                                                                     \
    }
#define NUMBER(name)                                                                                         \
    {                                                                                                        \
        name, EVENT_NUMBER                                                                                   \
    }
#define FLAG(name)                                                                                           \
    {                                                                                                        \
        name, EVENT_FLAG                                                                                     \
    }

enum { WARNING = 4, NOTICE = 5, INFO = 6 };

/* clang-format off */
const struct event_kind event_kinds[EVENT_TYPES] = {
    [EVENT_SANDBOX_LAUNCH] = {"sandbox.launch", INFO, {FLAG("syscalls_observed")}},
    [EVENT_SANDBOX_EXIT] = {"sandbox.exit", INFO, {NUMBER("code"), TEXT("reason")}},
    [EVENT_SANDBOX_KILLED] = {"sandbox.killed", WARNING, {NUMBER("signal"), TEXT("reason")}},
    [EVENT_SYSCALL_DENIED] = {"syscall.denied", WARNING,
                              {NUMBER("nr"), TEXT("name"), TEXT("arch"), TEXT("argument"), NUMBER("errno")}},
    [EVENT_LIMIT_MEMORY] = {"limit.memory", WARNING, {NUMBER("limit_bytes")}},
    [EVENT_LIMIT_PIDS] = {"limit.pids", WARNING, {NUMBER("limit")}},
    [EVENT_LIMIT_CPU] = {"limit.cpu", INFO, {NUMBER("limit_milli"), NUMBER("throttled_us")}},
    [EVENT_PORT_DENIED] = {"port.denied", WARNING, {TEXT("port"), TEXT("reason")}},
    [EVENT_POLICY_HELD] = {"policy.held", NOTICE, {TEXT("change"), TEXT("kind"), TEXT("by")}},
    [EVENT_POLICY_REFUSED] = {"policy.refused", WARNING, {TEXT("change"), TEXT("kind"), TEXT("by"), TEXT("verifiers")}},
    [EVENT_POLICY_APPROVED] = {"policy.approved", NOTICE, {TEXT("change"), TEXT("kind"), TEXT("by")}},
    [EVENT_POLICY_REJECTED] = {"policy.rejected", NOTICE, {TEXT("change"), TEXT("kind"), TEXT("by")}},
    [EVENT_AUTH_DENIED] = {"auth.denied", WARNING, {TEXT("reason"), TEXT("token")}},
    [EVENT_DROPPED] = {"events.dropped", WARNING, {TEXT("sink"), TEXT("reason")}},
};
/* clang-format on */

unsigned event_fields(enum event_type type)
{
    unsigned n = 0;

    while (event_kinds[type].fields[n].kind)
        n++;
    return n;
}

/* What does not fit is left out; the sizes in the header are such that everything fits. */
struct writer {
    char *dst;
    size_t len, cap;
};

static void put(struct writer *w, const char *text, size_t len)
{
    if (w->len + len >= w->cap)
        return;
    memcpy(w->dst + w->len, text, len);
    w->len += len;
    w->dst[w->len] = 0;
}

static void put_word(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_number(struct writer *w, uint64_t v)
{
    char text[24];

    /* JSON numbers are exact to 2^53 in most readers. */
    (void)io_format(text, sizeof(text), "%llu",
                    (unsigned long long)(v < (1ULL << 53) ? v : (1ULL << 53) - 1));
    put_word(w, text);
}

/*
 * The length of the UTF-8 character at p, 0 if it is none (RFC 3629: no overlong forms, no surrogates), and
 * its code point. The text is NUL-terminated, so looking ahead stops at its end.
 */
static unsigned decode(const unsigned char *p, uint32_t *point)
{
    unsigned n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    *point = n < 2 ? p[0] : p[0] & (0x7fU >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | (p[i] & 0x3f);
    }
    return n == 0 || *point < least[n] || *point > 0x10ffff || (*point >= 0xd800 && *point < 0xe000) ? 0 : n;
}

static void put_escape(struct writer *w, uint32_t unit)
{
    char text[8];

    (void)io_format(text, sizeof(text), "\\u%04x", unit);
    put(w, text, 6);
}

/* Everything but printable ASCII is escaped: a line stays a line, and syslog needs no byte order mark. */
static void put_string(struct writer *w, const char *text)
{
    const unsigned char *p = (const unsigned char *)(text ? text : "");
    const unsigned char *end = p + strnlen((const char *)p, EVENT_VALUE_MAX);

    put(w, "\"", 1);
    while (p < end) {
        uint32_t point;
        unsigned n = decode(p, &point);
        if (p + n > end)
            break; /* the cut would go through a character */
        if (n == 0) {
            put_escape(w, 0xfffd);
            n = 1;
        } else if (point == '"' || point == '\\') {
            put(w, "\\", 1);
            put(w, (const char *)p, 1);
        } else if (point >= 0x20 && point < 0x7f) {
            put(w, (const char *)p, 1);
        } else if (point > 0xffff) {
            put_escape(w, 0xd800 + ((point - 0x10000) >> 10));
            put_escape(w, 0xdc00 + ((point - 0x10000) & 0x3ff));
        } else {
            put_escape(w, point);
        }
        p += n;
    }
    put(w, "\"", 1);
}

size_t event_detail(enum event_type type, const union event_value *values, char dst[EVENT_DETAIL_MAX])
{
    struct writer w = {.dst = dst, .cap = EVENT_DETAIL_MAX};

    put(&w, "{", 1);
    for (unsigned i = 0; event_kinds[type].fields[i].kind; i++) {
        if (i > 0)
            put(&w, ",", 1);
        put_string(&w, event_kinds[type].fields[i].name);
        put(&w, ":", 1);
        if (event_kinds[type].fields[i].kind == EVENT_TEXT)
            put_string(&w, values[i].text);
        else if (event_kinds[type].fields[i].kind == EVENT_NUMBER)
            put_number(&w, values[i].number);
        else
            put_word(&w, values[i].number ? "true" : "false");
    }
    put(&w, "}", 1);
    return w.len;
}

size_t event_line(const struct event_head *h, const char *detail, char dst[EVENT_LINE_MAX])
{
    struct writer w = {.dst = dst, .cap = EVENT_LINE_MAX};

    put_word(&w, "{\"seq\":");
    put_number(&w, h->seq);
    put_word(&w, ",\"time_ms\":");
    put_number(&w, h->time_ms);
    put_word(&w, ",\"type\":");
    put_string(&w, event_kinds[h->type].name);
    put_word(&w, ",\"session\":");
    put_string(&w, h->session);
    put_word(&w, ",\"agent\":");
    put_string(&w, h->agent);
    put_word(&w, ",\"wall\":");
    put_string(&w, h->wall);
    put_word(&w, ",\"count\":");
    put_number(&w, h->count);
    put_word(&w, ",\"detail\":");
    put_word(&w, detail);
    put(&w, "}", 1);
    return w.len;
}
