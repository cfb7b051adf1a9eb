/*
 * `ironclaw run`: image, wall, wait, exit status.
 */
#include "run/run.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "image/image.h"
#include "standby/standby.h"
#include "walls/handover.h"

/*
 * Host uids of one-shot sandboxes: RUN_UID_BASE + our pid, so no two running at once share one. The range
 * 1879048192-2147483646 is left unassigned by systemd's UIDS-GIDS table; pid_max is at most 4194304
 * (proc(5)). The control plane's uids (config/config.h, uid_base) lie elsewhere in it.
 */
enum { RUN_UID_BASE = 2130706432 };

static int fail(const struct err *e, int status)
{
    (void)fprintf(stderr, "ironclaw: %s\n", e->text);
    return status;
}

/* *hold: what keeps the image whole while the sandbox runs (image.h); -1 for a directory of the user's. */
static int resolve_rootfs(const struct run_options *o, const char *state, char *out, size_t cap, int *hold,
                          struct err *e)
{
    if (o->rootfs) {
        struct stat st;
        if (stat(o->rootfs, &st) < 0 || !S_ISDIR(st.st_mode))
            return err_set(e, ENOTDIR, "--rootfs %s is not a directory", o->rootfs);
        return io_format(out, cap, "%s", o->rootfs)
                   ? 0
                   : err_set(e, ENAMETOOLONG, "--rootfs: the path is too long");
    }
    if (!*state)
        return paths_state_dir(out, cap, e) < 0
                   ? -1
                   : err_set(e, ENAMETOOLONG, "--state-dir: the path is too long");
    return image_path(state, o->image, out, cap, hold, e);
}

static bool limit_asked(const struct cgroup_limits *l)
{
    return l->memory_asked || l->cpu_asked || l->pids_asked;
}

/* One line about what this host cannot give. */
static void warn_shortfall(const struct wall_ops *wall)
{
    char text[512];

    wall->shortfall(text, sizeof(text));
    if (*text)
        (void)fprintf(stderr, "ironclaw: warning: %s\n", text);
}

static int open_signals(void)
{
    static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
        (void)sigaddset(&set, forwarded[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* A ready cell (standby/standby.h) is one without anything of this run's own but its command. */
static bool may_stand_by(const struct wall_ops *wall, const struct sandbox_spec *spec)
{
    return wall->stands_by && !spec->workspace && spec->nmounts == 0 && !spec->terminal;
}

/* The sandbox runs once this returns 0. */
static int launch(const struct wall_ops *wall, struct sandbox_spec *spec, const char *state,
                  struct sandbox *s, struct err *e)
{
    char shortfall[256];
    int rc = may_stand_by(wall, spec) ? standby_take(state, spec, s, shortfall, sizeof(shortfall), e) : 0;

    if (rc < 0)
        return -1;
    if (rc > 0) {
        if (*shortfall)
            (void)fprintf(stderr, "ironclaw: warning: %s\n", shortfall);
        return 0;
    }
    if (!wall->probe(e))
        return -1;
    /* Where a limit was asked for, what the host lacks may be an error, and is to be that one line alone. */
    if (!limit_asked(&spec->limits))
        warn_shortfall(wall);
    if (wall->start(spec, s, e) < 0)
        return -1;
    if (limit_asked(&spec->limits))
        warn_shortfall(wall);
    return 0;
}

static int run_sandbox(const struct wall_ops *wall, struct sandbox_spec *spec, const struct run_options *o,
                       const char *state, struct err *e)
{
    char text[ERR_TEXT_MAX];
    bool leased;
    struct sandbox s = SANDBOX_INIT;
    struct relay relay;
    struct cgroup_stats stats = {0};
    struct run_events events;
    CLEANUP_CLOSE int signals = open_signals();
    uint64_t deadline;
    int status = 0, timed_out;

    if (run_events_open(&events, o->events, wall->name, e) < 0)
        return -1;
    if (relay_prepare(&relay, spec->terminal, e) < 0)
        return -1;
    memcpy(spec->stdio, relay.inside, sizeof(spec->stdio));
    if (launch(wall, spec, state, &s, e) < 0)
        return -1;
    leased = s.lease >= 0;
    deadline = o->timeout_ms ? io_monotonic_ns() + o->timeout_ms * 1000000U : 0;
    run_events_launched(&events, &s);
    relay_started(&relay, s.terminal);
    timed_out = relay_run(&relay, &s, wall, signals, deadline, &events);
    if (timed_out)
        (void)handover_signal(&s, SIGKILL);
    status = handover_wait(&s, text, sizeof(text));
    relay_finish(&relay);
    if (*text)
        (void)fprintf(stderr, "ironclaw: %s\n", text);
    if (status != 0)
        wall->stats(&s, &stats);
    run_events_ended(&events, &s.cgroup, &o->limits, status, timed_out != 0);
    wall->destroy(&s, NULL);
    if (!leased) /* else there is nothing of ours */
        wall->sweep();
    if (timed_out)
        (void)fprintf(stderr, "ironclaw: killed: still running after --timeout\n");
    else if (stats.oom_kills > 0)
        (void)fprintf(stderr,
                      "ironclaw: the memory limit was reached and %llu process(es) were killed (--memory)\n",
                      (unsigned long long)stats.oom_kills);
    if (WIFSIGNALED(status))
        return 128 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

/* Options, else the environment; `state` becomes "" where there is none. */
static void configure_walls(const struct run_options *o, char *state, size_t cap)
{
    struct wall_config config = {
        .state_dir = state,
        .oci_runtime = o->oci_runtime ? o->oci_runtime : getenv("IRONCLAW_OCI_RUNTIME"),
        .oci_platform = o->platform ? o->platform : getenv("IRONCLAW_GVISOR_PLATFORM")};

    if (o->state_dir ? !io_format(state, cap, "%s", o->state_dir) : paths_state_dir(state, cap, NULL) < 0)
        state[0] = 0;
    wall_configure(&config);
}

static int write_bundle(const struct wall_ops *wall, const struct sandbox_spec *spec, const char *dir,
                        struct err *e)
{
    if (!wall->write_bundle)
        return err_set(e, EOPNOTSUPP, "--write-bundle: the %s wall has no bundle (use --wall gvisor)",
                       wall->name);
    return wall->write_bundle(spec, dir, e);
}

static int serve_standby(const struct wall_ops *wall, const struct sandbox_spec *spec,
                         const struct run_options *o, const char *state)
{
    struct err e = ERR_INIT;

    if (may_stand_by(wall, spec) && !o->events && !o->timeout_ms)
        return standby_serve(state, spec, o->standby, RUN_UID_BASE);
    (void)err_set(
        &e, EINVAL,
        "--standby is for --wall cell, and goes with --image, --rootfs, limits and --state-dir only");
    return fail(&e, RUN_USAGE);
}

int run_main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    struct run_options o;
    struct sandbox_spec spec = {0};
    const struct wall_ops *wall;
    static char state[PATHS_MAX_LEN]; /* the walls keep it */
    char rootfs[PATHS_MAX_LEN], init[PATHS_MAX_LEN], id[64], workspace[PATH_MAX];
    CLEANUP_CLOSE int hold = -1;
    int rc = run_parse(argc, argv, &o, &e);

    if (rc != 0)
        return rc > 0 ? 0 : fail(&e, RUN_USAGE);
    wall = wall_find(o.wall);
    if (!wall) {
        (void)err_set(&e, EINVAL, "there is no wall '%s' (see 'ironclaw doctor')", o.wall);
        return fail(&e, RUN_USAGE);
    }
    configure_walls(&o, state, sizeof(state));
    if (resolve_rootfs(&o, state, rootfs, sizeof(rootfs), &hold, &e) < 0 ||
        paths_helper("ironclaw-init", init, sizeof(init), &e) < 0)
        return fail(&e, RUN_CANNOT_LAUNCH);
    if (o.workspace && !realpath(o.workspace, workspace)) {
        (void)err_sys(&e, errno, "cannot open --workspace %s", o.workspace);
        return fail(&e, RUN_CANNOT_LAUNCH);
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)io_format(id, sizeof(id), "run-%d", (int)getpid());
    spec.id = id;
    spec.observe = o.events != NULL;
    spec.rootfs = rootfs;
    spec.init = init;
    spec.workspace = o.workspace ? workspace : NULL;
    spec.argv = o.command;
    spec.envp = o.env;
    memcpy(spec.mounts, o.mounts, sizeof(spec.mounts));
    spec.nmounts = o.nmounts;
    spec.limits = o.limits;
    spec.uid = RUN_UID_BASE + (uint32_t)getpid();
    spec.terminal = o.terminal;
    if (o.write_bundle)
        return write_bundle(wall, &spec, o.write_bundle, &e) < 0 ? fail(&e, RUN_CANNOT_LAUNCH) : 0;
    if (o.standby > 0)
        return serve_standby(wall, &spec, &o, state);
    rc = run_sandbox(wall, &spec, &o, state, &e);
    if (rc < 0) {
        rc = fail(&e, RUN_CANNOT_LAUNCH);
        wall->sweep();
    }
    return rc;
}
