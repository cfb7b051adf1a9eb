/*
 * Family 4, host side: the host's own files and the image are compared before and after, the workspace is
 * searched for what must not be made there, and the session that laid traps is removed to see who falls into
 * them.
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { RACE_HEAD_START_US = 150000 }; /* the race runs for 700 ms */

static int arm_paths(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "host_file", "%s", a->host_file);
    trial_param(t, "host_dir", "%s", a->host_dir);
    trial_param(t, "private", "%s/private", a->host_dir);
    trial_param(t, "registry", "%s/registry.db", a->plane->state);
    trial_param(t, "master_key", "%s/vault/master.key", a->plane->state);
    trial_param(t, "token", "%s", a->plane->token_file);
    return 0;
}

/* ---- the image ---- */

struct image_state {
    uint64_t sum;
    char path[160];
};

static int arm_image(struct arena *a, struct trial *t, struct err *e)
{
    struct image_state *s = x_calloc(1, sizeof(*s));

    (void)e;
    (void)io_format(s->path, sizeof(s->path), "%s/images/redteam", a->plane->state);
    s->sum = host_tree_sum(s->path);
    t->own = s;
    return 0;
}

static void judge_image(struct arena *a, struct trial *t)
{
    const struct image_state *s = t->own;

    (void)a;
    trial_check(t, s && host_tree_sum(s->path) == s->sum, "image-unchanged",
                "the image on the host compared before and after");
}

static void free_own(struct arena *a, struct trial *t)
{
    (void)a;
    free(t->own);
    t->own = NULL;
}

/* ---- kernel settings ---- */

static char *settings(void)
{
    static const char *const names[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
                                        "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward"};
    char *all = x_strdup("");

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP_FREE char *value = NULL;
        char *more;
        (void)io_read_file(AT_FDCWD, names[i], 4096, &value, NULL, NULL);
        more = x_asprintf("%s%s=%s", all, names[i], value ? value : "\n");
        free(all);
        all = more;
    }
    return all;
}

static int arm_settings(struct arena *a, struct trial *t, struct err *e)
{
    (void)a;
    (void)e;
    t->own = settings();
    return 0;
}

static void judge_settings(struct arena *a, struct trial *t)
{
    CLEANUP_FREE char *now = settings();

    (void)a;
    trial_check(t, t->own && !strcmp(t->own, now), "settings-unchanged",
                "the host's kernel settings compared before and after");
}

/* ---- the workspace, seen from the host ---- */

static void judge_workspace(struct arena *a, struct trial *t)
{
    char path[192];
    char *const roots[] = {path, NULL};
    unsigned devices = 0, set_ids = 0;
    FTS *walk;
    const FTSENT *f;

    (void)io_format(path, sizeof(path), "%s/workspaces/%s", a->plane->state, a->attacker.session);
    walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    while (walk && (f = fts_read(walk))) {
        if (!f->fts_statp || f->fts_info == FTS_NS)
            continue;
        devices += S_ISCHR(f->fts_statp->st_mode) || S_ISBLK(f->fts_statp->st_mode);
        set_ids += S_ISREG(f->fts_statp->st_mode) && (f->fts_statp->st_mode & (S_ISUID | S_ISGID)) != 0;
    }
    trial_check(t, walk && devices == 0, "no-device-made", "%u device nodes in the workspace", devices);
    trial_check(t, walk && set_ids == 0, "no-set-id-made", "%u set-id files in the workspace", set_ids);
    if (walk)
        (void)fts_close(walk);
}

/* /sys may be shown by a wall of its own making, but nothing in it may be the host's. */
static void judge_sys(struct arena *a, struct trial *t)
{
    size_t seen = 0;

    for (size_t i = 0; i < t->record.nfacts; i++)
        seen += !strcmp(t->record.facts[i].key, "entries");
    trial_check(t, seen == 0 || !arena_is_native(a), "nothing-of-sys",
                "%zu places of the kernel are listed inside", seen);
}

/* ---- traps ---- */

/* The same attack in a session that is removed, while it is at it if it is a race: the host walks what it
 * made. */
static void remove_under_attack(struct arena *a, struct trial *t, bool race)
{
    struct player extra;
    struct attempt record;
    struct err e = ERR_INIT;
    uint64_t before = host_tree_sum(a->host_dir), up = host_tree_sum(a->plane->token_file);
    bool tried;

    if (arena_extra(a, &a->attacker, &extra, &e) < 0) {
        trial_check(t, false, "removed", "no further session could be started: %.200s", e.text);
        return;
    }
    if (race) {
        tried = arena_post(a, &extra, t->attack->id, t->attack->limit_ms, t->params, &e) == 0;
        (void)usleep(RACE_HEAD_START_US);
    } else {
        tried = arena_order(a, &extra, t->attack->id, t->attack->limit_ms, t->params, &record, NULL, &e) == 0;
        if (tried)
            attempt_free(&record);
    }
    trial_check(t, tried && arena_extra_remove(a, &extra, &e) == 0, "removed",
                "the session and its workspace %.200s", e.code ? e.text : "are gone");
    trial_check(t, host_tree_sum(a->host_dir) == before && host_tree_sum(a->plane->token_file) == up,
                "removal-stays-inside", "the host's files compared before and after the removal");
}

static void judge_removal(struct arena *a, struct trial *t)
{
    remove_under_attack(a, t, false);
}

static void judge_race(struct arena *a, struct trial *t)
{
    remove_under_attack(a, t, true);
}

const struct attack hostfs_attacks[] = {
    {.id = "fs.paths",
     .boundary = B1_WALL,
     .title = "files of the host and keys by path",
     .steps = {"file-0", "file-1", "file-10", "other-0", "other-1"},
     .arm = arm_paths},
    {.id = "fs.processes",
     .boundary = B1_WALL,
     .title = "files of the host through root, cwd and exe of processes",
     .steps = {"through", "doors"},
     .arm = arm_paths},
    {.id = "fs.handles",
     .boundary = B1_WALL,
     .title = "open files by inode number",
     .steps = {"name", "open"}},
    {.id = "fs.mounts",
     .boundary = B1_WALL,
     .title = "mount, move, unmask, pivot: old and new calls",
     .steps = {"tmpfs", "bind", "remount-rw", "unmask", "pivot-root", "open-tree", "fsopen", "setattr"},
     .arm = arm_image,
     .judge = judge_image,
     .disarm = free_own},
    {.id = "fs.read-only",
     .boundary = B1_WALL,
     .title = "change the image, the root and the ports",
     .steps = {"create-0", "create-1", "create-6", "overwrite", "unlink", "port-unlink", "exe"},
     .arm = arm_image,
     .judge = judge_image,
     .disarm = free_own},
    {.id = "fs.proc",
     .boundary = B1_WALL,
     .title = "kernel settings and masked files of /proc",
     .steps = {"write-0", "write-5", "write-11", "read-0", "read-3", "read-13"},
     .arm = arm_settings,
     .judge = judge_settings,
     .disarm = free_own},
    {.id = "fs.sys",
     .boundary = B1_WALL,
     .title = "/sys, debugfs, control groups, firmware",
     .steps = {"look-0", "look-3", "knob-0", "knob-4"},
     .judge = judge_sys},
    {.id = "fs.devices",
     .boundary = B1_WALL,
     .title = "make and open device nodes",
     .gaps = {{"gvisor", "no-claim",
               "devices of gVisor's own kernel can be opened, none of them the host's (docs/walls.md)",
               NULL}},
     .steps = {"mknod-0", "mknod-1", "mknod-2", "mknod-3", "open-0", "open-11"},
     .judge = judge_workspace},
    {.id = "fs.descriptors",
     .boundary = B1_WALL,
     .title = "use inherited descriptors",
     .steps = {"list"},
     .arm = arm_paths},
    {.id = "fs.traps",
     .boundary = B1_WALL,
     .title = "traps in the workspace for whoever removes it",
     .limit_ms = 60000,
     .steps = {"traps"},
     .arm = arm_paths,
     .judge = judge_removal},
    {.id = "fs.races",
     .boundary = B1_WALL,
     .title = "race links against what the host does with the workspace",
     .steps = {"swaps"},
     .arm = arm_paths,
     .judge = judge_race},
    {.id = NULL},
};
