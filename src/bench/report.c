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

static void print_row(FILE *f, const json_t *r)
{
    const json_t *ratio = json_object_get(r, "ironclaw_ratio"), *p90 = json_object_get(r, "p90");

    (void)fprintf(f, "| %s | %s | ", json_string_value(json_object_get(r, "group")),
                  json_string_value(json_object_get(r, "name")));
    if (json_is_true(json_object_get(r, "failed"))) {
        (void)fprintf(f, "failed | | |\n");
        return;
    }
    (void)fprintf(f, "%.2f %s | ", json_number_value(json_object_get(r, "median")),
                  json_string_value(json_object_get(r, "unit")));
    if (p90)
        (void)fprintf(f, "%.2f - %.2f", json_number_value(json_object_get(r, "p10")), json_number_value(p90));
    (void)fprintf(f, " | ");
    if (ratio)
        (void)fprintf(f, "%.2fx", json_number_value(ratio));
    (void)fprintf(f, " |\n");
}

static void print_table(FILE *f, const json_t *results)
{
    (void)fprintf(f, "| group | what | median | p10 - p90 | ironclaw / this |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < json_array_size(results); i++)
        print_row(f, json_array_get(results, i));
}

void report_print(const json_t *results)
{
    print_table(stdout, results);
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

static int write_methodology(const char *path, const struct bench_options *o, struct err *e)
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
    (void)fprintf(f, "cgroups: %s\nuid: %u\n", h.v2 ? "v2" : "v1", geteuid());
    (void)fprintf(f,
                  "\nstart: %u rounds; in each round every contender runs once, each time another one first, "
                  "after 50 ms of\nrest for what the one before left the kernel to clean up; wall time "
                  "from spawn to wait of the whole\n"
                  "command 'true', the base image as root. Each contender first has to echo a word. A run "
                  "that fails is not timed.\n"
                  "control plane: 'ironclaw up' on a fresh state directory with the mock model. PSS summed "
                  "over the supervisor and its\n"
                  "children. Chat: POST the message, then a long poll until the answer is there, on one kept "
                  "connection; %u messages after\n"
                  "20 to warm up, each answer compared with its question. Slope: PSS before and after %u "
                  "more running, idle sessions.\n",
                  o->iterations, o->messages, o->sessions);
    return fclose(f) == 0 ? 0 : err_sys(e, errno, "cannot write %s", path);
}

int report_write(const struct bench_options *o, const json_t *results, struct err *e)
{
    char path[512];
    FILE *f;

    if (io_mkdirs(AT_FDCWD, o->out, 0755, e) < 0)
        return -1;
    if (!io_format(path, sizeof(path), "%s/results.json", o->out) ||
        json_dump_file(results, path, JSON_INDENT(2)) < 0)
        return err_set(e, EIO, "cannot write %s/results.json", o->out);
    if (!io_format(path, sizeof(path), "%s/results.md", o->out) || !(f = fopen(path, "we")))
        return err_sys(e, errno, "cannot write %s/results.md", o->out);
    print_table(f, results);
    if (fclose(f) != 0)
        return err_sys(e, errno, "cannot write %s", path);
    if (!io_format(path, sizeof(path), "%s/methodology.txt", o->out))
        return err_set(e, ENAMETOOLONG, "--out: the path is too long");
    return write_methodology(path, o, e);
}
