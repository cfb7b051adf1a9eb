/*
 * `ironclaw capacity`: starts a few sessions of an agent on a control plane of its own, sees what each takes
 * of everything that can run out on this host, and divides what is there by it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

enum {
    SETTLE_MS = 7000,
    WARM = 3,
    UIDS = (1 << 24) - 1024, /* of the launcher's range (docs/configuration.md, uid_base) */
    RESERVE_PERCENT = 10,
};

static const char help[] =
    "usage: ironclaw capacity [--agent A] [--wall W] [--sessions N] [--reserve PERCENT] [--json]\n"
    "Measures what one idle session costs on this host and says how many fit and what runs out first.\n"
    "\n"
    "  --agent A          an agent of the running control plane: its image, limits and command (default: the "
    "built-in agent)\n"
    "  --wall W           with this wall instead of the agent's\n"
    "  --sessions N       how many are started for the measurement (default 30)\n"
    "  --reserve PERCENT  of every resource that stays free (default 10)\n"
    "  --json             print JSON\n"
    "\n"
    "The sessions run on a temporary control plane and are idle; what their work will take comes on top.\n"
    "\n"
    "example: ironclaw capacity --agent coder --reserve 20\n";

struct options {
    const char *agent, *wall;
    unsigned sessions, reserve;
    bool json;
};

/* One thing that can run out: how much of it was free before, how much the sessions took. */
struct resource {
    const char *name, *unit;
    double free, taken; /* taken by all of the measured sessions */
};

/* Everything a session might take, read at one moment. */
struct reading {
    double memory;       /* KiB available */
    double files;        /* open files on the host */
    double disk, inodes; /* KiB and inodes free below the state directory */
    double fds;          /* descriptors of the control plane process that holds most */
    double fds_limit;    /* and its limit */
    struct family {
        double pss;      /* KiB */
        double tasks;    /* processes and threads */
        double networks; /* different network namespaces */
        double cpu_s;    /* seconds on a CPU */
    } family;            /* the control plane and everything below it */
};

static double number_in(const char *path, int field)
{
    CLEANUP_FREE char *text = NULL;
    char *at, *save = NULL;

    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return 0;
    at = strtok_r(text, " \t\n/", &save);
    while (at && field-- > 0)
        at = strtok_r(NULL, " \t\n/", &save);
    return at ? strtod(at, NULL) : 0;
}

static void read_descriptors(const struct plane *p, struct reading *r)
{
    char path[64];
    CLEANUP_FREE char *text = NULL;
    char *save = NULL;
    struct rlimit limit;

    (void)io_format(path, sizeof(path), "/proc/%d/task/%d/children", (int)p->pid, (int)p->pid);
    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);
        double fds = (double)host_fds(pid);
        if (fds <= r->fds)
            continue;
        r->fds = fds;
        if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0)
            r->fds_limit = (double)limit.rlim_cur;
    }
}

/* The parent of a process (proc_pid_stat(5), fourth field; the second may hold spaces), or 0. */
static pid_t parent_of(pid_t pid)
{
    char path[64];
    CLEANUP_FREE char *text = NULL;
    const char *at;

    (void)io_format(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return 0;
    at = strrchr(text, ')');
    return at && strlen(at) > 4 ? (pid_t)strtol(at + 4, NULL, 10) : 0;
}

/* What the tasks of one process add: how many they are, and the seconds they were on a CPU
 * (Documentation/scheduler/sched-stats.rst). */
static void add_tasks(pid_t pid, struct family *f)
{
    char path[64], file[96];
    DIR *dir;
    const struct dirent *d;

    (void)io_format(path, sizeof(path), "/proc/%d/task", (int)pid);
    dir = opendir(path);
    while (dir && (d = readdir(dir))) {
        if (d->d_name[0] == '.' || !io_format(file, sizeof(file), "%s/%.20s/schedstat", path, d->d_name))
            continue;
        f->tasks++;
        f->cpu_s += number_in(file, 0) / 1e9;
    }
    if (dir)
        (void)closedir(dir);
}

static int compare_ino(const void *a, const void *b)
{
    const unsigned long long x = *(const unsigned long long *)a, y = *(const unsigned long long *)b;

    return x < y ? -1 : x > y;
}

static unsigned long long network_of(pid_t pid)
{
    char path[64], target[64];
    ssize_t len;

    (void)io_format(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    len = readlink(path, target, sizeof(target) - 1);
    if (len <= 5)
        return 0;
    target[len] = 0;
    return strtoull(target + 5, NULL, 10); /* "net:[4026531840]" */
}

/* The control plane and all that descends from it: its sandboxes and the helpers of their walls. */
static void read_family(const struct plane *p, struct family *f)
{
    size_t n, found = 0;
    CLEANUP_FREE pid_t *pids = host_pids(&n);
    CLEANUP_FREE unsigned long long *inos = x_calloc(n + 1, sizeof(*inos));

    *f = (struct family){0};
    for (size_t i = 0; i < n; i++) {
        pid_t at = pids[i];
        for (int depth = 0; at > 1 && at != p->pid && depth < 16; depth++)
            at = parent_of(at);
        if (at != p->pid)
            continue;
        add_tasks(pids[i], f);
        f->pss += (double)host_pss(pids[i]);
        inos[found++] = network_of(pids[i]);
    }
    qsort(inos, found, sizeof(*inos), compare_ino);
    for (size_t i = 0; i < found; i++)
        f->networks += inos[i] && (i == 0 || inos[i] != inos[i - 1]);
}

static void take_reading(const struct plane *p, struct reading *r)
{
    struct host_memory m;
    struct statvfs fs;

    *r = (struct reading){0};
    host_memory(&m);
    r->memory = (double)m.available;
    r->files = number_in("/proc/sys/fs/file-nr", 0);
    sync(); /* blocks are allocated when they are written */
    if (statvfs(p->state, &fs) == 0) {
        r->disk = (double)fs.f_bavail * (double)fs.f_frsize / 1024;
        r->inodes = (double)fs.f_favail;
    }
    read_descriptors(p, r);
    read_family(p, &r->family);
}

/* The document of an agent of the running control plane, reduced to what an idle session costs by. */
static json_t *fetch_agent(const struct bench *b, const char *name, struct err *e)
{
    static const char *const kept[] = {"image", "wall", "command", "limits", "tools", NULL};
    char *argv[] = {(char *)(uintptr_t)b->ironclaw, (char *)(uintptr_t) "agent",  (char *)(uintptr_t) "show",
                    (char *)(uintptr_t)name,        (char *)(uintptr_t) "--json", NULL};
    json_t *answer, *document = json_object();
    const json_t *from;
    struct run r;

    process_run(argv, false, 30, &r);
    answer = r.status == 0 ? json_loads(r.out, 0, NULL) : NULL;
    from = json_object_get(answer, "document") ? json_object_get(answer, "document") : answer;
    for (const char *const *k = kept; *k; k++)
        if (json_object_get(from, *k))
            (void)json_object_set(document, *k, json_object_get(from, *k));
    json_decref(answer);
    if (json_object_size(document) == 0) {
        json_decref(document);
        (void)err_set(e, EIO, "cannot read the agent %s: %s", name, *r.error ? r.error : "no answer");
        return NULL;
    }
    return document;
}

/* An image other than base is copied from where the caller's images are. */
static int bring_image(const struct bench *b, const struct plane *p, const char *image, struct err *e)
{
    char state[PATHS_MAX_LEN], tree[PATHS_MAX_LEN];
    char *argv[] = {(char *)(uintptr_t)b->ironclaw,
                    (char *)(uintptr_t) "image",
                    (char *)(uintptr_t) "import",
                    (char *)(uintptr_t)image,
                    tree,
                    NULL};
    struct run r;

    if (!image || !strcmp(image, "base"))
        return 0;
    if (paths_state_dir(state, sizeof(state), e) < 0)
        return -1;
    if (!io_format(tree, sizeof(tree), "%s/images/%s/rootfs", state, image))
        return err_set(e, ENAMETOOLONG, "the path of the state directory is too long");
    if (setenv("IRONCLAW_STATE_DIR", p->state, 1) < 0)
        return err_sys(e, errno, "cannot set the environment");
    process_run(argv, false, 300, &r);
    return r.status == 0 ? 0 : err_set(e, EIO, "cannot copy the image %s: %s", image, r.error);
}

static int start_some(struct plane *p, unsigned n, const char *what, struct err *e)
{
    char id[64], text[96];

    for (unsigned i = 0; i < n; i++) {
        (void)io_format(text, sizeof(text), "capacity: %s, session %u of %u", what, i + 1, n);
        bench_progress(text);
        if (plane_session(p, id, sizeof(id), e) < 0)
            return -1;
    }
    bench_progress("capacity: settling");
    (void)usleep(SETTLE_MS * 1000U);
    return 0;
}

/* The smaller of a limit and what a second one says; 0 counts as no limit. */
static double tighter(double a, double b)
{
    return a <= 0 ? b : b <= 0 || a < b ? a : b;
}

/* `busy`: CPUs that were busy while all sessions were idle. */
static size_t compare_readings(const struct reading *before, const struct reading *after, double busy,
                               unsigned sessions, struct resource *out)
{
    const struct family *f0 = &before->family, *f1 = &after->family;
    double tasks =
        tighter(number_in("/proc/sys/kernel/pid_max", 0), number_in("/proc/sys/kernel/threads-max", 0));
    double used = number_in("/proc/loadavg", 4); /* "0.1 0.2 0.3 1/234 ...": proc_loadavg(5) */
    /* What the host lost holds everything but is blurred by whatever else it does; what the processes share
     * out is the least it can be. */
    double lost = before->memory - after->memory, shared_out = f1->pss - f0->pss;
    size_t n = 0;

#define RESOURCE(...) out[n++] = (struct resource){__VA_ARGS__}
    RESOURCE("memory", "KiB", before->memory, lost > shared_out ? lost : shared_out);
    RESOURCE("processes and threads", "", tasks - used, f1->tasks - f0->tasks);
    RESOURCE("descriptors of one control plane process", "", before->fds_limit - before->fds,
             after->fds - before->fds);
    RESOURCE("open files of the host", "", number_in("/proc/sys/fs/file-max", 0) - before->files,
             after->files - before->files);
    RESOURCE("network namespaces", "", number_in("/proc/sys/user/max_net_namespaces", 0),
             f1->networks - f0->networks);
    RESOURCE("user namespaces", "", number_in("/proc/sys/user/max_user_namespaces", 0),
             f1->networks - f0->networks);
    RESOURCE("host uids", "", geteuid() == 0 ? UIDS : 0, geteuid() == 0 ? sessions : 0);
    RESOURCE("disk of the state directory", "KiB", before->disk, before->disk - after->disk);
    RESOURCE("inodes of the state directory", "", before->inodes, before->inodes - after->inodes);
    RESOURCE("processor time while idle", "CPUs", (double)sysconf(_SC_NPROCESSORS_ONLN), busy);
#undef RESOURCE
    return n;
}

static json_t *judge(const struct resource *all, size_t n, const struct options *o)
{
    json_t *rows = json_array();
    double least = INFINITY;
    const char *first = "";

    for (size_t i = 0; i < n; i++) {
        double cost = all[i].taken / o->sessions, usable = all[i].free * (100 - o->reserve) / 100, fit;
        json_t *r = json_pack("{s:s,s:s,s:f,s:f}", "resource", all[i].name, "unit", all[i].unit,
                              "per_session", cost, "free", all[i].free);
        (void)json_array_append_new(rows, r);
        if (cost <= 0 || all[i].free <= 0)
            continue; /* not taken, or not limited */
        fit = floor(usable / cost);
        (void)json_object_set_new(r, "sessions", json_integer((json_int_t)(fit < 1e12 ? fit : 1e12)));
        if (fit < least) {
            least = fit;
            first = all[i].name;
        }
    }
    return json_pack("{s:s,s:i,s:i,s:I,s:s,s:o}", "schema", "ironclaw-capacity/1", "measured_sessions",
                     o->sessions, "reserve_percent", o->reserve, "sessions",
                     (json_int_t)(isinf(least) ? 0 : least), "runs_out_first", first, "resources", rows);
}

static void print_capacity(const json_t *report)
{
    const json_t *rows = json_object_get(report, "resources");

    (void)printf("%-42s %16s %18s %12s\n", "RESOURCE", "PER SESSION", "FREE", "SESSIONS");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *r = json_array_get(rows, i), *fit = json_object_get(r, "sessions");
        char cost[48], have[48];
        const char *unit = json_string_value(json_object_get(r, "unit"));
        (void)io_format(cost, sizeof(cost), "%.4g %s", json_number_value(json_object_get(r, "per_session")),
                        unit);
        (void)io_format(have, sizeof(have), "%.0f %s", json_number_value(json_object_get(r, "free")), unit);
        (void)printf("%-42s %16s %18s ", json_string_value(json_object_get(r, "resource")), cost, have);
        if (fit)
            (void)printf("%12lld\n", (long long)json_integer_value(fit));
        else
            (void)printf("%12s\n", "-");
    }
    (void)printf("\n%lld idle sessions fit, with %lld %% of everything left free; %s runs out first.\n",
                 (long long)json_integer_value(json_object_get(report, "sessions")),
                 (long long)json_integer_value(json_object_get(report, "reserve_percent")),
                 json_string_value(json_object_get(report, "runs_out_first")));
}

static json_t *measure(struct bench *b, const struct options *o, struct err *e)
{
    static const char config[] =
        "api:\n  rate_per_minute: 1000000\nlimits_max: {memory: 1T, cpus: 1024, pids: 1048576}\n";
    json_t *document = o->agent ? fetch_agent(b, o->agent, e) : json_object(), *report = NULL;
    struct plane p = {.output = -1};
    struct reading before, after;
    struct resource all[16];

    if (!document)
        return NULL;
    if (o->wall)
        (void)json_object_set_new(document, "wall", json_string(o->wall));
    (void)json_object_set_new(document, "name", json_string("capacity"));
    if (plane_start(b, config, &p, e) == 0 &&
        bring_image(b, &p, json_string_value(json_object_get(document, "image")), e) == 0 &&
        plane_agent(&p, json_incref(document), e) == 0 && start_some(&p, WARM, "warming up", e) == 0) {
        take_reading(&p, &before);
        if (start_some(&p, o->sessions, "measuring", e) == 0) {
            struct family quiet;
            take_reading(&p, &after);
            (void)usleep(SETTLE_MS *
                         1000U); /* nothing happens: what is busy now is what idle sessions cost */
            read_family(&p, &quiet);
            report =
                judge(all,
                      compare_readings(&before, &after, (quiet.cpu_s - after.family.cpu_s) * 1000 / SETTLE_MS,
                                       o->sessions, all),
                      o);
        }
    }
    plane_stop(&p);
    json_decref(document);
    return report;
}

static int parse(int argc, char **argv, struct options *o, struct err *e)
{
    static const struct option options[] = {{"agent", 1, NULL, 'a'},    {"wall", 1, NULL, 'w'},
                                            {"sessions", 1, NULL, 's'}, {"reserve", 1, NULL, 'r'},
                                            {"json", 0, NULL, 'j'},     {"help", 0, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    uint64_t v;
    int id;

    *o = (struct options){.sessions = 30, .reserve = RESERVE_PERCENT};
    opterr = 0;
    optind = 2;
    while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (id == 'a' && io_valid_name(optarg)) {
            o->agent = optarg;
        } else if (id == 'w') {
            o->wall = optarg;
        } else if (id == 's' && io_parse_u64(optarg, 10000, &v) && v >= 5) {
            o->sessions = (unsigned)v;
        } else if (id == 'r' && io_parse_u64(optarg, 90, &v)) {
            o->reserve = (unsigned)v;
        } else if (id == 'j') {
            o->json = true;
        } else if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        } else if (id == 's' || id == 'r' || id == 'a') {
            return err_set(e, EINVAL,
                           "'%s' is not a value of that option: --sessions takes 5 to 10000, --reserve 0 to "
                           "90, --agent a name",
                           optarg);
        } else {
            return err_set(e, EINVAL,
                           "unknown option or missing value: '%s' (see 'ironclaw capacity --help')",
                           argv[optind - 1]);
        }
    }
    return optind < argc
               ? err_set(e, EINVAL, "unexpected argument '%s' (see 'ironclaw capacity --help')", argv[optind])
               : 0;
}

int capacity_main(struct bench *b, int argc, char **argv, int (*prepare)(struct bench *, struct err *),
                  struct err *e)
{
    struct options o;
    json_t *report;
    int rc = parse(argc, argv, &o, e);

    if (rc != 0)
        return rc;
    if (prepare(b, e) < 0)
        return -1;
    report = measure(b, &o, e);
    bench_progress(NULL);
    if (!report)
        return -1;
    if (o.json)
        (void)(json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0 && putchar('\n'));
    else
        print_capacity(report);
    json_decref(report);
    return 0;
}
