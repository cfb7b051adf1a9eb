/*
 * bench.h - `ironclaw bench`: figures as ratios against peers measured in the same run.
 *
 *   stats.c     medians and percentiles
 *   commands.c  whole commands, interleaved round by round so that drift hits all alike
 *   plane.c     a control plane of its own: memory, cost per idle session, chat round trip
 *   api.c       its HTTP client
 *   report.c    Markdown, results.json, methodology.txt
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct bench_options {
    unsigned iterations; /* rounds of the command benchmarks */
    unsigned messages;   /* chat round trips */
    unsigned sessions;   /* idle sessions for the slope */
    const char *out;     /* directory for the report; NULL: the table only */
    char ironclaw[512];  /* the command under test: the one this binary belongs to */
    char work[64];       /* a temporary directory, removed at the end */
};

/* ---- stats.c: all values in the unit of the samples; `samples` is sorted in place ---- */
double stats_percentile(double *samples, size_t n, double p);

/* ---- commands.c ---- */
/* Adds one JSON object per command to `results`:
 * {"group","name","unit","median","p10","p90","n","ratio_to"?...}. */
int bench_start(const struct bench_options *o, json_t *results, struct err *e);
/* Runs a command to its end, output to `fd`; returns the exit status, or -1. *ns (may be NULL) gets the time.
 */
int bench_run(char *const *argv, int fd, uint64_t *ns);
/* True if the program is on PATH. */
bool bench_have(const char *program);

/* ---- plane.c ---- */
int bench_plane(const struct bench_options *o, json_t *results, struct err *e);

/* ---- api.c ---- */
struct api;
struct api *api_open(const char *socket_path);
void api_close(struct api *a);
void api_set_token(struct api *a, const char *token);
/* One call on a kept connection. Returns the HTTP status or -1 with e; *out (may be NULL) a new reference. */
long api_call(struct api *a, const char *method, const char *path, const json_t *body, json_t **out,
              struct err *e);

/* ---- report.c ---- */
void report_print(const json_t *results);
int report_write(const struct bench_options *o, const json_t *results, struct err *e);
