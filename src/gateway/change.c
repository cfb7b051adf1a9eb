#include "gateway/change.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/weaken.h"
#include "events/notice.h"
#include "gateway/agent_document.h"
#include "gateway/diff.h"
#include "gateway/registry.h"
#include "gateway/verify.h"
#include "sessions/session.h"
#include "vault/hub.h"
#include "vault/sql.h"

enum {
    PENDING_MAX = 20,
    HOURLY_MAX = 100,
    REASON_MAX = 2000,
    LIST_BYTES = 280 * 1024,
    DOCUMENT_MAX = 96 * 1024
};

static const int64_t HOUR_MS = INT64_C(3600) * 1000;

/* Which members of an agent each kind may touch; NULL: any but the name. */
struct kind {
    const char *name;
    const char *const *members;
    bool by_agent;
};
#define MEMBERS(...) ((const char *const[]){__VA_ARGS__, NULL})
static const struct kind kinds[] = {
    {"agent.create", NULL, false},
    {"agent.update", NULL, true},
    {"agent.remove", NULL, false},
    {"tools", MEMBERS("tools"), true},
    {"env", MEMBERS("env"), true},
    {"image", MEMBERS("image"), true},
    {"wall", MEMBERS("wall"), true},
    {"limits", MEMBERS("limits"), true},
    {"provider", MEMBERS("provider", "model", "model_limits"), true},
    {"mounts", MEMBERS("mounts"), true},
    {"peers", MEMBERS("peers"), true},
    {"instructions", MEMBERS("instructions"), true},
};

static const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

static json_t *json_of(sqlite3_stmt *st, int column)
{
    json_t *v = sqlite3_column_type(st, column) == SQLITE_NULL
                    ? NULL
                    : json_loads(sql_text(st, column), JSON_DECODE_ANY, NULL);

    return v ? v : json_null();
}

static json_t *text_or_null(sqlite3_stmt *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? json_null() : json_string(sql_text(st, column));
}

static json_t *int_or_null(sqlite3_stmt *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? json_null()
                                                          : json_integer(sqlite3_column_int64(st, column));
}

/* ---- agents ---- */

json_t *agent_get(struct hub *h, const char *name, struct problem *p)
{
    struct err e = ERR_INIT;
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, &e, "SELECT document, revision FROM agents WHERE name = ?", "s", name);
    int rc = st ? sql_step(st, &e) : -1;
    json_t *doc;

    if (rc <= 0) {
        if (p)
            (void)(rc < 0 ? problem_from_err(p, &e)
                          : problem_set(p, 404, "not_found", "there is no agent \"%s\"", name));
        return NULL;
    }
    doc = json_of(st, 0);
    (void)json_object_set_new(doc, "revision", json_integer(sqlite3_column_int64(st, 1)));
    return doc;
}

json_t *agent_list(struct hub *h, bool *truncated, struct problem *p)
{
    struct err e = ERR_INIT;
    json_t *list = json_array();
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, &e, "SELECT document, revision FROM agents ORDER BY name", "");
    size_t bytes = 0;
    int rc = -1;

    *truncated = false;
    while (st && (rc = sql_step(st, &e)) > 0 && !(*truncated = bytes >= LIST_BYTES)) {
        json_t *doc = json_of(st, 0);
        bytes += (size_t)sqlite3_column_bytes(st, 0);
        (void)json_object_set_new(doc, "revision", json_integer(sqlite3_column_int64(st, 1)));
        (void)json_array_append_new(list, doc);
    }
    if (rc < 0) {
        json_decref(list);
        (void)problem_from_err(p, &e);
        return NULL;
    }
    return list;
}

/* RFC 7396: members of `patch` replace those of `target`, null removes, objects merge. */
static void merge_patch(json_t *target, const json_t *patch)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        json_t *have = json_object_get(target, key);
        if (json_is_null(value)) {
            (void)json_object_del(target, key);
        } else if (json_is_object(value)) {
            if (!json_is_object(have)) {
                (void)json_object_set_new(target, key, json_object());
                have = json_object_get(target, key);
            }
            merge_patch(have, value);
        } else {
            (void)json_object_set_new(target, key, json_deep_copy(value));
        }
    }
}

/* What the agent would be. NULL with e: the proposal does not have the shape its kind calls for. */
static json_t *proposed(const struct hub *h, const struct kind *k, const json_t *before, const char *agent,
                        const json_t *document, struct err *e)
{
    json_t *raw, *after;
    const char *key;
    json_t *value;

    if (!json_is_object(document)) {
        (void)err_set(e, EINVAL, "the document of a change must be a JSON object");
        return NULL;
    }
    json_object_foreach((json_t *)(uintptr_t)document, key, value)
    {
        bool allowed = !k->members;
        for (const char *const *m = k->members; m && *m; m++)
            allowed = allowed || strcmp(*m, key) == 0;
        if (strcmp(k->name, "agent.update") == 0 && strcmp(key, "name") == 0 &&
            strcmp(json_string_value(value) ? json_string_value(value) : "", agent) != 0)
            allowed = false;
        if (!allowed) {
            (void)err_set(e, EINVAL, "a change of kind %s may not set \"%.64s\"", k->name, key);
            return NULL;
        }
    }
    raw = before ? json_deep_copy(before) : json_object();
    (void)json_object_del(raw, "revision");
    if (before)
        merge_patch(raw, document);
    else
        (void)json_object_update(raw, (json_t *)(uintptr_t)document);
    after = agent_document_normalise(raw, h->config, e);
    json_decref(raw);
    return after;
}

/* ---- reading ---- */

#define CHANGE_COLUMNS                                                                                       \
    "id, kind, agent, state, submitted_by, submitted_at, reason, verdicts, decided_by, decided_at, "         \
    "comment, error, "                                                                                       \
    "document, before, after, submitter, audited, number"
enum {
    C_ID,
    C_KIND,
    C_AGENT,
    C_STATE,
    C_BY,
    C_AT,
    C_REASON,
    C_VERDICTS,
    C_DECIDED_BY,
    C_DECIDED_AT,
    C_COMMENT,
    C_ERROR,
    C_DOCUMENT,
    C_BEFORE,
    C_AFTER,
    C_SUBMITTER,
    C_AUDITED,
    C_NUMBER
};

static json_t *change_json(sqlite3_stmt *st)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:o,s:o,s:o,s:o,s:o,s:o}", "id", sql_text(st, C_ID),
                     "kind", sql_text(st, C_KIND), "agent", sql_text(st, C_AGENT), "state",
                     sql_text(st, C_STATE), "submitted_by", sql_text(st, C_BY), "submitted_at",
                     (json_int_t)sqlite3_column_int64(st, C_AT), "reason", sql_text(st, C_REASON), "verdicts",
                     json_of(st, C_VERDICTS), "decided_by", text_or_null(st, C_DECIDED_BY), "decided_at",
                     int_or_null(st, C_DECIDED_AT), "comment", text_or_null(st, C_COMMENT), "error",
                     text_or_null(st, C_ERROR), "document", json_of(st, C_DOCUMENT));
}

static char *pretty(sqlite3_stmt *st, int column)
{
    json_t *v = json_of(st, column);
    char *text = json_is_null(v) ? x_strdup("") : json_dumps(v, JSON_INDENT(2) | JSON_REAL_PRECISION(6));

    json_decref(v);
    return text ? text : x_strdup("");
}

/* The row of a change; NULL with p (404 when there is none). */
static sqlite3_stmt *change_row(struct hub *h, const char *id, struct problem *p)
{
    struct err e = ERR_INIT;
    sqlite3_stmt *st =
        sql_prepare(h->registry, &e, "SELECT " CHANGE_COLUMNS " FROM changes WHERE id = ?", "s", id);
    int rc = st ? sql_step(st, &e) : -1;

    if (rc > 0)
        return st;
    (void)sqlite3_finalize(st);
    (void)(rc < 0 ? problem_from_err(p, &e)
                  : problem_set(p, 404, "not_found", "there is no change \"%s\"", id));
    return NULL;
}

json_t *change_get(struct hub *h, const char *id, bool with_diff, struct problem *p)
{
    CLEANUP_STMT sqlite3_stmt *st = change_row(h, id, p);
    json_t *change;

    if (!st)
        return NULL;
    change = change_json(st);
    if (with_diff) {
        CLEANUP_FREE char *before = pretty(st, C_BEFORE);
        CLEANUP_FREE char *after = pretty(st, C_AFTER);
        CLEANUP_FREE char *diff = diff_lines(before, after);
        (void)json_object_set_new(change, "diff", json_string(diff));
    }
    return change;
}

json_t *change_list(struct hub *h, const char *state, uint64_t after, uint32_t limit, uint64_t *next,
                    struct problem *p)
{
    struct err e = ERR_INIT;
    json_t *list = json_array();
    CLEANUP_STMT sqlite3_stmt *st =
        sql_prepare(h->registry, &e,
                    "SELECT " CHANGE_COLUMNS " FROM changes WHERE (?1 IS NULL OR state = ?1) AND "
                    "(?2 = 0 OR number < ?2) ORDER BY number DESC LIMIT ?3",
                    "sii", state, (int64_t)after, (int64_t)limit + 1);
    uint64_t last = 0;
    size_t bytes = 0;
    int rc = -1;

    *next = 0;
    while (st && (rc = sql_step(st, &e)) > 0) {
        if (bytes >= LIST_BYTES || json_array_size(list) >= limit) {
            *next = last;
            break;
        }
        last = (uint64_t)sqlite3_column_int64(st, C_NUMBER);
        bytes += (size_t)sqlite3_column_bytes(st, C_DOCUMENT) + 2048;
        (void)json_array_append_new(list, change_json(st));
    }
    if (rc < 0) {
        json_decref(list);
        (void)problem_from_err(p, &e);
        return NULL;
    }
    return list;
}

/* ---- audit ---- */

/* The event of the state that the change is in, if it is one that operators wait for. */
static void note_state(struct hub *h, sqlite3_stmt *st, const char *id, const char *refused_by)
{
    static const struct {
        const char *state;
        enum event_type type;
    } states[] = {{"pending", EVENT_POLICY_HELD},
                  {"refused", EVENT_POLICY_REFUSED},
                  {"approved", EVENT_POLICY_APPROVED},
                  {"rejected", EVENT_POLICY_REJECTED}};
    const char *decider =
        sqlite3_column_type(st, C_DECIDED_BY) == SQLITE_NULL ? "" : sql_text(st, C_DECIDED_BY);
    const char *submitter = sql_text(st, C_SUBMITTER);
    const char *slash = strncmp(submitter, "agent:", 6) == 0 ? strchr(submitter, '/') : NULL;

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(sql_text(st, C_STATE), states[i].state) == 0)
            EVENT_NOTE(h->d, states[i].type, slash ? slash + 1 : "", sql_text(st, C_AGENT), "", 1,
                       {.text = id}, {.text = sql_text(st, C_KIND)}, {.text = *decider ? decider : submitter},
                       {.text = refused_by});
}

/* Writes the record of the state that the change is in, and notes that it stands in the log. */
static int audit_state(struct hub *h, const char *id, bool recovered, struct err *e)
{
    struct problem p = {0};
    CLEANUP_STMT sqlite3_stmt *st = change_row(h, id, &p);
    char type[32];
    char refused_by[EVENT_VALUE_MAX + 1] = "";
    json_t *fields;

    if (!st)
        return err_set(e, EIO, "%s", p.text);
    (void)io_format(type, sizeof(type), "change.%s", sql_text(st, C_STATE));
    fields = json_pack("{s:s,s:s,s:s,s:s}", "change", id, "kind", sql_text(st, C_KIND), "agent",
                       sql_text(st, C_AGENT), "submitted_by", sql_text(st, C_SUBMITTER));
    if (sqlite3_column_type(st, C_DECIDED_BY) != SQLITE_NULL)
        (void)json_object_set_new(fields, "decided_by", text_or_null(st, C_DECIDED_BY));
    if (strcmp(sql_text(st, C_STATE), "refused") == 0 || strcmp(sql_text(st, C_STATE), "pending") == 0) {
        json_t *verdicts = json_of(st, C_VERDICTS), *v, *failed = json_array();
        size_t i;
        json_array_foreach(verdicts, i, v)
        {
            size_t used = strlen(refused_by);
            if (json_is_true(json_object_get(v, "ok")))
                continue;
            (void)json_array_append(failed, json_object_get(v, "verifier"));
            if (!io_format(refused_by + used, sizeof(refused_by) - used, "%s%s", used > 0 ? " " : "",
                           json_string_value(json_object_get(v, "verifier"))))
                refused_by[used] = 0;
        }
        (void)json_object_set_new(fields, "refused_by", failed);
        json_decref(verdicts);
    }
    if (recovered)
        (void)json_object_set_new(fields, "recovered", json_true());
    if (audit_append(h->audit, AUDIT_DURABLE, type, fields, e) < 0)
        return -1;
    note_state(h, st, id, refused_by);
    return sql_run(h->registry, e, "UPDATE changes SET audited = ? WHERE id = ?", "ss", sql_text(st, C_STATE),
                   id) < 0
               ? -1
               : 0;
}

/* ---- submitting ---- */

static int check_place(struct hub *h, const struct kind *k, const struct submitter *by, const char *agent,
                       const json_t *before, struct problem *p)
{
    struct err e = ERR_INIT;
    int64_t pending = 0, recent = 0;

    if (by->is_agent && !k->by_agent)
        return problem_set(p, 403, "not_allowed", "an agent may not propose a change of kind %s", k->name);
    if (strcmp(k->name, "agent.create") == 0) {
        if (before)
            return problem_set(p, 409, "exists", "there is already an agent \"%s\"", agent);
    } else if (!before) {
        return problem_set(p, 404, "not_found", "there is no agent \"%s\"", agent);
    }
    if (sql_int(h->registry, &e, 0, &pending,
                "SELECT count(*) FROM changes WHERE state = 'pending' AND submitter = ?", "s", by->id) < 0)
        return problem_from_err(p, &e);
    if (by->is_agent && pending >= PENDING_MAX)
        return problem_set(p, 429, "too_many_pending", "%d changes of this agent already wait for a decision",
                           PENDING_MAX);
    /* Each stays in the registry and in the audit log, the refused ones as well. */
    if (by->is_agent && sql_int(h->registry, &e, 0, &recent,
                                "SELECT count(*) FROM changes WHERE submitter = ? AND submitted_at > ?", "si",
                                by->id, (int64_t)io_wall_ms() - HOUR_MS) < 0)
        return problem_from_err(p, &e);
    if (recent >= HOURLY_MAX)
        return problem_set(p, 429, "too_many_changes", "this session has asked for %d changes within an hour",
                           HOURLY_MAX);
    return 0;
}

/* The verdicts over a proposal, "schema" first. *after is NULL when the shape is wrong or nothing is left. */
static json_t *judge(struct hub *h, const struct kind *k, const json_t *before, const char *agent,
                     const json_t *document, json_t **after, bool *ok)
{
    struct err e = ERR_INIT;
    json_t *verdicts = json_array(), *more, *reason;

    *after = NULL;
    *ok = true;
    if (strcmp(k->name, "agent.remove") != 0) {
        *after = proposed(h, k, before, agent, document, &e);
        *ok = *after != NULL;
    }
    reason = json_string(*ok ? "" : e.text);
    (void)json_array_append_new(verdicts,
                                json_pack("{s:s,s:b,s:o}", "verifier", "schema", "ok", (int)*ok, "reason",
                                          reason ? reason : json_string("the document is not valid")));
    if (*after) {
        more = verify_agent(*after, h->config, ok);
        (void)json_array_extend(verdicts, more);
        json_decref(more);
    }
    return verdicts;
}

static int apply(struct hub *h, const char *id, bool recovered, struct err *e);

json_t *change_submit(struct hub *h, const struct submitter *by, const char *kind, const char *agent,
                      const json_t *document, const char *reason, struct problem *p)
{
    const struct kind *k = kind_find(kind);
    struct err e = ERR_INIT;
    json_t *before = NULL, *after = NULL, *verdicts = NULL, *result = NULL;
    CLEANUP_FREE char *doc_text = NULL;
    CLEANUP_FREE char *before_text = NULL;
    CLEANUP_FREE char *after_text = NULL;
    CLEANUP_FREE char *verdict_text = NULL;
    char id[24];
    bool ok;
    int rc;

    if (!k) {
        (void)problem_set(p, 400, "unknown_kind",
                          "this kind of change is not known; see the documentation of changes");
        return NULL;
    }
    if (!io_valid_name(agent)) {
        (void)problem_set(
            p, 400, "invalid_name",
            "the agent's name must be 1 to 63 of a-z 0-9 - _ . and start with a letter or digit");
        return NULL;
    }
    if (strlen(reason) > REASON_MAX) {
        (void)problem_set(p, 400, "too_long", "\"reason\" is longer than %d bytes", REASON_MAX);
        return NULL;
    }
    before = agent_get(h, agent, p);
    if (!before && p->status != 404)
        return NULL;
    p->status = 0;
    if (check_place(h, k, by, agent, before, p) < 0)
        goto out;
    if (before)
        (void)json_object_del(before, "revision");
    doc_text = json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!doc_text || strlen(doc_text) > DOCUMENT_MAX) {
        (void)problem_set(p, 413, "too_large", "the document is larger than %d bytes", DOCUMENT_MAX);
        goto out;
    }
    verdicts = judge(h, k, before, agent, document, &after, &ok);
    before_text = before ? json_dumps(before, JSON_COMPACT) : NULL;
    after_text = after ? json_dumps(after, JSON_COMPACT) : NULL;
    verdict_text = json_dumps(verdicts, JSON_COMPACT);
    registry_new_id("c-", id);
    if (weakened("gateway") && by->is_agent)
        ok = after != NULL;
    rc = sql_run(
        h->registry, &e,
        "INSERT INTO changes(id, kind, agent, state, submitted_by, submitter, submitted_at, reason, document,"
        " before, after, verdicts) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "ssssssisssss", id, kind, agent, ok ? "pending" : "refused", by->name, by->id, (int64_t)io_wall_ms(),
        reason, doc_text, before_text, after_text, verdict_text);
    if (rc == 1 && weakened("gateway") && by->is_agent && ok)
        rc = sql_run(h->registry, &e, "UPDATE changes SET state = 'approved' WHERE id = ?", "s", id) < 0 ||
                     apply(h, id, false, &e) < 0
                 ? -1
                 : 1;
    if (rc < 0 || audit_state(h, id, false, &e) < 0)
        (void)problem_from_err(p, &e);
    else
        result = change_get(h, id, false, p);
out:
    json_decref(before);
    json_decref(after);
    json_decref(verdicts);
    return result;
}

/* ---- deciding and applying ---- */

static int store_agent(struct hub *h, const char *agent, const json_t *after, struct err *e)
{
    CLEANUP_FREE char *text = after ? json_dumps(after, JSON_COMPACT) : NULL;

    if (!after)
        return sql_run(h->registry, e, "DELETE FROM agents WHERE name = ?", "s", agent) < 0 ? -1 : 0;
    return sql_run(
               h->registry, e,
               "INSERT INTO agents(name, revision, document, updated) VALUES(?1, 1, ?2, ?3) ON "
               "CONFLICT(name) DO "
               "UPDATE SET revision = revision + 1, document = excluded.document, updated = excluded.updated",
               "ssi", agent, text, (int64_t)io_wall_ms()) < 0
               ? -1
               : 0;
}

/*
 * Applies an approved change: the agent's row and the change's state move in one transaction. The proposal is
 * judged again against the agent as it is now; what no longer fits becomes "failed".
 */
static int apply(struct hub *h, const char *id, bool recovered, struct err *e)
{
    struct problem p = {0};
    CLEANUP_STMT sqlite3_stmt *st = change_row(h, id, &p);
    CLEANUP_FREE char *agent = NULL;
    const struct kind *k;
    json_t *before, *document, *after = NULL, *verdicts;
    const char *failure = NULL;
    bool ok, creates;
    int rc;

    if (!st)
        return err_set(e, EIO, "%s", p.text);
    agent = x_strdup(sql_text(st, C_AGENT));
    k = kind_find(sql_text(st, C_KIND));
    document = json_of(st, C_DOCUMENT);
    before = agent_get(h, agent, NULL);
    creates = k && strcmp(k->name, "agent.create") == 0;
    if (!k)
        failure = "this kind of change is no longer known";
    else if (creates && before)
        failure = "an agent of this name was created in the meantime";
    else if (!creates && !before)
        failure = "the agent was removed in the meantime";
    if (!failure) {
        verdicts = judge(h, k, before, agent, document, &after, &ok);
        json_decref(verdicts);
        if (!ok && !(weakened("gateway") && after))
            failure = "a verifier refuses it against the agent as it is now; submit it again to see why";
    }
    rc = registry_begin(h->registry, e);
    if (rc == 0) {
        if (!failure)
            rc = store_agent(h, agent, after, e);
        if (rc == 0 && sql_run(h->registry, e,
                               "UPDATE changes SET state = ?, error = ? WHERE id = ? AND state = 'approved'",
                               "sss", failure ? "failed" : "applied", failure, id) != 1)
            rc = e->code ? -1 : err_set(e, EIO, "change %s was not in the state approved", id);
        rc = registry_end(h->registry, rc, e);
    }
    json_decref(document);
    json_decref(before);
    json_decref(after);
    if (rc < 0)
        return -1;
    if (!failure)
        sessions_agent_changed(h, agent);
    return audit_state(h, id, recovered, e);
}

json_t *change_decide(struct hub *h, const struct token_info *by, const char *id, bool approve,
                      const char *comment, struct problem *p)
{
    CLEANUP_STMT sqlite3_stmt *st = change_row(h, id, p);
    char decider[40];
    const char *state;
    struct err e = ERR_INIT;
    bool yes, no;

    if (!st)
        return NULL;
    /* A disk that was full when the last step was recorded: its record first, then the next step. */
    if (strcmp(sql_text(st, C_STATE), sql_text(st, C_AUDITED)) != 0 && audit_state(h, id, true, &e) < 0) {
        (void)problem_from_err(p, &e);
        return NULL;
    }
    state = sql_text(st, C_STATE);
    yes = strcmp(state, "approved") == 0 || strcmp(state, "applied") == 0 || strcmp(state, "failed") == 0;
    no = strcmp(state, "rejected") == 0;
    if ((approve && yes) || (!approve && no)) {
        /* Approved, but the application met an error (a full disk): the repetition tries again. */
        if (strcmp(state, "approved") == 0 && apply(h, id, false, &e) < 0) {
            (void)problem_from_err(p, &e);
            return NULL;
        }
        return change_get(h, id, false, p);
    }
    if (strcmp(state, "pending") != 0) {
        (void)problem_set(p, 409, "already_decided", "change %s is already %s", id, state);
        return NULL;
    }
    (void)io_format(decider, sizeof(decider), "token:%s", by->id);
    if (approve && json_is_true(json_object_get(h->config, "four_eyes")) &&
        strcmp(sql_text(st, C_SUBMITTER), decider) == 0) {
        (void)problem_set(p, 403, "four_eyes",
                          "whoever submitted a change may not approve it; another administrator has to");
        return NULL;
    }
    if (strlen(comment) > REASON_MAX) {
        (void)problem_set(p, 400, "too_long", "\"comment\" is longer than %d bytes", REASON_MAX);
        return NULL;
    }
    (void)sqlite3_reset(st);
    if (sql_run(h->registry, &e,
                "UPDATE changes SET state = ?, decided_by = ?, decider = ?, decided_at = ?, comment = ? "
                "WHERE id = ? AND "
                "state = 'pending'",
                "sssiss", approve ? "approved" : "rejected", by->name, decider, (int64_t)io_wall_ms(),
                comment, id) != 1 ||
        audit_state(h, id, false, &e) < 0 || (approve && apply(h, id, false, &e) < 0)) {
        (void)problem_from_err(p, &e);
        return NULL;
    }
    return change_get(h, id, false, p);
}

int change_recover(struct hub *h, struct err *e)
{
    /* One at a time: each changes what the query would find next. */
    for (;;) {
        CLEANUP_STMT sqlite3_stmt *st = sql_prepare(h->registry, e,
                                                    "SELECT id, state, audited FROM changes WHERE state = "
                                                    "'approved' OR audited <> state ORDER BY number LIMIT 1",
                                                    "");
        char id[24];
        bool approved, owed;
        int rc = st ? sql_step(st, e) : -1;
        if (rc <= 0)
            return rc;
        (void)io_format(id, sizeof(id), "%s", sql_text(st, 0));
        approved = strcmp(sql_text(st, 1), "approved") == 0;
        owed = strcmp(sql_text(st, 1), sql_text(st, 2)) != 0;
        (void)sqlite3_reset(st);
        log_info("finishing change %s, which an earlier stop interrupted", id);
        if ((owed && audit_state(h, id, true, e) < 0) || (approved && apply(h, id, true, e) < 0))
            return err_wrap(e, "cannot finish change %s", id);
    }
}
