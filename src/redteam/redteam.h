/*
 * redteam.h - `ironclaw redteam`: attacks from inside live sandboxes, judged from outside.
 *
 * The hostile program (attacks/) is the agent program of a session of a real control plane. It gets its
 * orders and sends its records over the queue port, so everything that it does crosses the real thing. It is
 * never believed: whether an attack got through is decided here, from what the host sees.
 *
 *   main.c      options and verbs
 *   table.c     the attacks, family by family (judges/NN_*.c holds each family's host side)
 *   plane.c     a control plane of its own on a temporary directory; api.c is the HTTP client
 *   arena.c     for one wall: the attacker's session, the victim's, secrets and listeners on the host
 *   hostview.c  what /proc says about the processes of a sandbox
 *   standing.c  what must hold after every attack, whatever it was
 *   trial.c     one attack: arm, order, judge
 *   controls.c  negative controls: does an attack notice when a protection is gone?
 *   output.c    table and JSON; report.c signs and verifies the containment report
 *
 * A further family is two files, judges/NN_name.c and attacks/NN_name.c, and a line each in table.c, in
 * attacks/main.c, in both headers and in meson.build.
 */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "redteam/attempt.h"

enum {
    FAMILIES = 13,
    SECRET_LEN = 40, /* "icx-" and 36 random hex digits */
    SECRETS_MAX = 24,
    LISTENERS_MAX = 12,
    PIDS_MAX = 512,
    GAPS_MAX = 4,
    CHECKS_MAX = 48,
    STEPS_MAX = 24,
    PARAMS_MAX = 8192,
};

/* ---- the table ---- */

enum boundary { B1_WALL, B2_QUEUES, B3_GATEWAY, B4_EGRESS, B5_ADMINISTRATOR };
const char *boundary_name(enum boundary b); /* "B1" ... */

enum verdict { VERDICT_PASS, VERDICT_GAP, VERDICT_FAIL, VERDICT_ERROR, VERDICT_SKIP };
const char *verdict_name(enum verdict v);

/* A known, documented weakness: this check of the attack fails under this wall (GAP_ANY_WALL: any), for this
 * reason. */
struct gap {
    const char *wall, *check, *reason;
    const char
        *without; /* "memory", "pids", "cpu": only where the caller has no such control group; NULL: always */
};
#define GAP_ANY_WALL "any"
/* Can the caller's sandboxes have this control group on this host? */
bool host_has_cgroup(const char *controller);

struct arena;
struct trial;

struct attack {
    const char *id;
    const char *wall; /* the one that it is about; NULL: any */
    enum boundary boundary;
    const char *title;
    unsigned limit_ms; /* for the hostile side; 0: 10 s */
    /* The attack may end its own sandbox, and its record with it: then the sandbox's end, seen by the host,
     * says that it was tried, and t->record is empty. */
    bool may_end;
    /* What the record must contain to count as tried: names of steps. */
    const char *steps[STEPS_MAX];
    struct gap gaps[GAPS_MAX];
    /* Prepares what the attack aims at and adds parameters to its order. May be NULL. Returns -1 with e when
     * this host cannot be armed: the attack is then an error, never a pass. */
    int (*arm)(struct arena *a, struct trial *t, struct err *e);
    /* Looks at what happened and records checks. May be NULL: the standing checks alone judge. */
    void (*judge)(struct arena *a, struct trial *t);
    /* Takes down what arm() set up; also after errors. May be NULL. */
    void (*disarm)(struct arena *a, struct trial *t);
};

struct family {
    int number;
    const char *name, *title;
    const struct attack *attacks; /* an entry without an id ends the list */
};
extern const struct family families[];
extern const size_t nfamilies;
/* judges/NN_*.c */
extern const struct attack network_attacks[], engine_attacks[], sibling_attacks[], hostfs_attacks[],
    privilege_attacks[], kernel_attacks[], resource_attacks[], selfmod_attacks[], key_attacks[],
    queue_attacks[], port_attacks[], supply_attacks[], cell_attacks[];

/* ---- trial.c ---- */

struct check {
    char name[64]; /* io_valid_name() */
    bool ok;
    char text[256]; /* what was seen */
};

struct trial {
    const struct attack *attack;
    const struct family *family;
    char params[PARAMS_MAX];
    bool have_record;
    bool ended; /* its sandbox did, instead of a record (may_end) */
    struct attempt record;
    struct check checks[CHECKS_MAX];
    size_t nchecks;
    enum verdict verdict;
    char why[512];   /* for all but PASS: the first reason */
    char event[160]; /* event types that told the operator; "none" */
    uint64_t ms;
    json_t *data; /* figures for the JSON report: an object or NULL */
    void *own;    /* the judge's, between arm() and disarm() */
};

/* Adds "key value" to the order. The value is one line. */
void trial_param(struct trial *t, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Records a check. `name` is short and stable (gaps refer to it); the text says what was seen. */
void trial_check(struct trial *t, bool ok, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A figure for the JSON report. */
void trial_figure(struct trial *t, const char *key, json_int_t value);
/* Runs one attack and fills t. Returns 0, or -1 with e when the arena itself is unusable (control plane
 * gone). */
int trial_run(struct arena *a, struct trial *t, struct err *e);
void trial_free(struct trial *t);

/* ---- plane.c ---- */

struct api;

struct plane {
    pid_t pid; /* of `ironclaw up`; 0 when not running */
    int output, lock;
    char dir[64]; /* temporary; holds everything */
    char state[80], socket[96], token_file[80];
    char ironclaw[512], attacker[512]; /* paths of the programs */
    uint32_t uid_base;
    struct api *api;
    char env_secret[SECRET_LEN + 1];   /* stands in the control plane's environment */
    char provider_key[SECRET_LEN + 1]; /* of the provider "canary" */
    int provider_listener, provider_port;
};

/* A new secret: all begin alike, so that the attacker can search for them. */
void secret_make(char out[SECRET_LEN + 1]);
/* Set by SIGINT and SIGTERM: everything that waits gives up. */
extern volatile int interrupted;

/* Removes what killed runs left in /tmp. */
void plane_sweep(void);
/* Starts a control plane on a fresh temporary directory, becomes its administrator, imports the image.
 * `weaken`: the protections to leave out (base/weaken.h), or NULL. */
int plane_start(struct plane *p, const char *weaken, struct err *e);
/* Stops it and removes the directory (unless `keep`). */
void plane_stop(struct plane *p, bool keep);
/* Runs `ironclaw WORD...` against the plane; 0 or -1 with e (its first line of stderr). */
int plane_command(struct plane *p, const char *const *words, struct err *e);
/* Processes of the control plane: the supervisor and its children. */
size_t plane_pids(const struct plane *p, pid_t *out, size_t cap);
pid_t plane_daemon(const struct plane *p, const char *name);

/* ---- api.c ---- */

struct api *api_open(const char *socket_path);
void api_close(struct api *a);
void api_set_token(struct api *a, const char *token);
/* One request. Returns the HTTP status, or -1 with e when there was no answer. *out (may be NULL) gets the
 * JSON answer or NULL. `body` is borrowed. */
long api_call(struct api *a, const char *method, const char *path, json_t *body, json_t **out, struct err *e);
/* The same, but a status of 400 and more is an error. */
long api_need(struct api *a, const char *method, const char *path, json_t *body, json_t **out, struct err *e);

/* ---- arena.c ---- */

enum listener_kind { LISTEN_STREAM, LISTEN_DGRAM };
struct listener {
    const char *name;
    int fd;
    enum listener_kind kind;
    unsigned visits;
};

struct secret {
    const char *name; /* where it is kept, for the report */
    char text[SECRET_LEN + 1];
};

struct player {
    const char *role; /* "attacker", "victim" */
    char agent[64], session[48];
    long long last; /* sequence number of the last outbound record seen */
    bool may_end;   /* what it is ordered may end its sandbox: no record is waited for then */
};

/* What was so before an attack and must be so after it (standing.c). */
struct standing {
    pid_t pids[PIDS_MAX];
    size_t npids;
    long long restarts[2], changes;
    long visits, signals;
    uint64_t files;
    char *config; /* the agents' documents and the tokens, as JSON text */
};

struct arena {
    struct plane *plane;
    char wall[16];
    bool root;   /* sandboxes have host uids of their own */
    bool gentle; /* a limit may be missing: bombs stop when they have shown that nothing stops them */
    struct player attacker, victim;
    struct player client; /* an agent of the provider "canary"; without a session until somebody makes one */
    struct listener listeners[LISTENERS_MAX];
    size_t nlisteners;
    struct secret secrets[SECRETS_MAX];
    size_t nsecrets;
    char unix_path[128], host_file[128], host_dir[128], abstract[48], host_address[64];
    int tcp_port, udp_port, vsock_port;
    double quiet_ms; /* a victim's round trip while nothing happens */
    struct standing before;
    long long events_after;
};

int arena_open(struct arena *a, struct plane *p, const char *wall, struct err *e);
void arena_close(struct arena *a);
/* A new secret, remembered: it must not turn up in anything the attacker sends. */
const char *arena_secret(struct arena *a, const char *name);
/* Sends an order and waits for its record. Returns 0, or -1 with e. *ms (may be NULL): the round trip. */
int arena_order(struct arena *a, struct player *who, const char *verb, unsigned limit_ms, const char *params,
                struct attempt *record, double *ms, struct err *e);
/* Sends an order without waiting for what comes of it. */
int arena_post(struct arena *a, const struct player *who, const char *verb, unsigned limit_ms,
               const char *params, struct err *e);
/* Connections and datagrams that arrived at the host's listeners since the last call; names them in `where`.
 */
unsigned arena_visits(struct arena *a, char *where, size_t cap);
/* Are the sandbox's processes processes of the host, so that the host sees their privileges? Not where the
 * wall has a kernel of its own. */
bool arena_is_native(struct arena *a);
/* Does every process of the sandbox, the wall's own among them, have no more rights on the host than the
 * sandbox? Then each of them is held to that. Not under gVisor, whose processes share out rights in a user
 * namespace of theirs. */
bool arena_is_bare(struct arena *a);
/* A further session of the agent that `like` is of, running and ready; and its removal, with a check that
 * nothing of it is left. */
int arena_extra(struct arena *a, const struct player *like, struct player *who, struct err *e);
int arena_extra_remove(struct arena *a, struct player *who, struct err *e);
/* How often the session's sandbox was started again. Returns 0, or -1 with e. */
int arena_restarts(struct arena *a, const struct player *who, long long *out, struct err *e);
/* Was the attacker's session restarted since standing_before()? */
bool arena_restarted(struct arena *a);
/* Adds the types of the session's events after number `after` to the words in `types`. Returns the newest
 * number. */
long long arena_events(struct arena *a, const char *session, long long after, char *types, size_t cap);
/* Makes sure that a player's session runs and answers. */
int arena_ready(struct arena *a, struct player *who, struct err *e);

/* ---- hostview.c ---- */

/* Processes on the host that belong to the session's sandbox, its init first. */
size_t host_sandbox_pids(const struct plane *p, const char *session, pid_t *out, size_t cap);
/* A line of /proc/PID/status; false when it cannot be read. */
bool host_status(pid_t pid, const char *key, char *out, size_t cap);
/* Is this process in the same namespace ("net", "mnt", ...) as we are? -1: cannot be read. */
int host_same_namespace(pid_t pid, const char *kind);
/* Do two processes share it? -1: cannot be read. */
int host_share_namespace(pid_t a, pid_t b, const char *kind);
/* Whole small file of /proc/PID as text, malloc'ed; NULL with errno. */
char *host_proc_text(pid_t pid, const char *name);
/* Reads NAME of the sandbox's control group, of the v1 controller or v2; NULL when there is none. malloc'ed.
 */
char *host_cgroup_text(const char *session, const char *controller, const char *v1, const char *v2);
/* A checksum over names, types, modes, owners, sizes and contents below a directory. */
uint64_t host_tree_sum(const char *path);

/* ---- standing.c ---- */

int standing_before(struct arena *a, struct err *e);
/* Records the checks in t. Returns -1 with e when the control plane cannot be asked any more. */
int standing_after(struct arena *a, struct trial *t, struct err *e);

/* ---- output.c, report.c, controls.c ---- */

struct run_options {
    const char *walls;     /* "all" or comma-separated */
    const char *only[256]; /* more than there are attacks */
    size_t nonly;
    const char *json, *report, *state_dir;
    bool keep;
};

struct results {
    json_t *list;  /* one object per attack and wall */
    json_t *walls; /* [{"wall","tested","reason"}] */
    bool failed;
};
void output_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void output_add(struct results *r, const char *wall, const struct trial *t);
void output_table(FILE *f, const struct results *r);

/* Signs the results through `signer` and writes path, path.txt and path.pub. complete: no attack was left
 * out. */
int report_write(const struct results *r, struct api *signer, bool complete, const char *path, struct err *e);
/* Checks signature, shape and the installed programs; prints a summary. Returns 0, or -1 with e. */
int report_verify(const char *path, const char *key_path, struct err *e);

#ifdef IRONCLAW_WEAKENED
/* Takes each protection of `wall` (NULL: of every wall that has controls) away and prints the table
 * "protection - attacks that notice". Returns 0 if all were noticed, 1 if not, -1 with e. *out gets the table
 * as JSON, also then. */
int controls_run(const char *wall, json_t **out, struct err *e);
#endif
