/*
 * Start of one sealed command, from the start of the program to the end of its clean-up, against bubblewrap
 * and runc with the same root file system, the same mounts and the same command. Before anything is timed
 * each contender must print what it was told to; a contender that fails, then or later, is reported as failed
 * and never timed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

enum {
    WORDS_MAX = 96,
    TEXT_MAX = 96 * 320,
    REST_US = 50000, /* the kernel takes namespaces and cgroups down after the command ended: not at the next
                        one's cost */
};

struct contender {
    const char *name;
    char *argv[WORDS_MAX]; /* without the command itself */
    char *runc_config;     /* runc takes its command from a file: rewritten for each */
    size_t words;
    char text[TEXT_MAX]; /* storage of the words */
    size_t used;
    double *samples;
    size_t n;
    bool failed;
};

static void add(struct contender *c, const char *word)
{
    size_t len = strlen(word) + 1;

    if (c->words + 8 >= WORDS_MAX || c->used + len > sizeof(c->text))
        abort();
    memcpy(c->text + c->used, word, len);
    c->argv[c->words++] = c->text + c->used;
    c->used += len;
}

static void add_all(struct contender *c, const char *const *words)
{
    for (; *words; words++)
        add(c, *words);
}

bool bench_have(const char *program)
{
    const char *path = getenv("PATH");
    CLEANUP_FREE char *copy = x_strdup(path ? path : "/usr/bin:/bin");
    char *save = NULL, full[PATHS_MAX_LEN];

    for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save))
        if (io_format(full, sizeof(full), "%s/%s", dir, program) && access(full, X_OK) == 0)
            return true;
    return false;
}

int bench_run(char *const *argv, int fd, uint64_t *ns)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    uint64_t begin = io_monotonic_ns();
    int status = 0, rc;
    pid_t pid;

    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&actions, fd, 1);
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ns)
        *ns = io_monotonic_ns() - begin;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* bubblewrap with the mounts our container wall makes of the same tree. */
static int prepare_bwrap(struct contender *c, const char *rootfs, struct err *e)
{
    static const char *const head[] = {"bwrap",    "--unshare-all", "--die-with-parent", "--clearenv",
                                       "--setenv", "PATH",          "/usr/bin:/bin",     NULL};
    static const char *const tail[] = {"--proc",  "/proc",      "--dev",      "/dev",  "--tmpfs",
                                       "/tmp",    "--tmpfs",    "/workspace", "--dir", "/run",
                                       "--chdir", "/workspace", NULL};
    DIR *dir = opendir(rootfs);
    const struct dirent *d;

    if (!dir)
        return err_sys(e, errno, "cannot list %s", rootfs);
    add_all(c, head);
    while ((d = readdir(dir))) {
        char path[PATHS_MAX_LEN], inside[300], target[256];
        struct stat st;
        ssize_t n;
        if (d->d_name[0] == '.' || strstr(" dev proc sys tmp run workspace ", d->d_name) ||
            !io_format(path, sizeof(path), "%s/%s", rootfs, d->d_name) ||
            !io_format(inside, sizeof(inside), "/%s", d->d_name) || lstat(path, &st) < 0)
            continue;
        n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof(target) - 1) : 0;
        if (n > 0)
            target[n] = 0;
        add(c, n > 0 ? "--symlink" : "--ro-bind");
        add(c, n > 0 ? target : path);
        add(c, inside);
    }
    (void)closedir(dir);
    add_all(c, tail);
    return 0;
}

/* An equivalent OCI bundle: what `runc spec` gives (five namespaces, capabilities, masks) on the same root.
 */
static int prepare_runc(struct contender *c, const struct bench_options *o, const char *rootfs, struct err *e)
{
    static const char *const words[] = {"runc", "run", "--bundle", NULL};
    char bundle[128];
    char *spec[] = {(char *)(uintptr_t) "runc", (char *)(uintptr_t) "spec", (char *)(uintptr_t) "--bundle",
                    bundle, NULL};
    json_t *config;
    char path[160];

    (void)io_format(bundle, sizeof(bundle), "%s/bundle", o->work);
    (void)io_format(path, sizeof(path), "%s/config.json", bundle);
    if (mkdir(bundle, 0700) < 0 || bench_run(spec, 2, NULL) != 0)
        return err_set(e, EIO, "'runc spec' failed");
    config = json_load_file(path, 0, NULL);
    if (!config)
        return err_set(e, EIO, "'runc spec' wrote no JSON");
    (void)json_object_set_new(json_object_get(config, "root"), "path", json_string(rootfs));
    (void)json_object_set_new(json_object_get(config, "process"), "terminal", json_false());
    c->runc_config = json_dumps(config, 0);
    json_decref(config);
    add_all(c, words);
    add(c, bundle);
    return 0;
}

/* The full argument vector for one command; runc's goes into its bundle. */
static int command_for(struct contender *c, const struct bench_options *o, char *const *command, char **argv,
                       char *id, size_t idcap, struct err *e)
{
    static unsigned serial;
    size_t n = c->words;

    memcpy(argv, c->argv, n * sizeof(*argv));
    if (c->runc_config) {
        json_t *config = json_loads(c->runc_config, 0, NULL), *args = json_array();
        char path[160];
        for (; *command; command++)
            (void)json_array_append_new(args, json_string(*command));
        (void)json_object_set_new(json_object_get(config, "process"), "args", args);
        (void)io_format(path, sizeof(path), "%s/bundle/config.json", o->work);
        if (json_dump_file(config, path, 0) < 0) {
            json_decref(config);
            return err_set(e, EIO, "cannot write %s", path);
        }
        json_decref(config);
        (void)io_format(id, idcap, "ironclaw-bench-%d-%u", (int)getpid(), serial++);
        argv[n++] = id;
    } else {
        for (; *command; command++)
            argv[n++] = *command;
    }
    argv[n] = NULL;
    return 0;
}

/* Does the contender run the command at all? Compared is what the command prints. */
static bool proves_itself(struct contender *c, const struct bench_options *o, struct err *e)
{
    char word[32], id[64], output[64] = "";
    char *command[] = {(char *)(uintptr_t) "echo", word, NULL}, *argv[WORDS_MAX + 8];
    FILE *file = tmpfile();
    int status;

    (void)io_format(word, sizeof(word), "proof-%d", (int)getpid());
    if (!file || command_for(c, o, command, argv, id, sizeof(id), e) < 0)
        return false;
    status = bench_run(argv, fileno(file), NULL);
    rewind(file);
    if (fgets(output, sizeof(output), file))
        output[strcspn(output, "\n")] = 0;
    (void)fclose(file);
    return status == 0 && !strcmp(output, word);
}

static void time_once(struct contender *c, const struct bench_options *o, int null, struct err *e)
{
    char *command[] = {(char *)(uintptr_t) "true", NULL}, *argv[WORDS_MAX + 8], id[64];
    uint64_t ns;

    if (c->failed || command_for(c, o, command, argv, id, sizeof(id), e) < 0)
        return;
    if (bench_run(argv, null, &ns) != 0)
        c->failed = true;
    else
        c->samples[c->n++] = (double)ns / 1e6;
}

static json_t *result_of(struct contender *c, double baseline)
{
    double median = stats_percentile(c->samples, c->n, 50);
    json_t *r = json_pack("{s:s,s:s,s:s}", "group", "start", "name", c->name, "unit", "ms");

    if (c->failed || c->n == 0) {
        (void)json_object_set_new(r, "failed", json_true());
        return r;
    }
    (void)json_object_set_new(r, "median", json_real(median));
    (void)json_object_set_new(r, "p10", json_real(stats_percentile(c->samples, c->n, 10)));
    (void)json_object_set_new(r, "p90", json_real(stats_percentile(c->samples, c->n, 90)));
    (void)json_object_set_new(r, "n", json_integer((json_int_t)c->n));
    if (baseline > 0 && median > 0)
        (void)json_object_set_new(r, "ironclaw_ratio", json_real(baseline / median));
    return r;
}

int bench_start(const struct bench_options *o, json_t *results, struct err *e)
{
    static struct contender all[3];
    char rootfs[PATHS_MAX_LEN], state[PATHS_MAX_LEN];
    char *build[] = {(char *)(uintptr_t)o->ironclaw, (char *)(uintptr_t) "image", (char *)(uintptr_t) "build",
                     (char *)(uintptr_t) "base", NULL};
    const char *ours[] = {o->ironclaw, "run", "--", NULL};
    CLEANUP_CLOSE int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    size_t n = 1;
    double baseline;

    if (null < 0 || bench_run(build, null, NULL) != 0)
        return err_set(e, EIO, "the base image cannot be built (run: ironclaw image build base)");
    if (paths_state_dir(state, sizeof(state), e) < 0 ||
        !io_format(rootfs, sizeof(rootfs), "%s/images/base/rootfs", state))
        return -1;
    all[0].name = "ironclaw run (container wall)";
    add_all(&all[0], ours);
    if (bench_have("bwrap")) {
        all[n].name = "bwrap --unshare-all, same mounts";
        if (prepare_bwrap(&all[n++], rootfs, e) < 0)
            return -1;
    }
    if (bench_have("runc") && geteuid() == 0) {
        all[n].name = "runc run, equivalent bundle";
        if (prepare_runc(&all[n++], o, rootfs, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        all[i].samples = x_calloc(o->iterations, sizeof(double));
        all[i].failed = !proves_itself(&all[i], o, e);
    }
    for (unsigned round = 0; round < o->iterations; round++) {
        for (size_t i = 0; i < n; i++) {
            (void)usleep(REST_US);
            time_once(&all[(round + i) % n], o, null, e);
        }
    }
    baseline = all[0].failed ? 0 : stats_percentile(all[0].samples, all[0].n, 50);
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(results, result_of(&all[i], i ? baseline : 0));
        free(all[i].samples);
        free(all[i].runc_config);
    }
    return 0;
}
