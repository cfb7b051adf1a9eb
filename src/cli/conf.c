/*
 * conf.c - the configuration file, without a control plane: checked, and described.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "config/config.h"
#include "config/schema.h"

int config_check(const struct args *a)
{
    struct err e = ERR_INIT;
    json_t *conf = config_load(a->pos[0], &e);

    if (!conf)
        return cli_fail(CLI_FAILED, "%s", e.text);
    output_json(conf);
    json_decref(conf);
    return CLI_OK;
}

int config_reference(const struct args *a)
{
    (void)a;
    (void)printf("| key | value | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < config_nkeys; i++) {
        CLEANUP_FREE char *row = *config_keys[i].path ? config_key_row(&config_keys[i]) : NULL;
        if (row)
            (void)printf("%s\n", row);
    }
    return CLI_OK;
}
