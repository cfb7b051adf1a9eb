#include "gateway/problem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/io.h"

int problem_set(struct problem *p, unsigned status, const char *code, const char *fmt, ...)
{
    va_list ap;

    p->status = status;
    (void)io_format(p->code, sizeof(p->code), "%s", code);
    va_start(ap, fmt);
    (void)vsnprintf(p->text, sizeof(p->text), fmt, ap);
    va_end(ap);
    return -1;
}

int problem_from_err(struct problem *p, const struct err *e)
{
    if (e->code == ENOSPC)
        return problem_set(p, 507, "no_space", "%s", e->text);
    if (e->code == EBADMSG)
        return problem_set(p, 500, "damaged", "%s", e->text);
    return problem_set(p, 500, "internal", "%s", e->text[0] ? e->text : "the operation failed");
}

json_t *problem_json(const struct problem *p)
{
    json_t *text = json_string(p->text);

    /* The sentence may quote input that is not UTF-8. */
    if (!text)
        text = json_string("the request was refused; it holds text that is not UTF-8");
    return json_pack("{s:{s:s,s:o}}", "error", "code", p->code, "message", text);
}
