#include "cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ipc/messages.h"

enum { REPLY_MAX = 8 << 20, RETRIES = 20, RETRY_MS = 150 };

struct client {
    char *socket; /* path of the unix socket, or NULL */
    char *url;    /* without a trailing slash */
    char *ca_file;
    char token[TOKEN_TEXT_MAX + 32]; /* the whole Authorization header, or "" */
    CURL *easy;
};

struct buffer {
    char *text;
    size_t len;
};

char *client_state_dir(const struct args *a)
{
    const char *flag = args_get(a, "state-dir"), *env = getenv("IRONCLAW_STATE_DIR"),
               *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (flag)
        return x_strdup(flag);
    if (env && *env)
        return x_strdup(env);
    if (geteuid() == 0)
        return x_strdup("/var/lib/ironclaw");
    if (xdg && *xdg == '/')
        return x_asprintf("%s/ironclaw", xdg);
    return home && *home ? x_asprintf("%s/.local/state/ironclaw", home) : NULL;
}

char *client_token_file(void)
{
    const char *env = getenv("IRONCLAW_TOKEN_FILE"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (env && *env)
        return x_strdup(env);
    if (xdg && *xdg == '/')
        return x_asprintf("%s/ironclaw/token", xdg);
    return home && *home ? x_asprintf("%s/.config/ironclaw/token", home) : NULL;
}

static bool token_ok(const char *t)
{
    size_t len = strlen(t);

    return len > 0 && len < TOKEN_TEXT_MAX &&
           strspn(t, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") == len;
}

static int set_token(struct client *c, const char *text, const char *from)
{
    if (!token_ok(text))
        return cli_fail(
            CLI_USAGE,
            "what is in %s is not a token; it must be one line of letters, digits and -._~+/=", from);
    (void)io_format(c->token, sizeof(c->token), "Authorization: Bearer %s", text);
    return 0;
}

static int find_token(struct client *c, const struct args *a)
{
    const char *flag = args_get(a, "token-file"), *env = getenv("IRONCLAW_TOKEN");
    CLEANUP_FREE char *path = flag ? x_strdup(flag) : client_token_file();
    struct err e = ERR_INIT;
    char *text = NULL;
    size_t len = 0;
    int rc;

    if (!flag && env && *env)
        return set_token(c, env, "IRONCLAW_TOKEN");
    if (!path)
        return 0;
    if (io_read_file(AT_FDCWD, path, 4096, &text, &len, &e) < 0)
        return flag || e.code != ENOENT ? cli_fail(CLI_USAGE, "%s", e.text) : 0;
    text[strcspn(text, "\r\n")] = 0;
    rc = set_token(c, text, path);
    explicit_bzero(text, len);
    free(text);
    return rc;
}

static int find_server(struct client *c, const struct args *a)
{
    const char *url = args_get(a, "url");

    if (args_has(a, "ca-file"))
        c->ca_file = x_strdup(args_get(a, "ca-file"));
    if (url) {
        size_t len = strlen(url);
        if (strncmp(url, "https://", 8) != 0 || strpbrk(url, "@?# "))
            return cli_fail(CLI_USAGE, "--url must be https://host:port; a token never goes over plain HTTP");
        while (len > 0 && url[len - 1] == '/')
            len--;
        c->url = x_strndup(url, len);
        return 0;
    }
    CLEANUP_FREE char *dir = client_state_dir(a);
    if (!dir)
        return cli_fail(CLI_USAGE, "HOME is not set; say where the control plane is with --state-dir");
    c->socket = x_asprintf("%s/api.sock", dir);
    if (strlen(c->socket) > 107) /* sizeof(sockaddr_un.sun_path) - 1 */
        return cli_fail(
            CLI_USAGE,
            "the path %s is longer than the 107 bytes a unix socket may have; use a shorter --state-dir",
            c->socket);
    c->url = x_strdup("http://localhost");
    return 0;
}

struct client *client_open(const struct args *a, int *status)
{
    struct client *c = x_calloc(1, sizeof(*c));

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(c->easy = curl_easy_init()))
        abort();
    *status = find_server(c, a);
    if (*status == 0)
        *status = find_token(c, a);
    if (*status == 0)
        return c;
    client_close(c);
    return NULL;
}

void client_forget_token(struct client *c)
{
    explicit_bzero(c->token, sizeof(c->token));
}

void client_close(struct client *c)
{
    if (!c)
        return;
    if (c->easy)
        curl_easy_cleanup(c->easy);
    explicit_bzero(c->token, sizeof(c->token));
    free(c->socket);
    free(c->url);
    free(c->ca_file);
    free(c);
}

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
    struct buffer *b = arg;

    n *= size;
    if (n > REPLY_MAX - b->len)
        return 0;
    b->text = x_realloc(b->text, b->len + n + 1);
    memcpy(b->text + b->len, p, n);
    b->len += n;
    b->text[b->len] = 0;
    return n;
}

/* Everything but the method and where the answer goes. Returns the header list, for curl_slist_free_all(). */
static struct curl_slist *prepare(const struct client *c, CURL *easy, const char *url)
{
    struct curl_slist *h = curl_slist_append(NULL, "Expect:");

    curl_easy_reset(easy);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, 10L);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    if (c->socket)
        (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    else
        (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (c->ca_file)
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
    if (c->token[0])
        h = curl_slist_append(h, c->token);
    return h;
}

static int unreachable(const struct client *c, CURLcode code)
{
    if (c->socket && (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST))
        return cli_fail(
            CLI_UNREACHABLE,
            "no control plane answers at %s; start it with 'ironclaw up' or name another with --state-dir",
            c->socket);
    return cli_fail(CLI_UNREACHABLE, "cannot talk to %s: %s", c->socket ? c->socket : c->url,
                    curl_easy_strerror(code));
}

/* Says what the server's error object says. */
static int refused(long status, const json_t *reply, const struct client *c)
{
    const json_t *error = json_object_get(reply, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    int rc = status == 401 || status == 403 ? CLI_REFUSED : status == 503 ? CLI_UNREACHABLE : CLI_FAILED;
    const char *hint = "";

    if (status == 401)
        hint = c->token[0]
                   ? ""
                   : "; there is no token: run 'ironclaw token bootstrap TOKEN', or set IRONCLAW_TOKEN";
    if (message)
        return cli_fail(rc, "%s%s", message, hint);
    return cli_fail(rc, "the control plane answered %ld%s", status, hint);
}

static CURLcode perform(struct client *c, const char *method, const char *path, const char *text,
                        struct buffer *b, long *status)
{
    CLEANUP_FREE char *url = x_asprintf("%s%s", c->url, path);
    struct curl_slist *h = prepare(c, c->easy, url);
    CURLcode code;

    b->len = 0;
    (void)curl_easy_setopt(c->easy, CURLOPT_TIMEOUT, 120L);
    (void)curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, b);
    if (text) {
        h = curl_slist_append(h, "Content-Type: application/json");
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(text));
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, text);
    } else if (!strcmp(method, "POST")) {
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, 0L); /* Content-Length: 0 */
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, "");
    }
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, h);
    code = curl_easy_perform(c->easy);
    (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, status);
    curl_slist_free_all(h);
    return code;
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&t, NULL);
}

/* What may be sent again after a 503: reads, and messages that carry an idempotency key. */
static bool repeatable(const char *method, const json_t *body)
{
    return !strcmp(method, "GET") || json_object_get(body, "idempotency_key");
}

static int call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out,
                bool quiet)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct buffer b = {0};
    json_t *reply = NULL;
    CURLcode code;
    long status = 0;
    int rc = 0;

    for (int i = 0;; i++) {
        code = perform(c, method, path, text, &b, &status);
        if (code != CURLE_OK || status != 503 || i == RETRIES || quiet || !repeatable(method, body))
            break;
        pause_ms(RETRY_MS); /* a part of the control plane is being restarted */
    }
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
    if (code == CURLE_OK)
        reply = b.len > 0 ? json_loadb(b.text, b.len, JSON_DECODE_ANY, NULL) : json_null();
    if (b.text)
        explicit_bzero(b.text, b.len);
    free(b.text);
    if (code != CURLE_OK)
        rc = quiet ? CLI_UNREACHABLE : unreachable(c, code);
    else if (status < 200 || status > 299)
        rc = quiet ? CLI_FAILED : refused(status, reply, c);
    else if (!reply)
        rc = quiet ? CLI_FAILED
                   : cli_fail(CLI_FAILED, "the answer is not JSON; is this an IronClaw control plane?");
    if (rc == 0 && out)
        *out = json_incref(reply);
    json_decref(reply);
    return rc;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out)
{
    return call(c, method, path, body, out, false);
}

int client_try(struct client *c, const char *method, const char *path, json_t **out)
{
    return call(c, method, path, NULL, out, true);
}

/* ---- event streams
 * ------------------------------------------------------------------------------------------- */

struct sse {
    struct buffer line; /* what is not a whole line yet */
    char event[32];
    struct buffer error; /* body of an answer that is not a stream */
    CURL *easy;
    client_event_cb on_event;
    void *arg;
    bool ended;
};

static void sse_line(struct sse *s, char *line)
{
    if (!strncmp(line, "event: ", 7)) {
        (void)io_format(s->event, sizeof(s->event), "%s", line + 7);
    } else if (!strncmp(line, "data: ", 6) && !s->ended) {
        json_t *data = json_loads(line + 6, JSON_DECODE_ANY, NULL);
        if (data && !s->on_event(s->arg, s->event, data))
            s->ended = true;
        json_decref(data);
    } else if (!*line) {
        s->event[0] = 0;
    }
}

static size_t on_stream(char *p, size_t size, size_t n, void *arg)
{
    struct sse *s = arg;
    char *nl;
    long status = 0;

    n *= size;
    (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return on_data(p, 1, n, &s->error);
    if (on_data(p, 1, n, &s->line) != n)
        return 0;
    while (!s->ended && (nl = memchr(s->line.text, '\n', s->line.len))) {
        size_t used = (size_t)(nl - s->line.text) + 1;
        *nl = 0;
        sse_line(s, s->line.text);
        s->line.len -= used;
        memmove(s->line.text, s->line.text + used, s->line.len + 1);
    }
    return n;
}

/* Drives the transfer until it ends, `s` says so, or the deadline. Returns as client_stream(). */
static int drive(struct client *c, CURLM *multi, struct sse *s, uint64_t deadline, int (*opened)(void *),
                 int *status)
{
    bool is_open = false;
    int running = 1;

    for (;;) {
        uint64_t now = io_monotonic_ns() / 1000000;
        long http = 0;
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            abort();
        (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &http);
        if (!is_open && http == 200) {
            is_open = true;
            *status = opened ? opened(s->arg) : 0;
            if (*status != 0)
                return -1;
        }
        if (s->ended)
            return 0;
        if (!running) {
            int left;
            const CURLMsg *m = curl_multi_info_read(multi, &left);
            if (http == 200 || (is_open && m && m->data.result != CURLE_OK))
                return 1;
            if (m && m->data.result != CURLE_OK) {
                *status = unreachable(c, m->data.result);
                return -1;
            }
            json_t *reply = s->error.len > 0 ? json_loadb(s->error.text, s->error.len, 0, NULL) : NULL;
            if (http == 503) {
                json_decref(reply);
                return 1;
            }
            *status = refused(http, reply, c);
            json_decref(reply);
            return -1;
        }
        if (now >= deadline)
            return 2;
        (void)curl_multi_poll(multi, NULL, 0, (int)(deadline - now < 1000 ? deadline - now : 1000), NULL);
    }
}

int client_stream(struct client *c, const char *path, uint64_t timeout_ms, int (*opened)(void *arg),
                  client_event_cb on_event, void *arg, int *status)
{
    CLEANUP_FREE char *url = x_asprintf("%s%s", c->url, path);
    struct sse s = {.on_event = on_event, .arg = arg};
    CURLM *multi = curl_multi_init();
    struct curl_slist *h;
    int rc;

    s.easy = curl_easy_init();
    if (!multi || !s.easy)
        abort();
    h = curl_slist_append(prepare(c, s.easy, url), "Accept: text/event-stream");
    (void)curl_easy_setopt(s.easy, CURLOPT_HTTPHEADER, h);
    (void)curl_easy_setopt(s.easy, CURLOPT_WRITEFUNCTION, on_stream);
    (void)curl_easy_setopt(s.easy, CURLOPT_WRITEDATA, &s);
    (void)curl_multi_add_handle(multi, s.easy);
    rc = drive(c, multi, &s, io_monotonic_ns() / 1000000 + timeout_ms, opened, status);
    (void)curl_multi_remove_handle(multi, s.easy);
    curl_easy_cleanup(s.easy);
    (void)curl_multi_cleanup(multi);
    curl_slist_free_all(h);
    free(s.line.text);
    free(s.error.text);
    return rc;
}

int client_stream_quiet(struct client *c, const char *path, uint64_t timeout_ms, client_event_cb on_event,
                        void *arg, int *status)
{
    int rc;

    cli_quiet(true);
    rc = client_stream(c, path, timeout_ms, NULL, on_event, arg, status);
    cli_quiet(false);
    return rc;
}
