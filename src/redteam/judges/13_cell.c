/*
 * Family 13, host side: what code that has the cell's kernel in its hands gets of the host. Attacks that ruin
 * their cell are ordered in a session of their own, whose end is looked at; in the attacker's they only find
 * what they would aim at.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum {
    NUMBERS = 1024,
    REACHABLE_LEAST = 15, /* else the sweep did not sweep */
    REACHABLE_MOST = 24,
    PAGES = 8, /* of the attack */
    END_MS = 6000,
    RUN_TIMEOUT_MS = 2000,
    PATIENCE_MS = 8000,
    SILENCE_US = 1000000,
    UNCOUNTED = 300,
    PIDS_LIMIT_MOST = 128, /* twice the players' limit: what the wall has running beside them counts too */
    PINGS = 5,
    PING_MS = 1000,
    CANNOT = 125, /* docs/cell.md: the kernel panicked */
};

/* ---- calls ---- */

static void judge_calls(struct arena *a, struct trial *t)
{
    long count = attempt_number(&t->record, "count", -1), listed = 0;
    json_t *list = json_array();

    (void)a;
    for (size_t i = 0; i < t->record.nfacts; i++)
        if (!strcmp(t->record.facts[i].key, "reachable")) {
            (void)json_array_append_new(list, json_integer(strtol(t->record.facts[i].value, NULL, 10)));
            listed++;
        }
    trial_figure(t, "reachable_host_calls", (json_int_t)count);
    (void)json_object_set_new(t->data, "reachable_host_numbers", list);
    trial_check(t, attempt_number(&t->record, "untried", 1) == 0, "every-number-tried",
                "%ld numbers were not made", attempt_number(&t->record, "untried", -1));
    trial_check(t, count >= REACHABLE_LEAST && (listed == count || listed > REACHABLE_MOST), "list-complete",
                "%ld calls of the host are reachable", count);
    trial_check(t, count <= REACHABLE_MOST, "few-host-calls",
                "%ld of %d calls of the host are reachable, at most %d are meant to be", count, NUMBERS,
                REACHABLE_MOST);
    trial_check(t, attempt_number(&t->record, "pages", 0) == PAGES, "every-page-tried",
                "calls from %ld of %d pages", attempt_number(&t->record, "pages", 0), PAGES);
}

/* ---- descriptors ---- */

static bool link_is(pid_t pid, int fd, const char *end)
{
    char path[64], target[512];
    ssize_t n;

    (void)io_format(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return false;
    target[n] = 0;
    return (size_t)n >= strlen(end) && !strcmp(target + (size_t)n - strlen(end), end);
}

/* Descriptors of a process; -1 when it cannot be looked into (or is gone). */
static int count_descriptors(pid_t pid)
{
    char path[64];
    const struct dirent *d;
    DIR *dir;
    int n = 0;

    (void)io_format(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    while (dir && (d = readdir(dir)))
        n += d->d_name[0] != '.';
    if (dir)
        (void)closedir(dir);
    return dir ? n : -1;
}

static void judge_descriptors(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), looked = 0, wrong = 0;
    char name[32];

    for (size_t i = 0; i < n; i++) {
        int held;
        if (!host_status(pids[i], "Name", name, sizeof(name)) || strcmp(name, "ironclaw-cell") != 0 ||
            (held = count_descriptors(pids[i])) < 0)
            continue;
        looked++;
        wrong += held != 3 || !link_is(pids[i], 3, "/image.erofs") ||
                 !link_is(pids[i], 4, "/memfd:cell (deleted)") || !link_is(pids[i], 5, "[eventfd]");
    }
    /* Rootless nobody may look into them: what the attack itself found has to do. */
    trial_check(t, wrong == 0 && (looked > 0 || !a->root), "three-descriptors",
                "%zu of %zu processes of the cell hold something else than image, memory and doorbell", wrong,
                looked);
}

/* ---- the host's processes ---- */

struct seen {
    pid_t warden, victim;
};

static pid_t first_process(const struct arena *a, const char *session)
{
    pid_t pids[PIDS_MAX];

    return host_sandbox_pids(a->plane, session, pids, PIDS_MAX) > 0 ? pids[0] : 0;
}

static int arm_processes(struct arena *a, struct trial *t, struct err *e)
{
    struct seen *s = x_calloc(1, sizeof(*s));

    (void)e;
    s->warden = first_process(a, a->attacker.session);
    s->victim = first_process(a, a->victim.session);
    t->own = s;
    return 0;
}

static void free_own(struct arena *a, struct trial *t)
{
    (void)a;
    free(t->own);
    t->own = NULL;
}

static void judge_processes(struct arena *a, struct trial *t)
{
    const struct seen *s = t->own;

    trial_check(t, s->warden > 0 && first_process(a, a->attacker.session) == s->warden, "warden-alive",
                "the cell's own warden is the one of before");
    trial_check(t, s->victim > 0 && first_process(a, a->victim.session) == s->victim, "victims-warden-alive",
                "the sibling's warden is the one of before");
    trial_check(t, attempt_step_find(&t->record, "signal-all")->ret >= 0, "signals-sent", "%s",
                attempt_step_find(&t->record, "signal-all")->detail);
}

/* ---- a session to ruin ---- */

static bool ruin(struct arena *a, struct trial *t, struct player *spare, const char *params)
{
    struct err e = ERR_INIT;

    if (arena_extra(a, &a->attacker, spare, &e) == 0 &&
        arena_post(a, spare, t->attack->id, t->attack->limit_ms, params, &e) == 0)
        return true;
    trial_check(t, false, "spare-session", "%.200s", e.text);
    return false;
}

static void remove_ruin(struct arena *a, struct trial *t, struct player *spare)
{
    struct err e = ERR_INIT;

    (void)arena_events(a, spare->session, 0, t->event, sizeof(t->event));
    trial_check(t, arena_extra_remove(a, spare, &e) == 0, "removed", "the session %.200s",
                e.code ? e.text : "is gone, with all it had");
}

/* With which code the session's sandbox ended, as the operator is told; -1: it did not, within END_MS. */
static long long await_end(struct arena *a, const struct player *who)
{
    uint64_t until = io_monotonic_ns() + END_MS * 1000000ULL;
    long long code = -1;
    char path[160];

    (void)io_format(path, sizeof(path), "/v1/events?session=%s&after=0&limit=1000", who->session);
    while (code < 0 && io_monotonic_ns() < until && !interrupted) {
        json_t *answer = NULL, *event;
        size_t i;
        (void)api_call(a->plane->api, "GET", path, NULL, &answer, NULL);
        json_array_foreach(json_object_get(answer, "events"), i, event)
        {
            const char *type = json_string_value(json_object_get(event, "type"));
            if (type && !strcmp(type, "sandbox.exit"))
                code = json_integer_value(json_object_get(json_object_get(event, "detail"), "code"));
        }
        json_decref(answer);
        (void)usleep(50000);
    }
    return code;
}

static void ping_victim(struct arena *a, struct trial *t)
{
    struct attempt record;
    double ms, most = 0;
    int answers = 0;

    for (int i = 0; i < PINGS; i++) {
        struct err e = ERR_INIT;
        if (arena_order(a, &a->victim, "ping", 0, "", &record, &ms, &e) < 0)
            continue;
        attempt_free(&record);
        answers++;
        most = ms > most ? ms : most;
    }
    trial_check(t, answers == PINGS && most <= PING_MS + 20 * a->quiet_ms, "sibling-latency",
                "%d of %d answers of the sibling, the slowest after %.1f ms", answers, PINGS, most);
}

/* The warden outlives whatever it reads, and says of the hostile last words what they are. */
static void judge_shared_memory(struct arena *a, struct trial *t)
{
    for (int seed = 1; seed <= 3; seed++) {
        struct player spare;
        char params[64];
        long long code;
        (void)io_format(params, sizeof(params), "really 1\nseed %d\n", seed);
        if (!ruin(a, t, &spare, params))
            return;
        ping_victim(a, t);
        code = await_end(a, &spare);
        trial_check(t, code == CANNOT, "clean-end", "seed %d: the cell ended with code %lld", seed, code);
        remove_ruin(a, t, &spare);
    }
}

static void judge_kernel_memory(struct arena *a, struct trial *t)
{
    static const struct {
        const char *what;
        bool panics; /* else it is its own copy of the kernel that the process ruins, and itself with it */
    } kinds[] = {{"heap", true}, {"text", false}, {"thread", false}};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct player spare;
        char params[64];
        long long code;
        (void)io_format(params, sizeof(params), "really 1\nwhat %s\n", kinds[i].what);
        if (!ruin(a, t, &spare, params))
            return;
        if (kinds[i].panics) {
            code = await_end(a, &spare);
            trial_check(t, code == CANNOT, "panic-told", "%s: the cell ended with code %lld", kinds[i].what,
                        code);
        } else {
            ping_victim(a, t);
        }
        remove_ruin(a, t, &spare);
    }
}

/* Runs the attack by hand, with --timeout. Returns its exit status, -1 when it had to be killed. */
static int run_with_timeout(const struct arena *a, const char *attack)
{
    char timeout[16];
    char *argv[] = {(char *)(uintptr_t)a->plane->ironclaw,
                    (char *)(uintptr_t) "run",
                    (char *)(uintptr_t) "--wall",
                    (char *)(uintptr_t)a->wall,
                    (char *)(uintptr_t) "--image",
                    (char *)(uintptr_t) "redteam",
                    (char *)(uintptr_t) "--timeout",
                    timeout,
                    (char *)(uintptr_t) "--",
                    (char *)(uintptr_t) "/bin/ironclaw-attacker",
                    (char *)(uintptr_t) "attack",
                    (char *)(uintptr_t)attack,
                    (char *)(uintptr_t) "really",
                    (char *)(uintptr_t) "1",
                    NULL};
    uint64_t until = io_monotonic_ns() + (RUN_TIMEOUT_MS + PATIENCE_MS) * 1000000ULL;
    int status = 0;
    pid_t pid;

    (void)io_format(timeout, sizeof(timeout), "%dms", RUN_TIMEOUT_MS);
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)setenv("IRONCLAW_STATE_DIR", a->plane->state, 1);
        for (int fd = 0; fd < 3; fd++)
            (void)dup2(null, fd);
        (void)execv(argv[0], argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) {
        if (io_monotonic_ns() > until || interrupted) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return -1;
        }
        (void)usleep(10000);
    }
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static size_t count_messages(struct arena *a, const struct player *who)
{
    json_t *answer = NULL;
    char path[160];
    size_t n;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld", who->session, who->last);
    (void)api_call(a->plane->api, "GET", path, NULL, &answer, NULL);
    n = json_array_size(json_object_get(answer, "messages"));
    json_decref(answer);
    return n;
}

static void judge_lock(struct arena *a, struct trial *t)
{
    struct player spare;
    struct err e = ERR_INIT;
    char path[128];
    uint64_t begin;
    pid_t pids[8];
    size_t said;
    bool silent;
    long long ms;
    int status;

    if (!ruin(a, t, &spare, "really 1\n"))
        return;
    /* What it had said before is on its way: until nothing more comes. */
    said = count_messages(a, &spare);
    for (int i = 0; i < 20; i++) {
        size_t before = said;
        (void)usleep(500000);
        said = count_messages(a, &spare);
        if (said == before)
            break;
    }
    silent = arena_post(a, &spare, "ping", 0, "", &e) == 0;
    (void)usleep(SILENCE_US);
    /* Else it is not held, and the rest shows nothing. */
    trial_check(t,
                silent && count_messages(a, &spare) == said &&
                    host_sandbox_pids(a->plane, spare.session, pids, ARRAY_LEN(pids)) > 0,
                "lock-held", "the session runs and does not answer any more");
    begin = io_monotonic_ns();
    (void)io_format(path, sizeof(path), "/v1/sessions/%s/stop", spare.session);
    (void)api_need(a->plane->api, "POST", path, NULL, NULL, &e);
    ms = (long long)((io_monotonic_ns() - begin) / 1000000);
    trial_check(t,
                !e.code && ms <= PATIENCE_MS &&
                    host_sandbox_pids(a->plane, spare.session, pids, ARRAY_LEN(pids)) == 0,
                "stopped", "session stop took %lld ms %.100s", ms, e.text);
    remove_ruin(a, t, &spare);
    status = run_with_timeout(a, t->attack->id);
    trial_check(t, status == 128 + SIGKILL, "timed-out", "ironclaw run --timeout ended with status %d",
                status);
}

/* ---- processes that only the host counts ---- */

static void judge_uncounted(struct arena *a, struct trial *t)
{
    struct player spare;
    char params[64];
    size_t most = 0;

    (void)io_format(params, sizeof(params), "really 1\ncount %d\n", UNCOUNTED);
    if (!ruin(a, t, &spare, params))
        return;
    for (uint64_t until = io_monotonic_ns() + 1500000000ULL; io_monotonic_ns() < until;) {
        pid_t pids[PIDS_MAX];
        size_t n = host_sandbox_pids(a->plane, spare.session, pids, PIDS_MAX);
        most = n > most ? n : most;
        (void)usleep(50000);
    }
    trial_check(t, most > 4, "processes-made", "at most %zu processes", most);
    trial_check(t, most <= PIDS_LIMIT_MOST, "host-pids-limit", "at most %zu processes, %d asked for", most,
                UNCOUNTED);
    trial_figure(t, "peak_processes", (json_int_t)most);
    remove_ruin(a, t, &spare);
}

/* ---- the file server ---- */

static bool await_file(const char *path)
{
    uint64_t until = io_monotonic_ns() + END_MS * 1000000ULL;

    while (io_monotonic_ns() < until && !interrupted) {
        if (access(path, F_OK) == 0)
            return true;
        (void)usleep(20000);
    }
    return false;
}

/* What the standing check does not see: something new outside. */
static void judge_workspace(struct arena *a, struct trial *t)
{
    static const char *const planted[] = {"planted", "planted-directory"};
    struct player spare;
    char params[512], path[256], proof[32];
    struct stat st;
    uint32_t random;
    bool got;

    io_random(&random, sizeof(random));
    (void)io_format(proof, sizeof(proof), "proof-%08x", random);
    (void)io_format(params, sizeof(params), "really 1\noutside %s\nproof %s\n", a->host_dir, proof);
    if (!ruin(a, t, &spare, params))
        return;
    (void)io_format(path, sizeof(path), "%s/workspaces/%s/%s", a->plane->state, spare.session, proof);
    got = await_file(path);
    trial_check(t, got, "every-record-read", "the file server %s the last record",
                got ? "read" : "did not read");
    for (size_t i = 0; i < ARRAY_LEN(planted); i++) {
        (void)io_format(path, sizeof(path), "%s/%s", a->host_dir, planted[i]);
        trial_check(t, lstat(path, &st) < 0, "nothing-planted", "%s outside of the workspace", planted[i]);
    }
    (void)io_format(path, sizeof(path), "%s/workspaces/outside", a->plane->state);
    trial_check(t, lstat(path, &st) < 0, "nothing-above", "a name with '..' made nothing");
    remove_ruin(a, t, &spare);
}

const struct attack cell_attacks[] = {
    {.id = "cell.host-calls",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "every host call from the kernel's text, and from other pages",
     .limit_ms = 60000,
     .steps = {"stub", "sweep", "other-pages"},
     .judge = judge_calls},
    {.id = "cell.descriptors",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "image, memory and doorbell, and any other descriptor",
     .steps = {"stub", "path-0", "map-shared", "open", "read-memory", "shrink", "duplicate", "execute"},
     .judge = judge_descriptors},
    {.id = "cell.processes",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "kill and signal whatever process of the host can be named",
     .steps = {"stub", "kill-all", "tgkill-warden", "pidfd", "signal-all"},
     .arm = arm_processes,
     .judge = judge_processes,
     .disarm = free_own},
    {.id = "cell.uncounted",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "processes that the cell's kernel does not count",
     .steps = {"stub"},
     .gaps = {{GAP_ANY_WALL, "host-pids-limit",
               "rootless without a delegated control group there is no such limit (docs/walls.md)", "pids"}},
     .judge = judge_uncounted},
    {.id = "cell.shared-memory",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "scribble over what the warden reads",
     .steps = {"stub", "header"},
     .judge = judge_shared_memory},
    {.id = "cell.kernel-memory",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "overwrite the cell's kernel",
     .steps = {"stub", "header"},
     .judge = judge_kernel_memory},
    {.id = "cell.lock",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "hold the kernel's lock for ever",
     .steps = {"stub", "header"},
     .judge = judge_lock},
    {.id = "cell.workspace",
     .wall = "cell",
     .boundary = B1_WALL,
     .title = "lead the file server out of the workspace",
     .steps = {"stub", "header"},
     .judge = judge_workspace},
    {.id = NULL},
};
