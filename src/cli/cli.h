/*
 * cli.h - the client side of the `ironclaw` command: a table of verbs, each a few calls of the HTTP API.
 *
 * A verb prints its result on stdout, errors as one sentence on stderr, and returns an exit status. Help
 * text, docs/cli.md, the man page and the completion are printed from, or checked against, the table in
 * verbs.c.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit statuses. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* the request failed */
    CLI_USAGE = 2,       /* the command line is wrong */
    CLI_REFUSED = 3,     /* not permitted, or refused by a verifier */
    CLI_UNREACHABLE = 4, /* no control plane answers */
};

enum { CLI_OPTIONS_MAX = 64, CLI_FILE_MAX = 256 * 1024 };

struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* what stands for its value in help; NULL: a switch; ending in "...": takes the rest
                          of the line */
    const char *help;
};

struct args {
    const struct verb *verb;
    const char **pos; /* what is not an option, in order; borrowed from argv */
    int npos;
    const char **rest; /* of an option that takes the rest of the line */
    int nrest;
    struct {
        const char *name, *value;
    } given[CLI_OPTIONS_MAX];
    int ngiven;
};

struct verb {
    const char *group, *sub;          /* "agent", "create"; sub NULL when the group is the verb */
    const char *usage;                /* what follows the verb */
    const char *summary;              /* one sentence */
    const char *example;              /* a whole command line */
    const struct cli_option *options; /* ends with name NULL; NULL: none of its own */
    int min, max;                     /* number of positional arguments */
    int (*run)(const struct args *a);
};

extern const struct verb cli_verbs[];
extern const size_t cli_nverbs;
extern const struct cli_option cli_global_options[];

/* args.c: parses what follows the verb. Returns 0, or CLI_USAGE after saying what is wrong. */
int args_parse(struct args *a, const struct verb *v, int argc, char **argv);
void args_free(struct args *a);
/* The value of an option ("" for a switch), or NULL when it was not given. */
const char *args_get(const struct args *a, const char *name);
bool args_has(const struct args *a, const char *name);
/* The i-th value of an option that may be repeated, or NULL. */
const char *args_nth(const struct args *a, const char *name, int i);

/* help.c */
void help_overview(void);
void help_group(const char *group);
void help_verb(const struct verb *v);
void help_markdown(void);
/* The known word nearest to `word` by edit distance, or NULL when none is near. */
const char *help_nearest(const char *word, const char *group);

/* Says one sentence on stderr and returns `status`. */
int cli_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* While on, cli_fail() says nothing. */
void cli_quiet(bool on);

/* A name from the command line that goes into a path: returns 0, or CLI_USAGE after saying what is wrong. */
int cli_check_name(const char *what, const char *text);

/* verbs, one file per topic */
int token_bootstrap(const struct args *a);
int token_create(const struct args *a);
int token_list(const struct args *a);
int token_revoke(const struct args *a);
int token_whoami(const struct args *a);
int agent_create(const struct args *a);
int agent_list(const struct args *a);
int agent_show(const struct args *a);
int agent_update(const struct args *a);
int agent_rm(const struct args *a);
int session_create(const struct args *a);
int session_list(const struct args *a);
int session_show(const struct args *a);
int session_stop(const struct args *a);
int session_rm(const struct args *a);
int session_logs(const struct args *a);
int session_stats(const struct args *a);
int session_history(const struct args *a);
int chat_run(const struct args *a);
int change_pending(const struct args *a);
int change_list(const struct args *a);
int change_show(const struct args *a);
int change_approve(const struct args *a);
int change_reject(const struct args *a);
int change_submit(const struct args *a);
int events_show(const struct args *a);
int audit_show(const struct args *a);
int audit_verify(const struct args *a);
int provider_set(const struct args *a);
int provider_list(const struct args *a);
int provider_rm(const struct args *a);
int image_list(const struct args *a);
int config_check(const struct args *a);
int config_reference(const struct args *a);

/* change.c: what became of a submitted change, in words; with --approve, approves it first. Takes the
 * reference. */
int change_outcome(const struct args *a, json_t *change);
