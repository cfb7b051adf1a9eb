/*
 * document.h - agent documents on the command line: from a file, from options, or both.
 */
#pragma once
#include "cli/cli.h"

/* Reads a YAML or JSON object from a file, "-" for stdin. Returns a new reference, or NULL after saying what
 * is wrong. */
json_t *document_from_file(const char *path);

/* The document of `agent create` and `agent update`: --file, then the options on top. NULL after saying what
 * is wrong. */
json_t *document_from_options(const struct args *a);
