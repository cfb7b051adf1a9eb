/*
 * conversation.h - what the model is shown: the messages of this session, in Anthropic's shape. Pure.
 *
 * Roles alternate, starting with the user; consecutive texts of one role are joined. A tool_use block of the
 * assistant is always followed by a user message with its tool_result: trimming cuts only before a user
 * message that is plain text, so the pair is never torn. Bounded in bytes and messages: the oldest turns go
 * first.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    CONVERSATION_MAX = 512 * 1024, /* bytes of JSON */
    CONVERSATION_MESSAGES_MAX =
        400, /* so that a long chat of short messages does not make each turn slower */
};

struct conversation {
    json_t *messages; /* array */
    json_t *awaiting; /* a tool_result without content: the answer to ask_human; NULL when nobody was asked */
};

void conversation_init(struct conversation *c);
void conversation_free(struct conversation *c);

/* Text of a human, or of the agent itself (from the history). A human's text answers a pending ask_human. */
void conversation_user(struct conversation *c, const char *text);
void conversation_assistant(struct conversation *c, const char *text);
/* The model's answer as content blocks (consumed). An empty list is recorded as an empty text. */
void conversation_blocks(struct conversation *c, json_t *blocks);
/* The results of all its tool calls (array, consumed). */
void conversation_results(struct conversation *c, json_t *results);

/* Drops the oldest turns until the serialised messages are at most CONVERSATION_MAX; the last turn always
 * stays. */
void conversation_trim(struct conversation *c);
