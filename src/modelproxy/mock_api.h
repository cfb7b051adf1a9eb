/*
 * mock_api.h - the mock provider's two languages: reads Anthropic's and OpenAI's requests into a
 * mock_question, writes a mock_answer as the JSON document or the event stream that the API prescribes. Pure
 * and deterministic: the same request always gives the same bytes.
 */
#pragma once
#include "modelproxy/allowlist.h"
#include "modelproxy/mock_script.h"

struct mock_request {
    enum endpoint endpoint;
    bool stream;
    bool stream_usage; /* OpenAI: stream_options.include_usage */
    uint64_t input_tokens;
    char id[17]; /* hash of the body, in hexadecimal */
    struct mock_question question;
};

/* The pieces of an answer in the order they are sent; a document is one piece. */
struct mock_pieces {
    char **text;
    size_t n, cap;
};

/* Reads a request body. Returns -1 with e when it is not what the API requires (answered with 400). */
int mock_api_read(enum endpoint endpoint, const char *body, size_t len, struct mock_request *r,
                  struct err *e);
void mock_request_free(struct mock_request *r);

/* For everything but MOCK_ERROR. Splits text into words for streaming when the script gave no chunks of its
 * own. */
void mock_api_write(const struct mock_request *r, const struct mock_answer *a, struct mock_pieces *out);
void mock_pieces_free(struct mock_pieces *p);
