/* libFuzzer: the record of a hostile program, as the host takes it apart. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "redteam/attempt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct attempt a;
    struct err e = ERR_INIT;

    if (attempt_parse(&a, (const char *)data, size, &e) < 0)
        return 0;
    if (!a.nonce || !a.attack || !a.end || a.complete != !strcmp(a.end, "done"))
        abort();
    for (size_t i = 0; i < a.nsteps; i++)
        if (!attempt_step_find(&a, a.steps[i].name) || a.steps[i].error < 0)
            abort();
    (void)attempt_number(&a, "uid", 0);
    (void)attempt_leaks(&a, "icx-0123");
    attempt_free(&a);
    return 0;
}
