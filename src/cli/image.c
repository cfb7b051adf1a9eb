/*
 * image.c - the images that sandboxes can be made from.
 */
#include "base/cleanup.h"
#include "cli/client.h"
#include "cli/output.h"

static const struct column columns[] = {{"NAME", "name", COLUMN_TEXT}, {"SIZE", "bytes", COLUMN_BYTES}};

int image_list(const struct args *a)
{
    CLEANUP_CLIENT struct client *c = NULL;
    json_t *reply = NULL;
    int rc;

    c = client_open(a, &rc);
    if (c && (rc = client_call(c, "GET", "/v1/images", NULL, &reply)) == 0)
        output_table(reply, "images", columns, ARRAY_LEN(columns), args_has(a, "json"));
    json_decref(reply);
    return rc;
}
