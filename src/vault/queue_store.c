#include "vault/queue_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ipc/messages.h"
#include "vault/sql.h"

enum { CACHE_KIB = 64, PATH_ROOM = 4096, MAC_BYTES = 32, SQLITE_HEADER = 100 };

/* One session with open databases. */
struct open_queue {
    char session[SESSION_ID_MAX + 1]; /* "" while free */
    uint32_t uid_index;
    unsigned slot; /* of its key */
    sqlite3 *db[DIRECTION_COUNT];
    struct anchor head[DIRECTION_COUNT];
    uint64_t consumed;
    uint64_t last_use; /* io_monotonic_ns() */
};

struct queue_store {
    char *root;
    struct keys *keys;
    struct anchors *anchors;
    struct open_queue open[KEY_SLOTS];
    /* Heads that were verified by this process: reopening then need not walk the chain again. */
    struct verified {
        bool valid;
        struct anchor head[DIRECTION_COUNT];
        uint64_t consumed;
    } * verified;
    uint32_t nverified; /* indexed by uid_index */
};

static const char *const file_names[DIRECTION_COUNT] = {"inbound.db", "outbound.db"};

/* Rows are written once. The insert trigger keeps a stray writer from leaving a gap. */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE identity(session TEXT NOT NULL, direction INTEGER NOT NULL, mac BLOB NOT NULL);"
    "CREATE TABLE records(seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, sealed BLOB NOT NULL, hash BLOB "
    "NOT NULL,"
    " idem BLOB UNIQUE);"
    "CREATE TRIGGER records_no_update BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT,'records never "
    "change'); END;"
    "CREATE TRIGGER records_no_delete BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT,'records are never "
    "deleted'); END;"
    "CREATE TRIGGER records_in_order BEFORE INSERT ON records WHEN NEW.seq <> (SELECT ifnull(max(seq),0)+1 "
    "FROM records)"
    " BEGIN SELECT RAISE(ABORT,'records are numbered without gaps'); END;"
    "CREATE TRIGGER identity_no_update BEFORE UPDATE ON identity BEGIN SELECT RAISE(ABORT,'identity never "
    "changes'); END;"
    "CREATE TRIGGER identity_no_delete BEFORE DELETE ON identity BEGIN SELECT RAISE(ABORT,'identity never "
    "changes'); END;";

static int damaged(struct err *e, struct queue_ref r, enum damage d, const char *file, enum damage *out)
{
    static const char *const advice[DAMAGE_COUNT] = {
        [DAMAGE_WRONG_KEY] = "its key does not open it",
        [DAMAGE_MISSING] = "the file is not there",
        [DAMAGE_TRUNCATED] = "the file is shorter than its contents",
        [DAMAGE_FILE] = "the database is malformed",
        [DAMAGE_WRONG_FILE] = "the file belongs to another session or direction",
        [DAMAGE_RECORD_ALTERED] = "a record was altered",
        [DAMAGE_CHAIN_BROKEN] = "records are missing or out of order",
        [DAMAGE_ROLLED_BACK] = "the file is older than what was acknowledged",
        [DAMAGE_ANCHOR] = "its anchor is missing or forged",
    };

    *out = d;
    return err_set(e, EBADMSG,
                   "session %s is refused: %s in %s: %s; restore it from a backup or remove the session",
                   r.session, damage_name(d), file, advice[d] ? advice[d] : "damaged");
}

/* "<root>/sessions/<id>[/<file>]" */
static bool path_of(const struct queue_store *s, const char *session, const char *file, char out[PATH_ROOM])
{
    return io_format(out, PATH_ROOM, "%s/sessions/%s%s%s", s->root, session, file ? "/" : "",
                     file ? file : "");
}

static void purpose_of(const char *session, char out[128])
{
    (void)io_format(out, 128, "session-key:%s", session);
}

/* Proves that a database was made for this session, direction and key. */
static void identity_mac(const unsigned char *key, const char *session, enum direction d,
                         unsigned char out[MAC_BYTES])
{
    char text[128];

    (void)io_format(text, sizeof(text), "ironclaw queue 1 %s %d", session, (int)d);
    (void)crypto_generichash(out, MAC_BYTES, (const unsigned char *)text, strlen(text), key, KEY_BYTES);
}

static void idem_digest(const unsigned char *key, const char *text, unsigned char out[RECORD_IDEM])
{
    (void)crypto_generichash(out, RECORD_IDEM, (const unsigned char *)text, strlen(text), key, KEY_BYTES);
}

struct queue_store *queue_store_new(const char *root, struct keys *k, struct anchors *a)
{
    struct queue_store *s = x_calloc(1, sizeof(*s));

    s->root = x_strdup(root);
    s->keys = k;
    s->anchors = a;
    for (unsigned i = 0; i < KEY_SLOTS; i++)
        s->open[i].slot = i;
    return s;
}

static struct verified *verified_of(struct queue_store *s, uint32_t index)
{
    if (index >= s->nverified) {
        uint32_t want = index + 64;
        s->verified = x_realloc(s->verified, want * sizeof(*s->verified));
        memset(s->verified + s->nverified, 0, (want - s->nverified) * sizeof(*s->verified));
        s->nverified = want;
    }
    return &s->verified[index];
}

/* trust: remember the heads as verified; false after any error, so that the next opening walks the chain
 * again. */
static void close_queue(struct queue_store *s, struct open_queue *q, bool trust)
{
    struct verified *v;

    if (!q->session[0])
        return;
    v = verified_of(s, q->uid_index);
    v->valid = trust;
    memcpy(v->head, q->head, sizeof(v->head));
    v->consumed = q->consumed;
    for (int d = 0; d < DIRECTION_COUNT; d++) {
        (void)sqlite3_close_v2(q->db[d]);
        q->db[d] = NULL;
    }
    sodium_memzero(keys_slot(s->keys, q->slot), KEY_BYTES);
    q->session[0] = 0;
}

void queue_store_free(struct queue_store *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < KEY_SLOTS; i++)
        close_queue(s, &s->open[i], true);
    free(s->verified);
    free(s->root);
    free(s);
}

unsigned queue_store_close_idle(struct queue_store *s, uint64_t idle_ms)
{
    uint64_t now = io_monotonic_ns();
    unsigned left = 0;

    for (unsigned i = 0; i < KEY_SLOTS; i++) {
        struct open_queue *q = &s->open[i];
        if (q->session[0] && now - q->last_use >= idle_ms * 1000000)
            close_queue(s, q, true);
        left += q->session[0] != 0;
    }
    if (left == 0)
        (void)sqlite3_release_memory(1 << 20);
    return left;
}

static int load_key(struct queue_store *s, struct queue_ref r, unsigned char *key, enum damage *damage,
                    struct err *e)
{
    char path[PATH_ROOM], purpose[128];
    CLEANUP_FREE char *sealed = NULL;
    struct err why = ERR_INIT;
    size_t len = 0;

    if (!path_of(s, r.session, "session.key", path))
        return err_set(e, ENAMETOOLONG, "the path of session %s is too long", r.session);
    if (io_read_file(AT_FDCWD, path, KEY_BYTES + SEAL_OVERHEAD, &sealed, &len, &why) < 0) {
        if (why.code == ENOENT)
            return damaged(e, r, DAMAGE_MISSING, "session.key", damage);
        return err_set(e, why.code, "%s", why.text);
    }
    purpose_of(r.session, purpose);
    if (len != KEY_BYTES + SEAL_OVERHEAD)
        return damaged(e, r, DAMAGE_TRUNCATED, "session.key", damage);
    if (keys_unseal(s->keys, purpose, (const unsigned char *)sealed, len, key) < 0)
        return damaged(e, r, DAMAGE_WRONG_KEY, "session.key", damage);
    return 0;
}

/* True when the file's own header claims more pages than the file (with its write-ahead log folded in) has.
 */
static bool is_truncated(const char *path)
{
    unsigned char head[SQLITE_HEADER];
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    uint64_t page, pages;

    if (fd < 0 || fstat(fd, &st) < 0)
        return false;
    if (io_read_full(fd, head, sizeof(head)) != (ssize_t)sizeof(head))
        return true;
    page = (uint64_t)head[16] << 8 | head[17]; /* https://sqlite.org/fileformat.html, section 1.3 */
    pages = (uint64_t)head[28] << 24 | (uint64_t)head[29] << 16 | (uint64_t)head[30] << 8 | head[31];
    return (uint64_t)st.st_size < (page == 1 ? 65536 : page) * pages;
}

/* A write-ahead log with contents: the main file alone then says little, a checkpoint may have been cut
 * short. */
static bool has_wal(const char *path)
{
    char wal[PATH_ROOM];
    struct stat st;

    return io_format(wal, sizeof(wal), "%s-wal", path) && stat(wal, &st) == 0 && st.st_size > 0;
}

/* Turns a failed SQLite call into damage by name, or into a plain error (no space, I/O) that damages nothing.
 */
static int sqlite_failed(struct queue_ref r, enum direction d, const char *path, struct err *why,
                         enum damage *damage, struct err *e)
{
    if (why->code == EBADMSG)
        return damaged(e, r, is_truncated(path) ? DAMAGE_TRUNCATED : DAMAGE_FILE, file_names[d], damage);
    return err_set(e, why->code, "session %s: %s", r.session, why->text);
}

static int check_identity(sqlite3 *db, const unsigned char *key, struct queue_ref r, enum direction d,
                          enum damage *found, struct err *e)
{
    CLEANUP_STMT sqlite3_stmt *st = sql_prepare(db, e, "SELECT session, direction, mac FROM identity", "");
    unsigned char mac[MAC_BYTES];
    int rc;

    if (!st || (rc = sql_step(st, e)) < 0)
        return -1;
    identity_mac(key, r.session, d, mac);
    if (rc == 0)
        *found = DAMAGE_FILE;
    else if (strcmp(sql_text(st, 0), r.session) != 0 || sqlite3_column_int(st, 1) != (int)d)
        *found = DAMAGE_WRONG_FILE;
    else if (sqlite3_column_bytes(st, 2) != MAC_BYTES ||
             sodium_memcmp(sqlite3_column_blob(st, 2), mac, MAC_BYTES) != 0)
        *found = DAMAGE_WRONG_KEY;
    return 0;
}

/* A walk along the chain: every row is opened against the hash of the row before it. */
struct walk {
    struct queue_ref r;
    enum direction direction;
    const unsigned char *key;
    struct anchor at; /* the row before the next one */
    uint64_t consumed;
    const struct anchor *must_pass; /* an anchor that the chain has to contain, or NULL */
    bool passed;
    queue_visit visit;
    void *arg;
};

/* Opens the row that `st` stands on (seq, kind, sealed, hash, idem) and hands it to the visitor. 1 go on, 0
 * stop, -1 damage. */
static int walk_row(struct walk *w, sqlite3_stmt *st, enum damage *found)
{
    struct record_head head = {.session = w->r.session, .direction = w->direction};
    struct record_body body;
    unsigned char *plain, hash[RECORD_HASH];
    const unsigned char *idem = sqlite3_column_blob(st, 4);
    struct queue_item item;
    bool more = true;

    head.seq = (uint64_t)sqlite3_column_int64(st, 0);
    head.kind = (uint32_t)sqlite3_column_int64(st, 1);
    memcpy(head.prev, w->at.hash, RECORD_HASH);
    if (head.seq != w->at.seq + 1) {
        *found = DAMAGE_CHAIN_BROKEN;
        return -1;
    }
    *found = record_open(w->key, &head, sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2),
                         &body, &plain, hash);
    if (*found != DAMAGE_NONE)
        return -1;
    if (sqlite3_column_bytes(st, 3) != RECORD_HASH ||
        memcmp(sqlite3_column_blob(st, 3), hash, RECORD_HASH) != 0 || body.has_idem != (idem != NULL) ||
        (idem && (sqlite3_column_bytes(st, 4) != RECORD_IDEM || memcmp(idem, body.idem, RECORD_IDEM) != 0)))
        *found = DAMAGE_RECORD_ALTERED;
    w->at.seq = head.seq;
    memcpy(w->at.hash, hash, RECORD_HASH);
    if (w->direction == DIRECTION_OUT)
        w->consumed = body.consumed;
    if (w->must_pass && w->must_pass->seq == head.seq)
        w->passed = memcmp(w->must_pass->hash, hash, RECORD_HASH) == 0;
    item = (struct queue_item){w->direction, head.seq,  body.time,    body.reply_to,
                               head.kind,    body.text, body.text_len};
    if (*found == DAMAGE_NONE && w->visit)
        more = w->visit(w->arg, &item);
    record_plain_free(plain, &body);
    return *found != DAMAGE_NONE ? -1 : more;
}

/* Walks all rows after w->at. 0, or -1 with *found or e. */
static int walk_chain(sqlite3 *db, struct walk *w, enum damage *found, struct err *e)
{
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(db, e, "SELECT seq, kind, sealed, hash, idem FROM records WHERE seq > ? ORDER BY seq",
                    "i", (int64_t)w->at.seq);
    int rc;

    if (!st)
        return -1;
    while ((rc = sql_step(st, e)) > 0) {
        int step = walk_row(w, st, found);
        if (step <= 0)
            return step;
    }
    return rc;
}

/* Verifies one direction of a freshly opened session and learns its head. */
static int verify_direction(struct queue_store *s, struct open_queue *q, struct queue_ref r, enum direction d,
                            const char *path, enum damage *damage, struct err *e)
{
    const unsigned char *key = keys_slot(s->keys, q->slot);
    const struct verified *known = verified_of(s, r.uid_index);
    enum damage found = DAMAGE_NONE;
    struct err why = ERR_INIT;
    struct anchor anchor;
    struct walk w = {.r = r, .direction = d, .key = key, .must_pass = &anchor};

    found = anchors_read(s->anchors, r.uid_index, d, r.session, &anchor);
    if (found != DAMAGE_NONE)
        return damaged(e, r, found, "vault/anchors", damage);
    w.passed = anchor.seq == 0;
    if (check_identity(q->db[d], key, r, d, &found, &why) < 0)
        return sqlite_failed(r, d, path, &why, damage, e);
    if (found != DAMAGE_NONE)
        return damaged(e, r, found, file_names[d], damage);
    if (known->valid && known->head[d].seq == anchor.seq) {
        /* Walked before by this process: only the last row has to be the one that was seen. */
        int64_t last = -1;
        if (sql_int(q->db[d], &why, 0, &last, "SELECT max(seq) FROM records", "") < 0)
            return sqlite_failed(r, d, path, &why, damage, e);
        if (last == (int64_t)anchor.seq && memcmp(known->head[d].hash, anchor.hash, RECORD_HASH) == 0) {
            q->head[d] = anchor;
            if (d == DIRECTION_OUT)
                q->consumed = known->consumed;
            return 0;
        }
    }
    if (walk_chain(q->db[d], &w, &found, &why) < 0 && found == DAMAGE_NONE)
        return sqlite_failed(r, d, path, &why, damage, e);
    if (found != DAMAGE_NONE)
        return damaged(e, r, found, file_names[d], damage);
    if (!w.passed) /* shorter than the anchor, or another history of the same length */
        return damaged(e, r, DAMAGE_ROLLED_BACK, file_names[d], damage);
    q->head[d] = w.at;
    if (d == DIRECTION_OUT)
        q->consumed = w.consumed;
    /* Ahead of the anchor: the process died between commit and anchor. The records verify, so they stay. */
    if (w.at.seq > anchor.seq)
        return anchors_write(s->anchors, r.uid_index, d, r.session, &w.at, e);
    return 0;
}

static int open_direction(struct queue_store *s, struct open_queue *q, struct queue_ref r, enum direction d,
                          enum damage *damage, struct err *e)
{
    char path[PATH_ROOM];
    struct err why = ERR_INIT;

    if (!path_of(s, r.session, file_names[d], path))
        return err_set(e, ENAMETOOLONG, "the path of session %s is too long", r.session);
    if (access(path, F_OK) < 0)
        return damaged(e, r, DAMAGE_MISSING, file_names[d], damage);
    if (!has_wal(path) && is_truncated(path))
        return damaged(e, r, DAMAGE_TRUNCATED, file_names[d], damage);
    q->db[d] = sql_open(path, CACHE_KIB, false, NULL, &why);
    if (!q->db[d])
        return sqlite_failed(r, d, path, &why, damage, e);
    return verify_direction(s, q, r, d, path, damage, e);
}

/* The session with its databases open, or NULL with e. */
static struct open_queue *get_queue(struct queue_store *s, struct queue_ref r, enum damage *damage,
                                    struct err *e)
{
    struct open_queue *q = &s->open[0];

    *damage = DAMAGE_NONE;
    for (unsigned i = 0; i < KEY_SLOTS; i++) {
        if (strcmp(s->open[i].session, r.session) == 0) {
            s->open[i].last_use = io_monotonic_ns();
            return &s->open[i];
        }
        if (q->session[0] && (!s->open[i].session[0] || s->open[i].last_use < q->last_use))
            q = &s->open[i];
    }
    close_queue(s, q, true);
    if (!io_format(q->session, sizeof(q->session), "%s", r.session)) {
        (void)err_set(e, EINVAL, "the session id is too long");
        return NULL;
    }
    q->uid_index = r.uid_index;
    q->consumed = 0;
    q->last_use = io_monotonic_ns();
    if (load_key(s, r, keys_slot(s->keys, q->slot), damage, e) < 0 ||
        open_direction(s, q, r, DIRECTION_IN, damage, e) < 0 ||
        open_direction(s, q, r, DIRECTION_OUT, damage, e) < 0) {
        close_queue(s, q, false);
        return NULL;
    }
    return q;
}

int queue_heads(struct queue_store *s, struct queue_ref r, struct queue_heads *out, enum damage *damage,
                struct err *e)
{
    struct open_queue *q = get_queue(s, r, damage, e);

    if (!q)
        return -1;
    *out = (struct queue_heads){q->head[DIRECTION_IN].seq, q->head[DIRECTION_OUT].seq, q->consumed};
    return 0;
}

int queue_read(struct queue_store *s, struct queue_ref r, enum direction d, uint64_t after, queue_visit visit,
               void *arg, enum damage *damage, struct err *e)
{
    struct open_queue *q = get_queue(s, r, damage, e);
    struct walk w = {.r = r, .direction = d, .visit = visit, .arg = arg};
    enum damage found = DAMAGE_NONE;
    struct err why = ERR_INIT;
    char path[PATH_ROOM];

    if (!q)
        return -1;
    if (after >= q->head[d].seq)
        return 0;
    w.key = keys_slot(s->keys, q->slot);
    w.at.seq = after;
    if (after > 0) {
        CLEANUP_STMT sqlite3_stmt *st =
            sql_prepare(q->db[d], &why, "SELECT hash FROM records WHERE seq = ?", "i", (int64_t)after);
        if (st && sql_step(st, &why) > 0 && sqlite3_column_bytes(st, 0) == RECORD_HASH)
            memcpy(w.at.hash, sqlite3_column_blob(st, 0), RECORD_HASH);
        else if (why.code == 0)
            found = DAMAGE_CHAIN_BROKEN;
    }
    if (found == DAMAGE_NONE && why.code == 0)
        (void)walk_chain(q->db[d], &w, &found, &why);
    if (found == DAMAGE_NONE && why.code == 0)
        return 0;
    (void)path_of(s, r.session, file_names[d], path);
    close_queue(s, q, false);
    if (found != DAMAGE_NONE)
        return damaged(e, r, found, file_names[d], damage);
    return sqlite_failed(r, d, path, &why, damage, e);
}

/* Looks an idempotency key up. 1 found, 0 not, -1 with e. */
static int find_repeat(sqlite3 *db, const unsigned char *idem, uint64_t *seq, struct err *e)
{
    int64_t found = 0;

    if (sql_int(db, e, 0, &found, "SELECT seq FROM records WHERE idem = ?", "b", (const void *)idem,
                (size_t)RECORD_IDEM) < 0)
        return -1;
    *seq = (uint64_t)found;
    return found > 0;
}

static bool take_time(void *arg, const struct queue_item *item)
{
    *(uint64_t *)arg = item->time;
    return false;
}

int queue_append(struct queue_store *s, struct queue_ref r, const struct queue_append *what, uint64_t *seq,
                 uint64_t *time, bool *repeated, enum damage *damage, struct err *e)
{
    struct open_queue *q = get_queue(s, r, damage, e);
    enum direction d = what->direction;
    struct record_head head = {.session = r.session, .direction = d, .kind = what->kind};
    struct record_body body = {.time = io_wall_ms(), .text = what->text, .text_len = what->len};
    CLEANUP_FREE unsigned char *sealed = NULL;
    struct anchor next;
    struct err why = ERR_INIT;
    size_t len;
    int rc;

    if (repeated)
        *repeated = false;
    if (!q)
        return -1;
    if (what->idempotency) {
        body.has_idem = true;
        idem_digest(keys_slot(s->keys, q->slot), what->idempotency, body.idem);
        rc = find_repeat(q->db[d], body.idem, seq, &why);
        if (rc > 0) {
            if (repeated)
                *repeated = true;
            return queue_read(s, r, d, *seq - 1, take_time, time, damage, e);
        }
        if (rc < 0)
            goto failed;
    }
    if (what->consumed > q->head[DIRECTION_IN].seq)
        return err_set(e, EINVAL, "\"consumed\" is %llu, but the newest message has number %llu",
                       (unsigned long long)what->consumed, (unsigned long long)q->head[DIRECTION_IN].seq);
    body.consumed = what->consumed > q->consumed ? what->consumed : q->consumed;
    body.reply_to = what->consumed;
    head.seq = q->head[d].seq + 1;
    memcpy(head.prev, q->head[d].hash, RECORD_HASH);
    sealed = record_seal(keys_slot(s->keys, q->slot), &head, &body, &len, next.hash);
    next.seq = head.seq;
    /* One statement is one transaction: with WAL and synchronous=FULL it is on disk when sql_run() returns.
     */
    rc = sql_run(q->db[d], &why, "INSERT INTO records(seq, kind, sealed, hash, idem) VALUES(?, ?, ?, ?, ?)",
                 "iibbb", (int64_t)head.seq, (int64_t)what->kind, (const void *)sealed, len,
                 (const void *)next.hash, (size_t)RECORD_HASH, body.has_idem ? (const void *)body.idem : NULL,
                 (size_t)RECORD_IDEM);
    if (rc < 0 || anchors_write_soon(s->anchors, r.uid_index, d, r.session, &next, &why) < 0)
        goto failed;
    q->head[d] = next;
    if (d == DIRECTION_OUT)
        q->consumed = body.consumed;
    *seq = next.seq;
    *time = body.time;
    return 0;
failed : {
    /* What reached the disk is unknown: forget this handle, the next opening walks the chain and finds out.
     */
    char path[PATH_ROOM];
    (void)path_of(s, r.session, file_names[d], path);
    close_queue(s, q, false);
    return sqlite_failed(r, d, path, &why, damage, e);
}
}

static int create_database(struct queue_store *s, struct queue_ref r, const unsigned char *key,
                           enum direction d, struct err *e)
{
    char path[PATH_ROOM];
    unsigned char mac[MAC_BYTES];
    sqlite3 *db;
    int rc;

    if (!path_of(s, r.session, file_names[d], path))
        return err_set(e, ENAMETOOLONG, "the path of session %s is too long", r.session);
    db = sql_open(path, CACHE_KIB, true, NULL, e);
    if (!db)
        return -1;
    identity_mac(key, r.session, d, mac);
    rc =
        sqlite3_exec(db, schema, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_error(db, e, "creating the tables");
    if (rc == 0 && (sql_run(db, e, "INSERT INTO identity VALUES(?, ?, ?)", "sib", r.session, (int64_t)d,
                            (const void *)mac, sizeof(mac)) < 0 ||
                    sql_run(db, e, "COMMIT", "") < 0))
        rc = -1;
    (void)sqlite3_close_v2(db);
    return rc;
}

/* A new directory is only there after a power loss if its parent was synced. */
static int sync_sessions(const struct queue_store *s, struct err *e)
{
    char path[PATH_ROOM];
    CLEANUP_CLOSE int fd = -1;

    if (!io_format(path, sizeof(path), "%s/sessions", s->root))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "cannot sync %s", path);
    return 0;
}

int queue_create(struct queue_store *s, struct queue_ref r, struct err *e)
{
    static const struct anchor empty;
    unsigned char key[KEY_BYTES], sealed[KEY_BYTES + SEAL_OVERHEAD];
    char path[PATH_ROOM], purpose[128];
    int rc = -1;

    if (!path_of(s, r.session, NULL, path))
        return err_set(e, ENAMETOOLONG, "the path of session %s is too long", r.session);
    if (io_mkdirs(AT_FDCWD, path, 0700, e) < 0)
        return -1;
    if (sync_sessions(s, e) < 0)
        return -1;
    verified_of(s, r.uid_index)->valid = false;
    io_random(key, sizeof(key));
    purpose_of(r.session, purpose);
    keys_seal(s->keys, purpose, key, sizeof(key), sealed);
    if (path_of(s, r.session, "session.key", path) &&
        io_replace_file(AT_FDCWD, path, sealed, sizeof(sealed), 0600, e) == 0 &&
        anchors_write(s->anchors, r.uid_index, DIRECTION_IN, r.session, &empty, e) == 0 &&
        anchors_write(s->anchors, r.uid_index, DIRECTION_OUT, r.session, &empty, e) == 0 &&
        create_database(s, r, key, DIRECTION_IN, e) == 0 && create_database(s, r, key, DIRECTION_OUT, e) == 0)
        rc = 0;
    sodium_memzero(key, sizeof(key));
    return rc;
}

int queue_remove(struct queue_store *s, struct queue_ref r, struct err *e)
{
    char path[PATH_ROOM];

    for (unsigned i = 0; i < KEY_SLOTS; i++)
        if (strcmp(s->open[i].session, r.session) == 0)
            close_queue(s, &s->open[i], false);
    if (r.uid_index < s->nverified)
        s->verified[r.uid_index].valid = false;
    if (!path_of(s, r.session, NULL, path))
        return err_set(e, ENAMETOOLONG, "the path of session %s is too long", r.session);
    if (io_remove_tree(AT_FDCWD, path, e) < 0)
        return -1;
    return anchors_clear(s->anchors, r.uid_index, e);
}
