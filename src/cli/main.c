/*
 * main.c - ironclaw-ctl: finds the verb in the table and runs it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "cli/cli.h"

static const struct verb *find(const char *group, const char *sub)
{
    for (size_t i = 0; i < cli_nverbs; i++)
        if (!strcmp(cli_verbs[i].group, group) &&
            (!cli_verbs[i].sub || (sub && !strcmp(cli_verbs[i].sub, sub))))
            return &cli_verbs[i];
    return NULL;
}

static bool is_group(const char *group)
{
    for (size_t i = 0; i < cli_nverbs; i++)
        if (!strcmp(cli_verbs[i].group, group))
            return true;
    return false;
}

static bool is_help(const char *word)
{
    return !strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h");
}

static int unknown(const char *word, const char *group)
{
    const char *meant = help_nearest(word, group);

    if (meant)
        return cli_fail(CLI_USAGE, "there is no verb '%.64s'; did you mean '%s%s%s'?", word,
                        group ? group : "", group ? " " : "", meant);
    return cli_fail(CLI_USAGE, "there is no verb '%.64s'; 'ironclaw help%s%s' lists them", word,
                    group ? " " : "", group ? group : "");
}

static int help(int argc, char **argv)
{
    const struct verb *v = argc > 0 ? find(argv[0], argc > 1 ? argv[1] : NULL) : NULL;

    if (argc == 0) {
        help_overview();
    } else if (!strcmp(argv[0], "--markdown")) {
        help_markdown();
    } else if (v) {
        help_verb(v);
    } else if (is_group(argv[0])) {
        if (argc > 1)
            return unknown(argv[1], argv[0]);
        help_group(argv[0]);
    } else {
        return unknown(argv[0], NULL);
    }
    return CLI_OK;
}

int main(int argc, char **argv)
{
    const struct verb *v;
    struct args a;
    int skip, rc;

    (void)prctl(PR_SET_DUMPABLE, 0); /* tokens and provider keys pass through here */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        help_overview();
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "--version")) {
        (void)printf("ironclaw %s\n", IRONCLAW_VERSION);
        return CLI_OK;
    }
    if (is_help(argv[1]))
        return help(argc - 2, argv + 2);
    v = find(argv[1], argc > 2 ? argv[2] : NULL);
    if (!v && !is_group(argv[1]))
        return unknown(argv[1], NULL);
    if (!v && (argc < 3 || is_help(argv[2]))) {
        help_group(argv[1]);
        return argc < 3 ? CLI_USAGE : CLI_OK;
    }
    if (!v)
        return unknown(argv[2], argv[1]);
    skip = v->sub ? 3 : 2;
    rc = args_parse(&a, v, argc - skip, argv + skip);
    if (rc == 0 && args_has(&a, "help"))
        help_verb(v);
    else if (rc == 0)
        rc = v->run(&a);
    args_free(&a);
    if (fflush(stdout) != 0 && rc == 0)
        rc = cli_fail(CLI_FAILED, "cannot write the output; is the disk full or the reader gone?");
    return rc;
}
