/*
 * An agent document from anyone: normalising is stable (once more changes nothing), and what the verifiers
 * pass holds no path that leaves its place.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/agent_document.h"
#include "gateway/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *config;
    struct err e = ERR_INIT;
    json_t *in, *once, *twice, *verdicts, *m;
    size_t i;
    bool ok;

    if (!config)
        config = json_loads(
            "{\"limits_default\":{\"memory\":1048576,\"cpus\":1.0,\"pids\":8},\"limits_max\":{\"memory\":"
            "1073741824,\"cpus\":2.0,\"pids\":64},\"mounts_allowed\":[\"/srv\"],\"env_allowed\":[\"TZ\"],"
            "\"wall_minimum\":\"container\",\"providers\":{}}",
            0, NULL);
    in = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (!in)
        return 0;
    once = agent_document_normalise(in, config, &e);
    json_decref(in);
    if (!once) {
        if (!e.text[0])
            abort(); /* a refusal without a reason */
        return 0;
    }
    twice = agent_document_normalise(once, config, &e);
    if (!twice || !json_equal(once, twice))
        abort();
    verdicts = verify_agent(twice, config, &ok);
    if (ok)
        json_array_foreach(json_object_get(twice, "mounts"), i, m)
        {
            const char *source = json_string_value(json_object_get(m, "source"));
            if (strncmp(source, "/srv", 4) != 0 || strstr(source, "/../"))
                abort();
        }
    json_decref(verdicts);
    json_decref(once);
    json_decref(twice);
    return 0;
}
