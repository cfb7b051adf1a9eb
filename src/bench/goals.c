/*
 * The figures that the cell wall was built for, each from rows of one run: reached or missed, without a
 * tolerance.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

static const char cell[] = "ironclaw cell", ready[] = "ironclaw cell, ready";

static bool median(const json_t *results, const char *group, const char *what, const char *contender,
                   double *out)
{
    const json_t *v =
        json_object_get(row_find(results, group, what, contender), "median"); /* none if it failed */

    if (v)
        *out = json_number_value(v);
    return v != NULL;
}

struct goal {
    const char *name, *group, *what, *contender, *peer; /* peer: NULL: the figure itself counts */
    double limit;
    const char *unit;
};

static const struct goal goals[] = {
    {"start of a ready cell, to its end", "start", "warm", ready, NULL, 2, "ms"},
    {"the same, of bwrap's", "start", "warm", ready, "bwrap", 0.3, "x"},
    {"getppid", "loops", "getppid", cell, NULL, 0.020, "us"},
    {"walk of a tree, of runc's", "programs", "find /usr -xdev, 20 times", cell, "runc", 0.5, "x"},
    {"arithmetic, of native", "loops", "arithmetic (20,000 steps)", cell, "native", 1.01, "x"},
    {"fork, exec, wait, of native", "loops", "fork, exec, wait", cell, "native", 1.2, "x"},
    {"pipe round trip, of native", "loops", "pipe round trip, two processes", cell, "native", 1.2, "x"},
};

static void print_goal(FILE *f, bool *begun, const char *name, double limit, double v, const char *unit)
{
    if (!*begun)
        (void)fprintf(f, "| the cell's goals | at most | this run | |\n|---|---|---|---|\n");
    *begun = true;
    (void)fprintf(f, "| %s | %g %s | %.3g %s | %s |\n", name, limit, unit, v, unit,
                  v <= limit ? "reached" : "missed");
}

/* Memory of its own processes, shared pages in parts, and of the kernel for it: with as many cells as were
 * measured, for what is shared is paid once. */
static bool idle(const json_t *results, double *kib)
{
    static const char prefix[] = "PSS of its processes, ";
    unsigned long most = 0;
    double kernel;

    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        const char *what = row_text(r, "what");
        unsigned long n;
        if (strcmp(row_text(r, "contender"), cell) != 0 || strncmp(what, prefix, sizeof(prefix) - 1) != 0)
            continue;
        n = strtoul(what + sizeof(prefix) - 1, NULL, 10);
        if (n > most) {
            most = n;
            *kib = json_number_value(json_object_get(r, "median"));
        }
    }
    if (most == 0 || !median(results, "density", "kernel memory charged to its cgroup", cell, &kernel))
        return false;
    *kib += kernel;
    return true;
}

void goals_print(FILE *f, const json_t *results)
{
    bool begun = false;
    double v, of;

    for (size_t i = 0; i < sizeof(goals) / sizeof(*goals); i++) {
        const struct goal *g = &goals[i];
        if (!median(results, g->group, g->what, g->contender, &v))
            continue;
        if (!g->peer)
            print_goal(f, &begun, g->name, g->limit, v, g->unit);
        else if (median(results, g->group, g->what, g->peer, &of) && of > 0)
            print_goal(f, &begun, g->name, g->limit, v / of, g->unit);
    }
    if (idle(results, &v))
        print_goal(f, &begun, "one idle cell: PSS of its processes, kernel memory charged", 1024, v, "KiB");
    if (begun)
        (void)fprintf(f, "\n");
}
