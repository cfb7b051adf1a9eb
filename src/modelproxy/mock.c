#include "modelproxy/mock.h"

#include <string.h>

#include "base/io.h"
#include "modelproxy/api_error.h"
#include "modelproxy/mock_api.h"

/* One answer on its way: pieces are given to the call one by one, with the script's delay before each. */
struct mock_source {
    struct call *call;
    struct event *timer;
    struct mock_pieces pieces;
    size_t next;
    uint32_t delay_ms;
    bool stream, paused;
    unsigned status; /* of an error answer; 0: none */
    unsigned retry_after_s;
};

static void source_free(struct mock_source *s)
{
    event_free(s->timer);
    mock_pieces_free(&s->pieces);
    free(s);
}

static void schedule(struct mock_source *s, uint32_t ms)
{
    struct timeval wait = {ms / 1000, (suseconds_t)(ms % 1000 * 1000)};

    (void)event_add(s->timer, &wait);
}

static void cancel(void *source)
{
    source_free(source);
}

static void pause_source(void *source, bool paused)
{
    struct mock_source *s = source;

    s->paused = paused;
    if (!paused)
        schedule(s, 0);
}

static const struct call_source mock_ops = {cancel, pause_source};

static void send_head(struct mock_source *s)
{
    char extra[64] = "";

    if (s->status && s->retry_after_s)
        (void)io_format(extra, sizeof(extra), "retry-after: %u\n", s->retry_after_s);
    call_head(s->call, s->status ? s->status : 200,
              s->stream && !s->status ? "text/event-stream" : "application/json", extra);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct mock_source *s = arg;

    (void)fd;
    (void)what;
    if (s->paused)
        return;
    if (s->next == 0)
        send_head(s);
    while (s->next < s->pieces.n && !s->paused) {
        const char *text = s->pieces.text[s->next++];
        call_data(s->call, text, strlen(text));
        if (s->delay_ms > 0 && s->next < s->pieces.n) {
            schedule(s, s->delay_ms);
            return;
        }
    }
    if (s->next < s->pieces.n)
        return; /* paused: pause_source() goes on */
    call_end(s->call, 0, NULL, NULL);
    source_free(s);
}

void mock_start(struct call *c)
{
    struct mock_source *s = x_calloc(1, sizeof(*s));
    struct proxy *p = c->session->proxy;
    char *body = call_body_text(c);
    struct mock_request r;
    struct err e = ERR_INIT;

    s->call = c;
    s->timer = event_new(p->d.base, -1, 0, on_timer, s);
    if (!s->timer)
        abort();
    if (mock_api_read(c->path->endpoint, body, c->body_len, &r, &e) < 0) {
        s->status = 400;
        s->pieces.text = x_calloc(1, sizeof(*s->pieces.text));
        s->pieces.text[s->pieces.n++] = api_error_json(c->shape, 400, e.text);
    } else {
        struct mock_answer a;
        mock_script_answer(p->script, &r.question, &a);
        s->delay_ms = a.delay_ms;
        s->stream = r.stream;
        if (a.kind == MOCK_ERROR && c->path->billed) {
            s->status = a.status;
            s->retry_after_s = a.retry_after_s;
            s->pieces.text = x_calloc(1, sizeof(*s->pieces.text));
            s->pieces.text[s->pieces.n++] = api_error_json(c->shape, a.status, a.message);
        } else {
            mock_api_write(&r, &a, &s->pieces);
        }
        mock_answer_free(&a);
        mock_request_free(&r);
    }
    free(body);
    c->ops = &mock_ops;
    c->source = s;
    schedule(s, 0);
}
