#include "gateway/tokens.h"

#include <sodium.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "events/notice.h"
#include "gateway/owed.h"
#include "gateway/registry.h"
#include "vault/hub.h"
#include "vault/sql.h"

enum { RANDOM_BYTES = 32, TEXT_MAX = 64, WRONG_TOLD_EVERY = 5 };
static const uint64_t WRONG_TOLD_PAUSE_NS = 60ULL * 1000000000; /* one audit record a minute at most */
static const char prefix[] = "ict_";

static const char *const scope_names[] = {"none", "read", "operator", "admin"};

const char *scope_name(enum scope s)
{
    return (size_t)s < ARRAY_LEN(scope_names) ? scope_names[s] : "none";
}

static enum scope scope_parse(const char *text)
{
    for (enum scope s = SCOPE_READ; s <= SCOPE_ADMIN; s++)
        if (text && strcmp(text, scope_names[s]) == 0)
            return s;
    return SCOPE_NONE;
}

static void hash_token(const char *text, unsigned char out[32])
{
    static const char domain[] = "ironclaw token 1";

    (void)crypto_generichash(out, 32, (const unsigned char *)text, strlen(text),
                             (const unsigned char *)domain, sizeof(domain) - 1);
}

static int64_t lookup_of(const unsigned char hash[32])
{
    int64_t v;

    memcpy(&v, hash, sizeof(v));
    return v;
}

static void new_token(char text[TEXT_MAX])
{
    unsigned char raw[RANDOM_BYTES];

    io_random(raw, sizeof(raw));
    memcpy(text, prefix, sizeof(prefix) - 1);
    (void)sodium_bin2base64(text + sizeof(prefix) - 1, TEXT_MAX - sizeof(prefix) + 1, raw, sizeof(raw),
                            sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(raw, sizeof(raw));
}

int tokens_start(struct hub *h, struct err *e)
{
    int64_t done = 0;
    char text[TEXT_MAX], line[TEXT_MAX + 32];

    if (registry_meta_get(h->registry, "bootstrapped", &done, e) < 0)
        return -1;
    h->tokens.bootstrapped = done != 0;
    if (h->tokens.bootstrapped)
        return 0;
    new_token(text);
    hash_token(text, h->tokens.bootstrap_hash);
    (void)io_format(line, sizeof(line), "bootstrap token: %s", text);
    daemon_notice(h->d, line);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(line, sizeof(line));
    return 0;
}

static void note_denied(struct hub *h, const char *reason, const char *token)
{
    EVENT_NOTE(h->d, EVENT_AUTH_DENIED, "", "", "", 1, {.text = reason}, {.text = token});
}

/* An attacker who guesses must not be able to make us sync the disk for every guess. */
static void count_wrong(struct hub *h)
{
    uint64_t now = io_monotonic_ns();
    struct err e = ERR_INIT;

    h->counters.rejected_tokens++;
    if (++h->tokens.wrong < WRONG_TOLD_EVERY ||
        (h->tokens.wrong_told_at && now - h->tokens.wrong_told_at < WRONG_TOLD_PAUSE_NS))
        return;
    if (audit_append(h->audit, AUDIT_BATCHED, "token.rejected",
                     json_pack("{s:I}", "attempts", (json_int_t)h->tokens.wrong), &e) < 0)
        log_error("%s", e.text);
    h->tokens.wrong = 0;
    h->tokens.wrong_told_at = now;
}

int tokens_check(struct hub *h, const char *text, struct token_info *who, struct problem *p)
{
    unsigned char hash[32];
    struct err e = ERR_INIT;
    CLEANUP_STMT sqlite3_stmt *st = NULL;
    int64_t now = (int64_t)io_wall_ms();
    int rc;

    hash_token(text, hash);
    st = sql_prepare(h->registry, &e,
                     "SELECT id, name, scope, hash, expires, revoked FROM tokens WHERE lookup = ?", "i",
                     lookup_of(hash));
    if (!st)
        return problem_from_err(p, &e);
    while ((rc = sql_step(st, &e)) > 0) {
        if (sqlite3_column_bytes(st, 3) != sizeof(hash) ||
            sodium_memcmp(sqlite3_column_blob(st, 3), hash, sizeof(hash)) != 0)
            continue;
        if (sqlite3_column_type(st, 5) != SQLITE_NULL) {
            note_denied(h, "revoked", sql_text(st, 0));
            return problem_set(p, 401, "token_revoked",
                               "this token was revoked; ask an administrator for another");
        }
        if (sqlite3_column_type(st, 4) != SQLITE_NULL && sqlite3_column_int64(st, 4) <= now) {
            note_denied(h, "expired", sql_text(st, 0));
            return problem_set(p, 401, "token_expired",
                               "this token has expired; ask an administrator for another");
        }
        (void)io_format(who->id, sizeof(who->id), "%s", sql_text(st, 0));
        (void)io_format(who->name, sizeof(who->name), "%s", sql_text(st, 1));
        who->scope = (enum scope)sqlite3_column_int(st, 2);
        return 0;
    }
    if (rc < 0)
        return problem_from_err(p, &e);
    count_wrong(h);
    note_denied(h, text[0] ? "unknown" : "missing", "");
    return problem_set(p, 401, "unauthorized",
                       text[0] ? "this token is not known"
                               : "a token is needed: send it as 'Authorization: Bearer TOKEN'");
}

/* Makes the row and the audit record; the token itself leaves only in the returned object. */
static json_t *issue(struct hub *h, const char *by, const char *name, enum scope scope, uint64_t expires_s,
                     bool bootstrap, struct problem *p)
{
    char id[24], text[TEXT_MAX];
    unsigned char hash[32];
    struct err e = ERR_INIT;
    int64_t now = (int64_t)io_wall_ms();
    json_t *reply;
    int rc;

    registry_new_id("t-", id);
    new_token(text);
    hash_token(text, hash);
    if (registry_begin(h->registry, &e) < 0)
        goto failed;
    rc = sql_run(h->registry, &e,
                 "INSERT INTO tokens VALUES(?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?7 > 0 THEN ?6 + ?7 * 1000 "
                 "END, NULL)",
                 "ssiibii", id, name, (int64_t)scope, lookup_of(hash), (const void *)hash, sizeof(hash), now,
                 (int64_t)expires_s) < 0
             ? -1
             : 0;
    if (rc == 0 && bootstrap)
        rc = registry_meta_set(h->registry, "bootstrapped", 1, &e);
    if (rc == 0) /* inside the transaction: no token without its record */
        rc = audit_append(
            h->audit, AUDIT_DURABLE, "token.created",
            json_pack("{s:s,s:s,s:s,s:s}", "token", id, "name", name, "scope", scope_name(scope), "by", by),
            &e);
    if (registry_end(h->registry, rc, &e) < 0)
        goto failed;
    reply = json_pack("{s:s,s:s,s:s,s:s,s:I}", "id", id, "token", text, "name", name, "scope",
                      scope_name(scope), "created", (json_int_t)now);
    (void)json_object_set_new(reply, "expires",
                              expires_s ? json_integer(now + (json_int_t)expires_s * 1000) : json_null());
    (void)json_object_set_new(reply, "revoked", json_null());
    sodium_memzero(text, sizeof(text));
    return reply;
failed:
    sodium_memzero(text, sizeof(text));
    (void)problem_from_err(p, &e);
    return NULL;
}

json_t *tokens_bootstrap(struct hub *h, const char *bootstrap, const char *name, struct problem *p)
{
    unsigned char hash[32];
    json_t *reply;

    if (h->tokens.bootstrapped) {
        (void)problem_set(p, 409, "already_bootstrapped",
                          "the bootstrap token was already exchanged; use an admin token");
        return NULL;
    }
    hash_token(bootstrap, hash);
    if (sodium_memcmp(hash, h->tokens.bootstrap_hash, sizeof(hash)) != 0) {
        count_wrong(h);
        note_denied(h, "bootstrap", "");
        (void)problem_set(p, 401, "unauthorized",
                          "this is not the bootstrap token that 'ironclaw up' printed");
        return NULL;
    }
    if (!io_valid_name(name)) {
        (void)problem_set(p, 400, "invalid_name",
                          "\"name\" must be 1 to 63 of a-z 0-9 - _ . and start with a letter or digit");
        return NULL;
    }
    reply = issue(h, "bootstrap", name, SCOPE_ADMIN, 0, true, p);
    if (reply) {
        h->tokens.bootstrapped = true;
        sodium_memzero(h->tokens.bootstrap_hash, sizeof(h->tokens.bootstrap_hash));
    }
    return reply;
}

json_t *tokens_create(struct hub *h, const struct token_info *by, const char *name, const char *scope,
                      uint64_t expires_s, struct problem *p)
{
    enum scope s = scope_parse(scope);

    if (!io_valid_name(name)) {
        (void)problem_set(p, 400, "invalid_name",
                          "\"name\" must be 1 to 63 of a-z 0-9 - _ . and start with a letter or digit");
        return NULL;
    }
    if (s == SCOPE_NONE) {
        (void)problem_set(p, 400, "invalid_scope", "\"scope\" must be admin, operator or read");
        return NULL;
    }
    return issue(h, by->id, name, s, expires_s, false, p);
}

int tokens_revoke(struct hub *h, const struct token_info *by, const char *id, struct problem *p)
{
    struct err e = ERR_INIT;
    int64_t now = (int64_t)io_wall_ms(), others = 0;
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, &e, "SELECT scope, revoked FROM tokens WHERE id = ?", "s", id);
    int rc = st ? sql_step(st, &e) : -1;

    if (rc < 0)
        return problem_from_err(p, &e);
    if (rc == 0)
        return problem_set(p, 404, "not_found", "there is no token %s", id);
    if (sqlite3_column_type(st, 1) != SQLITE_NULL)
        return 0;
    if (sqlite3_column_int(st, 0) == SCOPE_ADMIN) {
        if (sql_int(h->registry, &e, 0, &others,
                    "SELECT count(*) FROM tokens WHERE scope = ? AND revoked IS NULL AND id <> ? AND "
                    "(expires IS NULL OR expires > ?)",
                    "isi", (int64_t)SCOPE_ADMIN, id, now) < 0)
            return problem_from_err(p, &e);
        if (others == 0)
            return problem_set(p, 409, "last_admin",
                               "this is the last admin token; create another one before revoking it");
    }
    (void)sqlite3_reset(st);
    if (registry_begin(h->registry, &e) < 0)
        return problem_from_err(p, &e);
    rc = sql_run(h->registry, &e, "UPDATE tokens SET revoked = ? WHERE id = ?", "is", now, id) < 0 ? -1 : 0;
    if (rc == 0) /* owed: a full disk must not keep a token alive */
        rc = owed_put(h, "token.revoked", json_pack("{s:s,s:s}", "token", id, "by", by->id), &e);
    if (registry_end(h->registry, rc, &e) < 0)
        return problem_from_err(p, &e);
    owed_retry(h);
    return 0;
}

json_t *tokens_list(struct hub *h, struct problem *p)
{
    struct err e = ERR_INIT;
    json_t *list = json_array();
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, &e,
                    "SELECT id, name, scope, created, expires, revoked FROM tokens ORDER BY created", "");
    int rc = -1;

    while (st && (rc = sql_step(st, &e)) > 0) {
        json_t *t = json_pack("{s:s,s:s,s:s,s:I}", "id", sql_text(st, 0), "name", sql_text(st, 1), "scope",
                              scope_name((enum scope)sqlite3_column_int(st, 2)), "created",
                              (json_int_t)sqlite3_column_int64(st, 3));
        for (int c = 4; c <= 5; c++)
            (void)json_object_set_new(t, c == 4 ? "expires" : "revoked",
                                      sqlite3_column_type(st, c) == SQLITE_NULL
                                          ? json_null()
                                          : json_integer(sqlite3_column_int64(st, c)));
        (void)json_array_append_new(list, t);
    }
    if (rc < 0) {
        json_decref(list);
        (void)problem_from_err(p, &e);
        return NULL;
    }
    return list;
}
