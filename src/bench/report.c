#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "bench/bench.h"
#include "walls/cgroup.h"

enum { NAMES_MAX = 160 };

static json_t *row(struct bench *b, const char *group, const char *what, const char *contender)
{
    json_t *r = json_pack("{s:s,s:s,s:s}", "group", group, "what", what, "contender", contender);

    (void)json_array_append_new(b->results, r);
    return r;
}

json_t *row_figure(struct bench *b, const char *group, const char *what, const char *contender,
                   const char *unit, double value)
{
    json_t *r = row(b, group, what, contender);

    (void)json_object_set_new(r, "unit", json_string(unit));
    (void)json_object_set_new(r, "median", json_real(value));
    return r;
}

json_t *row_add(struct bench *b, const char *group, const char *what, const char *contender, const char *unit,
                double *samples, size_t n)
{
    json_t *r = row_figure(b, group, what, contender, unit, stats_percentile(samples, n, 50));

    (void)json_object_set_new(r, "p10", json_real(stats_percentile(samples, n, 10)));
    (void)json_object_set_new(r, "p90", json_real(stats_percentile(samples, n, 90)));
    (void)json_object_set_new(r, "n", json_integer((json_int_t)n));
    return r;
}

void row_failed(struct bench *b, const char *group, const char *what, const char *contender, const char *why)
{
    (void)json_object_set_new(row(b, group, what, contender), "failed", json_string(why));
}

const char *row_text(const json_t *r, const char *key)
{
    const char *s = json_string_value(json_object_get(r, key));

    return s ? s : "";
}

/* The different values of `key` among the rows of a group, in order of appearance. */
static size_t names_of(const json_t *results, const char *group, const char *key, const char **names)
{
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        const char *name = row_text(r, key);
        size_t k = 0;
        if (group && strcmp(row_text(r, "group"), group) != 0)
            continue;
        while (k < n && strcmp(names[k], name) != 0)
            k++;
        if (k == n && n < NAMES_MAX)
            names[n++] = name;
    }
    return n;
}

const json_t *row_find(const json_t *results, const char *group, const char *what, const char *contender)
{
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        if (!strcmp(row_text(r, "group"), group) && !strcmp(row_text(r, "what"), what) &&
            !strcmp(row_text(r, "contender"), contender))
            return r;
    }
    return NULL;
}

/* Three significant digits, no more than a reader can use. */
static void print_value(FILE *f, double v)
{
    double size = v < 0 ? -v : v;

    (void)fprintf(f, size >= 100 ? "%.0f" : size >= 10 ? "%.1f" : size >= 1 ? "%.2f" : "%.3f", v);
}

/* "median ±half the distance from p10 to p90 (ratio of our first wall to this)". */
static void print_cell(FILE *f, const json_t *r, const json_t *first)
{
    double v = json_number_value(json_object_get(r, "median")),
           base = json_number_value(json_object_get(first, "median"));
    const json_t *p10 = json_object_get(r, "p10"), *p90 = json_object_get(r, "p90");

    if (!r) {
        (void)fprintf(f, " |");
        return;
    }
    if (json_object_get(r, "failed")) {
        (void)fprintf(f, " failed |");
        return;
    }
    (void)fputc(' ', f);
    print_value(f, v);
    if (p10 && p90 && json_integer_value(json_object_get(r, "n")) > 1) {
        (void)fprintf(f, " ±");
        print_value(f, (json_number_value(p90) - json_number_value(p10)) / 2);
    }
    if (first && r != first && !json_object_get(first, "failed") && v > 0 && base > 0)
        (void)fprintf(f, " (%.2fx)", base / v);
    (void)fprintf(f, " |");
}

static void print_group(FILE *f, const json_t *results, const char *group)
{
    const char *contenders[NAMES_MAX], *whats[NAMES_MAX];
    size_t n = names_of(results, group, "contender", contenders), m = names_of(results, group, "what", whats);

    (void)fprintf(f, "| %s |", group);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(f, " %s |", *contenders[i] ? contenders[i] : "figure");
    (void)fprintf(f, "\n|---|");
    for (size_t i = 0; i < n; i++)
        (void)fprintf(f, "---|");
    for (size_t k = 0; k < m; k++) {
        const char *unit = "";
        for (size_t i = 0; i < n && !*unit; i++)
            unit = row_text(row_find(results, group, whats[k], contenders[i]), "unit");
        (void)fprintf(f, *unit ? "\n| %s, %s |" : "\n| %s |", whats[k], unit);
        for (size_t i = 0; i < n; i++)
            print_cell(f, row_find(results, group, whats[k], contenders[i]),
                       *contenders[i] ? row_find(results, group, whats[k], contenders[0]) : NULL);
    }
    (void)fprintf(f, "\n\n");
}

/* Why a figure is missing; once for rows of one group and contender that have the same reason. */
static void print_failures(FILE *f, const json_t *results)
{
    const char *last = "";

    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        const char *why = row_text(r, "failed");
        if (*why && strcmp(why, last) != 0)
            (void)fprintf(f, "not measured: %s, %s%s%s: %s\n", row_text(r, "group"), row_text(r, "what"),
                          *row_text(r, "contender") ? ", " : "", row_text(r, "contender"), why);
        last = *why ? why : last;
    }
}

static void print_tables(FILE *f, const json_t *results)
{
    const char *groups[NAMES_MAX];
    size_t n = names_of(results, NULL, "group", groups);

    for (size_t i = 0; i < n; i++)
        print_group(f, results, groups[i]);
    goals_print(f, results);
    print_failures(f, results);
}

void report_print(const struct bench *b)
{
    print_tables(stdout, b->results);
    (void)printf("In brackets: the first column divided by this one; below 1 IronClaw needs less. ±: half of "
                 "p10 to p90.\n");
}

static void print_first_line(FILE *f, const char *label, const char *path, const char *prefix)
{
    char line[512];
    FILE *in = fopen(path, "re");

    while (in && fgets(line, sizeof(line), in)) {
        if (strncmp(line, prefix, strlen(prefix)) != 0)
            continue;
        (void)fprintf(f, "%s: %s", label, line);
        break;
    }
    if (in)
        (void)fclose(in);
}

/* The first line of "NAME --version". */
static void print_version(FILE *f, const char *name)
{
    char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t) "--version", NULL};
    struct run r;

    process_run(argv, false, 10, &r);
    if (r.status == 0)
        (void)fprintf(f, "  %.*s\n", (int)strcspn(r.out, "\n"), r.out);
}

static void print_flags(FILE *f, const struct bench *b, const struct contender *c)
{
    char *const command[] = {(char *)(uintptr_t) "COMMAND", NULL};
    struct words w = {0};

    contender_command(c, b, NULL, command, &w);
    (void)fprintf(f, "  %s:", c->name);
    for (size_t i = 0; i < w.n; i++) {
        const char *word = w.v[i], *base = strrchr(word, '/');
        /* The place of this build and of its temporary files says nothing about the method. */
        if (base && (strstr(word, b->work) || !strcmp(word, b->ironclaw)))
            (void)fprintf(f, " %s", base + 1);
        else
            (void)fprintf(f, " %s", word);
    }
    (void)fprintf(f, "\n");
    words_free(&w);
}

static int write_methodology(const char *path, const struct bench *b, const struct contender *all, size_t n,
                             struct err *e)
{
    FILE *f = fopen(path, "we");
    struct cgroup_host h;
    struct utsname u;

    if (!f)
        return err_sys(e, errno, "cannot write %s", path);
    cgroup_probe(&h);
    (void)uname(&u);
    (void)fprintf(f, "ironclaw %s\nkernel: %s %s\ncpus: %ld\n", IRONCLAW_VERSION, u.release, u.machine,
                  sysconf(_SC_NPROCESSORS_ONLN));
    print_first_line(f, "cpu", "/proc/cpuinfo", "model name");
    print_first_line(f, "memory", "/proc/meminfo", "MemTotal");
    print_first_line(f, "distribution", "/etc/os-release", "PRETTY_NAME");
    (void)fprintf(f, "cgroups: %s\nuid: %u\nmode: %s\n\nversions:\n", h.v2 ? "v2" : "v1", geteuid(),
                  b->quick ? "quick" : "full");
    for (size_t i = 0; i < n; i++)
        if (!all[i].ours && !all[i].outside)
            print_version(f, all[i].name);
    (void)fprintf(f, "\ncommand lines (words of the temporary directory shortened to their last part):\n");
    for (size_t i = 0; i < n; i++)
        print_flags(f, b, &all[i]);
    (void)fprintf(
        f,
        "\nEvery contender runs the same command on the same root directory, read-only, without a network, "
        "with private /proc, /dev,\n"
        "/tmp and /workspace. In each round every contender runs once, each time another one first, after 50 "
        "ms of rest. A run\n"
        "counts only if it ended with 0 and printed what it should; a contender that fails is reported and "
        "not timed again.\n"
        "Figures are medians; p10 and p90 are in results.json.\n\n"
        "start: wall time from fork to wait of the whole command 'echo up', %u rounds. cold: page cache, "
        "dentries and inodes are\n"
        "  dropped before each run. 16 at once: sixteen are forked one after the other without waiting.\n"
        "loops: one sandbox per round runs all loops, each for %d ms by its own clock, doubling its count "
        "until it takes that long.\n"
        "  Every operation's result is checked. native: the same static program outside of every wall, its "
        "files in /dev/shm.\n"
        "programs: the image 'tools'. python3 and the compile are whole commands, git status is timed "
        "inside.\n"
        "density: idle sandboxes that said they are ready; what MemAvailable lost, divided by their number, "
        "after one was\n"
        "  started and ended; the PSS of their processes, which the charts show; processes and kernel memory "
        "with "
        "ten running.\n"
        "  A curve ends at %u, beyond ten also after a minute (quick: 5 s) of starting, or at a quarter of "
        "the "
        "memory.\n"
        "control plane: 'ironclaw up' on a fresh state directory. chat: POST the message, long poll until "
        "the answer, which must\n"
        "  quote it, on one kept connection, the sessions in turn; all of them run. appends: one agent, one "
        "connection,\n"
        "  each acknowledged when durable, before the next. model: a server on the host's loopback stamps "
        "each chunk with\n"
        "  CLOCK_MONOTONIC; lateness is measured where it is read: by this process directly, and inside the "
        "sandbox through\n"
        "  model port, modelproxy and upstream, alternating.\n",
        b->rounds, b->quick ? 40 : 100, b->sandboxes);
    return fclose(f) == 0 ? 0 : err_sys(e, errno, "cannot write %s", path);
}

int report_write(const struct bench *b, const struct contender *all, size_t n, struct err *e)
{
    char path[512];
    json_t *document;
    FILE *f;
    int rc;

    if (io_mkdirs(AT_FDCWD, b->out, 0755, e) < 0)
        return -1;
    if (!io_format(path, sizeof(path), "%s/methodology.txt", b->out)) /* the longest name */
        return err_set(e, ENAMETOOLONG, "--out: the path is too long");
    if (write_methodology(path, b, all, n, e) < 0)
        return -1;
    (void)io_format(path, sizeof(path), "%s/results.json", b->out);
    document = json_pack("{s:s,s:s,s:b,s:O}", "schema", "ironclaw-bench/1", "version", IRONCLAW_VERSION,
                         "quick", b->quick, "results", b->results);
    rc = json_dump_file(document, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(document);
    if (rc < 0)
        return err_set(e, EIO, "cannot write %s", path);
    (void)io_format(path, sizeof(path), "%s/results.md", b->out);
    f = fopen(path, "we");
    if (!f)
        return err_sys(e, errno, "cannot write %s", path);
    print_tables(f, b->results);
    if (fclose(f) != 0)
        return err_sys(e, errno, "cannot write %s", path);
    if (!charts_write(b))
        (void)fprintf(stderr, "ironclaw: no charts: gnuplot is missing or failed\n");
    return 0;
}
