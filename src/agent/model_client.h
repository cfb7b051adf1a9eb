/*
 * model_client.h - asks the model through the model port: Anthropic's messages API, streaming, by libevent's
 * evhttp.
 */
#pragma once
#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

struct model_options {
    const char *model;        /* "" for the port's default */
    const char *instructions; /* system prompt, may be "" */
    const json_t *messages;   /* array */
    const json_t *tools;      /* array of tool definitions; NULL or empty for none */
    /* Called with each piece of text as it arrives. */
    void (*on_text)(void *arg, const char *text);
    void *arg;
};

struct model_answer {
    json_t *blocks;  /* content blocks: text and tool_use (input is {} with "malformed" set when it did not
                        parse) */
    char stop[32];   /* stop_reason */
    unsigned status; /* HTTP status; 0 when there was no connection */
    unsigned retry_after_s;
};

/* One attempt. Returns 0, or -1 with e (status tells whether trying again makes sense). model_answer_free()
 * in both cases. */
int model_ask(const struct model_options *o, struct model_answer *a, struct err *e);
void model_answer_free(struct model_answer *a);
/* Is a failure of this status worth another attempt? */
int model_worth_retry(unsigned status);
