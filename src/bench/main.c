/*
 * `ironclaw bench`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

static const char help[] =
    "usage: ironclaw bench [--quick] [--iterations N] [--out DIR]\n"
    "Measures starting a sandbox against bubblewrap and runc in the same run, and the control plane.\n"
    "\n"
    "  --quick         a smaller run, under a minute\n"
    "  --iterations N  rounds of the start benchmark (default 60)\n"
    "  --out DIR       also write results.md, results.json and methodology.txt there\n"
    "\n"
    "example: ironclaw bench --quick --out results\n";

static int parse(int argc, char **argv, struct bench_options *o, struct err *e)
{
    static const struct option options[] = {{"quick", 0, NULL, 'q'},
                                            {"iterations", 1, NULL, 'n'},
                                            {"out", 1, NULL, 'o'},
                                            {"help", 0, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    uint64_t v;
    int id;

    *o = (struct bench_options){.iterations = 60, .messages = 1000, .sessions = 50};
    opterr = 0;
    optind = argc > 1 && !strcmp(argv[1], "bench") ? 2 : 1;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (id == 'q') {
            o->iterations = 20;
            o->messages = 200;
            o->sessions = 20;
        } else if (id == 'n') {
            if (!io_parse_u64(optarg, 10000, &v) || v < 3)
                return err_set(e, EINVAL, "--iterations takes a number from 3 to 10000");
            o->iterations = (unsigned)v;
        } else if (id == 'o') {
            o->out = optarg;
        } else if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        } else {
            return err_set(e, EINVAL, "unknown option or missing value: '%s' (see 'ironclaw bench --help')",
                           argv[optind - 1]);
        }
    }
    return optind < argc
               ? err_set(e, EINVAL, "unexpected argument '%s' (see 'ironclaw bench --help')", argv[optind])
               : 0;
}

/* This program lies in <dir>/libexec/ironclaw; the command is <dir>/ironclaw, or <dir>/bin/ironclaw when
 * installed. */
static int find_command(char *out, size_t cap, struct err *e)
{
    static const char *const places[] = {"../../ironclaw", "../../bin/ironclaw"};
    char self[PATHS_MAX_LEN / 2];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return err_sys(e, errno, "cannot find this program's own path");
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (io_format(out, cap, "%s/%s", self, places[i]) && access(out, X_OK) == 0)
            return 0;
    return err_set(e, ENOENT, "cannot find the ironclaw command beside %s", self);
}

int main(int argc, char **argv)
{
    struct bench_options o;
    struct err e = ERR_INIT;
    json_t *results = json_array();
    int rc = parse(argc, argv, &o, &e);

    if (rc != 0) {
        if (rc < 0)
            (void)fprintf(stderr, "ironclaw: %s\n", e.text);
        json_decref(results);
        return rc > 0 ? 0 : 2;
    }
    (void)io_format(o.work, sizeof(o.work), "/tmp/ironclaw-bench.XXXXXX");
    rc = find_command(o.ironclaw, sizeof(o.ironclaw), &e);
    if (rc == 0 && !mkdtemp(o.work))
        rc = err_sys(&e, errno, "cannot create a temporary directory");
    if (rc == 0) {
        rc = bench_start(&o, results, &e);
        if (rc == 0)
            rc = bench_plane(&o, results, &e);
        (void)io_remove_tree(AT_FDCWD, o.work, NULL);
    }
    if (json_array_size(results) > 0)
        report_print(results);
    if (rc == 0 && o.out)
        rc = report_write(&o, results, &e);
    if (rc < 0)
        (void)fprintf(stderr, "ironclaw: %s\n", e.text);
    json_decref(results);
    return rc < 0;
}
