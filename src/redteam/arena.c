/*
 * What the attacks of one wall need: an attacker and a victim as sessions of two agents, secrets and
 * listeners on the host, and a way to give orders.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { DEFAULT_LIMIT_MS = 10000, ANSWER_SLACK_MS = 20000, START_S = 60, QUIET_ROUNDS = 15 };

const char *arena_secret(struct arena *a, const char *name)
{
    struct secret *s = &a->secrets[a->nsecrets < SECRETS_MAX - 1 ? a->nsecrets++ : SECRETS_MAX - 1];

    s->name = name;
    secret_make(s->text);
    return s->text;
}

/* ---- listeners on the host ---- */

static int add_listener(struct arena *a, const char *name, int family, int type, const void *address,
                        socklen_t len, struct err *e)
{
    struct listener *l = &a->listeners[a->nlisteners];
    bool stream = type == SOCK_STREAM;

    l->fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0 || bind(l->fd, address, len) < 0 || (stream && listen(l->fd, 128) < 0)) {
        int code = errno;
        if (l->fd >= 0)
            (void)close(l->fd);
        return err_sys(e, code, "cannot open the host's listener '%s'", name);
    }
    l->name = name;
    l->kind = stream ? LISTEN_STREAM : LISTEN_DGRAM;
    l->visits = 0;
    a->nlisteners++;
    return l->fd;
}

static int bound_port(int fd)
{
    struct sockaddr_in in = {0};
    socklen_t len = sizeof(in);

    return getsockname(fd, (struct sockaddr *)&in, &len) < 0 ? 0 : ntohs(in.sin_port);
}

static int open_inet(struct arena *a, struct err *e)
{
    /* Every address of the host, not only loopback: a sandbox with a network of any kind shall be noticed. */
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    struct sockaddr_in any4 = {.sin_family = AF_INET};
    int fd = add_listener(a, "tcp", AF_INET6, SOCK_STREAM, &any, sizeof(any), NULL);

    if (fd < 0) /* a host without IPv6 */
        fd = add_listener(a, "tcp", AF_INET, SOCK_STREAM, &any4, sizeof(any4), e);
    if (fd < 0)
        return -1;
    a->tcp_port = bound_port(fd);
    fd = add_listener(a, "udp", AF_INET, SOCK_DGRAM, &any4, sizeof(any4), e);
    if (fd < 0)
        return -1;
    a->udp_port = bound_port(fd);
    return 0;
}

static int open_unix(struct arena *a, struct err *e)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t head = offsetof(struct sockaddr_un, sun_path);
    uint32_t random;

    (void)io_format(un.sun_path, sizeof(un.sun_path), "%s", a->unix_path);
    if (add_listener(a, "unix", AF_UNIX, SOCK_STREAM, &un, sizeof(un), e) < 0)
        return -1;
    if (chmod(a->unix_path, 0666) < 0)
        return err_sys(e, errno, "cannot open %s to everybody", a->unix_path);
    io_random(&random, sizeof(random));
    (void)io_format(a->abstract, sizeof(a->abstract), "ironclaw-redteam-%08x", random);
    memset(un.sun_path, 0, sizeof(un.sun_path));
    memcpy(un.sun_path + 1, a->abstract, strlen(a->abstract));
    if (add_listener(a, "abstract", AF_UNIX, SOCK_STREAM, &un, head + 1 + (socklen_t)strlen(a->abstract), e) <
        0)
        return -1;
    memcpy(un.sun_path + 1 + strlen(a->abstract), "-dgram", 6);
    return add_listener(a, "abstract-dgram", AF_UNIX, SOCK_DGRAM, &un,
                        head + 1 + (socklen_t)strlen(a->abstract) + 6, e) < 0
               ? -1
               : 0;
}

/* Only where the host has vsock: a listener that cannot be opened cannot be reached either. */
static void open_vsock(struct arena *a)
{
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    socklen_t len = sizeof(vm);
    int fd = add_listener(a, "vsock", AF_VSOCK, SOCK_STREAM, &vm, sizeof(vm), NULL);

    if (fd >= 0 && getsockname(fd, (struct sockaddr *)&vm, &len) == 0)
        a->vsock_port = (int)vm.svm_port;
}

unsigned arena_visits(struct arena *a, char *where, size_t cap)
{
    unsigned total = 0;
    size_t used = 0;

    where[0] = 0;
    for (size_t i = 0; i < a->nlisteners; i++) {
        struct listener *l = &a->listeners[i];
        unsigned now = 0;
        char buf[256];
        for (;;) {
            int fd = -1;
            if (l->kind == LISTEN_STREAM ? (fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC)) < 0
                                         : recv(l->fd, buf, sizeof(buf), MSG_DONTWAIT) < 0)
                break;
            if (fd >= 0)
                (void)close(fd);
            now++;
        }
        l->visits += now;
        total += now;
        if (now && used < cap && io_format(where + used, cap - used, "%s%s", used ? ", " : "", l->name))
            used = strlen(where);
    }
    return total;
}

/* An address of this host other than loopback: "" if there is none. */
static void find_address(char *out, size_t cap)
{
    struct ifaddrs *list = NULL;

    out[0] = 0;
    if (getifaddrs(&list) < 0)
        return;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !(i->ifa_flags & IFF_LOOPBACK))
            (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, out,
                            (socklen_t)cap);
    freeifaddrs(list);
}

/* ---- files on the host ---- */

static int write_secret(struct arena *a, const char *dir, const char *name, mode_t mode, struct err *e)
{
    char path[192];
    const char *secret = arena_secret(a, name);

    (void)io_format(path, sizeof(path), "%s/%s", dir, name);
    return io_replace_file(AT_FDCWD, path, secret, strlen(secret), mode, e);
}

static int open_host_files(struct arena *a, struct err *e)
{
    (void)io_format(a->host_dir, sizeof(a->host_dir), "%s/host-%s", a->plane->dir, a->wall);
    (void)io_format(a->host_file, sizeof(a->host_file), "%s/readable", a->host_dir);
    (void)io_format(a->unix_path, sizeof(a->unix_path), "%s.sock", a->host_dir);
    if (mkdir(a->host_dir, 0755) < 0)
        return err_sys(e, errno, "cannot create %s", a->host_dir);
    if (write_secret(a, a->host_dir, "readable", 0644, e) < 0 ||
        write_secret(a, a->host_dir, "private", 0600, e) < 0 ||
        write_secret(a, a->host_dir, "writable", 0666, e) < 0)
        return -1;
    return 0;
}

/* ---- the two sessions ---- */

static int make_session(struct arena *a, struct player *who, struct err *e)
{
    json_t *body = json_pack("{s:s}", "agent", who->agent), *answer = NULL;
    long status = api_need(a->plane->api, "POST", "/v1/sessions", body, &answer, e);

    who->last = 0;
    json_decref(body);
    if (status >= 0)
        (void)io_format(who->session, sizeof(who->session), "%s",
                        json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    return status < 0 ? -1 : 0;
}

static int make_agent(struct arena *a, struct player *who, const char *role, const char *provider,
                      struct err *e)
{
    struct api *api = a->plane->api;
    json_t *body, *answer = NULL;
    char path[128];
    long status;

    who->role = role;
    who->last = 0;
    (void)io_format(who->agent, sizeof(who->agent), "%s-%s", role, a->wall);
    body = json_pack("{s:s,s:s,s:s,s:[s],s:{s:I,s:f,s:i},s:s,s:[]}", "name", who->agent, "wall", a->wall,
                     "image", "redteam", "command", "/bin/ironclaw-attacker", "limits", "memory",
                     (json_int_t)192 << 20, "cpus", 1.0, "pids", 64, "provider", provider, "tools");
    status = api_need(api, "POST", "/v1/agents", body, &answer, e);
    json_decref(body);
    if (status < 0)
        return -1;
    (void)io_format(path, sizeof(path), "/v1/changes/%s/approve",
                    json_string_value(json_object_get(answer, "id")));
    json_decref(answer);
    body = json_object();
    status = api_need(api, "POST", path, body, &answer, e);
    json_decref(body);
    if (status >= 0 && strcmp(json_string_value(json_object_get(answer, "state")), "applied") != 0)
        status = err_set(e, EIO, "the %s's agent was not created", role);
    json_decref(answer);
    return status < 0 ? -1 : 0;
}

/* Every text that a sandbox sent is searched for secrets, whatever it was an answer to. */
static bool text_leaks(const struct arena *a, const char *text, char *which, size_t cap)
{
    for (size_t i = 0; i < a->nsecrets; i++) {
        if (strstr(text, a->secrets[i].text))
            return io_format(which, cap, "%s", a->secrets[i].name);
    }
    return false;
}

static int post_order(struct arena *a, const struct player *who, const char *text, struct err *e)
{
    char path[128];
    json_t *body = json_pack("{s:s}", "text", text);
    long status;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages", who->session);
    status = api_need(a->plane->api, "POST", path, body, NULL, e);
    json_decref(body);
    return status < 0 ? -1 : 0;
}

static void make_nonce(char nonce[ATTEMPT_NONCE_LEN + 1])
{
    unsigned char raw[ATTEMPT_NONCE_LEN / 2];

    io_random(raw, sizeof(raw));
    io_hex(nonce, raw, sizeof(raw));
}

int arena_post(struct arena *a, const struct player *who, const char *verb, unsigned limit_ms,
               const char *params, struct err *e)
{
    char nonce[ATTEMPT_NONCE_LEN + 1];
    CLEANUP_FREE char *text = NULL;

    make_nonce(nonce);
    text = x_asprintf("order %s %s %u\n%s", nonce, verb, limit_ms ? limit_ms : DEFAULT_LIMIT_MS, params);
    return post_order(a, who, text, e);
}

/* Looks through the records that came; 1 when ours is among them (in *record). */
static int take_records(struct arena *a, struct player *who, const json_t *answer, const char *nonce,
                        struct attempt *record, struct err *e)
{
    json_t *m;
    size_t i;

    json_array_foreach(json_object_get(answer, "messages"), i, m)
    {
        const json_t *t = json_object_get(m, "text");
        const char *text = json_string_value(t);
        struct err ignored = ERR_INIT;
        char which[64];
        who->last = json_integer_value(json_object_get(m, "seq"));
        if (!text || strncmp(text, "report ", 7) != 0 || strncmp(text + 7, nonce, strlen(nonce)) != 0) {
            if (text && who == &a->attacker && text_leaks(a, text, which, sizeof(which)))
                return err_set(e, EPROTO, "the attacker sent the secret '%s' outside its record", which);
            continue;
        }
        if (attempt_parse(record, text, json_string_length(t), &ignored) < 0)
            return err_set(e, EPROTO, "%s", ignored.text);
        return 1;
    }
    return 0;
}

int arena_order(struct arena *a, struct player *who, const char *verb, unsigned limit_ms, const char *params,
                struct attempt *record, double *ms, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    char nonce[ATTEMPT_NONCE_LEN + 1], path[192];
    uint64_t begin = io_monotonic_ns(), until;
    long long lives = 0, now;
    bool ended = false;
    int found = 0;

    memset(record, 0, sizeof(*record));
    limit_ms = limit_ms ? limit_ms : DEFAULT_LIMIT_MS;
    make_nonce(nonce);
    text = x_asprintf("order %s %s %u\n%s", nonce, verb, limit_ms, params);
    if ((who->may_end && arena_restarts(a, who, &lives, e) < 0) || post_order(a, who, text, e) < 0)
        return -1;
    until = io_monotonic_ns() + (uint64_t)(limit_ms + ANSWER_SLACK_MS) * 1000000;
    while (found == 0 && io_monotonic_ns() < until && !interrupted) {
        json_t *answer = NULL;
        (void)io_format(path, sizeof(path), "/v1/sessions/%s/messages?after=%lld&wait=%d", who->session,
                        who->last, who->may_end ? 1 : 5);
        if (api_need(a->plane->api, "GET", path, NULL, &answer, e) < 0)
            return -1;
        found = take_records(a, who, answer, nonce, record, e);
        json_decref(answer);
        if (ended)
            break; /* the look that found nothing came after the end: nothing will come */
        ended = who->may_end && arena_restarts(a, who, &now, e) == 0 && now > lives;
    }
    if (ms)
        *ms = (double)(io_monotonic_ns() - begin) / 1e6;
    if (found == 0)
        return err_set(e, ETIMEDOUT, interrupted ? "interrupted" : "the %s did not answer the order '%s'",
                       who->role, verb);
    return found < 0 ? -1 : 0;
}

int arena_ready(struct arena *a, struct player *who, struct err *e)
{
    char path[128];
    uint64_t until = io_monotonic_ns() + START_S * 1000000000ULL;
    struct attempt record;
    struct err why = ERR_INIT;

    (void)io_format(path, sizeof(path), "/v1/sessions/%s", who->session);
    while (io_monotonic_ns() < until && !interrupted) {
        json_t *answer = NULL;
        const char *state;
        bool running;
        if (api_need(a->plane->api, "GET", path, NULL, &answer, e) < 0)
            return -1;
        state = json_string_value(json_object_get(answer, "state"));
        running = state && (!strcmp(state, "running") || !strcmp(state, "stopped"));
        (void)io_format(why.text, sizeof(why.text), "%s: %s", state ? state : "?",
                        json_string_value(json_object_get(answer, "reason")));
        json_decref(answer);
        if (running && arena_order(a, who, "ping", 0, "", &record, NULL, e) == 0) {
            attempt_free(&record);
            return 0;
        }
        (void)usleep(20000);
    }
    return err_set(e, ETIMEDOUT, interrupted ? "interrupted" : "the %s's session does not run (%.400s)",
                   who->role, why.text);
}

static int give_secrets(struct arena *a, struct err *e)
{
    char params[512];
    struct attempt record;
    int rc;

    (void)io_format(params, sizeof(params), "memory %s\nfile %s\nshared %s\n",
                    arena_secret(a, "victim-memory"), arena_secret(a, "victim-file"),
                    arena_secret(a, "victim-shared"));
    rc = arena_order(a, &a->victim, "hold", 0, params, &record, NULL, e);
    if (rc < 0)
        return -1;
    if (!record.complete || attempt_number(&record, "doors", 0) != 2)
        rc = err_set(e, EIO, "the victim could not take its secrets (%s)", record.end);
    attempt_free(&record);
    return rc;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* What a round trip to the victim costs while nothing happens: the middle of some. */
static int measure_quiet(struct arena *a, struct err *e)
{
    double ms[QUIET_ROUNDS];
    struct attempt record;

    for (size_t i = 0; i < QUIET_ROUNDS; i++) {
        if (arena_order(a, &a->victim, "ping", 0, "", &record, &ms[i], e) < 0)
            return -1;
        attempt_free(&record);
    }
    qsort(ms, QUIET_ROUNDS, sizeof(*ms), compare_doubles);
    a->quiet_ms = ms[QUIET_ROUNDS / 2];
    return 0;
}

int arena_open(struct arena *a, struct plane *p, const char *wall, struct err *e)
{
    struct secret *s;

    memset(a, 0, sizeof(*a));
    a->plane = p;
    a->root = p->uid_base != 0;
    (void)io_format(a->wall, sizeof(a->wall), "%s", wall);
    find_address(a->host_address, sizeof(a->host_address));
    s = &a->secrets[a->nsecrets++];
    s->name = "environment of the control plane";
    memcpy(s->text, p->env_secret, sizeof(s->text));
    s = &a->secrets[a->nsecrets++];
    s->name = "provider key";
    memcpy(s->text, p->provider_key, sizeof(s->text));
    if (open_host_files(a, e) < 0 || open_inet(a, e) < 0 || open_unix(a, e) < 0)
        return -1;
    open_vsock(a);
    if (make_agent(a, &a->attacker, "attacker", "mock", e) < 0 ||
        make_agent(a, &a->victim, "victim", "mock", e) < 0 ||
        make_agent(a, &a->client, "client", "canary", e) < 0 || make_session(a, &a->attacker, e) < 0 ||
        make_session(a, &a->victim, e) < 0 || arena_ready(a, &a->attacker, e) < 0 ||
        arena_ready(a, &a->victim, e) < 0 || give_secrets(a, e) < 0)
        return err_wrap(e, "wall %s", wall);
    return measure_quiet(a, e);
}

bool arena_is_native(struct arena *a)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX);
    char name[32];

    for (size_t i = 0; i < n; i++)
        if (host_status(pids[i], "Name", name, sizeof(name)) && !strcmp(name, "ironclaw-attack"))
            return true;
    return false;
}

bool arena_is_bare(struct arena *a)
{
    return arena_is_native(a) || !strcmp(a->wall, "cell");
}

int arena_extra(struct arena *a, const struct player *like, struct player *who, struct err *e)
{
    *who = *like;
    return make_session(a, who, e) < 0 ? -1 : arena_ready(a, who, e);
}

int arena_extra_remove(struct arena *a, struct player *who, struct err *e)
{
    char path[192];
    pid_t pids[8];

    (void)io_format(path, sizeof(path), "/v1/sessions/%s", who->session);
    if (api_need(a->plane->api, "DELETE", path, NULL, NULL, e) < 0)
        return -1;
    if (host_sandbox_pids(a->plane, who->session, pids, ARRAY_LEN(pids)) > 0)
        return err_set(e, EBUSY, "processes of the removed session are left");
    (void)io_format(path, sizeof(path), "%s/workspaces/%s", a->plane->state, who->session);
    return access(path, F_OK) == 0 ? err_set(e, EEXIST, "the workspace of the removed session is left") : 0;
}

static void remove_player(struct arena *a, struct player *who)
{
    char path[128];

    if (!who->session[0] || !a->plane->api || interrupted)
        return;
    (void)io_format(path, sizeof(path), "/v1/sessions/%s", who->session);
    (void)api_call(a->plane->api, "DELETE", path, NULL, NULL, NULL);
}

void arena_close(struct arena *a)
{
    remove_player(a, &a->attacker);
    remove_player(a, &a->victim);
    for (size_t i = 0; i < a->nlisteners; i++)
        (void)close(a->listeners[i].fd);
    if (a->unix_path[0])
        (void)unlink(a->unix_path);
    free(a->before.config);
    a->before.config = NULL;
    a->nlisteners = 0;
}
