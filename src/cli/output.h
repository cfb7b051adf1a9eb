/*
 * output.h - what verbs print: tables, documents, text that came from a sandbox.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum column_kind { COLUMN_TEXT, COLUMN_TIME, COLUMN_BYTES, COLUMN_LIST };

struct column {
    const char *title, *key; /* key of each row's object */
    enum column_kind kind;
};

/* Prints an array of objects as aligned columns, or as JSON (the whole reply) with `as_json`. */
void output_table(const json_t *reply, const char *list_key, const struct column *cols, size_t ncols,
                  bool as_json);

/* Prints a document as indented JSON. */
void output_json(const json_t *doc);

/* One object as "title: value" lines. */
void output_fields(const json_t *doc, const struct column *cols, size_t ncols);

/*
 * Text from an agent. On a terminal, control characters other than newline and tab (and C1 controls, which
 * some terminals obey), and the characters that turn the direction of writing or are not seen at all, are
 * shown as '?': what a sandbox writes must not move the operator's cursor or set their title, and a change
 * must read as what it is.
 */
void output_untrusted(FILE *f, const char *text);

/* The length in bytes of the character at `p` if a terminal must not be given it, otherwise 0. */
size_t output_unsafe(const char *p);

/* Starts and ends bold on a terminal that wants colour; nothing elsewhere. */
void output_bold(FILE *f, bool on);
