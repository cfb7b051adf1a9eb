#include "redteam/report_file.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

int report_file_split(const char *text, size_t len, struct report_file *f, struct err *e)
{
    const size_t head = strlen(REPORT_HEAD), middle = strlen(REPORT_MIDDLE), tail = strlen(REPORT_TAIL);
    const size_t frame = head + middle + REPORT_SIGNATURE_HEX + tail;
    const char *end;

    if (len < frame + 2 || memcmp(text, REPORT_HEAD, head) != 0)
        return err_set(e, EBADMSG, "this is no containment report");
    end = text + len - tail - REPORT_SIGNATURE_HEX - middle;
    if (memcmp(text + len - tail, REPORT_TAIL, tail) != 0 || memcmp(end, REPORT_MIDDLE, middle) != 0)
        return err_set(e, EBADMSG, "the containment report is cut off, or something follows it");
    f->body = text + head;
    f->body_len = (size_t)(end - f->body);
    f->signature = end + middle;
    for (size_t i = 0; i < REPORT_SIGNATURE_HEX; i++)
        if (!strchr("0123456789abcdef", f->signature[i]) || !f->signature[i])
            return err_set(e, EBADMSG, "the containment report's signature is not 128 hexadecimal digits");
    return 0;
}

static bool is_text(const json_t *o, const char *key)
{
    return json_is_string(json_object_get(o, key));
}

static bool one_of(const json_t *o, const char *key, const char *const *values, size_t n)
{
    const char *v = json_string_value(json_object_get(o, key));

    for (size_t i = 0; v && i < n; i++)
        if (!strcmp(values[i], v))
            return true;
    return false;
}

static bool result_ok(const json_t *r, bool *broken)
{
    static const char *const verdicts[] = {"PASS", "GAP", "FAIL", "ERROR"};
    static const char *const boundaries[] = {"B1", "B2", "B3", "B4", "B5"};
    const char *verdict = json_string_value(json_object_get(r, "verdict"));
    const json_t *checks = json_object_get(r, "checks");
    json_t *c;
    size_t i;

    if (!is_text(r, "attack") || !is_text(r, "wall") || !is_text(r, "why") || !is_text(r, "event") ||
        !json_is_integer(json_object_get(r, "family")) ||
        !one_of(r, "verdict", verdicts, ARRAY_LEN(verdicts)) ||
        !one_of(r, "boundary", boundaries, ARRAY_LEN(boundaries)) || !json_is_array(checks))
        return false;
    json_array_foreach(checks, i, c)
    {
        if (!is_text(c, "check") || !is_text(c, "seen") || !json_is_boolean(json_object_get(c, "ok")))
            return false;
    }
    *broken = *broken || !strcmp(verdict, "FAIL") || !strcmp(verdict, "ERROR");
    return true;
}

static bool binaries_ok(const json_t *list)
{
    json_t *b;
    size_t i;

    json_array_foreach(list, i, b)
    {
        if (!is_text(b, "name") || json_string_length(json_object_get(b, "sha256")) != 64)
            return false;
    }
    return json_array_size(list) > 0;
}

/* The shape that docs/red-team/report.schema.json describes, and that "held" says what the verdicts say. */
static int check_shape(const json_t *o, struct err *e)
{
    const json_t *list = json_object_get(o, "results"), *host = json_object_get(o, "host"),
                 *own = json_object_get(o, "ironclaw");
    bool broken = false;
    json_t *r;
    size_t i;

    if (strcmp(is_text(o, "schema") ? json_string_value(json_object_get(o, "schema")) : "", REPORT_SCHEMA) !=
        0)
        return err_set(e, EBADMSG, "this is no containment report");
    if (json_integer_value(json_object_get(o, "version")) != REPORT_VERSION)
        return err_set(e, EBADMSG, "the report has version %lld; this program knows version %d",
                       (long long)json_integer_value(json_object_get(o, "version")), REPORT_VERSION);
    if (!json_is_integer(json_object_get(o, "time")) || !json_is_boolean(json_object_get(o, "held")) ||
        !json_is_boolean(json_object_get(o, "complete")) || !is_text(own, "version") ||
        !binaries_ok(json_object_get(own, "binaries")) || !is_text(host, "kernel") ||
        !is_text(host, "machine") || !json_is_array(json_object_get(o, "walls")) ||
        !is_text(o, "public_key") || json_array_size(list) == 0)
        return err_set(e, EBADMSG, "the report lacks members that its version has");
    json_array_foreach(list, i, r)
    {
        if (!result_ok(r, &broken))
            return err_set(e, EBADMSG, "result %zu of the report is ill-formed", i);
    }
    if (json_is_true(json_object_get(o, "held")) == broken)
        return err_set(e, EBADMSG, "the report says 'held', and its verdicts say otherwise");
    return 0;
}

json_t *report_file_parse(const struct report_file *f, struct err *e)
{
    json_error_t why;
    json_t *o = json_loadb(f->body, f->body_len, JSON_REJECT_DUPLICATES, &why);

    if (!json_is_object(o)) {
        (void)err_set(e, EBADMSG, "the report is not JSON: %.100s", o ? "no object" : why.text);
        json_decref(o);
        return NULL;
    }
    if (check_shape(o, e) == 0)
        return o;
    json_decref(o);
    return NULL;
}
