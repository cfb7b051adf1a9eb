/*
 * tools.h - what the model may do in the sandbox. A tool takes the model's JSON input and gives text back;
 * its errors are text for the model as well, never the end of the agent. It is the sandbox that protects the
 * host, not this code.
 */
#pragma once
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>

#include "agent/queue_client.h"

enum {
    TOOL_OUTPUT_MAX = 32 * 1024, /* of one result; more is cut with a note */
    TOOL_WRITE_MAX = 4 << 20,    /* bytes of one write_file */
    SHELL_TIMEOUT_S = 60,        /* default */
    SHELL_TIMEOUT_MAX_S = 600,
    LIST_ENTRIES_MAX = 1000,
};

struct tool_result {
    char *text; /* malloc'ed, valid UTF-8 */
    bool is_error;
    bool ends_turn; /* a human was asked: the next message is the result */
};

struct tool {
    const char *name;
    const char *description;
    const char *schema; /* JSON schema of the input */
    void (*run)(struct queue *q, const json_t *input, struct tool_result *r);
};

extern const struct tool tools_files[], tools_shell[], tools_human[];
extern const size_t tools_files_n, tools_shell_n, tools_human_n;

const struct tool *tool_find(const char *name);
/* Definitions of the tools named in `names` (array of strings) for the model; unknown names are left out. */
json_t *tool_definitions(const json_t *names);

/* Helpers for tools. */
void tool_fail(struct tool_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A string argument, or NULL after tool_fail(). */
const char *tool_string(const json_t *input, const char *key, struct tool_result *r);

/* SIGTERM asked us to end; set by main.c's handler while a tool runs. */
extern volatile sig_atomic_t agent_stopping;
