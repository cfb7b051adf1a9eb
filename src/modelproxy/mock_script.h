/*
 * mock_script.h - the script of the mock provider: an ordered list of rules; the first that matches answers.
 * Pure.
 *
 * A rule has at most one condition (`match` substring, `regex`, `after_tool`) and exactly one action
 * (`reply`, `chunks`, `tool`, `error`). See docs/mock-provider.md for the format. Without a script the
 * built-in one is used, which is written in the same rules.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { MOCK_RULES_MAX = 256, MOCK_CHUNKS_MAX = 256, MOCK_DELAY_MAX_MS = 60000, MOCK_TEXT_MAX = 64 * 1024 };

struct mock_script;

/* What a rule looks at: the end of the conversation, whichever API it came through. All strings are never
 * NULL. */
struct mock_question {
    char *text;    /* the last text the user wrote */
    char *tool;    /* name of the tool whose result comes last; "" when the last message is the user's */
    char *result;  /* that result */
    char *model;   /* as named in the request */
    json_t *tools; /* array of the names of the tools offered */
};

enum mock_kind { MOCK_TEXT, MOCK_TOOL, MOCK_ERROR };

struct mock_answer {
    enum mock_kind kind;
    char **chunks; /* MOCK_TEXT: sent one by one when streaming */
    size_t nchunks;
    char *tool;    /* MOCK_TOOL */
    json_t *input; /* MOCK_TOOL: object */
    unsigned status;
    unsigned retry_after_s; /* 0: none */
    char *message;          /* MOCK_ERROR */
    uint32_t delay_ms;      /* before each streamed chunk */
};

/* Takes a parsed script (borrowed; a list, or NULL for the built-in one). Returns NULL with e naming rule and
 * key. */
struct mock_script *mock_script_new(const json_t *doc, struct err *e);
void mock_script_free(struct mock_script *s);

/* Always answers: a script without a matching rule answers with an error that says so. */
void mock_script_answer(const struct mock_script *s, const struct mock_question *q, struct mock_answer *a);
void mock_answer_free(struct mock_answer *a);
void mock_question_free(struct mock_question *q);
