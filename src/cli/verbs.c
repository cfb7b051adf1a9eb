/*
 * verbs.c - every verb of the client, in the order in which help shows them.
 */
#include "base/cleanup.h"
#include "cli/cli.h"

const struct cli_option cli_global_options[] = {
    {"state-dir", "DIR", "directory of the control plane, where api.sock is"},
    {"url", "URL", "https://host:port of a control plane that listens on TCP"},
    {"ca-file", "FILE", "CA certificate for --url; default the system's"},
    {"token-file", "FILE", "file with the token; default the one 'token bootstrap' wrote"},
    {"json", NULL, "print JSON"},
    {"help", NULL, "show this help"},
    {NULL, NULL, NULL},
};

#define AGENT_OPTIONS                                                                                        \
    {"file", "FILE", "agent document, YAML or JSON; the options below override it"},                         \
        {"tools", "A,B", "tools the built-in agent may use"}, {"instructions", "TEXT", "who the agent is"},  \
        {"image", "NAME", "image it runs in"}, {"wall", "WALL", "container, cell, gvisor or microvm"},       \
        {"memory", "SIZE", "memory, such as 256M"}, {"cpus", "N", "processors, such as 0.5"},                \
        {"pids", "N", "processes and threads"},                                                              \
        {"env", "NAME[=VALUE]", "environment variable; may be repeated"},                                    \
        {"provider", "NAME", "model provider"}, {"model", "NAME", "model"},                                  \
        {"mount", "SRC:DST[:rw]", "host directory, read-only unless :rw; may be repeated"},                  \
        {"peers", "A,B", "agents it may write to"}, {"tenant", "NAME", "tenant it belongs to"},              \
        {"reason", "TEXT", "why, for whoever decides"},                                                      \
        {"approve", NULL, "approve the change at once, if the token may"},                                   \
    {                                                                                                        \
        "command", "CMD...", "program to run instead of the built-in agent: the rest of the line"            \
    }

static const struct cli_option agent_options[] = {AGENT_OPTIONS, {NULL, NULL, NULL}};
static const struct cli_option approve_option[] = {
    {"approve", NULL, "approve the change at once, if the token may"}, {NULL, NULL, NULL}};
static const struct cli_option bootstrap_options[] = {
    {"name", "NAME", "name of the new token; default 'admin'"}, {NULL, NULL, NULL}};
static const struct cli_option token_options[] = {
    {"scope", "SCOPE", "admin, operator or read"},
    {"name", "NAME", "what or whom it is for"},
    {"expires", "SECONDS", "how long it is valid; default for ever"},
    {NULL, NULL, NULL}};
static const struct cli_option list_options[] = {{"agent", "NAME", "only of this agent"}, {NULL, NULL, NULL}};
static const struct cli_option page_options[] = {{"after", "N", "only what comes after this number"},
                                                 {"limit", "N", "at most so many, 1 to 1000"},
                                                 {NULL, NULL, NULL}};
static const struct cli_option history_options[] = {
    {"after", "MS", "only what is newer than this time, in ms since the epoch"},
    {"limit", "N", "at most so many, 1 to 1000"},
    {NULL, NULL, NULL}};
static const struct cli_option chat_options[] = {
    {"session", "ID", "go on in this session"},
    {"timeout", "SECONDS", "how long to wait for an answer; default 300"},
    {NULL, NULL, NULL}};
static const struct cli_option comment_option[] = {{"comment", "TEXT", "kept with the decision"},
                                                   {NULL, NULL, NULL}};
static const struct cli_option submit_options[] = {
    {"file", "FILE", "the part of the agent document to change, YAML or JSON; - for stdin"},
    {"reason", "TEXT", "why, for whoever decides"},
    {"approve", NULL, "approve the change at once, if the token may"},
    {NULL, NULL, NULL}};
static const struct cli_option events_options[] = {{"follow", NULL, "go on with what happens, until ^C"},
                                                   {"session", "ID", "only of this session"},
                                                   {"after", "N", "only what comes after this number"},
                                                   {"limit", "N", "end after so many"},
                                                   {NULL, NULL, NULL}};
static const struct cli_option verify_options[] = {
    {"log", "FILE", "the log; default audit.log in the state directory"},
    {"public-key", "FILE", "hexadecimal Ed25519 key, from 'GET /v1/audit/key'"},
    {NULL, NULL, NULL}};
static const struct cli_option key_option[] = {
    {"key-file", "FILE", "file with the provider's key; - for stdin"}, {NULL, NULL, NULL}};

/* clang-format off */
const struct verb cli_verbs[] = {
    {"chat", NULL, "AGENT [MESSAGE]", "Talk to an agent; without MESSAGE, line by line until ^D.",
     "ironclaw chat coder 'What is in /workspace?'", chat_options, 1, 2, chat_run},
    {"agent", "create", "NAME", "Ask for a new agent; the change waits for approval.",
     "ironclaw agent create coder --tools shell,read_file --memory 256M --approve", agent_options, 1, 1, agent_create},
    {"agent", "list", "", "List the agents.", "ironclaw agent list", NULL, 0, 0, agent_list},
    {"agent", "show", "NAME", "Show an agent's document.", "ironclaw agent show coder", NULL, 1, 1, agent_show},
    {"agent", "update", "NAME", "Ask for a change of an agent; what is not given stays.",
     "ironclaw agent update coder --tools shell --reason 'needs a shell'", agent_options, 1, 1, agent_update},
    {"agent", "rm", "NAME", "Ask for an agent's removal.", "ironclaw agent rm coder --approve", approve_option, 1, 1, agent_rm},
    {"session", "create", "AGENT", "Start a session of an agent; prints its id.", "ironclaw session create coder", NULL, 1, 1, session_create},
    {"session", "list", "", "List the sessions.", "ironclaw session list --agent coder", list_options, 0, 0, session_list},
    {"session", "show", "ID", "Show a session.", "ironclaw session show s-0123456789abcdef", NULL, 1, 1, session_show},
    {"session", "stop", "ID", "End a session's sandbox and keep its data; the next message starts it again.",
     "ironclaw session stop s-0123456789abcdef", NULL, 1, 1, session_stop},
    {"session", "rm", "ID", "Remove a session: sandbox, messages, key and workspace.",
     "ironclaw session rm s-0123456789abcdef", NULL, 1, 1, session_rm},
    {"session", "logs", "ID", "Print the end of what a sandbox wrote to stdout and stderr.",
     "ironclaw session logs s-0123456789abcdef", NULL, 1, 1, session_logs},
    {"session", "stats", "ID", "Show what a sandbox uses.", "ironclaw session stats s-0123456789abcdef", NULL, 1, 1, session_stats},
    {"session", "history", "ID", "Print a session's messages, both directions.",
     "ironclaw session history s-0123456789abcdef", history_options, 1, 1, session_history},
    {"change", "pending", "", "List the changes that wait for a decision.", "ironclaw change pending", NULL, 0, 0, change_pending},
    {"change", "list", "", "List all changes.", "ironclaw change list", NULL, 0, 0, change_list},
    {"change", "show", "ID", "Show a change with its diff and verdicts.", "ironclaw change show c-0123456789abcdef", NULL, 1, 1, change_show},
    {"change", "approve", "ID", "Approve a change; it is applied at once.",
     "ironclaw change approve c-0123456789abcdef --comment 'reviewed'", comment_option, 1, 1, change_approve},
    {"change", "reject", "ID", "Reject a change.", "ironclaw change reject c-0123456789abcdef", comment_option, 1, 1, change_reject},
    {"change", "submit", "KIND AGENT", "Ask for a change of one kind: tools, env, image, wall, limits, provider, mounts, peers, instructions.",
     "ironclaw change submit tools coder --file tools.yaml --reason 'reads files'", submit_options, 2, 2, change_submit},
    {"token", "bootstrap", "TOKEN", "Exchange the one-time token of the first start for an admin token and keep it.",
     "ironclaw token bootstrap ict_0123456789abcdef", bootstrap_options, 1, 1, token_bootstrap},
    {"token", "create", "", "Make a token; it is shown this once.",
     "ironclaw token create --scope read --name dashboard", token_options, 0, 0, token_create},
    {"token", "list", "", "List the tokens, without their secrets.", "ironclaw token list", NULL, 0, 0, token_list},
    {"token", "revoke", "ID", "Revoke a token.", "ironclaw token revoke t-0123456789abcdef", NULL, 1, 1, token_revoke},
    {"token", "whoami", "", "Show which token is in use and what it may do.", "ironclaw token whoami", NULL, 0, 0, token_whoami},
    {"provider", "set", "NAME", "Store a model provider's key, sealed before it leaves this process.",
     "ironclaw provider set anthropic --key-file key.txt", key_option, 1, 1, provider_set},
    {"provider", "list", "", "List the model providers.", "ironclaw provider list", NULL, 0, 0, provider_list},
    {"provider", "rm", "NAME", "Forget a model provider's key.", "ironclaw provider rm anthropic", NULL, 1, 1, provider_rm},
    {"image", "list", "", "List the images.", "ironclaw image list", NULL, 0, 0, image_list},
    {"events", NULL, "", "Print what happened: refused system calls, limits, ports, changes, tokens.",
     "ironclaw events --follow --session s-0123456789abcdef --json", events_options, 0, 0, events_show},
    {"audit", "show", "", "Print audit records.", "ironclaw audit show --limit 20", page_options, 0, 0, audit_show},
    {"audit", "verify", "", "Check the audit log offline: chain, order and signatures.",
     "ironclaw audit verify --log audit.log --public-key key.hex", verify_options, 0, 0, audit_verify},
    {"config", "check", "FILE", "Check a configuration file and print it with every default.",
     "ironclaw config check ironclaw.yaml", NULL, 1, 1, config_check},
    {"config", "reference", "", "Print every configuration key as a Markdown table.", "ironclaw config reference", NULL, 0, 0, config_reference},
};
/* clang-format on */
const size_t cli_nverbs = ARRAY_LEN(cli_verbs);
