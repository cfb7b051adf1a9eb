/* libFuzzer: a containment report's file, its frame and its shape. */
#include <stdint.h>

#include "redteam/report_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct report_file f = {(const char *)data, (const char *)data, size};
    struct err e = ERR_INIT;

    json_decref(report_file_parse(&f, &e));
    if (report_file_split((const char *)data, size, &f, &e) == 0)
        json_decref(report_file_parse(&f, &e));
    return 0;
}
