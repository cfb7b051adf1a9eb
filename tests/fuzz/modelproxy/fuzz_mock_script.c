/* The mock provider: any YAML as its script, any bytes as the request. The first line's end divides the two.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "config/config.h"
#include "modelproxy/mock_api.h"
#include "modelproxy/mock_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct mock_script *s, enum endpoint endpoint, const char *body, size_t len)
{
    struct mock_request r;
    struct mock_answer a;
    struct mock_pieces p;

    if (mock_api_read(endpoint, body, len, &r, NULL) < 0)
        return;
    mock_script_answer(s, &r.question, &a);
    if (a.kind != MOCK_ERROR) {
        mock_api_write(&r, &a, &p);
        if (p.n == 0)
            abort();
        mock_pieces_free(&p);
    }
    mock_answer_free(&a);
    mock_request_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "\n---8<---\n";
    const uint8_t *cut = memmem(data, size, mark, sizeof(mark) - 1);
    size_t script_len = cut ? (size_t)(cut - data) : size;
    const char *body = cut ? (const char *)cut + sizeof(mark) - 1 : "";
    size_t body_len = cut ? size - script_len - (sizeof(mark) - 1) : 0;
    struct err e = ERR_INIT;
    json_t *doc = script_len > 0 ? config_yaml_to_json((const char *)data, script_len, "fuzz", &e) : NULL;
    struct mock_script *s = doc || script_len == 0 ? mock_script_new(doc, &e) : NULL;

    if (!s && e.text[0] == 0)
        abort(); /* a refusal must say why */
    for (int endpoint = ENDPOINT_MESSAGES; s && endpoint <= ENDPOINT_MODELS; endpoint++)
        ask(s, (enum endpoint)endpoint, body, body_len);
    mock_script_free(s);
    json_decref(doc);
    return 0;
}
