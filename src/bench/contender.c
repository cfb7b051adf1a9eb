/*
 * Who takes part. Every contender runs the same command on the same read-only root with private /proc, /dev,
 * /tmp and /workspace, no network, and the environment PATH alone; what else it does is its own business and
 * is what is measured.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fnv.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"
#include "walls/wall.h"

void words_add(struct words *w, const char *word)
{
    w->v = x_realloc(w->v, (w->n + 2) * sizeof(*w->v));
    w->v[w->n++] = x_strdup(word);
    w->v[w->n] = NULL;
}

void words_free(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->v[i]);
    free(w->v);
    *w = (struct words){0};
}

static void add_all(struct words *w, const char *const *list)
{
    for (; *list; list++)
        words_add(w, *list);
}

static void add_command(struct words *w, char *const *command)
{
    for (; *command; command++)
        words_add(w, *command);
}

bool contender_image(const char *rootfs, char *state, size_t cap, char *name, size_t name_cap)
{
    static const char before[] = "/images/", after[] = "/rootfs";
    const char *at = strstr(rootfs, before), *end = at ? strstr(at + sizeof(before) - 1, after) : NULL;

    if (!end || end[sizeof(after) - 1])
        return false;
    return io_format(state, cap, "%.*s", (int)(at - rootfs), rootfs) &&
           io_format(name, name_cap, "%.*s", (int)(end - at) - (int)sizeof(before) + 1,
                     at + sizeof(before) - 1) &&
           !strchr(name, '/');
}

static void ours(const struct contender *c, const struct bench *b, const char *rootfs, char *const *command,
                 struct words *w)
{
    char state[PATHS_MAX_LEN], name[64];
    bool image = contender_image(rootfs, state, sizeof(state), name, sizeof(name));
    const char *const head[] = {
        b->ironclaw, "run", "--wall", c->wall, "--pids", c->ready ? STANDBY_PIDS : "1024", NULL};
    const char *const by_name[] = {"--state-dir", state, "--image", name, "--", NULL};
    const char *const by_path[] = {"--rootfs", rootfs, "--", NULL};

    add_all(w, head);
    add_all(w, image ? by_name : by_path);
    add_command(w, command);
}

/* bubblewrap with the mounts our container wall makes of the same tree. */
static void bwrap(const struct contender *c, const struct bench *b, const char *rootfs, char *const *command,
                  struct words *w)
{
    static const char *const head[] = {"bwrap",    "--unshare-all", "--die-with-parent", "--clearenv",
                                       "--setenv", "PATH",          "/usr/bin:/bin",     NULL};
    static const char *const tail[] = {"--proc",  "/proc",      "--dev",      "/dev",  "--tmpfs",
                                       "/tmp",    "--tmpfs",    "/workspace", "--dir", "/run",
                                       "--chdir", "/workspace", NULL};
    DIR *dir = opendir(rootfs);
    const struct dirent *d;

    (void)c;
    (void)b;
    add_all(w, head);
    while (dir && (d = readdir(dir))) {
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
        words_add(w, n > 0 ? "--symlink" : "--ro-bind");
        words_add(w, n > 0 ? target : path);
        words_add(w, inside);
    }
    if (dir)
        (void)closedir(dir);
    add_all(w, tail);
    add_command(w, command);
}

/* ---- OCI runtimes: one bundle per command, with what `runc spec` would give (namespaces, masked and
 * read-only paths, limits) on the same root ---- */

static json_t *mount_of(const char *target, const char *type, const char *options)
{
    json_t *list = json_array();
    CLEANUP_FREE char *copy = x_strdup(options);
    char *save = NULL;

    for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save))
        (void)json_array_append_new(list, json_string(o));
    return json_pack("{s:s,s:s,s:s,s:o}", "destination", target, "type", type, "source", type, "options",
                     list);
}

static json_t *namespaces(void)
{
    static const char *const types[] = {"pid", "network", "ipc", "uts", "mount", "cgroup", NULL};
    json_t *list = json_array();

    for (const char *const *t = types; *t; t++)
        (void)json_array_append_new(list, json_pack("{s:s}", "type", *t));
    return list;
}

static json_t *bundle_config(const char *rootfs, char *const *command)
{
    json_t *args = json_array();

    for (; *command; command++)
        (void)json_array_append_new(args, json_string(*command));
    return json_pack("{s:s,s:{s:b,s:{s:i,s:i},s:o,s:[s],s:s,s:b,s:{s:[],s:[],s:[],s:[]}},s:{s:s,s:b},s:s,"
                     "s:[o,o,o,o,o,o],s:{s:o,s:{s:{s:I},s:{s:i}},s:[s,s,s,s],s:[s,s,s,s]}}",
                     "ociVersion", "1.0.2", "process", "terminal", 0, "user", "uid", 1000, "gid", 1000,
                     "args", args, "env", "PATH=/usr/bin:/bin", "cwd", "/workspace", "noNewPrivileges", 1,
                     "capabilities", "bounding", "effective", "permitted", "inheritable", "root", "path",
                     rootfs, "readonly", 1, "hostname", "sandbox", "mounts",
                     mount_of("/proc", "proc", "nosuid,noexec,nodev"),
                     mount_of("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
                     mount_of("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
                     mount_of("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777"),
                     mount_of("/tmp", "tmpfs", "nosuid,nodev,mode=1777"),
                     mount_of("/workspace", "tmpfs", "nosuid,nodev,mode=1777"), "linux", "namespaces",
                     namespaces(), "resources", "memory", "limit", (json_int_t)512 << 20, "pids", "limit",
                     1024, "maskedPaths", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware",
                     "readonlyPaths", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys");
}

/* Writes the bundle of this root and command, once; gives its directory. */
static void bundle_for(const struct bench *b, const char *rootfs, char *const *command, char *dir, size_t cap)
{
    json_t *config = bundle_config(rootfs, command);
    CLEANUP_FREE char *text = json_dumps(config, JSON_COMPACT);
    char path[300];
    uint64_t hash;

    json_decref(config);
    hash = text ? fnv1a(FNV_BASIS, text, strlen(text)) : 0; /* equal configurations share a bundle */
    (void)io_format(dir, cap, "%s/bundle-%016llx", b->work, (unsigned long long)hash);
    if (text && mkdir(dir, 0700) == 0 && io_format(path, sizeof(path), "%s/config.json", dir))
        (void)io_replace_file(AT_FDCWD, path, text, strlen(text), 0600, NULL);
}

static void oci(const struct contender *c, const struct bench *b, const char *rootfs, char *const *command,
                struct words *w)
{
    static unsigned serial;
    char dir[200], root[200], id[64];

    bundle_for(b, rootfs, command, dir, sizeof(dir));
    (void)io_format(root, sizeof(root), "%s/%s", b->work, c->name);
    (void)io_format(id, sizeof(id), "ironclaw-bench-%d-%u", (int)getpid(), serial++);
    words_add(w, c->name);
    words_add(w, "--root");
    words_add(w, root);
    if (!strcmp(c->name, "runsc")) { /* its own handling of cgroups does not know hybrid hosts */
        words_add(w, "--network=none");
        words_add(w, "--ignore-cgroups");
    }
    words_add(w, "run");
    words_add(w, "--bundle");
    words_add(w, dir);
    words_add(w, id);
}

static void podman(const struct contender *c, const struct bench *b, const char *rootfs, char *const *command,
                   struct words *w)
{
    static const char *const head[] = {"podman", "--cgroup-manager=cgroupfs", "--runtime", "runc", NULL};
    static const char *const run[] = {"run",
                                      "--rm",
                                      "--ulimit",
                                      "nofile=1024:1024", /* its own may be above ours */
                                      "--ulimit",
                                      "nproc=1024:1024",
                                      "--network",
                                      "none",
                                      "--read-only",
                                      "--user",
                                      "1000:1000",
                                      "--cap-drop",
                                      "all",
                                      "--security-opt",
                                      "no-new-privileges",
                                      "--memory",
                                      "512m",
                                      "--pids-limit",
                                      "1024",
                                      "--tmpfs",
                                      "/workspace:mode=1777",
                                      "--workdir",
                                      "/workspace",
                                      "--env",
                                      "PATH=/usr/bin:/bin",
                                      "--rootfs",
                                      NULL};
    char text[PATHS_MAX_LEN + 16];

    (void)c;
    add_all(w, head);
    words_add(w, "--root");
    (void)io_format(text, sizeof(text), "%s/podman", b->work);
    words_add(w, text);
    words_add(w, "--runroot");
    (void)io_format(text, sizeof(text), "%s/podman-run", b->work);
    words_add(w, text);
    add_all(w, run);
    (void)io_format(text, sizeof(text), "%s:O", rootfs); /* an overlay: it makes mount points in the root */
    words_add(w, text);
    add_command(w, command);
}

/* The command outside of every wall, as the ordinary case to compare loops with. Static programs of the base
 * image only. */
static void native(const struct contender *c, const struct bench *b, const char *rootfs, char *const *command,
                   struct words *w)
{
    char path[PATHS_MAX_LEN];

    (void)c;
    (void)b;
    (void)io_format(path, sizeof(path), "%s/usr/bin/%s", rootfs, command[0]);
    words_add(w, path);
    add_command(w, command + 1);
}

static void podman_end(const struct bench *b)
{
    char root[128], run[128];
    char *argv[] = {(char *)(uintptr_t) "podman",
                    (char *)(uintptr_t) "--root",
                    root,
                    (char *)(uintptr_t) "--runroot",
                    run,
                    (char *)(uintptr_t) "--cgroup-manager=cgroupfs",
                    (char *)(uintptr_t) "rm",
                    (char *)(uintptr_t) "--all",
                    (char *)(uintptr_t) "--force",
                    NULL};
    struct run r;

    (void)io_format(root, sizeof(root), "%s/podman", b->work);
    (void)io_format(run, sizeof(run), "%s/podman-run", b->work);
    if (access(root, F_OK) < 0)
        return;
    process_run(argv, false, 60, &r);
    /* It keeps its store mounted on itself. */
    (void)io_format(root, sizeof(root), "%s/podman/overlay", b->work);
    (void)umount2(root, MNT_DETACH);
}

static const struct contender peers[] = {
    {.name = "bwrap", .command = bwrap},
    {.name = "runc", .command = oci},
    {.name = "crun", .command = oci, .private_cgroups = true},
    {.name = "runsc", .command = oci},
    {.name = "podman", .command = podman, .end = podman_end},
};

static bool listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == len && !strncmp(at, name, len))
            return true;
    return false;
}

bool bench_wants(const struct bench *b, const char *group)
{
    return !b->only || listed(b->only, group);
}

static int add_walls(const struct bench *b, struct contender *all, size_t *n, struct err *e)
{
    const struct wall_ops *wall;

    for (size_t i = 0; (wall = wall_at(i)); i++) {
        struct contender *c = &all[*n];
        struct err why = ERR_INIT;
        if (b->walls && !listed(b->walls, wall->name))
            continue;
        if (!wall->probe(&why)) {
            if (b->walls)
                return err_set(e, EOPNOTSUPP, "the wall %s is not available: %s", wall->name, why.text);
            continue;
        }
        *c = (struct contender){.name = x_asprintf("ironclaw %s", wall->name), .ours = true, .command = ours};
        (void)io_format(c->wall, sizeof(c->wall), "%s", wall->name);
        if (++*n == BENCH_CONTENDERS / 2)
            break;
    }
    return *n ? 0 : err_set(e, EINVAL, "no wall of that name is available (see 'ironclaw doctor')");
}

int contenders_find(const struct bench *b, struct contender all[BENCH_CONTENDERS], size_t *n, struct err *e)
{
    *n = 0;
    if (add_walls(b, all, n, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        if (process_have(peers[i].name) && (geteuid() == 0 || !strcmp(peers[i].name, "bwrap")))
            all[(*n)++] = peers[i];
    all[(*n)++] = (struct contender){.name = "native", .outside = true, .command = native};
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(all[i].wall, "cell")) {
            all[*n] = (struct contender){.name = "ironclaw cell, ready",
                                         .ours = true,
                                         .ready = true,
                                         .command = ours,
                                         .end = standby_end};
            memcpy(all[(*n)++].wall, all[i].wall, sizeof(all[i].wall));
            break;
        }
    return 0;
}

void contender_command(const struct contender *c, const struct bench *b, const char *rootfs,
                       char *const *command, struct words *w)
{
    c->command(c, b, rootfs ? rootfs : b->rootfs, command, w);
}
