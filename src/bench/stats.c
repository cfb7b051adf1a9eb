#include <stdlib.h>

#include "bench/bench.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Nearest rank. */
double stats_percentile(double *samples, size_t n, double p)
{
    size_t at;

    if (n == 0)
        return 0;
    qsort(samples, n, sizeof(*samples), compare);
    at = (size_t)(p * (double)(n - 1) / 100.0 + 0.5);
    return samples[at < n ? at : n - 1];
}
