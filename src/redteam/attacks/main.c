/*
 * ironclaw-attacker: takes orders over the queue port and says what came of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "redteam/attacks/inside.h"
#include "redteam/attempt.h"

/* Room for the end line that main.c adds itself. */
enum { RECORD_MAX = ATTEMPT_TEXT_MAX - 256 };

static const struct inside_attack *const families[] = {inside_network,   inside_engines,
                                                       inside_siblings,  inside_hostfs,
                                                       inside_privilege, inside_kernel,
                                                       inside_resources, inside_ports,
                                                       inside_selfmod,   inside_keys,
                                                       inside_queues,    inside_supply,
                                                       inside_cell,      NULL};

uint64_t now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- orders ---- */

bool order_parse(struct order *o, char *text)
{
    char *save = NULL, *word_save = NULL, *line = strtok_r(text, "\n", &save);
    const char *limit;

    memset(o, 0, sizeof(*o));
    if (!line || strncmp(line, "order ", 6) != 0)
        return false;
    (void)strtok_r(line, " ", &word_save);
    o->nonce = strtok_r(NULL, " ", &word_save);
    o->verb = strtok_r(NULL, " ", &word_save);
    limit = strtok_r(NULL, " ", &word_save);
    if (!o->nonce || !o->verb || !limit)
        return false;
    o->limit_ms = (unsigned)strtoul(limit, NULL, 10);
    while (o->n < ORDER_PARAMS_MAX && (line = strtok_r(NULL, "\n", &save))) {
        char *blank = strchr(line, ' ');
        if (!blank)
            continue;
        *blank = 0;
        o->keys[o->n] = line;
        o->values[o->n++] = blank + 1;
    }
    return true;
}

const char *order_text(const struct order *o, const char *key)
{
    for (size_t i = 0; i < o->n; i++)
        if (!strcmp(o->keys[i], key))
            return o->values[i];
    return "";
}

long order_number(const struct order *o, const char *key)
{
    return strtol(order_text(o, key), NULL, 10);
}

/* ---- helpers of the attacks ---- */

ssize_t slurp(const char *path, char *buf, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t have = 0;
    ssize_t n = 0;
    int error;

    if (fd < 0)
        return -1;
    while (have < cap - 1 && (n = read(fd, buf + have, cap - 1 - have)) > 0)
        have += (size_t)n;
    error = errno;
    (void)close(fd);
    errno = error;
    buf[have] = 0;
    return n < 0 && have == 0 ? -1 : (ssize_t)have;
}

bool try_read(const char *name, const char *path)
{
    char buf[4096];
    ssize_t n = slurp(path, buf, sizeof(buf));

    stepf(name, n, "%s", path);
    if (n > 0)
        proof(name, buf, (size_t)n);
    return n > 0;
}

/* What memory runs out for shall be the attempt, then the attack, and not the program that reports about
 * them. */
static void prefer_for_oom(const char *score)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, score, strlen(score));
        (void)close(fd);
    }
}

/* Waits for `pid` at most `ms`, then kills it. As in_child(). */
static int wait_child(pid_t pid, unsigned ms)
{
    uint64_t until = now_ms() + ms;
    const struct timespec pause = {.tv_nsec = 1000000};
    int status;

    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (got < 0 && errno != EINTR)
            return -1;
        if (now_ms() >= until) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return 124;
        }
        (void)nanosleep(&pause, NULL);
    }
}

int in_child(int (*fn)(void *arg), void *arg, unsigned ms)
{
    pid_t pid = fork();

    if (pid == 0) {
        prefer_for_oom("1000");
        _exit(fn(arg) & 127);
    }
    return pid < 0 ? -1 : wait_child(pid, ms);
}

/* ---- one order ---- */

struct record {
    char text[ATTEMPT_TEXT_MAX];
    size_t len;
};

static void add(struct record *r, const char *text, size_t len)
{
    if (r->len + len > RECORD_MAX)
        return;
    memcpy(r->text + r->len, text, len);
    r->len += len;
    r->text[r->len] = 0;
}

static void finish(struct record *r, const char *why, int number)
{
    /* A record that did not fit was cut inside a line: leave whole lines only. */
    while (r->len > 0 && r->text[r->len - 1] != '\n')
        r->len--;
    r->len += (size_t)snprintf(r->text + r->len, 64, number >= 0 ? "end %s %d\n" : "end %s\n", why, number);
}

static void (*find(const char *verb))(const struct order *o)
{
    for (const struct inside_attack *const *f = families; *f; f++)
        for (const struct inside_attack *a = *f; a->id; a++)
            if (!strcmp(a->id, verb))
                return a->run;
    return NULL;
}

bool inside_run(const char *id, const struct order *o)
{
    void (*run)(const struct order *o) = find(id);

    if (run)
        run(o);
    return run != NULL;
}

/* Collects the child's lines until it and everything that holds its pipe is gone, or time is up. Returns true
 * if time was up. */
static bool collect(struct record *r, int fd, unsigned limit_ms, pid_t pid, int *status)
{
    uint64_t until = now_ms() + limit_ms;
    bool ended = false;
    char buf[4096];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = now_ms();
        bool was_over = ended; /* what it said before its end is in the pipe by this poll */
        ssize_t n;
        if (now >= until)
            return true;
        (void)poll(&p, 1, ended ? 100 : (int)(until - now < 50 ? until - now : 50));
        if (!ended && waitpid(pid, status, WNOHANG) == pid)
            ended = true;
        if (!p.revents) {
            if (was_over) /* a descendant keeps the pipe, and has nothing to say */
                return false;
            continue;
        }
        n = read(fd, buf, sizeof(buf));
        if (n > 0)
            add(r, buf, (size_t)n);
        else if (n == 0 && ended)
            return false;
        else if (n == 0)
            (void)usleep(1000);
    }
}

static void attack(struct record *r, const struct order *o, void (*run)(const struct order *o))
{
    int ends[2], status = 0;
    bool late;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        finish(r, "pipe", errno);
        return;
    }
    pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        prefer_for_oom("500");
        (void)close(ends[0]);
        tell_to(ends[1]);
        run(o);
        _exit(0);
    }
    (void)close(ends[1]);
    late = pid > 0 && collect(r, ends[0], o->limit_ms, pid, &status);
    if (pid > 0)
        (void)kill(-pid, SIGKILL); /* also what it left behind in its group */
    if (late)
        (void)waitpid(pid, &status, 0);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    (void)close(ends[0]);
    if (pid < 0)
        finish(r, "fork", errno);
    else if (late)
        finish(r, "timeout", -1);
    else if (WIFSIGNALED(status))
        finish(r, "killed", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        finish(r, "exit", WEXITSTATUS(status));
    else
        finish(r, "done", -1);
}

/* Orders that this process itself carries out, because their effect has to last. */
static void own(struct record *r, void (*run)(const struct order *o), const struct order *o)
{
    int ends[2];
    ssize_t n;
    char buf[4096];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        finish(r, "pipe", errno);
        return;
    }
    tell_to(ends[1]);
    run(o);
    while ((n = read(ends[0], buf, sizeof(buf))) > 0)
        add(r, buf, (size_t)n);
    (void)close(ends[0]);
    (void)close(ends[1]);
    finish(r, "done", -1);
}

static void check(const struct order *o)
{
    (void)o;
    hold_check();
}

static void where(const struct order *o)
{
    (void)o;
    hold_where();
}

static void ping(const struct order *o)
{
    (void)o;
    fact("pid", "%d", (int)getpid());
}

static void obey(struct record *r, const struct order *o)
{
    void (*run)(const struct order *o) = find(o->verb);

    r->len = (size_t)snprintf(r->text, 200, "report %s %s\n", o->nonce, o->verb);
    if (!strcmp(o->verb, "ping"))
        own(r, ping, o);
    else if (!strcmp(o->verb, "hold"))
        own(r, hold_start, o);
    else if (!strcmp(o->verb, "check"))
        own(r, check, o);
    else if (!strcmp(o->verb, "where"))
        own(r, where, o);
    else if (run)
        attack(r, o, run);
    else
        finish(r, "unknown", -1);
}

static bool append(int queue, const char *kind, const char *text, long long consumed)
{
    char *request = queue_append_request(kind, text, consumed), *answer;

    answer = request ? queue_ask(queue, request, strlen(request)) : NULL;
    free(request);
    free(answer);
    return answer != NULL;
}

/* Started by hand, not as an agent: what a set-uid copy would be, the typist of the terminal's attack, one
 * attack in the foreground ("attack ID KEY VALUE"). */
static int by_hand(int argc, char **argv)
{
    const char *word = argv[1];

    if (!strcmp(word, "whoami")) {
        (void)printf("euid %u\n", (unsigned)geteuid());
        return fflush(stdout) == 0 ? 0 : 1;
    }
    if (!strcmp(word, "type")) {
        for (int fd = 0; fd < 3; fd++)
            for (const char *c = "echo typed\n"; *c; c++)
                (void)ioctl(fd, TIOCSTI, c);
        return 42;
    }
    if (!strcmp(word, "attack") && argc > 2) {
        struct order o = {.nonce = "", .verb = argv[2]};
        for (int i = 3; i + 1 < argc && o.n < ORDER_PARAMS_MAX; i += 2, o.n++) {
            o.keys[o.n] = argv[i];
            o.values[o.n] = argv[i + 1];
        }
        tell_to(STDOUT_FILENO);
        return inside_run(argv[2], &o) ? 0 : 2;
    }
    return 2;
}

int main(int argc, char **argv)
{
    static const char next[] = "{\"op\":\"recv\",\"wait\":30}";
    static struct record record;
    int queue;

    if (argc > 1)
        return by_hand(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    queue = queue_open();
    while (queue >= 0) {
        char *answer = queue_ask(queue, next, sizeof(next) - 1), *text;
        struct order o;
        bool ok = answer != NULL;
        if (answer && (text = json_text(answer, "text"))) {
            /* Consumed before it is carried out: an attack that ends this program is not ordered again. */
            ok = append(queue, "notice", "began", json_number(answer, "seq"));
            if (ok && order_parse(&o, text)) {
                obey(&record, &o);
                ok = append(queue, "message", record.text, 0);
            }
            free(text);
        }
        free(answer);
        if (!ok) { /* the vault was restarted, or an attack spoilt the connection */
            (void)close(queue);
            (void)usleep(100000);
            queue = queue_open();
        }
    }
    return 1;
}
