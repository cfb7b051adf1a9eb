#include "modelproxy/api_error.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/io.h"

struct word {
    unsigned status;
    const char *anthropic, *openai;
};

/* docs.anthropic.com/en/api/errors; platform.openai.com/docs/guides/error-codes */
static const struct word words[] = {
    {400, "invalid_request_error", "invalid_request_error"},
    {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},
    {404, "not_found_error", "invalid_request_error"},
    {405, "invalid_request_error", "invalid_request_error"},
    {413, "request_too_large", "invalid_request_error"},
    {429, "rate_limit_error", "rate_limit_error"},
    {529, "overloaded_error", "server_error"},
};

char *api_error_json(enum shape shape, unsigned status, const char *message)
{
    const char *anthropic = "api_error", *openai = "server_error";
    json_t *doc;
    char *text;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (words[i].status == status) {
            anthropic = words[i].anthropic;
            openai = words[i].openai;
        }
    }
    if (shape == SHAPE_ANTHROPIC)
        doc =
            json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type", anthropic, "message", message);
    else
        doc = json_pack("{s:{s:s, s:s, s:n, s:s}}", "error", "message", message, "type", openai, "param",
                        "code", openai);
    text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text ? text : x_strdup("{\"error\":{\"message\":\"the message is not UTF-8\"}}");
}
