/*
 * Family 6, host side: the bytes of the key files themselves must not be in anything the attacker sent, nor
 * the provider's key in any answer of a provider that gives back whatever it was sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "redteam/redteam.h"

enum { KEY_FILE_MAX = 1 << 16, WINDOW = 12, ECHO_S = 20 };

static int arm_files(struct arena *a, struct trial *t, struct err *e)
{
    (void)e;
    trial_param(t, "master_key", "%s/vault/master.key", a->plane->state);
    trial_param(t, "audit_key", "%s/vault/audit.key", a->plane->state);
    trial_param(t, "registry", "%s/registry.db", a->plane->state);
    trial_param(t, "token", "%s", a->plane->token_file);
    trial_param(t, "provider_file", "%s/provider.key", a->plane->dir);
    return 0;
}

/* The beginning of a file of the host as hex; "" when it cannot be read. */
static void beginning(const char *path, char *hex, size_t cap)
{
    CLEANUP_FREE char *data = NULL;
    size_t len = 0;

    hex[0] = 0;
    if (io_read_file(AT_FDCWD, path, KEY_FILE_MAX, &data, &len, NULL) == 0 && len >= WINDOW &&
        cap > (size_t)2 * WINDOW)
        io_hex(hex, data, WINDOW);
}

static void judge_key_files(struct arena *a, struct trial *t)
{
    static const char *const names[] = {"vault/master.key", "vault/audit.key", "vault/sealing.key"};
    size_t known = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[192], hex[2 * WINDOW + 1];
        (void)io_format(path, sizeof(path), "%s/%s", a->plane->state, names[i]);
        beginning(path, hex, sizeof(hex));
        known += hex[0] != 0;
        for (size_t k = 0; k < t->record.nproofs && hex[0]; k++)
            if (strstr(t->record.proofs[k].value, hex)) {
                trial_check(t, false, "no-key-bytes", "the attacker sent bytes of %s", names[i]);
                return;
            }
    }
    trial_check(t, known == ARRAY_LEN(names), "no-key-bytes", "none of the bytes of %zu key files was sent",
                known);
}

/* Core dumps on the host, in the directory where it would put the sandbox's. */
static void judge_cores(struct arena *a, struct trial *t)
{
    pid_t pids[PIDS_MAX];
    size_t n = host_sandbox_pids(a->plane, a->attacker.session, pids, PIDS_MAX), zero = 0;

    for (size_t i = 0; i < n; i++) {
        CLEANUP_FREE char *limits = host_proc_text(pids[i], "limits");
        const char *line = limits ? strstr(limits, "Max core file size") : NULL;
        char *rest;
        if (!line)
            continue;
        (void)strtoull(line + 18, &rest, 10); /* the soft limit, then the hard one */
        zero += *rest == ' ' && rest[strspn(rest, " ")] == '0';
    }
    trial_check(t, n > 0 && (zero == n || !arena_is_bare(a)), "no-core-limit",
                "%zu of %zu processes may write no core file", zero, n);
}

/* ---- a provider that echoes ---- */

/* Serves until it is killed: whatever head it gets comes back as the model's words and as a header. Writes
 * one byte to `seen` when the provider's key was in it. */
static void serve_echo(int listener, const char *key, int seen)
{
    for (;;) {
        struct pollfd p = {.fd = listener, .events = POLLIN};
        char head[8192], shown[8192], body[9216];
        size_t have = 0, used = 0;
        ssize_t n = -1;
        int fd, len;
        (void)poll(&p, 1, 1000);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        while (have < sizeof(head) - 1 && (n = recv(fd, head + have, sizeof(head) - 1 - have, 0)) > 0) {
            have += (size_t)n;
            head[have] = 0;
            if (strstr(head, "\r\n\r\n"))
                break;
        }
        if (strstr(head, key))
            (void)!write(seen, "k", 1);
        for (size_t i = 0; i < have && used < sizeof(shown) - 1; i++)
            if ((unsigned char)head[i] >= 0x20 && head[i] != '"' && head[i] != '\\')
                shown[used++] = head[i];
        shown[used] = 0;
        len = snprintf(
            body, sizeof(body),
            "{\"id\":\"1\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
            "\"assistant\",\"content\":\"echo %s\"},\"finish_reason\":\"stop\"}],\"usage\":"
            "{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}",
            shown);
        (void)dprintf(fd,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: %s\r\n"
                      "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
                      key, len, body);
        (void)shutdown(fd, SHUT_WR);
        while (recv(fd, head, sizeof(head), 0) > 0)
            ;
        (void)close(fd);
    }
}

static pid_t start_echo(const struct plane *p, int *seen)
{
    int ends[2];
    pid_t pid, parent = getpid();

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGINT, SIG_DFL);
        (void)close(ends[0]);
        if (getppid() == parent)
            serve_echo(p->provider_listener, p->provider_key, ends[1]);
        _exit(0);
    }
    (void)close(ends[1]);
    *seen = ends[0];
    return pid;
}

/* The same attack by a client of that provider: the key really goes out, and must not come back. */
static void judge_proxy(struct arena *a, struct trial *t)
{
    struct player extra;
    struct attempt record = {0};
    struct err e = ERR_INIT;
    CLEANUP_CLOSE int seen = -1;
    pid_t echo = start_echo(a->plane, &seen);
    char byte = 0;
    bool answered = false, leaked = false, used;

    if (echo > 0 && arena_extra(a, &a->client, &extra, &e) == 0) {
        if (arena_order(a, &extra, t->attack->id, 20000, t->params, &record, NULL, &e) == 0) {
            const struct attempt_step *s = attempt_step_find(&record, "answer-0");
            answered = record.complete && s && s->ret > 0 && strstr(s->detail, " 200 ") != NULL;
            leaked = attempt_leaks(&record, a->plane->provider_key);
            attempt_free(&record);
        }
        (void)arena_extra_remove(a, &extra, &e);
    }
    if (echo > 0) {
        (void)kill(echo, SIGKILL);
        (void)waitpid(echo, NULL, 0);
    }
    trial_check(t, answered, "provider-answered", "the echoing provider's answer %s%.150s",
                answered ? "came through" : "did not come: ", answered ? "" : e.text);
    used = seen >= 0 && read(seen, &byte, 1) == 1;
    trial_check(t, used, "key-was-used", "the provider %s its key", used ? "was sent" : "was not sent");
    trial_check(t, !leaked, "key-redacted", "the key %s in the answer", leaked ? "stands" : "does not stand");
}

const struct attack key_attacks[] = {
    {.id = "keys.environment",
     .boundary = B5_ADMINISTRATOR,
     .title = "secrets in environments",
     .steps = {"read"}},
    {.id = "keys.files",
     .boundary = B5_ADMINISTRATOR,
     .title = "master key, sealed store, tokens in files",
     .limit_ms = 90000,
     .steps = {"direct-0", "direct-1", "direct-3", "direct-4", "through-root", "hunt"},
     .arm = arm_files,
     .judge = judge_key_files},
    {.id = "keys.memory",
     .boundary = B5_ADMINISTRATOR,
     .title = "secrets in the memory of other processes",
     .limit_ms = 20000,
     .steps = {"scan"}},
    {.id = "keys.core-dumps",
     .boundary = B5_ADMINISTRATOR,
     .title = "secrets in core dumps",
     .limit_ms = 15000,
     .steps = {"dump", "limit"},
     .judge = judge_cores},
    {.id = "keys.proxy",
     .boundary = B4_EGRESS,
     .title = "the provider's key in the proxy's answers",
     .limit_ms = 15000,
     .steps = {"answer-0", "answer-1"},
     .judge = judge_proxy},
    {.id = NULL},
};
