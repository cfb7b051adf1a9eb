/*
 * Three charts out of the rows, through gnuplot: start.svg, memory.svg (bars) and density.svg (memory over
 * the number of sandboxes, both axes logarithmic). Memory is the PSS of the sandboxes' processes: a logarithm
 * needs a figure that is always above zero.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"

static const char *text_of(const json_t *r, const char *key)
{
    const char *s = json_string_value(json_object_get(r, key));

    return s ? s : "";
}

static double median_of(const json_t *r)
{
    return json_number_value(json_object_get(r, "median"));
}

/* Bars of one row over the contenders: `name` as an inline data block, then the plot. Returns how many. */
static unsigned bars(FILE *f, const json_t *results, const char *group, const char *what, const char *title,
                     const char *axis, const char *out)
{
    unsigned n = 0;

    (void)fprintf(f, "$data << EOD\n");
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        if (!strcmp(text_of(r, "group"), group) && !strcmp(text_of(r, "what"), what) && median_of(r) > 0)
            n += fprintf(f, "\"%s\" %.6g\n", text_of(r, "contender"), median_of(r)) > 0;
    }
    (void)fprintf(f, "EOD\n");
    if (n > 0)
        (void)fprintf(f,
                      "set output '%s'\nset title '%s'\nset ylabel '%s'\nset logscale y\nunset key\nset "
                      "style fill solid 0.7\n"
                      "set boxwidth 0.6\nset xtics rotate by -25\nset grid ytics\n"
                      "plot $data using 0:2:xtic(1) with boxes lc rgb '#3366aa', '' using "
                      "0:2:(sprintf('%%.3g',$2)) with labels offset 0,0.8\n"
                      "reset\n",
                      out, title, axis);
    return n;
}

static bool is_point(const json_t *r)
{
    return json_object_get(r, "sandboxes") && median_of(r) > 0;
}

/* Total PSS of N sandboxes, one line for each contender. */
static unsigned curve(FILE *f, const json_t *results)
{
    const char *names[BENCH_CONTENDERS];
    unsigned n = 0;

    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        unsigned k = 0;
        while (k < n && strcmp(names[k], text_of(r, "contender")) != 0)
            k++;
        if (is_point(r) && k == n && n < BENCH_CONTENDERS)
            names[n++] = text_of(r, "contender");
    }
    for (unsigned k = 0; k < n; k++) {
        (void)fprintf(f, "$line%u << EOD\n", k);
        for (size_t i = 0; i < json_array_size(results); i++) {
            const json_t *r = json_array_get(results, i);
            long sandboxes = (long)json_integer_value(json_object_get(r, "sandboxes"));
            if (is_point(r) && !strcmp(names[k], text_of(r, "contender")))
                (void)fprintf(f, "%ld %.6g\n", sandboxes, median_of(r) * (double)sandboxes / 1024);
        }
        (void)fprintf(f, "EOD\n");
    }
    if (n > 0)
        (void)fprintf(f, "set output 'density.svg'\nset title 'Memory of N idle sandboxes: their processes "
                         "(PSS)'\nset xlabel "
                         "'sandboxes'\nset ylabel 'MiB'\n"
                         "set logscale xy\nset key left top\nset grid\nplot ");
    for (unsigned k = 0; k < n; k++)
        (void)fprintf(f, "%s$line%u using 1:2 with linespoints lw 2 title '%s'", k ? ", " : "", k, names[k]);
    (void)fprintf(f, "\n");
    return n;
}

bool charts_write(const struct bench *b)
{
    char script[160], out[1100];
    char *argv[] = {(char *)(uintptr_t) "gnuplot", (char *)(uintptr_t) "-e", out, script, NULL};
    struct run r;
    FILE *f;

    if (!process_have("gnuplot") || strchr(b->out, '\'') ||
        !io_format(script, sizeof(script), "%s/charts.gp", b->work) ||
        !io_format(out, sizeof(out), "cd '%s'", b->out) || !(f = fopen(script, "we")))
        return false;
    (void)fprintf(f, "set terminal svg size 800,480 dynamic enhanced background rgb 'white'\n");
    (void)bars(f, b->results, "start", "warm", "Start of one sandbox, start to end of the command",
               "milliseconds", "start.svg");
    (void)bars(f, b->results, "density", "PSS of its processes, 10 running",
               "Memory of one more idle sandbox: its processes (PSS)", "KiB", "memory.svg");
    (void)curve(f, b->results);
    if (fclose(f) != 0)
        return false;
    process_run(argv, false, 60, &r);
    return r.status == 0;
}
