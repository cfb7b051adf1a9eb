/* What comes out of a gVisor sandbox to its keeper, and what a runtime says about its options: no memory
 * error on any bytes, and what is shown to a person is printable. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "walls/gvisor/gvisor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gvisor_message m;
    char *text = malloc(size + 1);

    assert(text);
    memcpy(text, data, size);
    text[size] = 0;
    gvisor_message_parse((const char *)data, size, &m);
    assert(m.code >= 0 && m.code <= 255 && strlen(m.text) < sizeof(m.text));
    for (const char *p = m.text; *p; p++)
        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
    (void)gvisor_flags_of(text);
    (void)bundle_is_utf8(text);
    free(text);
    return 0;
}
