#include "vault/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "vault/audit_format.h"

enum {
    CHECKPOINT_EVERY = 64,
    BATCH_MS = 200,
    IDLE_CHECKPOINT_MS = 1000,
    LIST_BYTES = 300 * 1024,
    WINDOW = 64 * 1024
};

static const char anchor_name[] = "audit.log"; /* stands where a session's id stands for its queues */

struct audit_io audit_io = {.write_all = io_write_all, .fdatasync = fdatasync};

struct audit {
    int fd;
    const struct keys *keys;
    struct anchors *anchor;
    uint64_t seq; /* of the last line */
    char head[AUDIT_HASH_HEX + 1];
    off_t size;
    unsigned unsigned_records; /* since the last checkpoint */
    bool unsynced;
    struct event *sync_timer, *idle_timer;
};

static int write_line(struct audit *a, const char *body, size_t len, bool sync, struct err *e)
{
    char line[AUDIT_LINE_MAX], hash[AUDIT_HASH_HEX + 1];
    int n, code;

    audit_line_hash(body, len, hash);
    n = snprintf(line, sizeof(line), "%.*s,\"hash\":\"%s\"}\n", (int)len, body, hash);
    if (n < 0 || (size_t)n >= sizeof(line))
        return err_set(e, E2BIG, "an audit record of %zu bytes is too long", len);
    if (audit_io.write_all(a->fd, line, (size_t)n) < 0 || (sync && audit_io.fdatasync(a->fd) < 0)) {
        code = errno;
        /* Nobody was told of this record: take it away again, so that the chain goes on from the last good
         * line. */
        if (ftruncate(a->fd, a->size) < 0)
            log_error("cannot cut a half-written record off audit.log: %s", strerror(errno));
        return err_sys(e, code, "cannot write audit.log");
    }
    a->size += n;
    a->seq++;
    memcpy(a->head, hash, sizeof(hash));
    a->unsynced = !sync;
    return 0;
}

/* The log holds `seq` with this hash from now on, or something is wrong. */
static int write_anchor(struct audit *a, struct err *e)
{
    struct anchor at = {.seq = a->seq};

    if (sodium_hex2bin(at.hash, sizeof(at.hash), a->head, AUDIT_HASH_HEX, NULL, NULL, NULL) < 0)
        return err_set(e, EINVAL, "the head of audit.log is not a hash");
    return anchors_write(a->anchor, 0, DIRECTION_IN, anchor_name, &at, e);
}

static int checkpoint(struct audit *a, struct err *e)
{
    char body[1024], text[AUDIT_SIGNED_MAX], hex[129];
    unsigned char signature[64];
    uint64_t now = io_wall_ms();
    size_t n = audit_signed_text(a->seq + 1, now, a->head, text);

    keys_sign(a->keys, text, n, signature);
    io_hex(hex, signature, sizeof(signature));
    (void)io_format(
        body, sizeof(body),
        "{\"seq\":%llu,\"time\":%llu,\"type\":\"checkpoint\",\"signature\":\"%s\",\"prev\":\"%s\"",
        (unsigned long long)a->seq + 1, (unsigned long long)now, hex, a->head);
    if (write_line(a, body, strlen(body), true, e) < 0)
        return -1;
    /* After the line, never before it: an anchor ahead of the log would accuse a log that lost nothing. */
    if (write_anchor(a, e) < 0)
        log_error("%s", e->text);
    a->unsigned_records = 0;
    (void)event_del(a->sync_timer);
    (void)event_del(a->idle_timer);
    return 0;
}

static void on_sync(evutil_socket_t fd, short what, void *arg)
{
    struct audit *a = arg;

    (void)fd;
    (void)what;
    if (a->unsynced && audit_io.fdatasync(a->fd) < 0)
        log_error("cannot sync audit.log: %s", strerror(errno));
    a->unsynced = false;
}

static void on_idle(evutil_socket_t fd, short what, void *arg)
{
    struct audit *a = arg;
    struct err e = ERR_INIT;

    (void)fd;
    (void)what;
    if (a->unsigned_records > 0 && checkpoint(a, &e) < 0)
        log_error("%s", e.text);
}

int audit_append(struct audit *a, enum audit_sync sync, const char *type, json_t *fields, struct err *e)
{
    static const struct timeval batch = {0, (suseconds_t)BATCH_MS * 1000},
                                idle = {IDLE_CHECKPOINT_MS / 1000, 0};
    json_t *line = json_pack("{s:I,s:I,s:s}", "seq", (json_int_t)a->seq + 1, "time", (json_int_t)io_wall_ms(),
                             "type", type);
    CLEANUP_FREE char *text = NULL;
    size_t len;

    if (fields)
        (void)json_object_update_missing(line, fields);
    json_decref(fields);
    (void)json_object_set_new(line, "prev", json_string(a->head));
    text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    len = text ? strlen(text) : 0;
    if (len < 2)
        return err_set(e, EINVAL, "an audit record of type %s is not valid text", type);
    if (write_line(a, text, len - 1, sync == AUDIT_DURABLE, e) < 0)
        return -1;
    a->unsigned_records++;
    if (a->unsigned_records >= CHECKPOINT_EVERY) {
        struct err why = ERR_INIT;
        if (checkpoint(a, &why) < 0)
            log_error("%s", why.text);
        return 0;
    }
    if (a->unsynced && !event_pending(a->sync_timer, EV_TIMEOUT, NULL))
        (void)event_add(a->sync_timer, &batch);
    if (!event_pending(a->idle_timer, EV_TIMEOUT, NULL))
        (void)event_add(a->idle_timer, &idle);
    return 0;
}

/* Finds the last whole line; cuts what follows it off. *cut gets the number of bytes removed. */
static int recover_end(struct audit *a, off_t *cut, struct err *e)
{
    char buf[2 * AUDIT_LINE_MAX], hash[AUDIT_HASH_HEX + 1], prev[AUDIT_HASH_HEX + 1],
        computed[AUDIT_HASH_HEX + 1];
    struct stat st;
    off_t from;
    ssize_t n;
    size_t end, start, body;

    *cut = 0;
    if (fstat(a->fd, &st) < 0)
        return err_sys(e, errno, "cannot look at audit.log");
    from = st.st_size > (off_t)sizeof(buf) ? st.st_size - (off_t)sizeof(buf) : 0;
    n = pread(a->fd, buf, sizeof(buf), from);
    if (n < 0)
        return err_sys(e, errno, "cannot read audit.log");
    end = (size_t)n;
    while (end > 0 && buf[end - 1] != '\n')
        end--;
    if (end == 0 && from > 0)
        return err_set(
            e, EBADMSG,
            "audit.log does not end in a record; run 'ironclaw audit verify' and move the file aside");
    *cut = n - (ssize_t)end;
    a->size = from + (off_t)end;
    if (*cut > 0 && (ftruncate(a->fd, a->size) < 0 || fdatasync(a->fd) < 0))
        return err_sys(e, errno, "cannot repair the end of audit.log");
    memset(a->head, '0', AUDIT_HASH_HEX);
    if (end == 0)
        return 0;
    start = end - 1;
    while (start > 0 && buf[start - 1] != '\n')
        start--;
    if (!audit_line_split(buf + start, end - 1 - start, &body, hash, prev, &a->seq))
        return err_set(e, EBADMSG,
                       "the last line of audit.log is not an audit record; run 'ironclaw audit verify' and "
                       "move the file aside");
    audit_line_hash(buf + start, body, computed);
    if (strcmp(computed, hash) != 0)
        return err_set(
            e, EBADMSG,
            "the last line of audit.log was altered; run 'ironclaw audit verify' and move the file aside");
    memcpy(a->head, hash, sizeof(hash));
    a->unsigned_records = memmem(buf + start, body, "\"type\":\"checkpoint\"", 19) ? 0 : 1;
    return 0;
}

static off_t find_after(struct audit *a, uint64_t after);

/* The hash of line `seq`; false when it is not there. */
static bool hash_of_line(struct audit *a, uint64_t want, char hash[AUDIT_HASH_HEX + 1])
{
    off_t at = find_after(a, want - 1);
    CLEANUP_FREE char *buf = x_malloc(WINDOW);
    char prev[AUDIT_HASH_HEX + 1];
    uint64_t seq;
    size_t body;

    for (;;) {
        ssize_t n = pread(a->fd, buf, WINDOW, at);
        char *line = buf, *end;
        while (n > 0 && (end = memchr(line, '\n', (size_t)(buf + n - line)))) {
            if (audit_line_split(line, (size_t)(end - line), &body, hash, prev, &seq) && seq == want)
                return true;
            line = end + 1;
        }
        if (line == buf)
            return false;
        at += line - buf;
    }
}

/* Is this the log that the last checkpoint was written to? */
static int check_anchor(struct audit *a, struct err *e)
{
    char hash[AUDIT_HASH_HEX + 1], anchored[AUDIT_HASH_HEX + 1];
    struct anchor at;

    if (anchors_read(a->anchor, 0, DIRECTION_IN, anchor_name, &at) != DAMAGE_NONE) {
        if (a->seq == 0)
            return write_anchor(a, e); /* a new log: anchored before its first record */
        return err_set(e, EBADMSG,
                       "audit.log is refused: %s: " ANCHORS_AUDIT
                       " is missing or forged, so that nothing tells "
                       "whether the log is whole; restore it, or move audit.log aside to begin a new one",
                       damage_name(DAMAGE_ANCHOR));
    }
    if (at.seq == 0)
        return 0;
    io_hex(anchored, at.hash, sizeof(at.hash));
    if (a->seq >= at.seq && hash_of_line(a, at.seq, hash) && strcmp(hash, anchored) == 0)
        return 0;
    return err_set(
        e, EBADMSG,
        "audit.log is refused: %s: it ends with record %llu, and the signed record %llu is not in it; "
        "restore it, or move audit.log and " ANCHORS_AUDIT " aside to begin a new one",
        damage_name(DAMAGE_ROLLED_BACK), (unsigned long long)a->seq, (unsigned long long)at.seq);
}

struct audit *audit_open(const char *root, const struct keys *k, struct anchors *anchor,
                         struct event_base *base, struct err *e)
{
    CLEANUP_FREE char *path = x_asprintf("%s/audit.log", root);
    struct audit *a = x_calloc(1, sizeof(*a));
    off_t cut = 0;

    a->keys = k;
    a->anchor = anchor;
    a->sync_timer = event_new(base, -1, 0, on_sync, a);
    a->idle_timer = event_new(base, -1, 0, on_idle, a);
    a->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (!a->sync_timer || !a->idle_timer)
        abort();
    if (a->fd < 0)
        (void)err_sys(e, errno, "cannot open %s", path);
    if (a->fd < 0 || recover_end(a, &cut, e) < 0 || check_anchor(a, e) < 0)
        goto failed;
    if (cut > 0 && audit_append(a, AUDIT_DURABLE, "audit.repaired",
                                json_pack("{s:I}", "bytes_cut", (json_int_t)cut), e) < 0)
        goto failed;
    if (a->unsigned_records > 0 && !event_pending(a->idle_timer, EV_TIMEOUT, NULL)) {
        static const struct timeval idle = {IDLE_CHECKPOINT_MS / 1000, 0};
        (void)event_add(a->idle_timer, &idle); /* the last stop was not an orderly one: sign what it left */
    }
    return a;
failed:
    a->unsigned_records = 0;
    audit_close(a);
    return NULL;
}

void audit_close(struct audit *a)
{
    struct err e = ERR_INIT;

    if (!a)
        return;
    if (a->fd >= 0 && a->unsigned_records > 0 && checkpoint(a, &e) < 0)
        log_error("%s", e.text);
    event_free(a->sync_timer);
    event_free(a->idle_timer);
    if (a->fd >= 0)
        (void)close(a->fd);
    free(a);
}

/* The start of the first line at or after `at`, and its number; false at the end of the file. */
static bool line_at(struct audit *a, off_t at, off_t *start, uint64_t *seq)
{
    char buf[AUDIT_LINE_MAX + 64];
    ssize_t n = pread(a->fd, buf, sizeof(buf), at > 0 ? at - 1 : 0);
    const char *from = buf, *end = buf + n;
    char digits[24];
    size_t k = 0;

    if (n <= 0)
        return false;
    if (at > 0) {
        from = memchr(buf, '\n', (size_t)n);
        if (!from)
            return false;
        from++;
    }
    if (end - from < 8)
        return false;
    *start = (at > 0 ? at - 1 : 0) + (from - buf);
    for (const char *p = from + 7; p < end && *p >= '0' && *p <= '9' && k < sizeof(digits) - 1; p++)
        digits[k++] = *p;
    digits[k] = 0;
    return io_parse_u64(digits, UINT64_MAX, seq);
}

/* Numbers grow along the file: bisect to just before the first line above `after`. */
static off_t find_after(struct audit *a, uint64_t after)
{
    off_t low = 0, high = a->size, start;
    uint64_t seq;

    while (high - low > WINDOW) {
        off_t mid = low + (high - low) / 2;
        if (line_at(a, mid, &start, &seq) && seq <= after)
            low = start;
        else
            high = mid;
    }
    return low;
}

json_t *audit_list(struct audit *a, uint64_t after, uint32_t limit, struct err *e)
{
    json_t *list = json_array();
    off_t at = find_after(a, after);
    CLEANUP_FREE char *buf = x_malloc(WINDOW);
    size_t total = 0;

    while (at < a->size && json_array_size(list) < limit && total < LIST_BYTES) {
        ssize_t n = pread(a->fd, buf, WINDOW, at);
        char *line = buf, *end;
        if (n <= 0)
            break;
        while ((end = memchr(line, '\n', (size_t)(buf + n - line))) && json_array_size(list) < limit &&
               total < LIST_BYTES) {
            json_t *record = json_loadb(line, (size_t)(end - line), 0, NULL);
            if (!record) {
                json_decref(list);
                (void)err_set(e, EBADMSG, "audit.log has an altered line; run 'ironclaw audit verify'");
                return NULL;
            }
            if ((uint64_t)json_integer_value(json_object_get(record, "seq")) > after) {
                total += (size_t)(end - line);
                (void)json_array_append(list, record);
            }
            json_decref(record);
            line = end + 1;
        }
        if (line == buf)
            break;
        at += line - buf;
    }
    return list;
}
