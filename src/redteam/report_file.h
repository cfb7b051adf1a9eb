/*
 * report_file.h - the containment report as a file: taking it apart and checking its shape. Pure; the
 * signature is checked by report.c between the two steps, so that nothing unsigned is ever parsed as JSON.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define REPORT_SCHEMA "ironclaw-containment-report"
#define REPORT_HEAD   "{\"report\":"
#define REPORT_MIDDLE ",\"signature\":\""
#define REPORT_TAIL   "\"}\n"

enum { REPORT_VERSION = 1, REPORT_SIGNATURE_HEX = 128, REPORT_FILE_MAX = 16 << 20 };

/* Pointers into the file's text. */
struct report_file {
    const char *body, *signature;
    size_t body_len;
};

/* Returns 0, or -1 with e when it is not a report or was cut. */
int report_file_split(const char *text, size_t len, struct report_file *f, struct err *e);

/* The report as JSON, with every member that its version calls for, of the right type; NULL with e. */
json_t *report_file_parse(const struct report_file *f, struct err *e);
