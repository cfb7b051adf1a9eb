/*
 * Family 12, host side. The sandbox is ended, and the same session started again: of the package nothing may
 * be left but the files in /workspace. Then another session of the same agent is looked at: it has nothing of
 * it at all.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { PACKAGE_FILES = 4, REVERSE_SHELL_US = 400000, ENDED_TRIES = 200 };

static int arm_supply(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "host", "%s", *a->host_address ? a->host_address : "127.0.0.1");
    trial_param(t, "port", "%d", a->tcp_port);
    return 0;
}

/* Are there processes of the session on the host? Waits a moment for those that are dying. */
static size_t processes_left(struct arena *a, const char *session)
{
    pid_t pids[PIDS_MAX];
    size_t n = 1;

    for (int i = 0; n > 0 && i < ENDED_TRIES; i++) {
        n = host_sandbox_pids(a->plane, session, pids, PIDS_MAX);
        if (n > 0)
            (void)usleep(10000);
    }
    return n;
}

static void check_look(struct trial *t, const char *who, const struct attempt *r, long package_files)
{
    char name[64];

    (void)io_format(name, sizeof(name), "%s-clean", who);
    trial_check(t,
                r->complete && attempt_number(r, "tmp", -1) == 0 && attempt_number(r, "shm", -1) == 0 &&
                    attempt_number(r, "segment", -1) == 0 && attempt_number(r, "cron", -1) == 0,
                name, "looked: %.40s; /tmp %ld, /dev/shm %ld, cron jobs %ld, segments %ld", r->end,
                attempt_number(r, "tmp", -1), attempt_number(r, "shm", -1), attempt_number(r, "cron", -1),
                attempt_number(r, "segment", -1));
    (void)io_format(name, sizeof(name), "%s-workspace", who);
    trial_check(t,
                attempt_number(r, "package", -1) == package_files &&
                    attempt_number(r, "workspace", -1) == (package_files ? 1 : 0),
                name, "%ld entries in /workspace, %ld in the package's directory",
                attempt_number(r, "workspace", -1), attempt_number(r, "package", -1));
    (void)io_format(name, sizeof(name), "%s-processes", who);
    /* init, the attacker and its child that looks */
    trial_check(t, attempt_number(r, "processes", 99) <= 4, name, "%ld processes",
                attempt_number(r, "processes", -1));
}

static void judge_supply(struct arena *a, struct trial *t)
{
    struct player extra;
    struct attempt record;
    struct err e = ERR_INIT;
    char path[128];
    size_t left;

    (void)usleep(REVERSE_SHELL_US); /* the shell calls home, if it can: the standing checks count visits */
    if (arena_extra(a, &a->attacker, &extra, &e) < 0 ||
        (arena_order(a, &extra, "supply.install", t->attack->limit_ms, t->params, &record, NULL, &e) < 0 &&
         !t->ended)) {
        trial_check(t, false, "sandbox-ended", "%.200s", e.text);
        return;
    }
    attempt_free(&record); /* empty, where the package ended its sandbox here as well */
    e = (struct err)ERR_INIT;
    extra.may_end = false; /* looking is harmless */
    (void)io_format(path, sizeof(path), "/v1/sessions/%s/stop", extra.session);
    if (api_need(a->plane->api, "POST", path, NULL, NULL, &e) < 0) {
        trial_check(t, false, "sandbox-ended", "%.200s", e.text);
        return;
    }
    left = processes_left(a, extra.session);
    trial_check(t, left == 0, "sandbox-ended", "%zu processes are left after the sandbox ended", left);
    if (arena_order(a, &extra, "supply.look", 0, "", &record, NULL, &e) ==
        0) { /* the message starts it again */
        check_look(t, "next-life", &record, PACKAGE_FILES);
        attempt_free(&record);
    } else {
        trial_check(t, false, "next-life-clean", "%.200s", e.text);
    }
    trial_check(t, arena_extra_remove(a, &extra, &e) == 0, "removed", "the session %.200s",
                e.code ? e.text : "is gone, with all it had");
    if (arena_extra(a, &a->attacker, &extra, &e) == 0 &&
        arena_order(a, &extra, "supply.look", 0, "", &record, NULL, &e) == 0) {
        check_look(t, "next-session", &record, 0);
        attempt_free(&record);
        (void)arena_extra_remove(a, &extra, &e);
    } else {
        trial_check(t, false, "next-session-clean", "%.200s", e.text);
    }
}

const struct attack supply_attacks[] = {
    {.id = "supply.install",
     .boundary = B1_WALL,
     .title = "a package whose install script does all of it and wants to stay",
     .limit_ms = 60000,
     .may_end = true, /* two hundred processes are among what it starts */
     .steps = {"package", "shm", "script", "attacks", "reverse-shell"},
     .arm = arm_supply,
     .judge = judge_supply},
    {.id = NULL},
};
