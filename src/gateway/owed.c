#include "gateway/owed.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "vault/hub.h"
#include "vault/sql.h"

int owed_put(struct hub *h, const char *type, json_t *fields, struct err *e)
{
    CLEANUP_FREE char *text = fields ? json_dumps(fields, JSON_COMPACT) : NULL;

    json_decref(fields);
    if (!text)
        return err_set(e, EINVAL, "an audit record of type %s is not valid text", type);
    h->audit_owed = true; /* a transaction that is rolled back costs one look */
    return sql_run(h->registry, e, "INSERT INTO audit_owed(type, fields) VALUES(?, ?)", "ss", type, text) < 0
               ? -1
               : 0;
}

int owed_settle(struct hub *h, struct err *e)
{
    for (;;) {
        CLEANUP_STMT sqlite3_stmt *st = sql_prepare(
            h->registry, e, "SELECT number, type, fields FROM audit_owed ORDER BY number LIMIT 1", "");
        CLEANUP_FREE char *type = NULL;
        int rc = st ? sql_step(st, e) : -1;
        json_t *fields;
        int64_t number;

        h->audit_owed = rc != 0;
        if (rc <= 0)
            return rc;
        number = sqlite3_column_int64(st, 0);
        type = x_strdup(sql_text(st, 1));
        fields = json_loads(sql_text(st, 2), 0, NULL);
        (void)sqlite3_reset(st);
        if (audit_append(h->audit, AUDIT_DURABLE, type, fields, e) < 0 ||
            sql_run(h->registry, e, "DELETE FROM audit_owed WHERE number = ?", "i", number) < 0)
            return -1;
    }
}

void owed_retry(struct hub *h)
{
    struct err e = ERR_INIT;

    if (h->audit_owed && owed_settle(h, &e) < 0)
        log_error("an audit record is still owed: %s", e.text);
}
