/*
 * Which platform does this host give gVisor? Only a trial tells: one that is offered may fail, or hang. So
 * each is tried by running a whole sandbox with a time limit, best first, and what was found is kept in the
 * state directory for as long as binary and kernel are the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "walls/gvisor/gvisor.h"
#include "walls/handover.h"

/* Trials use the highest uids below the limit, one per process that tries (wall.h: nobody else may have it).
 */
enum { TRIAL_TIMEOUT_MS = 12000, TRIAL_UID_BASE = 2138046464, CACHE_MAX = 2048 };

static const char *const platforms[] = {"kvm", "systrap", "ptrace"};
static const char cache_name[] = "gvisor.probe";

/* What was found holds for this binary on this kernel. */
static void cache_key(const struct gvisor_runtime *r, char *key, size_t cap)
{
    struct utsname u;

    (void)uname(&u);
    (void)io_format(key, cap, "1 %s %lld %lld %.64s %s\n", r->path, r->size, r->mtime_ns, u.release,
                    IRONCLAW_VERSION);
}

static int state_dir(void)
{
    const char *dir = wall_config()->state_dir;

    return dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool is_platform(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(platforms); i++)
        if (!strcmp(platforms[i], name))
            return true;
    return false;
}

static bool read_cache(struct gvisor_runtime *r)
{
    CLEANUP_CLOSE int dir = state_dir();
    CLEANUP_FREE char *text = NULL;
    char key[1024], platform[16] = "";
    unsigned kind, flags;

    cache_key(r, key, sizeof(key));
    if (dir < 0 || io_read_file(dir, cache_name, CACHE_MAX, &text, NULL, NULL) < 0 ||
        strncmp(text, key, strlen(key)) != 0 ||
        /* NOLINTNEXTLINE(cert-err34-c): our own numbers; a file that is not ours does not match */
        sscanf(text + strlen(key), "%u %u %15s", &kind, &flags, platform) < 2 || kind > RUNTIME_OTHER ||
        (kind == RUNTIME_RUNSC && !is_platform(platform)))
        return false;
    r->kind = (enum gvisor_kind)kind;
    r->flags = flags;
    (void)io_format(r->platform, sizeof(r->platform), "%s", platform);
    return true;
}

/* Only a convenience: without it the next process tries again. */
static void write_cache(const struct gvisor_runtime *r)
{
    const char *place = wall_config()->state_dir;
    bool made = place && io_mkdirs(AT_FDCWD, place, 0700, NULL) == 0; /* the first of all runs */
    CLEANUP_CLOSE int dir = made ? state_dir() : -1;
    char key[1024], text[1200];

    cache_key(r, key, sizeof(key));
    (void)io_format(text, sizeof(text), "%s%u %u %s\n", key, (unsigned)r->kind, r->flags, r->platform);
    if (dir >= 0)
        (void)io_replace_file(dir, cache_name, text, strlen(text), 0600, NULL);
}

/* Runs init's self-test as the workload of a whole sandbox without an image. */
static int try_runtime(const struct gvisor_runtime *r, struct err *e)
{
    char init[PATHS_MAX_LEN], id[64];
    char *argv[] = {(char *)(uintptr_t) "/run/ironclaw/init", (char *)(uintptr_t) "self-test", NULL},
         *envp[] = {NULL};
    struct sandbox_spec spec = {.id = id, .init = init, .argv = argv, .envp = envp, .stdio = {-1, -1, -1}};
    struct sandbox s = SANDBOX_INIT;
    struct pollfd ended;
    int status = 0, left;

    if (paths_helper("ironclaw-init", init, sizeof(init), e) < 0)
        return -1;
    (void)io_format(id, sizeof(id), "probe-%s%s%d", r->platform, *r->platform ? "-" : "", (int)getpid());
    spec.uid = TRIAL_UID_BASE + (uint32_t)getpid();
    if (gvisor_start_on(r, &spec, TRIAL_TIMEOUT_MS, &s, e) < 0)
        return -1;
    ended = (struct pollfd){.fd = s.pidfd, .events = POLLIN};
    do {
        left = poll(&ended, 1, TRIAL_TIMEOUT_MS);
    } while (left < 0 && errno == EINTR);
    handover_destroy(&s, &status);
    if (left <= 0)
        return err_set(e, ETIMEDOUT, "gvisor: the trial did not end within %d s", TRIAL_TIMEOUT_MS / 1000);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, EIO, "gvisor: the trial failed with status %d",
                       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}

static int choose_platform(struct gvisor_runtime *r, struct err *e)
{
    const char *asked = wall_config()->oci_platform;
    char why[ERR_TEXT_MAX] = "";

    if (asked && *asked && strcmp(asked, "auto") != 0 && !is_platform(asked))
        return err_set(e, EINVAL, "gvisor.platform must be auto, kvm, systrap or ptrace, not '%.32s'", asked);
    for (size_t i = 0; i < ARRAY_LEN(platforms); i++) {
        struct err one = ERR_INIT;
        size_t used = strlen(why);
        if (asked && *asked && strcmp(asked, "auto") != 0 && strcmp(asked, platforms[i]) != 0)
            continue;
        (void)io_format(r->platform, sizeof(r->platform), "%s", platforms[i]);
        if (strcmp(platforms[i], "kvm") == 0 && access("/dev/kvm", R_OK | W_OK) < 0)
            (void)err_set(&one, ENODEV, "there is no /dev/kvm");
        else if (try_runtime(r, &one) == 0)
            return 0;
        (void)snprintf(why + used, sizeof(why) - used, "%s%s: %.180s", used ? "; " : "", platforms[i],
                       one.text);
    }
    return err_set(e, EOPNOTSUPP, "no platform of %.128s works on this host (%.512s)", r->path, why);
}

int gvisor_runtime_ready(struct gvisor_runtime *r, struct err *e)
{
    static struct gvisor_runtime known;
    const char *asked = wall_config()->oci_platform;
    bool any = !asked || !*asked || !strcmp(asked, "auto");

    if (gvisor_runtime_find(r, e) < 0)
        return -1;
    if (!strcmp(known.path, r->path) && known.size == r->size && known.mtime_ns == r->mtime_ns) {
        *r = known;
        return 0;
    }
    if (!read_cache(r) || (!any && r->kind == RUNTIME_RUNSC && strcmp(r->platform, asked) != 0)) {
        if (gvisor_runtime_identify(r, e) < 0)
            return -1;
        if (r->kind == RUNTIME_RUNSC ? choose_platform(r, e) < 0 : try_runtime(r, e) < 0)
            return -1;
        if (any)
            write_cache(r);
    }
    known = *r;
    return 0;
}
