/*
 * Command line of `ironclaw run`.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "run/run.h"
#include "standby/standby.h"

static const char help[] =
    "usage: ironclaw run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
    "Runs one command in a sealed sandbox: no network, no capabilities, read-only root, nothing inherited.\n"
    "\n"
    "  --wall W            how to isolate: container, cell or gvisor (default " WALL_DEFAULT ")\n"
    "  --image I           root file system by image name (default base)\n"
    "  --rootfs DIR        root file system from a directory instead\n"
    "  --workspace DIR     this directory is /workspace, writable (default: an empty one that ends with the "
    "sandbox)\n"
    "  --mount SRC:DST[:rw] make SRC visible as DST, read-only unless :rw\n"
    "  --memory SIZE       memory limit, no swap: 64M, 1G (default 512M)\n"
    "  --cpus N            cpu limit, 0.5 is half a cpu (default: none)\n"
    "  --pids N            processes and threads (default 256)\n"
    "  --timeout T         kill everything inside after 30s, 5m, 1h (default: none)\n"
    "  --env NAME[=VALUE]  pass a variable; without a value, the caller's\n"
    "  --events FILE       append refused system calls, limits and the end to FILE, as JSON lines\n"
    "  --standby N         cell: run nothing, keep N cells ready for later runs with the same image and "
    "limits\n"
    "  -t, --terminal      give the command a terminal of its own\n"
    "  --state-dir DIR     where images are kept\n"
    "  --oci-runtime R     gvisor: the OCI runtime, a name or an absolute path (default "
    "$IRONCLAW_OCI_RUNTIME, else "
    "runsc)\n"
    "  --platform P        gvisor: auto, kvm, systrap or ptrace (default $IRONCLAW_GVISOR_PLATFORM, else "
    "auto)\n"
    "  --write-bundle DIR  gvisor: write the sandbox as an OCI bundle to this new directory instead of "
    "running it\n"
    "\n"
    "Exit status: the command's own; 125 could not launch, 126 not executable, 127 not found, 128+N killed "
    "by signal N\n"
    "(137 also by --timeout and by the memory limit).\n"
    "\n"
    "example: ironclaw run --memory 64M --timeout 10s -- sh -c 'id; ls /'\n";

enum option_id {
    OPT_WALL = 256,
    OPT_EVENTS,
    OPT_STANDBY,
    OPT_IMAGE,
    OPT_ROOTFS,
    OPT_WORKSPACE,
    OPT_MOUNT,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_PIDS,
    OPT_TIMEOUT,
    OPT_ENV,
    OPT_STATE,
    OPT_OCI_RUNTIME,
    OPT_PLATFORM,
    OPT_WRITE_BUNDLE
};

static const struct option long_options[] = {
    {"wall", 1, NULL, OPT_WALL},
    {"image", 1, NULL, OPT_IMAGE},
    {"rootfs", 1, NULL, OPT_ROOTFS},
    {"workspace", 1, NULL, OPT_WORKSPACE},
    {"events", 1, NULL, OPT_EVENTS},
    {"standby", 1, NULL, OPT_STANDBY},
    {"mount", 1, NULL, OPT_MOUNT},
    {"memory", 1, NULL, OPT_MEMORY},
    {"cpus", 1, NULL, OPT_CPUS},
    {"pids", 1, NULL, OPT_PIDS},
    {"timeout", 1, NULL, OPT_TIMEOUT},
    {"env", 1, NULL, OPT_ENV},
    {"terminal", 0, NULL, 't'},
    {"state-dir", 1, NULL, OPT_STATE},
    {"oci-runtime", 1, NULL, OPT_OCI_RUNTIME},
    {"platform", 1, NULL, OPT_PLATFORM},
    {"write-bundle", 1, NULL, OPT_WRITE_BUNDLE},
    {"help", 0, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* "30s", "5m", "2h", "500ms", "30" (seconds) in milliseconds. */
static bool parse_duration(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t factor;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"", 1000}};
    size_t digits = strspn(text, "0123456789");
    char number[24];
    uint64_t v;

    if (digits == 0 || digits >= sizeof(number))
        return false;
    memcpy(number, text, digits);
    number[digits] = 0;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (!strcmp(text + digits, units[i].unit))
            return io_parse_u64(number, 1000000000, &v) && !__builtin_mul_overflow(v, units[i].factor, ms) &&
                   *ms > 0;
    return false;
}

/* "1", "0.5", "1.25" in thousandths. */
static bool parse_cpus(const char *text, uint32_t *milli)
{
    size_t whole = strspn(text, "0123456789");
    char digits[16], fraction[4] = "000";
    uint64_t w, f;

    if (whole == 0 || whole >= sizeof(digits))
        return false;
    memcpy(digits, text, whole);
    digits[whole] = 0;
    if (text[whole] == '.') {
        size_t n = strlen(text + whole + 1);
        if (n < 1 || n > 3)
            return false;
        memcpy(fraction, text + whole + 1, n);
    } else if (text[whole]) {
        return false;
    }
    if (!io_parse_u64(digits, 4096, &w) || !io_parse_u64(fraction, 999, &f) || w * 1000 + f == 0)
        return false;
    *milli = (uint32_t)(w * 1000 + f);
    return true;
}

static int add_mount(struct run_options *o, char *text, struct err *e)
{
    struct sandbox_mount *m = &o->mounts[o->nmounts];
    char *target = strchr(text, ':');
    char *mode = target ? strchr(target + 1, ':') : NULL;

    if (o->nmounts == SANDBOX_MOUNTS_MAX)
        return err_set(e, E2BIG, "--mount: at most %d mounts", SANDBOX_MOUNTS_MAX);
    if (target)
        *target++ = 0;
    if (mode)
        *mode++ = 0;
    if (!target || text[0] != '/' || target[0] != '/' || strstr(target, "..") || !target[1] ||
        (mode && strcmp(mode, "rw") && strcmp(mode, "ro")))
        return err_set(e, EINVAL, "--mount takes /SOURCE:/TARGET or /SOURCE:/TARGET:rw");
    *m = (struct sandbox_mount){.source = text, .target = target, .writable = mode && !strcmp(mode, "rw")};
    o->nmounts++;
    return 0;
}

static int add_env(struct run_options *o, size_t *n, const char *text, struct err *e)
{
    const char *eq = strchr(text, '='), *value = eq ? eq + 1 : getenv(text);
    size_t name = eq ? (size_t)(eq - text) : strlen(text);

    if (name == 0 || strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") < name)
        return err_set(e, EINVAL, "--env takes NAME or NAME=VALUE, not '%.64s'", text);
    if (!value)
        return err_set(e, ENOENT, "--env %.64s: the caller has no such variable", text);
    o->env = x_realloc(o->env, (*n + 2) * sizeof(char *));
    o->env[(*n)++] = x_asprintf("%.*s=%s", (int)name, text, value);
    o->env[*n] = NULL;
    return 0;
}

static bool has_env(const struct run_options *o, const char *name)
{
    size_t len = strlen(name);

    for (char **v = o->env; v && *v; v++)
        if (!strncmp(*v, name, len) && (*v)[len] == '=')
            return true;
    return false;
}

static int add_default_env(struct run_options *o, size_t *n, struct err *e)
{
    if (!has_env(o, "PATH") &&
        add_env(o, n, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", e) < 0)
        return -1;
    if (!has_env(o, "HOME") && add_env(o, n, "HOME=/workspace", e) < 0)
        return -1;
    if (o->terminal && !has_env(o, "TERM") && getenv("TERM") && add_env(o, n, "TERM", e) < 0)
        return -1;
    return 0;
}

static int take(struct run_options *o, int id, char *value, size_t *nenv, struct err *e)
{
    uint64_t v;

    switch (id) {
    case OPT_WALL:
        o->wall = value;
        return 0;
    case OPT_IMAGE:
        o->image = value;
        return 0;
    case OPT_ROOTFS:
        o->rootfs = value;
        return 0;
    case OPT_WORKSPACE:
        o->workspace = value;
        return 0;
    case OPT_STATE:
        o->state_dir = value;
        return 0;
    case OPT_OCI_RUNTIME:
        o->oci_runtime = value;
        return 0;
    case OPT_PLATFORM:
        if (strcmp(value, "auto") != 0 && strcmp(value, "kvm") != 0 && strcmp(value, "systrap") != 0 &&
            strcmp(value, "ptrace") != 0)
            return err_set(e, EINVAL, "--platform takes auto, kvm, systrap or ptrace, not '%.32s'", value);
        o->platform = value;
        return 0;
    case OPT_WRITE_BUNDLE:
        o->write_bundle = value;
        return 0;
    case OPT_STANDBY:
        if (!io_parse_u64(value, STANDBY_MAX, &v) || v < 1)
            return err_set(e, EINVAL, "--standby takes a number from 1 to %d, not '%s'", STANDBY_MAX, value);
        o->standby = (unsigned)v;
        return 0;
    case OPT_EVENTS:
        o->events = value;
        return 0;
    case OPT_MOUNT:
        return add_mount(o, value, e);
    case OPT_ENV:
        return add_env(o, nenv, value, e);
    case 't':
        o->terminal = true;
        return 0;
    case OPT_MEMORY:
        if (!io_parse_size(value, &o->limits.memory_bytes) || o->limits.memory_bytes < 1 << 20)
            return err_set(e, EINVAL, "--memory takes a size of at least 1M such as 64M, not '%s'", value);
        o->limits.memory_asked = true;
        return 0;
    case OPT_CPUS:
        if (!parse_cpus(value, &o->limits.cpu_milli))
            return err_set(e, EINVAL, "--cpus takes a number such as 1 or 0.5, not '%s'", value);
        o->limits.cpu_asked = true;
        return 0;
    case OPT_PIDS:
        if (!io_parse_u64(value, 4194304, &v) || v < 2)
            return err_set(e, EINVAL, "--pids takes a number from 2 to 4194304, not '%s'", value);
        o->limits.pids = (uint32_t)v;
        o->limits.pids_asked = true;
        return 0;
    case OPT_TIMEOUT:
        if (!parse_duration(value, &o->timeout_ms))
            return err_set(e, EINVAL, "--timeout takes a duration such as 30s, 5m or 500ms, not '%s'", value);
        return 0;
    default:
        return err_set(e, EINVAL, "unknown option; see 'ironclaw run --help'");
    }
}

int run_parse(int argc, char **argv, struct run_options *o, struct err *e)
{
    size_t nenv = 0;
    int id;

    *o = (struct run_options){
        .wall = WALL_DEFAULT, .image = "base", .limits = {.memory_bytes = 512U << 20, .pids = 256}};
    opterr = 0;
    optind = 1;
    while ((id = getopt_long(argc, argv, "+th", long_options, NULL)) != -1) {
        if (id == 'h') {
            (void)fputs(help, stdout);
            return 1;
        }
        if (id == '?')
            return err_set(e, EINVAL, "unknown option or missing value: '%s' (see 'ironclaw run --help')",
                           argv[optind - 1]);
        if (take(o, id, optarg, &nenv, e) < 0)
            return -1;
    }
    if (o->standby && optind < argc)
        return err_set(e, EINVAL, "--standby takes no command: each later run brings its own");
    if (optind >= argc && !o->standby)
        return err_set(e, EINVAL, "no command given (example: ironclaw run -- ls /)");
    o->command = argv + optind;
    return add_default_env(o, &nenv, e);
}
