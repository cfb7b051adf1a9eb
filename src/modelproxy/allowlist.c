#include "modelproxy/allowlist.h"

#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/weaken.h"

static const struct model_path paths[] = {
    {"POST", "/v1/messages", ENDPOINT_MESSAGES, SHAPE_ANTHROPIC, true, false, true},
    {"POST", "/v1/messages/count_tokens", ENDPOINT_COUNT_TOKENS, SHAPE_ANTHROPIC, true, false, false},
    {"POST", "/v1/chat/completions", ENDPOINT_CHAT, SHAPE_OPENAI, false, true, true},
    {"POST", "/v1/completions", ENDPOINT_COMPLETIONS, SHAPE_OPENAI, false, true, true},
    {"POST", "/v1/responses", ENDPOINT_RESPONSES, SHAPE_OPENAI, false, true, true},
    {"POST", "/v1/embeddings", ENDPOINT_EMBEDDINGS, SHAPE_OPENAI, false, true, true},
    {"GET", "/v1/models", ENDPOINT_MODELS, SHAPE_OPENAI, true, true, false},
};

static const char *const headers[] = {"content-type", "accept", "anthropic-version", "anthropic-beta",
                                      "openai-beta"};

const struct model_path *allow_path(const char *target)
{
    size_t len = strcspn(target, "?");

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (strlen(paths[i].path) == len && !memcmp(paths[i].path, target, len))
            return &paths[i];
    if (weakened("model-paths"))
        return &paths[ARRAY_LEN(paths) - 1];
    return NULL;
}

enum shape allow_error_shape(const char *target)
{
    return !strncmp(target, "/v1/messages", strlen("/v1/messages")) ? SHAPE_ANTHROPIC : SHAPE_OPENAI;
}

bool allow_header(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        if (!strcasecmp(headers[i], name))
            return true;
    return false;
}

bool allow_header_value(const char *value, size_t max)
{
    size_t len = strlen(value);

    if (len > max)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)value[i] < 0x20 || (unsigned char)value[i] > 0x7e)
            return false;
    return true;
}
