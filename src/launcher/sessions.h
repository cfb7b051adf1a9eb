/*
 * sessions.h - the sandboxes this launcher runs, one per session.
 */
#pragma once
#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>

#include "walls/wall.h"

enum { LOG_TAIL_MAX = 64 * 1024 };

struct launched {
    struct launched *next;
    char session[64], agent[64];
    const struct wall_ops *wall;
    struct cgroup_limits limits;
    struct cgroup_hits hits; /* as they were told last */
    struct sandbox sandbox;
    struct event *exited, *output, *grace;
    int image;  /* holds the image it runs on (image/image.h) */
    int log_fd; /* read end of the sandbox's stdout and stderr */
    char *log;  /* the last LOG_TAIL_MAX bytes at most; allocated on first output */
    size_t log_len;
    bool stopping, oom;
    bool observed;     /* the events process has its listener */
    uint64_t *waiters; /* calls to answer once it is gone */
    size_t nwaiters;
    bool remove_after; /* delete the workspace once it is gone */
};

struct launcher {
    struct event_base *base;
    const char *state_dir;
    uint32_t uid_base; /* first host uid for sessions; 0 rootless */
    const json_t *config;
    struct launched *list;
    /* Called for each new sandbox, before its workload has run for long. May take sandbox.listener; whatever
     * is left of it is closed. */
    void (*on_launch)(struct launcher *l, struct launched *s);
    /* Called just before the cgroup of a sandbox that ended goes. */
    void (*on_last_hits)(struct launcher *l, struct launched *s);
    /* Called once per sandbox that ended, before it is freed. */
    void (*on_exit)(struct launcher *l, struct launched *s, int code, const char *reason);
    bool observe; /* somebody is there to answer refused system calls */
};

/* The running sandbox of a session, or NULL. */
struct launched *launcher_find(struct launcher *l, const char *session);

/*
 * Starts a session's sandbox from its resolved spec (messages.h, LAUNCH_START). A session that runs already
 * is returned as it is: the vault asks again after its own restart and needs the port descriptors anew.
 */
struct launched *launcher_start(struct launcher *l, const char *session, uint32_t uid_index,
                                const json_t *spec, struct err *e);

/* SIGTERM now, SIGKILL after grace_ms; on_exit follows. */
void launcher_stop(struct launcher *l, struct launched *s, uint32_t grace_ms);

/* Deletes a session's workspace. */
int launcher_remove_workspace(struct launcher *l, const char *session, struct err *e);

/* Kills and reaps everything. */
void launcher_stop_all(struct launcher *l);
